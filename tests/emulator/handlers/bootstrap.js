// A custom runtime in Node: no AWS library, the Runtime API by hand.
const http = require("http");
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const api = "/2018-06-01/runtime/invocation/";
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function request(method, path, body, headers = {}) {
  return new Promise((resolve, reject) => {
    const sent = http.request({ host, port, method, path, headers, agent }, (reply) => {
      const pieces = [];
      reply.on("data", (piece) => pieces.push(piece));
      reply.on("end", () => resolve([reply.headers, Buffer.concat(pieces)]));
    });
    sent.on("error", reject);
    if (body !== undefined) sent.write(body);
    sent.end();
  });
}

async function main() {
  for (;;) {
    const [headers, body] = await request("GET", api + "next");
    const id = headers["lambda-runtime-aws-request-id"];
    const event = JSON.parse(body);
    if (event.fail) {
      const error = JSON.stringify({ errorType: "Error", errorMessage: event.fail, trace: ["Error: " + event.fail] });
      await request("POST", api + id + "/error", error, { "Lambda-Runtime-Function-Error-Type": "Error" });
    } else if (event.stream) {
      const sent = http.request({
        host, port, method: "POST", path: api + id + "/response", agent,
        headers: { "Lambda-Runtime-Function-Response-Mode": "streaming", "Transfer-Encoding": "chunked" },
      });
      const ended = new Promise((resolve) => sent.on("response", (reply) => { reply.resume(); reply.on("end", resolve); }));
      for (const chunk of event.stream) {
        sent.write(chunk);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      sent.end();
      await ended;
    } else {
      console.log("node sees", event.n);
      await request("POST", api + id + "/response", JSON.stringify({ node: process.env._HANDLER, n: event.n }));
    }
  }
}

main().catch(() => process.exit(1));
