// A queue's consumer in Node, and a small runtime for it: no AWS library.
const base = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation`;

async function handler(event) {
  const batchItemFailures = [];
  for (const record of event.Records) {
    try {
      if (JSON.parse(record.body).fail) throw new Error("bad record");
    } catch (error) {
      batchItemFailures.push({ itemIdentifier: record.messageId });
    }
  }
  return { batchItemFailures };
}

async function main() {
  for (;;) {
    const next = await fetch(`${base}/next`);
    const id = next.headers.get("lambda-runtime-aws-request-id");
    const reply = await handler(await next.json());
    await fetch(`${base}/${id}/response`, { method: "POST", body: JSON.stringify(reply) });
  }
}

main().catch(() => process.exit(1));
