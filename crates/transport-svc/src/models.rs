//! The models that an upstream lists: the cheapest real request, through the same seal, headers and classifier as a call.

use std::sync::Arc;

use config::TargetKind;
use domain::{Failure, Reason, service};
use http::{HeaderValue, Method, StatusCode, header};
use proto::transport::v1::{
    FetchModelsRequest, FetchModelsResponse, Outcome, ProbeRequest, ProbeResponse, SealedCredential, UpstreamModel,
};
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

/// A question for the list.
struct Question<'a> {
    call_id: &'a str,
    target: &'a Arc<Target>,
    credential: Option<SealedCredential>,
    /// Of the list that is known already.
    etag: Option<&'a str>,
}

/// What came of it.
struct Listing {
    outcome: Outcome,
    models: Vec<Listed>,
    etag: Option<String>,
    unchanged: bool,
}

/// A line of the list.
struct Listed {
    model: UpstreamModel,
    /// For people to choose from; a hidden one is for programs that know it.
    shown: bool,
}

/// Asks whether the models are listed. A failure means that nothing was sent.
pub(crate) async fn probe(inner: &Arc<Inner>, request: ProbeRequest) -> Result<ProbeResponse, Failure> {
    let target = &inner.target_for(&request.target, request.credential.as_ref())?;
    let question = Question { call_id: &request.call_id, target, credential: request.credential, etag: None };
    let Listing { outcome, models, .. } = list(inner, question).await?;
    let models = models.into_iter().map(|listed| listed.model.id).collect();
    Ok(ProbeResponse { outcome: Some(outcome), models })
}

/// Asks for the models. A failure means that nothing was sent.
pub(crate) async fn fetch(inner: &Arc<Inner>, request: FetchModelsRequest) -> Result<FetchModelsResponse, Failure> {
    let target = &inner.target_for(&request.target, request.credential.as_ref())?;
    if target.kind == TargetKind::OpenaiApi {
        let message = format!("what {} lists is more than what answers calls, so it is no list of models", target.id);
        return Err(Failure::new(Reason::Unsupported, service::TRANSPORT, message));
    }
    let etag = request.etag.as_deref();
    let question = Question { call_id: &request.call_id, target, credential: request.credential, etag };
    let Listing { outcome, models, etag, unchanged } = list(inner, question).await?;
    let models = models.into_iter().filter(|listed| listed.shown).map(|listed| listed.model).collect();
    Ok(FetchModelsResponse { outcome: Some(outcome), models, etag, unchanged })
}

async fn list(inner: &Arc<Inner>, question: Question<'_>) -> Result<Listing, Failure> {
    let received = Instant::now();
    let Question { call_id, target, credential, etag } = question;
    let lease = inner.lease(&target.models)?;
    let secret = inner.opener.open(credential.as_ref(), call_id, target, &target.models)?;
    let mut request_headers = headers::request(target, &secret, Caller(&[]), "")?;
    request_headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    // One that cannot be sent is as good as none.
    if let Some(etag) = etag.and_then(|etag| HeaderValue::try_from(etag).ok()) {
        request_headers.insert(header::IF_NONE_MATCH, etag);
    }
    let credential_id = credential.map(|c| c.credential_id).unwrap_or_default();
    let asked = Asked {
        received,
        call_id,
        credential_id: &credential_id,
        target,
        endpoint: &target.models,
        method: Method::GET,
        secret,
    };
    let (upstream, mut progress) = inner.begin(asked, request_headers);
    let sent = send::send(&lease, upstream, &target.models.shown, inner.headers_timeout).await;
    let mut response = match sent {
        Ok(response) => response,
        Err((failure, sent)) => {
            progress.sent = sent;
            return Ok(Listing::of(progress.finish(Some(failure))));
        }
    };
    progress.headers_arrived(&response, inner.clock.now_s());
    inner.cookies.keep(&credential_id, &target.models.base, response.headers());
    if etag.is_some() && response.status() == StatusCode::NOT_MODIFIED {
        let etag = etag.map(str::to_owned);
        return Ok(Listing { etag, unchanged: true, ..Listing::of(progress.finish(None)) });
    }
    if !response.status().is_success() {
        let refused = call::refusal(&mut response, target, &target.models, &inner.clock).await;
        return Ok(Listing::of(progress.finish(Some(refused.failure))));
    }
    Ok(read_list(inner, target, &mut response, &mut progress).await)
}

