// OpenAI's SDK for Node with Chat Completions: a base URL and a key, and nothing else. Prints one JSON object.
// `chat.py` does the same.

import OpenAI from "openai";

import { MODEL, PIXEL, refusal, said } from "./common.mjs";

const tool = (name) => ({
  type: "function",
  function: { name, parameters: { type: "object", properties: { cmd: { type: "string" } } } },
});

// The message that the chunks of a stream add up to, as an application gathers it.
async function gathered(stream) {
  const seen = { text: "", refusal: "", reasoning: "", calls: [], finish: null, usage: null, ids: [] };
  for await (const chunk of await stream) {
    if (!seen.ids.includes(chunk.id)) seen.ids.push(chunk.id);
    if (chunk.usage) {
      seen.usage = chunk.usage;
      if (chunk.choices.length > 0) throw new Error("usage beside choices");
    }
    for (const { delta, finish_reason } of chunk.choices) {
      seen.text += delta.content ?? "";
      seen.refusal += delta.refusal ?? "";
      seen.reasoning += delta.reasoning_content ?? "";
      for (const call of delta.tool_calls ?? []) {
        const known = (seen.calls[call.index] ??= { id: call.id, name: "", arguments: "" });
        known.name += call.function.name ?? "";
        known.arguments += call.function.arguments ?? "";
      }
      seen.finish = finish_reason ?? seen.finish;
    }
  }
  return seen;
}

async function answers(client, ask, seen) {
  seen.whole = await ask({
    messages: [{ role: "system", content: "Be brief." }, ...said("Reply exactly: OK")],
    max_completion_tokens: 100,
    temperature: 0.5,
    user: "someone",
  });
  const { response } = await ask({ messages: said("Hello"), max_tokens: 9, seed: 1 }).withResponse();
  seen.dropped = response.headers.get("x-switchboard-dropped");

  seen.plain = await gathered(ask({ messages: said("Reply exactly: one two three"), stream: true }));
  seen.with_usage = await gathered(
    ask({ messages: said("Reply exactly: OK"), stream: true, stream_options: { include_usage: true } }),
  );
  const helper = client.chat.completions.stream({ model: MODEL, messages: said("Reply exactly: helper") });
  seen.helper_events = [];
  helper.on("content.done", () => seen.helper_events.push("content.done"));
  seen.helper = (await helper.finalChatCompletion()).choices[0].message.content;
  const calling = client.chat.completions.stream({
    model: MODEL,
    messages: said("[[sim:parallel:2]] Call both."),
    tools: [tool("exec_command")],
  });
  const calls = (await calling.finalChatCompletion()).choices[0].message.tool_calls;
  seen.helper_calls = calls.map((call) => call.function.arguments);

  const schema = { type: "object", properties: {}, additionalProperties: false };
  const response_format = { type: "json_schema", json_schema: { name: "n", strict: true, schema } };
  const formatted = await ask({ messages: said('Reply exactly: {"a":1}'), response_format });
  seen.json = formatted.choices[0].message.content;
  const picture = [
    { type: "text", text: "Reply exactly: seen" },
    { type: "image_url", image_url: { url: PIXEL } },
  ];
  seen.image = (await ask({ messages: said(picture) })).choices[0].message.content;
  const reasoned = said("Reply exactly: OK [[sim:reasoning]]");
  seen.reasoning = await gathered(ask({ messages: reasoned, reasoning_effort: "high", stream: true }));
  seen.refused = await gathered(ask({ messages: said("[[sim:refusal]]"), stream: true }));
  const finish = async (text) => (await ask({ messages: said(text) })).choices[0].finish_reason;
  seen.stopped = await finish("Hello [[sim:incomplete]]");
  seen.filtered = await finish("Hello [[sim:incomplete:content_filter]]");
}

// Two calls at once, streamed; what they gave goes back; the answer.
async function tools(ask, seen) {
  const functions = { tools: [tool("exec_command"), tool("other")] };
  const messages = said("[[sim:parallel:2]] Call both.");
  const called = await gathered(ask({ messages, ...functions, stream: true }));
  seen.parallel = { arguments: called.calls.map((call) => call.arguments), finish: called.finish };
  const whole = (await ask({ messages, ...functions })).choices[0].message;
  seen.parallel_whole = whole.tool_calls.map((call) => call.function.arguments);
  // The message goes back as it came.
  messages.push(whole);
  whole.tool_calls.forEach((call, number) => {
    messages.push({ role: "tool", tool_call_id: call.id, content: `output ${number}` });
  });
  seen.round_trip = (await ask({ messages, ...functions })).choices[0].message.content;
}

async function errors(ask, seen) {
  seen.unknown = await refusal(() => ask({ model: "nosuch/gpt-5.5", messages: said("hi") }));
  seen.choices = await refusal(() => ask({ messages: said("hi"), n: 2 }));
  seen.too_long = await refusal(() =>
    gathered(ask({ messages: said("[[sim:failed:context_length_exceeded]]"), stream: true })),
  );
  seen.cut = await refusal(() => gathered(ask({ messages: said("[[sim:long:50]] [[sim:cut:9]]"), stream: true })));
  // The limit rests the only credential, and so comes last.
  seen.limit = await refusal(() => ask({ messages: said("[[sim:usage_limit]]") }));
  const stranger = new OpenAI({ apiKey: "sbk_wrong" });
  seen.stranger = await refusal(() => stranger.chat.completions.create({ model: MODEL, messages: said("hi") }));
}

const client = new OpenAI(); // OPENAI_BASE_URL and OPENAI_API_KEY
const ask = (body) => client.chat.completions.create({ model: MODEL, ...body });
const seen = {};
await answers(client, ask, seen);
await tools(ask, seen);
await errors(ask, seen);
console.log(JSON.stringify(seen));
