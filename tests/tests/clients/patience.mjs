// How long OpenAI's SDK for Node waits, how often it asks, and what is left when it goes. Prints one JSON object.
// `patience.py` does the same. Arguments: `retry` and `responses` or `chat`; or `leave`.

import OpenAI from "openai";

import { MODEL, said } from "./common.mjs";

// One call with the SDK's own retries, while the upstream recovers.
async function retry(dialect) {
  const client = new OpenAI();
  if (dialect === "chat") {
    const answer = await client.chat.completions.create({ model: MODEL, messages: said("Reply exactly: OK") });
    return { text: answer.choices[0].message.content };
  }
  return { text: (await client.responses.create({ model: MODEL, input: "Reply exactly: OK" })).output_text };
}

async function take(stream, count) {
  const events = [];
  for await (const event of stream) {
    events.push(event);
    if (events.length === count) break;
  }
  return events;
}

async function leave() {
  const client = new OpenAI();
  const long = "[[sim:long:100000:16:20]]";
  const seen = {};
  const stream = await client.responses.create({ model: MODEL, input: long, stream: true });
  seen.responses = (await take(stream, 6)).at(-1).type;
  // Leaving the loop is enough; this is how an application stops a stream from elsewhere.
  stream.controller.abort();
  const chat = await client.chat.completions.create({ model: MODEL, messages: said(long), stream: true });
  seen.chat = (await take(chat, 6)).length;
  chat.controller.abort();

  const controller = new AbortController();
  setTimeout(() => controller.abort(), 2000);
  const ended = async (call) => call.then(() => "none").catch((error) => error.constructor.name);
  const ask = (number, options) =>
    client.responses.create({ model: MODEL, input: `[[sim:delay:600000]] ${number}` }, options);
  seen.cancelled = await ended(ask(1, { signal: controller.signal }));
  // Whether a call that was given up may be made again is for its caller to know, and the SDK does it.
  seen.timed_out = await ended(ask(2, { timeout: 2000, maxRetries: 1 }));
  return seen;
}

const [mode, dialect] = process.argv.slice(2);
console.log(JSON.stringify(await (mode === "retry" ? retry(dialect) : leave())));
// Connections that are kept alive must not keep the script.
process.exit(0);
