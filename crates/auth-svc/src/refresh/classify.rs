//! What an answer to a refresh means.

use secrecy::SecretString;

use crate::identity::{Answer, Body};

/// Tokens that a refresh brought. The provider may leave each of them out.
#[derive(Debug)]
pub(crate) struct Tokens {
    /// Access token.
    pub(crate) access: Option<SecretString>,
    /// Refresh token; absent means that the old one stays good.
    pub(crate) refresh: Option<SecretString>,
    /// Id token.
    pub(crate) id_token: Option<SecretString>,
    /// Lifetime of the access token in seconds.
    pub(crate) expires_in: Option<i64>,
}

/// Why a refresh brought none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refusal {
    /// The refresh token is dead: only a new login helps.
    Permanent {
        /// Why.
        cause: String,
        /// True if that may be so because the token was spent before.
        maybe_spent: bool,
    },
    /// Not now. The login itself is not at fault.
    Transient {
        /// Why.
        cause: String,
        /// Seconds that the provider wants us to wait.
        retry_after: Option<f64>,
        /// True if the token may be spent all the same.
        in_doubt: bool,
    },
}

/// The codes with which the provider says that a refresh token is dead, and what they mean (facts of Codex CLI).
const DEAD: [(&str, &str); 5] = [
    (EXPIRED, "the refresh token has expired"),
    (
        "refresh_token_reused",
        "the refresh token was already used: another program or host holds the same login and has refreshed it",
    ),
    ("refresh_token_invalidated", "the login was revoked or ended elsewhere"),
    ("invalid_grant", "the refresh token is not valid any more"),
    ("invalid_refresh_token", "the refresh token is not valid any more"),
];
/// The one of them that says that nobody has spent it.
const EXPIRED: &str = "refresh_token_expired";
/// What a gateway answers when the provider behind it was asked and did not answer (502 and 504, and 520 and 524 of the
/// provider's edge).
const UNANSWERED: [u16; 4] = [502, 504, 520, 524];

