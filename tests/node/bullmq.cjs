// A program in Node.js beside the workers: it tells what becomes of the jobs of a queue, a line of
// JSON for each event, and adds a job for each line of JSON that it is told.
const { createInterface } = require("node:readline");
const { Queue, QueueEvents } = require("bullmq");

const [host, port, name] = process.argv.slice(2);
const connection = { host, port: Number(port), maxRetriesPerRequest: null };
const queue = new Queue(name, { connection });
const events = new QueueEvents(name, { connection });

function tell(event, words) {
  process.stdout.write(JSON.stringify({ event, ...words }) + "\n");
}

for (const event of ["added", "active", "completed", "failed"]) {
  events.on(event, (words) => tell(event, words));
}

async function main() {
  await events.waitUntilReady();
  await queue.waitUntilReady();
  tell("ready", {});
  for await (const line of createInterface({ input: process.stdin })) {
    const { add, get } = JSON.parse(line);
    if (add) {
      const job = await queue.add("run", add);
      tell("answer", { jobId: job.id });
    } else if (get) {
      const job = await queue.getJob(get);
      tell("answer", { data: job.data, state: await job.getState() });
    } else {
      tell("answer", { counts: await queue.getJobCounts() });
    }
  }
  await events.close();
  await queue.close();
}

main();
