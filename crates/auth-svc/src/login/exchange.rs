//! What device-code and pasted logins have in common: the exchange of a grant for tokens, and how it fails.

use domain::{Failure, Reason, service};
use secrecy::{ExposeSecret, SecretString};

use crate::identity::{Answer, Body, CLIENT_ID, Identity, NoAnswer, TOKEN_PATH};

/// What is exchanged for tokens. Good once.
pub(super) struct Grant {
    pub(super) code: SecretString,
    pub(super) verifier: SecretString,
    /// Where the provider has sent the code, which it wants to hear again.
    pub(super) redirect_uri: String,
    /// Who brought the code.
    pub(super) from: CodeFrom,
}

/// Who brings a code, which decides what is said when it is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CodeFrom {
    /// The provider itself: somebody has agreed.
    Provider,
    /// A person: nobody knows whether it is one.
    Paste,
}

impl CodeFrom {
    fn what(self) -> &'static str {
        match self {
            Self::Provider => "the login was approved, but its tokens could not be had",
            Self::Paste => "no tokens could be had for the code that was pasted",
        }
    }

    fn next(self, failure: Failure) -> Failure {
        match self {
            Self::Provider => failure,
            // A paste is good once, and the login waits for another.
            Self::Paste => failure.next_step(
                "the login still waits: open its address again, sign in, and paste the address at which the browser ends \
                 then; a code is good once",
            ),
        }
    }
}

/// The tokens of a new login.
pub(super) struct Tokens {
    pub(super) access: SecretString,
    pub(super) refresh: Option<SecretString>,
    pub(super) id_token: Option<SecretString>,
    pub(super) expires_in: Option<i64>,
}

/// No answer came.
pub(super) fn unavailable(what: &str, cause: &str) -> Failure {
    Failure::new(Reason::IdentityUnavailable, service::AUTH, format!("{what}: {cause}"))
        .next_step("check this host's network and the proxy (`[auth] proxy`, `[egresses.*] proxy`), then run it again")
}

/// The provider, or something in between, answers what it should not: what to do follows from what came.
pub(super) fn unexpected(what: &str, answer: &Answer) -> Failure {
    let message = format!("{what}: the identity provider answered with {}", answer.describe());
    let failure = Failure::new(Reason::IdentityUnavailable, service::AUTH, message);
    match (&answer.body, answer.status, answer.retry_after) {
        (Body::Challenge(_), ..) => failure
            .next_step("run it again in some minutes; if it stays so, go out by another address, or by `[auth] proxy`"),
        (Body::Page | Body::Redirect, ..) => {
            failure.next_step("see what stands between this host and the provider (`[auth] proxy`, identity_url)")
        }
        (_, 429, Some(seconds)) => {
            let wait = seconds.ceil();
            failure
                .retry_after(wait)
                .next_step(format!("too many requests from here: wait {wait:.0} s, then run it again"))
        }
        (_, 429, None) => failure.next_step("too many requests from here: wait some minutes, then run it again"),
        (.., Some(seconds)) => {
            let wait = seconds.ceil();
            failure.retry_after(wait).next_step(format!("the provider asks to wait {wait:.0} s; then run it again"))
        }
        (_, 400..500, None) => {
            failure.next_step("run it again; if the provider refuses it once more, report this message")
        }
        _ => failure.next_step("the fault is the provider's: run it again in some minutes"),
    }
}

/// The provider says no.
pub(super) fn refused(what: &str, answer: &Answer) -> Failure {
    let message = format!("{what}: the identity provider answered with {}", answer.describe());
    Failure::new(Reason::CredentialNeedsLogin, service::AUTH, message)
        .next_step("start the login again: `switchboard login codex`")
}

/// Exchanges the grant for tokens.
pub(super) async fn exchange(identity: &Identity, grant: &Grant) -> Result<Tokens, Failure> {
    let what = grant.from.what();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", grant.code.expose_secret()),
        ("redirect_uri", grant.redirect_uri.as_str()),
        ("client_id", CLIENT_ID),
        ("code_verifier", grant.verifier.expose_secret()),
    ];
    let answer = identity
        .post_form(TOKEN_PATH, &form)
        .await
        .map_err(|NoAnswer(cause)| grant.from.next(unavailable(what, &cause)))?;
    read(&answer).map_err(|refusal| match refusal {
        Refusal::No => grant.from.next(refused(what, &answer)),
        Refusal::Unclear => grant.from.next(unexpected(what, &answer)),
    })
}

enum Refusal {
    No,
    Unclear,
}

/// A page of the edge is never a refusal, whatever its status.
fn read(answer: &Answer) -> Result<Tokens, Refusal> {
    let secret = |name| answer.text(name).map(SecretString::from);
    match (answer.status, &answer.body, secret("access_token")) {
        (200, Body::Json(json), Some(access)) => Ok(Tokens {
            access,
            refresh: secret("refresh_token"),
            id_token: secret("id_token"),
            expires_in: json["expires_in"].as_i64().filter(|seconds| *seconds > 0),
        }),
        (400..500, Body::Json(_), _) if answer.status != 429 => Err(Refusal::No),
        _ => Err(Refusal::Unclear),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_never_a_refusal() {
        let page = &[("content-type", "text/html")][..];
        let challenge = &[("cf-mitigated", "challenge")][..];
        for (status, headers, body, refused) in [
            (400, &[][..], r#"{"error":"invalid_grant"}"#, true),
            (403, &[], r#"{"error":{"code":"denied"}}"#, true),
            (429, &[], r#"{"error":{"code":"rate_limit"}}"#, false),
            (403, challenge, "<html>", false),
            (403, page, "<title>Just a moment...</title>", false),
            (401, page, "<html>sign in</html>", false),
            (200, &[], r#"{"refresh_token":"r"}"#, false),
            (302, &[("location", "https://elsewhere.example")], "", false),
        ] {
            let read = read(&Answer::fake(status, headers, body));
            assert_eq!(matches!(read, Err(Refusal::No)), refused, "{status} {body}");
            assert!(read.is_err());
        }
        assert!(read(&Answer::fake(200, &[], r#"{"access_token":"a"}"#)).is_ok());
    }
}
