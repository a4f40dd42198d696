//! The cheapest real request: the models list, through the same seal, headers and classifier as a call.

use std::sync::Arc;

use domain::Failure;
use http::{HeaderValue, Method, header};
use proto::transport::v1::{Outcome, ProbeRequest, ProbeResponse};
use serde_json::Value;
use tokio::time::Instant;

use crate::call::{self, Asked};
use crate::classify::{self, Answer};
use crate::headers::{self, Caller};
use crate::progress::Progress;
use crate::send;
use crate::service::Inner;
use crate::targets::Target;

/// Most bytes of a models list.
const MAX_LIST_BYTES: usize = 4 * 1024 * 1024;

/// Asks for the models. A failure means that nothing was sent.
pub(crate) async fn probe(inner: &Arc<Inner>, request: ProbeRequest) -> Result<ProbeResponse, Failure> {
    let received = Instant::now();
    let target = inner.target(&request.target)?;
    let secret = inner.opener.open(request.credential.as_ref(), &request.call_id, &target, &target.models)?;
    let mut request_headers = headers::request(&target, &secret, Caller(&[]), "")?;
    request_headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let credential_id = request.credential.map(|c| c.credential_id).unwrap_or_default();
    let asked = Asked {
        received,
        call_id: &request.call_id,
        credential_id: &credential_id,
        target: &target,
        endpoint: &target.models,
        method: Method::GET,
        secret,
    };
    let (upstream, mut progress) = inner.begin(asked, request_headers);
    let lease = inner.lease(&target.models)?;
    let sent = send::send(&lease.client, upstream, &target.models.shown, inner.headers_timeout).await;
    let mut response = match sent {
        Ok(response) => response,
        Err((failure, sent)) => {
            progress.sent = sent;
            return Ok(found(progress.finish(Some(failure)), Vec::new()));
        }
    };
    progress.headers_arrived(&response, inner.clock.now_s());
    inner.cookies.keep(&credential_id, &target.models.base, response.headers());
    if !response.status().is_success() {
        let refused = call::refusal(&mut response, &target, &target.models, &inner.clock).await;
        return Ok(found(progress.finish(Some(refused.failure)), Vec::new()));
    }
    Ok(read_list(inner, &target, &mut response, &mut progress).await)
}

async fn read_list(
    inner: &Inner,
    target: &Target,
    response: &mut reqwest::Response,
    progress: &mut Progress,
) -> ProbeResponse {
    let (body, _) = send::read_some(response, MAX_LIST_BYTES, inner.headers_timeout).await;
    if let Some(models) = models(&body) {
        return found(progress.finish(None), models);
    }
    let refused = classify::refused(&Answer {
        target,
        endpoint: &target.models,
        status: response.status().as_u16(),
        headers: response.headers(),
        body: &body,
        now_s: inner.clock.now_s(),
    });
    found(progress.finish(Some(refused.failure)), Vec::new())
}

fn found(outcome: Outcome, models: Vec<String>) -> ProbeResponse {
    ProbeResponse { outcome: Some(outcome), models }
}

/// The names in `{"models":[{"slug"}]}` (Codex) or `{"data":[{"id"}]}` (OpenAI). Their other fields are not certain.
fn models(body: &[u8]) -> Option<Vec<String>> {
    let list = serde_json::from_slice::<Value>(body).ok()?;
    let names = |list: &Value, key: &str| {
        let items = list.as_array()?.iter();
        Some(items.filter_map(|item| item.get(key).and_then(Value::as_str).map(str::to_owned)).collect())
    };
    names(&list["models"], "slug").or_else(|| names(&list["data"], "id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_are_read() {
        let fixtures: Value =
            serde_json::from_str(include_str!("../tests/fixtures/upstream/http_more.json")).expect("JSON");
        let codex = fixtures["models_200"]["body"].to_string();
        assert_eq!(models(codex.as_bytes()), Some(vec!["gpt-5.5".to_owned()]));
        assert_eq!(models(br#"{"object":"list","data":[{"id":"a"},{}]}"#), Some(vec!["a".to_owned()]));
        assert_eq!(models(b"<html>"), None);
        assert_eq!(models(b"{}"), None);
    }
}