/// The provider says that it has done what it was asked for: whatever stands in the answer, the token may be spent.
fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// Reads the answer to a refresh. A page is never taken for a refusal, whatever its status.
pub(crate) fn classify(answer: &Answer) -> Result<Tokens, Refusal> {
    let transient = || Refusal::Transient {
        cause: format!("the identity provider answered with {}", answer.describe()),
        retry_after: answer.retry_after,
        // The edge makes challenges by itself. A success that cannot be read may have been one.
        in_doubt: match answer.body {
            Body::Challenge(_) | Body::Redirect => false,
            Body::Other if is_success(answer.status) => true,
            _ => UNANSWERED.contains(&answer.status),
        },
    };
    let refused = || Refusal::Permanent {
        cause: format!("the identity provider refused it with {}", answer.describe()),
        maybe_spent: true,
    };
    let json = match &answer.body {
        Body::Json(json) => json,
        // A provider may refuse without a word. A page, though, is somebody else's in between.
        Body::Other if answer.status == 401 => return Err(refused()),
        Body::Other | Body::Challenge(_) | Body::Page | Body::Redirect => return Err(transient()),
    };
    if is_success(answer.status) {
        let secret = |name| answer.text(name).map(SecretString::from);
        let tokens = Tokens {
            access: secret("access_token"),
            refresh: secret("refresh_token"),
            id_token: secret("id_token"),
            expires_in: json["expires_in"].as_i64().filter(|seconds| *seconds > 0),
        };
        if tokens.access.is_none() && tokens.refresh.is_none() && tokens.id_token.is_none() {
            let cause = "the identity provider answered without any token".to_owned();
            return Err(Refusal::Transient { cause, retry_after: None, in_doubt: true });
        }
        return Ok(tokens);
    }
    let code = answer.error_code();
    let dead = DEAD.iter().find(|(dead, _)| Some(*dead) == code);
    match (answer.status, dead) {
        (400..500, Some((code, meaning))) => {
            Err(Refusal::Permanent { cause: format!("{meaning} ({code})"), maybe_spent: *code != EXPIRED })
        }
        (401, None) => Err(refused()),
        _ => Err(transient()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Refusal {
        classify(&Answer::fake(status, headers, body)).expect_err("no tokens")
    }

    #[test]
    fn dead_refresh_tokens_are_permanent() {
        let bodies = [
            (401, r#"{"error":{"code":"refresh_token_reused","message":"x"}}"#, "already used"),
            (401, r#"{"error":{"code":"refresh_token_expired"}}"#, "has expired"),
            (400, r#"{"code":"refresh_token_invalidated"}"#, "revoked"),
            (400, r#"{"error":"invalid_grant"}"#, "invalid_grant"),
            (401, r#"{"detail":"whatever"}"#, "status 401"),
            (401, "", "status 401"),
            (401, "Unauthorized", "status 401"),
        ];
        for (status, body, text) in bodies {
            match refusal(status, &[("content-type", "application/json")], body) {
                Refusal::Permanent { cause, maybe_spent } => {
                    assert!(cause.contains(text), "{body}: {cause}");
                    assert_eq!(maybe_spent, !body.contains("expired"), "{body}");
                }
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn tokens_are_taken_from_any_success() {
        for status in [200, 201, 202, 299] {
            let answer = Answer::fake(status, &[], r#"{"access_token":"a","refresh_token":"r","expires_in":9}"#);
            let tokens = classify(&answer).expect("tokens");
            assert!(tokens.access.is_some() && tokens.refresh.is_some() && tokens.expires_in == Some(9), "{status}");
        }
        for status in [300, 400, 503] {
            assert!(classify(&Answer::fake(status, &[], r#"{"access_token":"a"}"#)).is_err(), "{status}");
        }
    }

    #[test]
    fn everything_else_is_transient() {
        let page = &[("content-type", "text/html")][..];
        let challenge = &[("cf-mitigated", "challenge"), ("cf-ray", "abc-FRA")][..];
        let answers = [
            (403, challenge, "<html>", "ray id abc-FRA"),
            (403, page, "<title>Just a moment...</title>", "challenge"),
            (401, page, "<html>login</html>", "HTML page"),
            (200, page, "<html>portal</html>", "HTML page"),
            (400, &[], r#"{"error":"invalid_request"}"#, "invalid_request"),
            (429, &[("retry-after", "7")], r#"{"error":{"code":"rate_limit"}}"#, "status 429"),
            (500, &[], r#"{"error":{"code":"refresh_token_expired"}}"#, "status 500"),
            (302, &[("location", "https://evil.example")], "", "redirect"),
            (200, &[], "{}", "without any token"),
        ];
        for (status, headers, body, text) in answers {
            match refusal(status, headers, body) {
                Refusal::Transient { cause, .. } => assert!(cause.contains(text), "{body}: {cause}"),
                other => panic!("{body}: {other:?}"),
            }
        }
        let limited = refusal(429, &[("retry-after", "7")], "{}");
        assert!(matches!(limited, Refusal::Transient { retry_after: Some(7.0), .. }), "{limited:?}");
    }

    #[test]
    fn what_may_have_been_done_without_an_answer_is_in_doubt() {
        let page = &[("content-type", "text/html")][..];
        let challenge = &[("cf-mitigated", "challenge")][..];
        let table = [
            (502, page, "<html>bad gateway</html>", true),
            (504, &[][..], r#"{"error":"timeout"}"#, true),
            (524, page, "<html>", true),
            (200, &[][..], "{}", true),
            (200, &[][..], r#"{"access_token":"ey"#, true),
            (201, &[][..], "{}", true),
            (202, &[][..], "accepted", true),
            (204, &[][..], "", true),
            (302, &[][..], "", false),
            (200, page, "<html>portal</html>", false),
            (503, challenge, "<html>", false),
            (521, page, "<html>web server is down</html>", false),
            (500, &[][..], "{}", false),
            (503, &[][..], "{}", false),
            (429, &[][..], "{}", false),
        ];
        for (status, headers, body, expected) in table {
            let refusal = refusal(status, headers, body);
            assert!(matches!(refusal, Refusal::Transient { in_doubt, .. } if in_doubt == expected), "{status} {body}");
        }
    }

    #[test]
    fn no_text_of_the_provider_reaches_a_message() {
        let body = r#"{"error":{"code":"token eyJhbGciOi secret!"},"access_token":"eyJ"}"#;
        let Refusal::Permanent { cause, .. } = refusal(401, &[], body) else { panic!("a 401 is permanent") };
        assert!(!cause.contains("eyJ"), "{cause}");
    }
}
