"""OpenAI's SDK against the gateway, with nothing but a base URL and a key. Prints one JSON object for the test.

With an argument, a body of one call that is expected to fail."""

import json
import sys

import openai

MODEL = "codex/gpt-5.5"


def refusal(action):
    try:
        action()
    except openai.APIError as error:
        body = error.body if isinstance(error.body, dict) else {}
        return {
            "class": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "code": error.code,
            "type": error.type,
            "reason": body.get("reason"),
            "next_step": body.get("next_step"),
            "message": error.message,
        }
    return None


def failing(body):
    client = openai.OpenAI()
    print(json.dumps(refusal(lambda: client.responses.create(**body))))


def main():
    client = openai.OpenAI()  # OPENAI_BASE_URL and OPENAI_API_KEY
    seen = {"version": openai.__version__}

    # Parameters that the subscription's backend refuses are the gateway's business.
    whole = client.responses.create(
        model=MODEL, instructions="Be brief.", input="Reply exactly: OK", temperature=0.5, max_output_tokens=100
    )
    seen["text"] = whole.output_text
    seen["status"] = whole.status
    seen["output_tokens"] = whole.usage.output_tokens if whole.usage else None

    raw = client.responses.with_raw_response.create(model=MODEL, input="Reply exactly: OK", top_p=0.9)
    seen["call_id"] = raw.headers.get("x-switchboard-call-id")
    seen["dropped"] = raw.headers.get("x-switchboard-dropped")

    events = list(client.responses.create(model=MODEL, input="Reply exactly: one two three", stream=True))
    seen["kinds"] = [event.type for event in events]
    seen["streamed"] = "".join(event.delta for event in events if event.type == "response.output_text.delta")

    with client.responses.stream(model=MODEL, input="Reply exactly: helper") as stream:
        for _ in stream:
            pass
        seen["helper"] = stream.get_final_response().output_text

    tool = {"type": "function", "name": "shell", "parameters": {"type": "object", "properties": {}}, "strict": False}
    called = client.responses.create(model=MODEL, input="[[sim:tool]]", tools=[tool])
    seen["tool"] = [item.name for item in called.output if item.type == "function_call"]

    seen["models"] = [model.id for model in client.models.list()]

    ask = client.responses.create
    seen["unknown"] = refusal(lambda: ask(model="nosuch/gpt-5.5", input="hi"))
    seen["unknown_streamed"] = refusal(lambda: list(ask(model="nosuch/gpt-5.5", input="hi", stream=True)))
    seen["limit"] = refusal(lambda: ask(model=MODEL, input="[[sim:usage_limit]]"))
    stranger = openai.OpenAI(api_key="sbk_wrong")
    seen["stranger"] = refusal(lambda: stranger.responses.create(model=MODEL, input="hi"))
    print(json.dumps(seen))


if len(sys.argv) > 1:
    failing(json.loads(sys.argv[1]))
else:
    main()
