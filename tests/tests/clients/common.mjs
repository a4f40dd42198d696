// What the scripts for OpenAI's SDK for Node share. `common.py` does the same.

import OpenAI from "openai";

export const MODEL = "codex/gpt-5.5";
// A picture of one pixel.
export const PIXEL =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

export const said = (content) => [{ role: "user", content }];

// What an application sees of an action that is expected to fail.
export async function refusal(action) {
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
