//! The upstream's codes and phrases, and the reasons they stand for. The same in a refusal and in a stream.

use domain::Reason;

use super::detail::UpstreamError;

/// The reason that a code, or else a phrase, stands for; `None` leaves it to the status.
pub(super) fn reason(error: &UpstreamError) -> Option<Reason> {
    let by_code = [&error.code, &error.kind].into_iter().flatten().find_map(|code| by_code(code));
    by_code.or_else(|| error.message.as_deref().and_then(by_phrase))
}

/// Codes of Codex CLI's and OpenClaw's own error handling (facts, sections 3 and 2.5).
fn by_code(code: &str) -> Option<Reason> {
    Some(match code {
        "usage_limit_reached" | "insufficient_quota" | "billing_hard_limit_reached" => Reason::UsageLimit,
        "usage_not_included" => Reason::NotEntitled,
        "rate_limit_exceeded" => Reason::RateLimited,
        "server_is_overloaded" | "slow_down" | "overloaded_error" => Reason::UpstreamOverloaded,
        "context_length_exceeded" => Reason::ContextTooLong,
        "cyber_policy" | "misalignment_policy_violation" | "bio_policy" | "content_policy_violation" => {
            Reason::PolicyRefused
        }
        "invalid_prompt" | "invalid_encrypted_content" | "previous_response_not_found" => Reason::RequestRejected,
        _ => return None,
    })
}

/// The backend's `detail` texts have no codes.
fn by_phrase(text: &str) -> Option<Reason> {
    let text = text.to_ascii_lowercase();
    let has = |phrase: &str| text.contains(phrase);
    if has("requires a newer version") {
        Some(Reason::ClientOutdated)
    } else if has("not supported") && has("chatgpt account") {
        Some(Reason::NotEntitled)
    } else if has("context window") || has("maximum context length") {
        Some(Reason::ContextTooLong)
    } else {
        None
    }
}

/// True if the upstream cannot read encrypted reasoning: it belongs to another account, or is too old. Codex' backend
/// and the public API say so by code; a text without one is taken by its words.
pub(super) fn refuses_reasoning(error: &UpstreamError) -> bool {
    const CODE: &str = "invalid_encrypted_content";
    let named = [&error.code, &error.kind].into_iter().flatten().any(|code| code == CODE);
    let text = error.message.as_deref().unwrap_or_default().to_ascii_lowercase();
    let unreadable = ["could not be verified", "could not be decrypted", "invalid", "could not be parsed"];
    named
        || text.contains(CODE)
        || (text.contains("encrypted content") || text.contains("encrypted_content"))
            && unreadable.iter().any(|words| text.contains(words))
}

/// True if the error is about a model's name, and so not about the path.
pub(super) fn names_model(error: &UpstreamError) -> bool {
    let text = error.message.as_deref().unwrap_or_default().to_ascii_lowercase();
    error.name() == Some("model_not_found")
        || (text.contains("model") && (text.contains("does not exist") || text.contains("not found")))
}

/// True if the service refuses where the request comes from.
pub(super) fn is_region(error: &UpstreamError) -> bool {
    error.code.as_deref() == Some("unsupported_country_region_territory")
}

/// True if the text says that the service is full.
pub(super) fn says_overloaded(error: &UpstreamError) -> bool {
    let text = error.message.as_deref().unwrap_or_default().to_ascii_lowercase();
    text.contains("overloaded") || text.contains("at capacity")
}
