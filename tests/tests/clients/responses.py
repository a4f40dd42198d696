"""OpenAI's SDK for Python with the Responses API: a base URL and a key, and nothing else. Prints one JSON object.

`responses.mjs` does the same. With an argument, a body of one call that is expected to fail."""

import json
import sys

import openai
import pydantic

from common import MODEL, PIXEL, refusal

TOOL = {"type": "function", "name": "shell", "parameters": {"type": "object", "properties": {}}, "strict": False}


class Answer(pydantic.BaseModel):
    """A schema as applications write one."""

    a: int


def deltas(events, kind):
    return "".join(event.delta for event in events if event.type == kind)


def answers(client, seen):
    ask = client.responses.create
    # Parameters that the subscription's backend refuses are the gateway's business.
    whole = ask(
        model=MODEL, instructions="Be brief.", input="Reply exactly: OK", temperature=0.5, max_output_tokens=100
    )
    seen["text"] = whole.output_text
    seen["status"] = whole.status
    seen["output_tokens"] = whole.usage.output_tokens

    raw = client.responses.with_raw_response.create(model=MODEL, input="Reply exactly: OK", top_p=0.9)
    seen["raw"] = raw.parse().output_text
    seen["call_id"] = raw.headers.get("x-switchboard-call-id")
    seen["dropped"] = raw.headers.get("x-switchboard-dropped")

    events = list(ask(model=MODEL, input="Reply exactly: one two three", stream=True))
    seen["kinds"] = [event.type for event in events]
    seen["streamed"] = deltas(events, "response.output_text.delta")
    with client.responses.stream(model=MODEL, input="Reply exactly: helper") as stream:
        for _ in stream:
            pass
        seen["helper"] = stream.get_final_response().output_text

    parsed = client.responses.parse(model=MODEL, input='Reply exactly: {"a":1}', text_format=Answer)
    seen["json"] = parsed.output_parsed.a
    content = [{"type": "input_text", "text": "Reply exactly: seen"}, {"type": "input_image", "image_url": PIXEL}]
    seen["image"] = ask(model=MODEL, input=[{"role": "user", "content": content}]).output_text
    thought = ask(
        model=MODEL, input="Reply exactly: OK [[sim:reasoning]]", reasoning={"effort": "high", "summary": "auto"}
    )
    reasoning = next(item for item in thought.output if item.type == "reasoning")
    seen["reasoning"] = "\n\n".join(part.text for part in reasoning.summary)
    seen["sealed"] = bool(reasoning.encrypted_content)
    question = [{"role": "user", "content": "Hello"}]
    seen["compacted"] = client.responses.compact(model=MODEL, input=question).output[-1].type
    stopped = ask(model=MODEL, input="Hello [[sim:incomplete]]")
    seen["incomplete"] = [stopped.status, stopped.incomplete_details.reason]


def tools(client, seen):
    """A call, then its output with the whole conversation; the same call streamed."""
    ask = client.responses.create
    question = [{"role": "user", "content": "[[sim:tool]]"}]
    called = ask(model=MODEL, input=question, tools=[TOOL])
    call = next(item for item in called.output if item.type == "function_call")
    seen["tool"] = call.name
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "hello-from-tool"}
    seen["tool_answer"] = ask(model=MODEL, input=question + called.output + [output], tools=[TOOL]).output_text
    events = list(ask(model=MODEL, input=question, tools=[TOOL], stream=True))
    seen["tool_streamed"] = deltas(events, "response.function_call_arguments.delta")
    two = ask(model=MODEL, input="[[sim:parallel:2]]", tools=[TOOL])
    seen["parallel"] = sum(item.type == "function_call" for item in two.output)


def errors(client, seen):
    ask = client.responses.create
    failed = seen["errors"] = {}
    failed["unknown"] = refusal(lambda: ask(model="nosuch/gpt-5.5", input="hi"))
    failed["unknown_streamed"] = refusal(lambda: list(ask(model="nosuch/gpt-5.5", input="hi", stream=True)))
    failed["unsupported"] = refusal(lambda: ask(model=MODEL, input="hi", previous_response_id="resp_1"))
    failed["too_long"] = refusal(lambda: ask(model=MODEL, input="[[sim:context_too_long]]"))
    failed["policy"] = refusal(lambda: ask(model=MODEL, input="[[sim:policy]]"))
    failed["nowhere"] = refusal(lambda: client.embeddings.create(model="text-embedding-3-small", input="hi"))
    once = client.with_options(max_retries=0).responses.create
    failed["overloaded"] = refusal(lambda: once(model=MODEL, input="[[sim:overloaded]]"))
    stranger = openai.OpenAI(api_key="sbk_wrong")
    failed["stranger"] = refusal(lambda: stranger.responses.create(model=MODEL, input="hi"))
    # What breaks after the first event ends with one event that says so.
    events = list(ask(model=MODEL, input="[[sim:cut:6]] one two three", stream=True))
    seen["cut_code"] = events[-1].response.error.code
    # The limit rests the only credential, and so comes last.
    failed["limit"] = refusal(lambda: ask(model=MODEL, input="[[sim:usage_limit]]"))


def main():
    client = openai.OpenAI()  # OPENAI_BASE_URL and OPENAI_API_KEY
    if len(sys.argv) > 1:
        body = json.loads(sys.argv[1])
        print(json.dumps(refusal(lambda: client.responses.create(**body))))
        return
    seen = {"models": [model.id for model in client.models.list()]}
    seen["model"] = client.models.retrieve("openai-codex/gpt-5.5").id
    answers(client, seen)
    tools(client, seen)
    errors(client, seen)
    print(json.dumps(seen))


main()
