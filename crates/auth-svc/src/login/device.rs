//! The requests of a device-code login, as Codex CLI makes them (facts: not RFC 8628, but its own shapes). The exchange
//! follows in `exchange`.

use std::time::Duration;

use domain::{Failure, Reason, service};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::exchange::{CodeFrom, Grant, refused, unavailable, unexpected};
use crate::identity::{Answer, Body, CLIENT_ID, Identity, NoAnswer};

const USER_CODE_PATH: &str = "/api/accounts/deviceauth/usercode";
const POLL_PATH: &str = "/api/accounts/deviceauth/token";
/// What has failed where a poll brings neither yes nor no.
const FOLLOWED: &str = "the provider does not tell whether the code was entered";
/// Interval where the provider names none, and the bounds of what it may name.
const USUAL_INTERVAL_S: f64 = 5.0;
const SHORTEST_INTERVAL_S: f64 = 0.2;
const LONGEST_INTERVAL_S: f64 = 60.0;

/// A login that waits for a person.
pub(super) struct Code {
    pub(super) device_auth_id: SecretString,
    pub(super) user_code: String,
    pub(super) interval: Duration,
}

/// What a poll brought.
pub(super) enum Poll {
    /// Nobody has entered the code yet.
    Pending,
    /// No answer, or none that tells. It may pass: asked again.
    Unclear(Failure),
    /// The person has agreed.
    Approved(Grant),
    /// It will not happen.
    Refused(Failure),
}

/// Asks for a code.
pub(super) async fn start(identity: &Identity) -> Result<Code, Failure> {
    const WHAT: &str = super::NOT_STARTED;
    let body = json!({ "client_id": CLIENT_ID });
    let answer =
        identity.post_json(USER_CODE_PATH, &body).await.map_err(|NoAnswer(cause)| unavailable(WHAT, &cause))?;
    // The provider itself has no page here: one comes from something in between.
    if answer.status == 404 && matches!(answer.body, Body::Json(_) | Body::Other) {
        let message =
            "device code login is not enabled for this account or workspace (the identity provider answered 404)";
        return Err(Failure::new(Reason::NotEntitled, service::AUTH, message).next_step(
            "switch on device code login in the ChatGPT security settings (Settings > Security; in a workspace its \
                 administrator does), then start the login again; or use `switchboard login codex --paste`",
        ));
    }
    let code = answer.text("user_code").or(answer.text("usercode"));
    match (answer.status, answer.text("device_auth_id"), code, &answer.body) {
        (200, Some(id), Some(code), Body::Json(json)) => Ok(Code {
            device_auth_id: SecretString::from(id),
            user_code: code.to_owned(),
            interval: interval(&json["interval"]),
        }),
        _ => Err(unexpected(WHAT, &answer)),
    }
}

/// The interval is a string at the real provider, and may be a number.
fn interval(value: &Value) -> Duration {
    let seconds = value.as_f64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
    let seconds = seconds.filter(|s: &f64| s.is_finite() && *s >= 0.0).unwrap_or(USUAL_INTERVAL_S);
    Duration::from_secs_f64(seconds.clamp(SHORTEST_INTERVAL_S, LONGEST_INTERVAL_S))
}

/// Has the person entered the code?
pub(super) async fn poll(identity: &Identity, code: &Code) -> Poll {
    let body = json!({ "device_auth_id": code.device_auth_id.expose_secret(), "user_code": code.user_code });
    match identity.post_json(POLL_PATH, &body).await {
        Ok(answer) => read_poll(&answer, &identity.url("/deviceauth/callback")),
        Err(NoAnswer(cause)) => Poll::Unclear(unavailable(FOLLOWED, &cause)),
    }
}

fn read_poll(answer: &Answer, redirect_uri: &str) -> Poll {
    let unclear = || Poll::Unclear(unexpected(FOLLOWED, answer));
    match (answer.status, &answer.body) {
        (_, Body::Challenge(_) | Body::Redirect) => unclear(),
        // Both mean "not yet"; the page of an error 404 too.
        (403 | 404, _) => Poll::Pending,
        (200, Body::Json(_)) => match (answer.text("authorization_code"), answer.text("code_verifier")) {
            (Some(code), Some(verifier)) => Poll::Approved(Grant {
                code: SecretString::from(code),
                verifier: SecretString::from(verifier),
                redirect_uri: redirect_uri.to_owned(),
                from: CodeFrom::Provider,
            }),
            _ => unclear(),
        },
        (400 | 401 | 410, Body::Json(_)) => Poll::Refused(refused("the login was refused", answer)),
        _ => unclear(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_string_or_a_number() {
        let read = |value: Value| interval(&value).as_secs_f64();
        assert_eq!([read(json!("5")), read(json!(7)), read(json!("1.5"))], [5.0, 7.0, 1.5]);
        assert_eq!([read(json!(null)), read(json!("soon")), read(json!(-1))], [5.0, 5.0, 5.0]);
        assert_eq!([read(json!("0")), read(json!(1e9))], [0.2, 60.0]);
    }

    #[test]
    fn pending_is_told_from_a_challenge() {
        let poll = |status, headers: &[(&'static str, &'static str)], body| {
            read_poll(&Answer::fake(status, headers, body), "")
        };
        assert!(matches!(poll(403, &[], r#"{"error":"pending"}"#), Poll::Pending));
        assert!(matches!(poll(404, &[("content-type", "text/html")], "<html>not found</html>"), Poll::Pending));
        assert!(
            matches!(poll(403, &[("cf-mitigated", "challenge")], "<html>"), Poll::Unclear(why) if why.message.contains("challenge"))
        );
        assert!(matches!(poll(503, &[], ""), Poll::Unclear(_)));
        let approved = r#"{"authorization_code":"c","code_challenge":"x","code_verifier":"v"}"#;
        assert!(matches!(poll(200, &[], approved), Poll::Approved(_)));
    }
}
