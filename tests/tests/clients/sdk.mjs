// OpenAI's SDK for Node against the gateway, with nothing but a base URL and a key. Prints one JSON object for the test.
// With an argument, a body of one call that is expected to fail.

import OpenAI from "openai";

const MODEL = "codex/gpt-5.5";

async function refusal(action) {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    return {
      class: error.constructor.name,
      status: error.status ?? null,
      code: error.code ?? null,
      type: error.type ?? null,
      param: error.param ?? null,
      reason: error.error?.reason ?? null,
      next_step: error.error?.next_step ?? null,
      message: error.message,
    };
  }
  return { class: "none", message: "it did not fail" };
}

async function events(stream) {
  const all = [];
  for await (const event of stream) all.push(event);
  return all;
}

async function failing(body) {
  const client = new OpenAI();
  return refusal(() => client.responses.create(body));
}

async function everything() {
  const client = new OpenAI(); // OPENAI_BASE_URL and OPENAI_API_KEY
  const seen = {};

  // Parameters that the subscription's backend refuses are the gateway's business.
  const whole = await client.responses.create({
    model: MODEL,
    instructions: "Be brief.",
    input: "Reply exactly: OK",
    temperature: 0.5,
    max_output_tokens: 100,
  });
  seen.text = whole.output_text;
  seen.status = whole.status;
  seen.output_tokens = whole.usage?.output_tokens;

  const { data, response } = await client.responses
    .create({ model: MODEL, input: "Reply exactly: OK", top_p: 0.9 })
    .withResponse();
  seen.raw = data.output_text;
  seen.call_id = response.headers.get("x-switchboard-call-id");
  seen.dropped = response.headers.get("x-switchboard-dropped");

  const streamed = await events(
    await client.responses.create({ model: MODEL, input: "Reply exactly: one two three", stream: true }),
  );
  seen.kinds = streamed.map((event) => event.type);
  seen.streamed = streamed
    .filter((event) => event.type === "response.output_text.delta")
    .map((event) => event.delta)
    .join("");

  const helper = client.responses.stream({ model: MODEL, input: "Reply exactly: helper" });
  seen.helper = (await helper.finalResponse()).output_text;

  // A tool's round trip: the call, then its output with the whole conversation.
  const tool = { type: "function", name: "shell", parameters: { type: "object", properties: {} }, strict: false };
  const ask = [{ role: "user", content: "[[sim:tool]]" }];
  const called = await client.responses.create({ model: MODEL, input: ask, tools: [tool] });
  const call = called.output.find((item) => item.type === "function_call");
  seen.tool = call?.name;
  const output = { type: "function_call_output", call_id: call?.call_id, output: "hello-from-tool" };
  const answered = await client.responses.create({ model: MODEL, input: [...ask, call, output], tools: [tool] });
  seen.tool_answer = answered.output_text;

  seen.models = [];
  for await (const model of client.models.list()) seen.models.push(model.id);

  seen.unknown = await refusal(() => client.responses.create({ model: "nosuch/gpt-5.5", input: "hi" }));
  seen.unknown_streamed = await refusal(() =>
    client.responses.create({ model: "nosuch/gpt-5.5", input: "hi", stream: true }).then(events),
  );
  // What breaks after the first event ends with one event that says so.
  seen.cut = await refusal(() =>
    client.responses.create({ model: MODEL, input: "[[sim:cut:6]] one two three", stream: true }).then(async (stream) => {
      seen.cut_code = (await events(stream)).at(-1).response?.error?.code;
    }),
  );
  seen.limit = await refusal(() => client.responses.create({ model: MODEL, input: "[[sim:usage_limit]]" }));
  const stranger = new OpenAI({ apiKey: "sbk_wrong" });
  seen.stranger = await refusal(() => stranger.responses.create({ model: MODEL, input: "hi" }));
  return seen;
}

const asked = process.argv[2];
console.log(JSON.stringify(asked ? await failing(JSON.parse(asked)) : await everything()));
