//! Logins with a pasted redirect (PKCE): a person signs in with a browser anywhere, and pastes the address at which it
//! ends. That address is one of the browser's own machine, on which nothing listens: only what it says is wanted.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{Failure, Reason, service};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::exchange::{CodeFrom, Grant};
use crate::identity::{CLIENT_ID, Identity};

/// Where the provider sends the browser: registered for the client of Codex CLI.
const REDIRECT_URI: &str = "http://localhost:1455/auth/callback";
/// What Codex CLI asks for, so that a login can be handed to it by an export.
const SCOPE: &str = "openid profile email offline_access api.connectors.read api.connectors.invoke";
/// Longest paste that is read, in bytes.
const LONGEST: usize = 16 * 1024;

/// A login that waits for a paste.
pub(super) struct Pkce {
    verifier: SecretString,
    state: SecretString,
}

/// What a paste says.
#[derive(Default)]
struct Said {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    description: Option<String>,
}

impl Pkce {
    /// A new one: 64 random bytes for the verifier, 32 for the state.
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self { verifier: random::<64>()?, state: random::<32>()? })
    }

    /// The URL to open.
    pub(super) fn authorize_url(&self, identity: &Identity, originator: &str) -> Result<String, Failure> {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.expose_secret()));
        let mut url = Url::parse(&identity.url("/oauth/authorize"))
            .map_err(|e| Failure::new(Reason::Internal, service::AUTH, format!("[auth] identity_url: {e}")))?;
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", CLIENT_ID)
            .append_pair("redirect_uri", REDIRECT_URI)
            .append_pair("scope", SCOPE)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .append_pair("state", self.state.expose_secret())
            .append_pair("id_token_add_organizations", "true")
            .append_pair("codex_cli_simplified_flow", "true")
            .append_pair("originator", originator);
        Ok(url.into())
    }

    /// The grant in a paste: the whole redirect URL, `code#state`, `code=…&state=…`, or the bare code.
    ///
    /// # Errors
    ///
    /// Say what is wrong and never what was pasted. The login can go on after each of them.
    pub(super) fn grant(&self, pasted: &str) -> Result<Grant, Failure> {
        let said = read(pasted)?;
        if let Some(state) = &said.state
            && !bool::from(state.as_bytes().ct_eq(self.state.expose_secret().as_bytes()))
        {
            return Err(wrong("it belongs to another login: its state is not the one of this login"));
        }
        if let Some(error) = &said.error {
            return Err(denied(error, said.description.as_deref().unwrap_or_default()));
        }
        let code = said.code.filter(|code| !code.is_empty()).ok_or_else(|| wrong("it holds no code"))?;
        if !code.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("its code holds white space or characters that no code has"));
        }
        Ok(Grant {
            code: SecretString::from(code),
            verifier: self.verifier.clone(),
            redirect_uri: REDIRECT_URI.to_owned(),
            from: CodeFrom::Paste,
        })
    }
}

fn random<const N: usize>() -> Result<SecretString, Failure> {
    let mut bytes = Zeroizing::new([0u8; N]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| {
        let message = format!("the login could not be started: the system gives no random bytes: {error}");
        Failure::new(Reason::Internal, service::AUTH, message)
    })?;
    Ok(SecretString::from(URL_SAFE_NO_PAD.encode(bytes.as_slice())))
}

fn wrong(why: &str) -> Failure {
    Failure::new(Reason::RequestInvalid, service::AUTH, format!("what was pasted is not taken: {why}"))
        .param("pasted")
        .next_step(
            "paste the whole address that the browser shows after signing in; it begins with \
             http://localhost:1455/auth/callback?",
        )
}

/// The provider has sent the browser back without a code.
fn denied(error: &str, description: &str) -> Failure {
    if error == "access_denied" && description.contains("missing_codex_entitlement") {
        let message = "this workspace has no Codex (access_denied, missing_codex_entitlement)";
        return Failure::new(Reason::NotEntitled, service::AUTH, message).next_step(
            "have the workspace's administrator switch Codex on, or open the address again and choose another workspace",
        );
    }
    // Only what looks like a code of the provider's: anything may have been pasted.
    let is_code = error.len() <= 64 && error.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let code = if is_code { format!(" ({error})") } else { String::new() };
    let message = format!("the identity provider refused to sign in{code}");
    Failure::new(Reason::CredentialNeedsLogin, service::AUTH, message).next_step("open the address again and agree")
}

