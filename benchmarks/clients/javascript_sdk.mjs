// AWS's SDK for JavaScript v3, with as many workers as calls in flight.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import http from "node:http";
import https from "node:https";

const require = createRequire(process.env.FANOUT_LAB_MODULES + "/");
const { LambdaClient, InvokeCommand } = require("@aws-sdk/client-lambda");
const { NodeHttpHandler } = require("@smithy/node-http-handler");

const [file, concurrencyText, endpoint] = process.argv.slice(2);
const concurrency = Number(concurrencyText);
const settings = { keepAlive: true, maxSockets: concurrency };
const client = new LambdaClient({
  endpoint,
  region: "us-east-1",
  maxAttempts: 1,
  requestHandler: new NodeHttpHandler({
    httpAgent: new http.Agent(settings),
    httpsAgent: new https.Agent(settings),
    socketAcquisitionWarningTimeout: 1e9,
  }),
});
const lines = readFileSync(file, "utf8").split("\n").filter(Boolean);
let next = 0;
let done = 0;
async function work() {
  while (next < lines.length) {
    const Payload = Buffer.from(lines[next++]);
    const reply = await client.send(new InvokeCommand({ FunctionName: "lab-100000", Payload }));
    if (reply.StatusCode === 200) done++;
  }
}
const began = performance.now();
await Promise.all(Array.from({ length: concurrency }, work));
console.log(done, (performance.now() - began) / 1000);
client.destroy();
