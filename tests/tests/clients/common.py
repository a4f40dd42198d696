"""What the scripts for OpenAI's SDK for Python share. `common.mjs` does the same."""

import openai

MODEL = "codex/gpt-5.5"
# A picture of one pixel.
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def said(text):
    return [{"role": "user", "content": text}]


def refusal(action):
    """What an application sees of an action that is expected to fail."""
    try:
        action()
    except openai.APIError as error:
        body = error.body if isinstance(error.body, dict) else {}
        return {
            "class": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "code": error.code,
            "type": error.type,
            "param": error.param,
            "reason": body.get("reason"),
            "next_step": body.get("next_step"),
            "message": error.message,
        }
    return {"class": "none", "message": "it did not fail"}
