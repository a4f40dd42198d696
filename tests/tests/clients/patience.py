"""How long OpenAI's SDK for Python waits, how often it asks, and what is left when it goes. Prints one JSON object.

`patience.mjs` does the same. Arguments: `retry` and `responses` or `chat`; or `leave`."""

import asyncio
import json
import sys

import openai

from common import MODEL, said


def retry(dialect):
    """One call with the SDK's own retries, while the upstream recovers."""
    client = openai.OpenAI()
    if dialect == "chat":
        answer = client.chat.completions.create(model=MODEL, messages=said("Reply exactly: OK"))
        return {"text": answer.choices[0].message.content}
    return {"text": client.responses.create(model=MODEL, input="Reply exactly: OK").output_text}


async def cancelled():
    """A task that waits for an answer, and is cancelled."""
    client = openai.AsyncOpenAI()
    task = asyncio.create_task(client.responses.create(model=MODEL, input="[[sim:delay:600000]] 1"))
    await asyncio.sleep(2)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"


def timed_out(action):
    try:
        action()
    except openai.APITimeoutError as error:
        return type(error).__name__
    return "none"


def leave():
    client = openai.OpenAI()
    long = "[[sim:long:100000:16:20]]"
    seen = {}
    stream = client.responses.create(model=MODEL, input=long, stream=True)
    seen["responses"] = [next(stream).type for _ in range(6)][-1]
    stream.close()
    stream = client.chat.completions.create(model=MODEL, messages=said(long), stream=True)
    seen["chat"] = len([next(stream) for _ in range(6)])
    stream.close()
    seen["cancelled"] = asyncio.run(cancelled())
    # Whether a call that was given up may be made again is for its caller to know, and the SDK does it.
    impatient = client.with_options(timeout=2, max_retries=1)
    ask = impatient.responses.create
    seen["timed_out"] = timed_out(lambda: ask(model=MODEL, input="[[sim:delay:600000]] 2"))
    return seen


seen = retry(sys.argv[2]) if sys.argv[1] == "retry" else leave()
print(json.dumps(seen))
