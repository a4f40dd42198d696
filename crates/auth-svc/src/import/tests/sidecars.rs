//! Sidecars that open, and all the ways in which they do not.

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use sha2::{Digest as _, Sha256};

use super::*;

const ID: &str = "00112233445566778899aabbccddeeff";
const PROFILE: &str = "openai-codex:default";
const NAME: &str = "credentials/auth-profiles/00112233445566778899aabbccddeeff.json";

fn inside() -> Value {
    json!({ "access": jwt("acct-1", NOW + DAY), "refresh": "rt-S3CRET", "idToken": jwt("acct-1", NOW) })
}

fn sealed(seed: &str, associated: &str, inside: &Value) -> Value {
    let key = Sha256::digest(format!("openclaw:auth-profile-oauth:{seed}"));
    let cipher = Aes256Gcm::new_from_slice(&key).expect("a key");
    let plain = inside.to_string();
    let payload = Payload { msg: plain.as_bytes(), aad: associated.as_bytes() };
    let sealed = cipher.encrypt(&Nonce::from([9; 12]), payload).expect("sealed");
    let (ciphertext, tag) = sealed.split_at(sealed.len() - 16);
    json!({ "version": 1, "profileId": PROFILE, "provider": "openai-codex", "encrypted": {
        "algorithm": "aes-256-gcm", "iv": URL_SAFE_NO_PAD.encode([9; 12]), "tag": URL_SAFE_NO_PAD.encode(tag),
        "ciphertext": URL_SAFE_NO_PAD.encode(ciphertext) } })
}

fn good() -> Value {
    sealed("seed", &format!("{ID}\0{PROFILE}\0openai-codex"), &inside())
}

fn import(sidecar: Option<ImportFile>) -> ImportCredentialsRequest {
    import_with(json!({ "source": "openclaw-credentials", "provider": "openai-codex", "id": ID }), sidecar)
}

fn import_with(reference: Value, sidecar: Option<ImportFile>) -> ImportCredentialsRequest {
    let profile = json!({ "type": "oauth", "provider": "openai-codex", "accountId": "acct-1", "oauthRef": reference });
    let files = std::iter::once(profiles(json!({ PROFILE: profile }))).chain(sidecar).collect();
    ImportCredentialsRequest { secret_seed: Some(raw("the seed file", " seed \n")), ..openclaw(files) }
}

#[tokio::test]
async fn sidecars_open_encrypted_and_plain() {
    let mut plain = inside();
    plain["version"] = json!(1);
    plain["profileId"] = json!(PROFILE);
    plain["provider"] = json!("openai-codex");
    for sidecar in [good(), plain] {
        let bench = Bench::new().await;
        let response = bench.import(import(Some(file(NAME, &sidecar)))).await;
        assert_eq!(line(&response, PROFILE).action, "created", "{response:?}");
        let credential = bench.get(PROFILE).await;
        assert_eq!(refresh_token(&credential), Some("rt-S3CRET"));
        assert!(id_token(&credential).is_some());
        assert_eq!(credential.access_expires_at, Some(NOW + DAY));
    }
}

#[tokio::test]
async fn what_does_not_open_says_why() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut sidecar = good();
        change(&mut sidecar);
        Some(file(NAME, &sidecar))
    };
    let text = good().to_string();
    let aad = format!("{ID}\0{PROFILE}\0openai-codex");
    let cases: Vec<(Option<ImportFile>, &str)> = vec![
        (None, "not in the state directory"),
        (Some(raw(NAME, &text[..text.len() / 2])), "looks cut off"),
        (Some(raw(NAME, "")), "looks cut off"),
        (Some(raw(NAME, "[]")), "not a JSON object"),
        (Some(ImportFile { name: NAME.to_owned(), content: vec![0xff].into() }), "not UTF-8"),
        (with(&|s| s["version"] = json!(2)), "version is not 1"),
        (with(&|s| s["profileId"] = json!("openai-codex:other")), "another profile"),
        (with(&|s| s["provider"] = json!("anthropic")), "another provider"),
        (with(&|s| s["encrypted"] = json!("S3CRET")), "not an object"),
        (with(&|s| s["encrypted"]["algorithm"] = json!("aes-128-gcm")), "not aes-256-gcm"),
        (with(&|s| s["encrypted"]["iv"] = json!("AAAA")), "`iv` is not 12 bytes"),
        (with(&|s| s["encrypted"]["tag"] = json!("AAAA")), "`tag` is not 16 bytes"),
        (with(&|s| s["encrypted"]["ciphertext"] = json!("!!")), "`ciphertext` is not base64url"),
        (with(&|s| s["encrypted"]["ciphertext"] = json!("AAAA")), "the seed from the seed file"),
        (with(&|s| s["encrypted"]["tag"] = Value::Null), "`tag` is missing"),
        (Some(file(NAME, &sealed("other", &aad, &inside()))), "the seed from the seed file"),
        (Some(file(NAME, &sealed("seed", "swapped", &inside()))), "the seed from the seed file"),
        (Some(file(NAME, &sealed("seed", &aad, &json!([])))), "not an object"),
        (Some(file(NAME, &sealed("seed", &aad, &json!({})))), "neither an access token nor a refresh token"),
    ];
    for (sidecar, says) in cases {
        let bench = Bench::new().await;
        let response = bench.import(import(sidecar)).await;
        let line = line(&response, PROFILE);
        assert_eq!(line.action, "undecryptable", "{says}: {line:?}");
        assert!(line.detail.contains(says) && line.detail.contains(ID), "{says}: {line:?}");
        assert!(!response.usable);
        assert!(matches!(bench.get(PROFILE).await.secrets, Secrets::Undecryptable { .. }), "{says}");
    }
}

#[tokio::test]
async fn a_reference_is_a_name_and_not_a_path() {
    for reference in [
        json!({ "source": "openclaw-credentials", "provider": "openai-codex", "id": "../../../etc/passwd" }),
        json!({ "source": "elsewhere", "provider": "openai-codex", "id": ID }),
        json!({ "source": "openclaw-credentials" }),
        json!("S3CRET"),
    ] {
        let bench = Bench::new().await;
        let response = bench.import(import_with(reference, Some(file(NAME, &good())))).await;
        assert_eq!(line(&response, PROFILE).action, "undecryptable", "{response:?}");
        assert!(line(&response, PROFILE).detail.contains("oauthRef"), "{response:?}");
    }
}

#[tokio::test]
async fn inline_tokens_come_before_a_reference() {
    let mut profile = login("acct-1", NOW + DAY);
    profile["oauthRef"] = json!({ "source": "openclaw-credentials", "provider": "openai-codex", "id": ID });
    let bench = Bench::new().await;
    let response = bench.import(openclaw(vec![profiles(json!({ PROFILE: profile }))])).await;
    assert_eq!(line(&response, PROFILE).action, "created");
}