fn read(pasted: &str) -> Result<Said, Failure> {
    let text = pasted.trim().trim_matches(['"', '\'', '<', '>']).trim();
    if text.is_empty() {
        return Err(wrong("it is empty"));
    }
    if text.len() > LONGEST {
        return Err(wrong("it is too long"));
    }
    if text.contains("://") {
        let url = Url::parse(text).map_err(|_| wrong("it looks like a URL and is none"))?;
        if url.path().ends_with("/oauth/authorize") {
            return Err(wrong("it is the address to open, not the one at which the browser ends after signing in"));
        }
        if !is_redirect(&url) {
            return Err(wrong("it is not the address at which the browser ends after signing in"));
        }
        // Some pages answer in the fragment.
        let said = fields(url.query().into_iter().chain(url.fragment()));
        // The provider always sends it back: an address without one was put together by somebody else, or cut.
        return if said.state.is_some() { Ok(said) } else { Err(wrong("the address holds no state: it is not whole")) };
    }
    if text.contains("code=") || text.contains("error=") {
        return Ok(fields(text.trim_start_matches(['?', '#']).split('#')));
    }
    let (code, state) = text.split_once('#').map_or((text, None), |(code, state)| (code, Some(state)));
    Ok(Said { code: Some(code.to_owned()), state: state.map(str::to_owned), ..Said::default() })
}

/// Is this where the provider sends the browser?
fn is_redirect(url: &Url) -> bool {
    let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1"));
    url.scheme() == "http" && is_here && url.port() == Some(1455) && url.path() == "/auth/callback"
}

/// The fields of query strings; the first of each name counts.
fn fields<'a>(queries: impl Iterator<Item = &'a str>) -> Said {
    let mut said = Said::default();
    for query in queries {
        // The address is never used: it makes a query string readable.
        let Ok(mut url) = Url::parse("http://localhost/") else { continue };
        url.set_query(Some(query));
        for (name, value) in url.query_pairs() {
            let field = match name.as_ref() {
                "code" => &mut said.code,
                "state" => &mut said.state,
                "error" => &mut said.error,
                "error_description" => &mut said.description,
                _ => continue,
            };
            field.get_or_insert_with(|| value.into_owned());
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pkce() -> Pkce {
        Pkce { verifier: SecretString::from("v".repeat(86)), state: SecretString::from("st-ate_1") }
    }

    fn code(pasted: &str) -> Result<String, Failure> {
        pkce().grant(pasted).map(|grant| grant.code.expose_secret().to_owned())
    }

    #[test]
    fn every_form_of_a_paste_is_read() {
        for pasted in [
            "http://localhost:1455/auth/callback?code=ac_1&scope=openid+email&state=st-ate_1",
            "  \"http://127.0.0.1:1455/auth/callback?state=st-ate_1&code=ac_1\" \n",
            "http://localhost:1455/auth/callback#code=ac_1&state=st-ate_1",
            "?code=ac_1&state=st-ate_1",
            "code=ac_1&state=st-ate_1",
            "state=st-ate_1&code=ac%5f1",
            "ac_1#st-ate_1",
            "ac_1\r\n",
        ] {
            assert_eq!(code(pasted).expect(pasted), "ac_1", "{pasted}");
        }
    }

    #[test]
    fn a_wrong_paste_is_refused_and_never_quoted() {
        for (pasted, says) in [
            ("", "empty"),
            ("http://localhost:1455/auth/callback?code=S3CRET&state=other", "another login"),
            ("S3CRET#other", "another login"),
            ("code=S3CRET&state=", "another login"),
            ("http://localhost:1455/auth/callback?state=st-ate_1", "no code"),
            ("S3CRET S3CRET", "white space"),
            ("https://auth.openai.com/oauth/authorize?state=st-ate_1&client_id=S3CRET", "address to open"),
            ("://S3CRET", "URL"),
            ("http://localhost:1455/auth/callback?code=S3CRET", "no state"),
            ("https://evil.example/auth/callback?code=S3CRET&state=st-ate_1", "not the address"),
            ("http://localhost:8080/auth/callback?code=S3CRET&state=st-ate_1", "not the address"),
            ("http://localhost:1455/elsewhere?code=S3CRET&state=st-ate_1", "not the address"),
            (&"S3CRET".repeat(4000), "too long"),
            ("error=access_denied&error_description=S3CRET&state=st-ate_1", "access_denied"),
            ("error=S3CRET%20S3CRET&state=st-ate_1", "refused to sign in"),
            ("error=access_denied&error_description=missing_codex_entitlement&state=other", "another login"),
        ] {
            let failure = code(pasted).expect_err(pasted);
            assert!(failure.message.contains(says), "{pasted}: {failure}");
            assert!(!format!("{failure:?}").contains("S3CRET"), "{failure:?}");
        }
        let pasted = "http://localhost:1455/auth/callback?error=access_denied&state=st-ate_1\
                      &error_description=Access%20denied:%20missing_codex_entitlement";
        let failure = code(pasted).expect_err("denied");
        assert_eq!(failure.reason, Reason::NotEntitled);
        assert!(failure.message.contains("this workspace has no Codex"), "{failure}");
    }

    #[test]
    fn verifier_and_state_are_new_each_time() {
        let (one, two) = (Pkce::new().expect("random"), Pkce::new().expect("random"));
        assert_eq!(one.verifier.expose_secret().len(), 86, "64 bytes in base64url");
        assert_eq!(one.state.expose_secret().len(), 43);
        assert_ne!(one.verifier.expose_secret(), two.verifier.expose_secret());
        assert_ne!(one.state.expose_secret(), two.state.expose_secret());
    }
}