async fn read_list(inner: &Inner, target: &Target, response: &mut send::Response, progress: &mut Progress) -> Listing {
    let (body, _) = send::read_some(response, MAX_LIST_BYTES, inner.headers_timeout).await;
    if let Some(models) = models(&body) {
        let etag = headers::text(response.headers(), header::ETAG.as_str()).map(str::to_owned);
        return Listing { models, etag, ..Listing::of(progress.finish(None)) };
    }
    let refused = classify::refused(&Answer {
        target,
        endpoint: &target.models,
        status: response.status().as_u16(),
        headers: response.headers(),
        body: &body,
        now_s: inner.clock.now_s(),
    });
    Listing::of(progress.finish(Some(refused.failure)))
}

impl Listing {
    /// Without models.
    fn of(outcome: Outcome) -> Self {
        Self { outcome, models: Vec::new(), etag: None, unchanged: false }
    }
}

/// The models in `{"models":[{"slug"}]}` (Codex) or `{"data":[{"id"}]}` (OpenAI). Their other fields are not certain.
fn models(body: &[u8]) -> Option<Vec<Listed>> {
    let list = serde_json::from_slice::<Value>(body).ok()?;
    let listed = |list: &Value, key: &str| {
        let items = list.as_array()?.iter();
        Some(items.filter_map(|item| model(item, key)).collect())
    };
    listed(&list["models"], "slug").or_else(|| listed(&list["data"], "id"))
}

fn model(item: &Value, key: &str) -> Option<Listed> {
    let text = |key: &str| item.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let tokens =
        |key: &str| item.get(key).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok()).filter(|n| *n > 0);
    let input = item.get("input_modalities").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let model = UpstreamModel {
        id: text(key)?,
        name: text("display_name"),
        context_window: tokens("context_window"),
        max_output_tokens: tokens("max_output_tokens"),
        input: input.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    };
    Some(Listed { model, shown: text("visibility").is_none_or(|visibility| visibility == "list") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(body: &[u8]) -> Option<Vec<String>> {
        Some(models(body)?.into_iter().map(|listed| listed.model.id).collect())
    }

    #[test]
    fn both_lists_are_read() {
        let fixtures: Value =
            serde_json::from_str(include_str!("../tests/fixtures/upstream/http_more.json")).expect("JSON");
        let codex = fixtures["models_200"]["body"].to_string();
        assert_eq!(names(codex.as_bytes()), Some(vec!["gpt-5.5".to_owned()]));
        assert_eq!(names(br#"{"object":"list","data":[{"id":"a"},{}]}"#), Some(vec!["a".to_owned()]));
        assert_eq!(names(b"<html>"), None);
        assert_eq!(names(b"{}"), None);
    }

    #[test]
    fn what_a_line_tells_is_read_and_odd_fields_hide_nothing() {
        let line = r#"{"slug":"m","display_name":"M","context_window":9,"max_output_tokens":-1,"visibility":"hide",
            "input_modalities":["text",7]}"#;
        let listed = model(&serde_json::from_str(line).expect("JSON"), "slug").expect("a model");
        assert!(!listed.shown);
        let expected = UpstreamModel {
            id: "m".into(),
            name: Some("M".into()),
            context_window: Some(9),
            max_output_tokens: None,
            input: vec!["text".into()],
        };
        assert_eq!(listed.model, expected);
    }
}
