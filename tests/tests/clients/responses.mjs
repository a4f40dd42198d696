// OpenAI's SDK for Node with the Responses API: a base URL and a key, and nothing else. Prints one JSON object.
// `responses.py` does the same. With an argument, a body of one call that is expected to fail.

import OpenAI from "openai";

import { MODEL, PIXEL, refusal } from "./common.mjs";

const TOOL = { type: "function", name: "shell", parameters: { type: "object", properties: {} }, strict: false };

async function all(stream) {
  const events = [];
  for await (const event of await stream) events.push(event);
  return events;
}

const deltas = (events, kind) =>
  events
    .filter((event) => event.type === kind)
    .map((event) => event.delta)
    .join("");

async function answers(client, seen) {
  const ask = (body, options) => client.responses.create({ model: MODEL, ...body }, options);
  // Parameters that the subscription's backend refuses are the gateway's business.
  const whole = await ask({
    instructions: "Be brief.",
    input: "Reply exactly: OK",
    temperature: 0.5,
    max_output_tokens: 100,
  });
  seen.text = whole.output_text;
  seen.status = whole.status;
  seen.output_tokens = whole.usage.output_tokens;

  const { data, response } = await ask({ input: "Reply exactly: OK", top_p: 0.9 }).withResponse();
  seen.raw = data.output_text;
  seen.call_id = response.headers.get("x-switchboard-call-id");
  seen.dropped = response.headers.get("x-switchboard-dropped");

  const events = await all(ask({ input: "Reply exactly: one two three", stream: true }));
  seen.kinds = events.map((event) => event.type);
  seen.streamed = deltas(events, "response.output_text.delta");
  const helper = client.responses.stream({ model: MODEL, input: "Reply exactly: helper" });
  seen.helper = (await helper.finalResponse()).output_text;

  const schema = { type: "object", properties: { a: { type: "integer" } }, required: ["a"], additionalProperties: false };
  const format = { type: "json_schema", name: "answer", strict: true, schema };
  seen.json = JSON.parse((await ask({ input: 'Reply exactly: {"a":1}', text: { format } })).output_text).a;
  const content = [
    { type: "input_text", text: "Reply exactly: seen" },
    { type: "input_image", image_url: PIXEL, detail: "auto" },
  ];
  seen.image = (await ask({ input: [{ role: "user", content }] })).output_text;
  const thought = await ask({
    input: "Reply exactly: OK [[sim:reasoning]]",
    reasoning: { effort: "high", summary: "auto" },
  });
  const reasoning = thought.output.find((item) => item.type === "reasoning");
  seen.reasoning = reasoning.summary.map((part) => part.text).join("\n\n");
  seen.sealed = Boolean(reasoning.encrypted_content);
  const compacted = await client.responses.compact({ model: MODEL, input: [{ role: "user", content: "Hello" }] });
  seen.compacted = compacted.output.at(-1).type;
  const stopped = await ask({ input: "Hello [[sim:incomplete]]" });
  seen.incomplete = [stopped.status, stopped.incomplete_details.reason];
}

// A call, then its output with the whole conversation; the same call streamed.
async function tools(client, seen) {
  const ask = (body) => client.responses.create({ model: MODEL, tools: [TOOL], ...body });
  const question = [{ role: "user", content: "[[sim:tool]]" }];
  const called = await ask({ input: question });
  const call = called.output.find((item) => item.type === "function_call");
  seen.tool = call.name;
  const output = { type: "function_call_output", call_id: call.call_id, output: "hello-from-tool" };
  seen.tool_answer = (await ask({ input: [...question, ...called.output, output] })).output_text;
  const events = await all(ask({ input: question, stream: true }));
  seen.tool_streamed = deltas(events, "response.function_call_arguments.delta");
  const two = await ask({ input: "[[sim:parallel:2]]" });
  seen.parallel = two.output.filter((item) => item.type === "function_call").length;
}

async function errors(client, seen) {
  const ask = (body, options) => client.responses.create({ model: MODEL, ...body }, options);
  const failed = (seen.errors = {});
  failed.unknown = await refusal(() => ask({ model: "nosuch/gpt-5.5", input: "hi" }));
  failed.unknown_streamed = await refusal(() => all(ask({ model: "nosuch/gpt-5.5", input: "hi", stream: true })));
  failed.unsupported = await refusal(() => ask({ input: "hi", previous_response_id: "resp_1" }));
  failed.too_long = await refusal(() => ask({ input: "[[sim:context_too_long]]" }));
  failed.policy = await refusal(() => ask({ input: "[[sim:policy]]" }));
  failed.nowhere = await refusal(() => client.embeddings.create({ model: "text-embedding-3-small", input: "hi" }));
  failed.overloaded = await refusal(() => ask({ input: "[[sim:overloaded]]" }, { maxRetries: 0 }));
  const stranger = new OpenAI({ apiKey: "sbk_wrong" });
  failed.stranger = await refusal(() => stranger.responses.create({ model: MODEL, input: "hi" }));
  // What breaks after the first event ends with one event that says so.
  const events = await all(ask({ input: "[[sim:cut:6]] one two three", stream: true }));
  seen.cut_code = events.at(-1).response.error.code;
  // The limit rests the only credential, and so comes last.
  failed.limit = await refusal(() => ask({ input: "[[sim:usage_limit]]" }));
}

async function main() {
  const client = new OpenAI(); // OPENAI_BASE_URL and OPENAI_API_KEY
  if (process.argv[2]) return refusal(() => client.responses.create(JSON.parse(process.argv[2])));
  const seen = { models: [] };
  for await (const model of client.models.list()) seen.models.push(model.id);
  seen.model = (await client.models.retrieve("openai-codex/gpt-5.5")).id;
  await answers(client, seen);
  await tools(client, seen);
  await errors(client, seen);
  return seen;
}

console.log(JSON.stringify(await main()));
