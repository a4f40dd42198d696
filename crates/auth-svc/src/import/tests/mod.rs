//! Imports into a real database, from real and made-up files.

mod codex;
mod collect;
mod openclaw;
mod orders;
mod owned;
mod routes;
mod sidecars;

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{Clock, Failure};
use proto::auth::v1::{ImportCredentialsRequest, ImportCredentialsResponse, ImportFile, ImportedCredential};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use service_kit::SecretKey;

use super::{Settings, run};
use crate::refresh::Rules;
use crate::store::{self, Credential, Secrets, Store};

/// 2026-11-23T00:00:00Z
const NOW: i64 = 1_795_392_000;
const ISSUER: &str = "https://auth.openai.com";
const DAY: i64 = 86_400;

/// A database of its own, and what an import needs beside it.
struct Bench {
    store: Store,
    settings: Settings,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let key = SecretKey::new([7; 32]);
        let clock = Clock::manual(NOW * 1000);
        let path = dir.path().join("switchboard.db");
        let store = store::create(&path, key, clock, async |_: &Store| Ok(())).await.expect("a database");
        let rules = Rules { origin: ISSUER.to_owned(), margin_s: 300, proactive: true };
        let settings = Settings { now_s: NOW, rules };
        Self { store, settings, _dir: dir }
    }

    async fn run(&self, request: ImportCredentialsRequest) -> Result<ImportCredentialsResponse, Failure> {
        run(&self.store, &self.settings, request).await
    }

    /// An import that must succeed, and says no secret whatever it says.
    async fn import(&self, request: ImportCredentialsRequest) -> ImportCredentialsResponse {
        let response = self.run(request).await.expect("imported");
        assert_tells_nothing(&format!("{response:?}"));
        response
    }

    /// An import that must fail and change nothing.
    async fn refused(&self, request: ImportCredentialsRequest) -> String {
        let before = self.all().await.len();
        let failure = self.run(request).await.expect_err("refused");
        assert_eq!(failure.reason, domain::Reason::RequestInvalid);
        assert_tells_nothing(&format!("{failure:?}"));
        assert_eq!(self.all().await.len(), before, "a refused import changed something");
        failure.message
    }

    async fn all(&self) -> Vec<Credential> {
        self.store.list_credentials(None).await.expect("listed")
    }

    async fn labels(&self, provider: &str) -> Vec<String> {
        let credentials = self.store.list_credentials(Some(provider)).await.expect("listed");
        credentials.into_iter().map(|credential| credential.label).collect()
    }

    async fn get(&self, label: &str) -> Credential {
        self.store.credential_by_label(label).await.expect("read").unwrap_or_else(|| panic!("no credential {label}"))
    }
}

/// Every made-up secret of these tests holds "S3CRET", and the fixture's are known.
fn assert_tells_nothing(text: &str) {
    for secret in ["S3CRET", "rt-fixture", "sk-fake", "eyJ", "fixture-seed"] {
        assert!(!text.contains(secret), "{secret} stands in {text}");
    }
}

fn file(name: &str, content: &Value) -> ImportFile {
    raw(name, &content.to_string())
}

fn raw(name: &str, content: &str) -> ImportFile {
    ImportFile { name: name.to_owned(), content: content.as_bytes().to_vec().into() }
}

fn codex(auth: &Value) -> ImportCredentialsRequest {
    request("codex", vec![file("/root/.codex/auth.json", auth)])
}

fn openclaw(files: Vec<ImportFile>) -> ImportCredentialsRequest {
    request("openclaw", files)
}

fn request(format: &str, files: Vec<ImportFile>) -> ImportCredentialsRequest {
    ImportCredentialsRequest { format: format.to_owned(), files, ..ImportCredentialsRequest::default() }
}

const PROFILES: &str = "agents/main/agent/auth-profiles.json";

/// A state directory whose agent `main` has these profiles.
fn profiles(profiles: Value) -> ImportFile {
    file(PROFILES, &json!({ "version": 1, "profiles": profiles }))
}

/// An unsigned token of an account that expires at Unix second `exp`.
fn jwt(account: &str, exp: i64) -> String {
    let payload = json!({
        "iss": ISSUER, "exp": exp, "email": format!("{account}@example.com"),
        "https://api.openai.com/auth": {
            "chatgpt_account_id": account, "chatgpt_plan_type": "plus", "chatgpt_user_id": format!("user-{account}"),
        },
    });
    format!("eyJhbGciOiJub25lIn0.{}.S3CRET", URL_SAFE_NO_PAD.encode(payload.to_string()))
}

/// An inline OAuth profile.
fn login(account: &str, exp: i64) -> Value {
    json!({
        "type": "oauth", "provider": "openai-codex", "access": jwt(account, exp),
        "refresh": format!("rt-S3CRET-{account}-{exp}"), "expires": exp * 1000, "accountId": account,
    })
}

fn line<'a>(response: &'a ImportCredentialsResponse, profile: &str) -> &'a ImportedCredential {
    let lines = &response.credentials;
    lines.iter().find(|line| line.profile == profile).unwrap_or_else(|| panic!("no line of {profile} in {lines:?}"))
}

fn refresh_token(credential: &Credential) -> Option<&str> {
    credential.secrets.refresh().map(|token| token.expose_secret())
}

fn id_token(credential: &Credential) -> Option<&str> {
    match &credential.secrets {
        Secrets::Present { id_token, .. } => id_token.as_ref().map(|token| token.expose_secret()),
        Secrets::Undecryptable { .. } => None,
    }
}

fn upstream_secret(credential: &Credential) -> &str {
    credential.secrets.upstream().expect("a secret").expose_secret()
}

/// The fixture: a state directory of OpenClaw 2026.5.12 with one encrypted sidecar.
fn fixture_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/openclaw-state")
}
