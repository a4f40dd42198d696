"""OpenAI's SDK for Python with Chat Completions: a base URL and a key, and nothing else. Prints one JSON object.

`chat.mjs` does the same."""

import json

import openai

from common import MODEL, PIXEL, refusal, said


def tool(name):
    return {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}}},
    }


def gathered(stream):
    """The message that the chunks of a stream add up to, as an application gathers it."""
    seen = {"text": "", "refusal": "", "reasoning": "", "calls": {}, "finish": None, "usage": None, "ids": []}
    for chunk in stream:
        if chunk.id not in seen["ids"]:
            seen["ids"].append(chunk.id)
        if chunk.usage:
            seen["usage"] = chunk.usage.model_dump()
            assert chunk.choices == []
        for choice in chunk.choices:
            delta = choice.delta
            seen["text"] += delta.content or ""
            seen["refusal"] += delta.refusal or ""
            seen["reasoning"] += getattr(delta, "reasoning_content", None) or ""
            for call in delta.tool_calls or []:
                known = seen["calls"].setdefault(call.index, {"id": call.id, "name": "", "arguments": ""})
                known["name"] += call.function.name or ""
                known["arguments"] += call.function.arguments or ""
            seen["finish"] = choice.finish_reason or seen["finish"]
    seen["calls"] = [seen["calls"][index] for index in sorted(seen["calls"])]
    return seen


def tools(ask, seen):
    """Two calls at once, streamed; what they gave goes back; the answer."""
    functions = [tool("exec_command"), tool("other")]
    messages = said("[[sim:parallel:2]] Call both.")
    called = gathered(ask(model=MODEL, messages=messages, tools=functions, stream=True))
    seen["parallel"] = {"arguments": [call["arguments"] for call in called["calls"]], "finish": called["finish"]}
    whole = ask(model=MODEL, messages=messages, tools=functions)
    seen["parallel_whole"] = [call.function.arguments for call in whole.choices[0].message.tool_calls]
    # The message goes back as the SDK dumps it, with all that it knows and does not use.
    messages.append(whole.choices[0].message.model_dump())
    for number, call in enumerate(whole.choices[0].message.tool_calls):
        messages.append({"role": "tool", "tool_call_id": call.id, "content": f"output {number}"})
    answer = ask(model=MODEL, messages=messages, tools=functions)
    seen["round_trip"] = answer.choices[0].message.content


def answers(client, ask, seen):
    whole = ask(
        model=MODEL,
        messages=[{"role": "system", "content": "Be brief."}] + said("Reply exactly: OK"),
        max_completion_tokens=100,
        temperature=0.5,
        user="someone",
    )
    seen["whole"] = whole.model_dump()
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=said("Hello"), max_tokens=9, seed=1)
    seen["dropped"] = raw.headers.get("x-switchboard-dropped")

    seen["plain"] = gathered(ask(model=MODEL, messages=said("Reply exactly: one two three"), stream=True))
    usage = {"include_usage": True}
    seen["with_usage"] = gathered(ask(model=MODEL, messages=said("Reply exactly: OK"), stream=True, stream_options=usage))
    with client.chat.completions.stream(model=MODEL, messages=said("Reply exactly: helper")) as stream:
        seen["helper_events"] = sorted({event.type for event in stream})
        seen["helper"] = stream.get_final_completion().choices[0].message.content

    with client.chat.completions.stream(
        model=MODEL, messages=said("[[sim:parallel:2]] Call both."), tools=[tool("exec_command")]
    ) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls
        seen["helper_calls"] = [call.function.arguments for call in calls]

    schema = {"name": "n", "strict": True, "schema": {"type": "object", "properties": {}, "additionalProperties": False}}
    formatted = {"type": "json_schema", "json_schema": schema}
    seen["json"] = ask(model=MODEL, messages=said('Reply exactly: {"a":1}'), response_format=formatted).choices[0].message.content
    picture = [{"type": "text", "text": "Reply exactly: seen"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    seen["image"] = ask(model=MODEL, messages=said(picture)).choices[0].message.content
    reasoned = said("Reply exactly: OK [[sim:reasoning]]")
    seen["reasoning"] = gathered(ask(model=MODEL, messages=reasoned, reasoning_effort="high", stream=True))
    seen["refused"] = gathered(ask(model=MODEL, messages=said("[[sim:refusal]]"), stream=True))
    seen["stopped"] = ask(model=MODEL, messages=said("Hello [[sim:incomplete]]")).choices[0].finish_reason
    seen["filtered"] = ask(model=MODEL, messages=said("Hello [[sim:incomplete:content_filter]]")).choices[0].finish_reason


def errors(ask, seen):
    seen["unknown"] = refusal(lambda: ask(model="nosuch/gpt-5.5", messages=said("hi")))
    seen["choices"] = refusal(lambda: ask(model=MODEL, messages=said("hi"), n=2))
    seen["too_long"] = refusal(
        lambda: list(ask(model=MODEL, messages=said("[[sim:failed:context_length_exceeded]]"), stream=True))
    )
    seen["cut"] = refusal(lambda: list(ask(model=MODEL, messages=said("[[sim:long:50]] [[sim:cut:9]]"), stream=True)))
    # The limit rests the only credential, and so comes last.
    seen["limit"] = refusal(lambda: ask(model=MODEL, messages=said("[[sim:usage_limit]]")))
    stranger = openai.OpenAI(api_key="sbk_wrong")
    seen["stranger"] = refusal(lambda: stranger.chat.completions.create(model=MODEL, messages=said("hi")))


def main():
    client = openai.OpenAI()  # OPENAI_BASE_URL and OPENAI_API_KEY
    ask = client.chat.completions.create
    seen = {}
    answers(client, ask, seen)
    tools(ask, seen)
    errors(ask, seen)
    print(json.dumps(seen))


main()
