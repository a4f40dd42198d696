//! One request, read whole, and whom its bearer token belongs to.

use std::{
    io::Read as _,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Version, header, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value};

use crate::{
    record::{Exchange, Kept, RecordedRequest},
    reply::{self, Reply},
    scenario::Scenario,
    server::line::{Ending, Line},
    state::{AccessCheck, AdoptTokens, SimState, key_label},
    tokens,
};

/// What a body may have, on the wire and decoded.
const BODY_LIMIT: usize = 64 * 1024 * 1024;
/// Fields of identity requests that are recorded as fingerprints.
const SECRET_FIELDS: &[&str] =
    &["refresh_token", "access_token", "id_token", "token", "code", "code_verifier", "api_key"];

/// A request with its body, and the exchange that records what becomes of it.
pub(crate) struct Call {
    pub(crate) state: SimState,
    pub(crate) line: Arc<Line>,
    pub(crate) number: u32,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) version: Version,
    /// The host and port that the client believes it talks to.
    pub(crate) authority: Option<String>,
    pub(crate) headers: HeaderMap,
    /// Decoded.
    pub(crate) body: Bytes,
    pub(crate) bearer: Bearer,
    pub(crate) exchange: Exchange,
    pub(crate) request_id: String,
}

/// What an `authorization` header is worth.
#[derive(Clone, Debug)]
pub(crate) enum Bearer {
    /// There is none, or not of the scheme `Bearer`.
    Missing,
    /// Known to nobody.
    Unknown,
    /// An access token; the account is known even if the token is dead.
    Access { account_id: String, check: AccessCheck },
    /// A valid API key.
    Key { label: String },
    /// A string that looks like an API key but is not valid.
    WrongKey { label: String },
}

impl Bearer {
    /// Account id or key label.
    pub(crate) fn label(&self) -> Option<&str> {
        match self {
            Self::Missing | Self::Unknown => None,
            Self::Access { account_id, .. } => Some(account_id),
            Self::Key { label } | Self::WrongKey { label } => Some(label),
        }
    }
}

impl Call {
    /// Reads the request. An undecodable body is answered here, recorded like any other request.
    pub(crate) async fn read(
        state: SimState,
        line: Arc<Line>,
        number: u32,
        request: Request<Incoming>,
    ) -> Result<Self, (Option<Exchange>, Reply)> {
        let (parts, mut body) = request.into_parts();
        if let Some(scenario) = of_the_upload(&state, &parts) {
            break_off(&state, &line, &parts, &mut body, &scenario).await;
        }
        let read = Limited::new(&mut body, BODY_LIMIT).collect().await;
        let Ok(wire) = read.map(http_body_util::Collected::to_bytes) else {
            // Too long, or the client went away: there may be nobody to answer. As an edge that lingers, so that the answer
            // is not lost to a client that is still sending.
            let _ = Limited::new(&mut body, BODY_LIMIT).collect().await;
            return Err((None, reply::detail(413, "Request body too large")));
        };
        let decoded = decode(&parts.headers, &wire);
        let bearer = identify(&state, &parts.headers);
        let request_id = format!("req_{}", uuid::Uuid::new_v4().simple());
        let body = decoded.as_ref().map_or_else(|_| Bytes::new(), Bytes::clone);
        let (record, kept) = describe(&state, &line, &parts, &bearer, wire.len(), &body);
        let record = RecordedRequest { request_id: request_id.clone(), cf_ray: ray(&request_id), ..record };
        let exchange = state.recorder().open(record, kept, &line.over);
        if let Err(refusal) = decoded {
            return Err((Some(exchange), refusal));
        }
        let host = parts.headers.get(header::HOST).and_then(|value| value.to_str().ok());
        let authority = parts.uri.authority().map(|authority| authority.as_str()).or(host).map(str::to_owned);
        Ok(Self {
            state,
            line,
            number,
            authority,
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            version: parts.version,
            headers: parts.headers,
            body,
            bearer,
            exchange,
            request_id,
        })
    }

    /// The edge's id of this request.
    pub(crate) fn ray(&self) -> String {
        ray(&self.request_id)
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the content type is JSON.
    pub(crate) fn is_json(&self) -> bool {
        let content_type = self.header("content-type").unwrap_or_default();
        content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    }

    /// A parameter of the query.
    pub(crate) fn query_value(&self, name: &str) -> Option<String> {
        let query = self.query.as_deref().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

/// The scenario that strikes while a request for an answer is read, counted as used.
fn of_the_upload(state: &SimState, parts: &Parts) -> Option<Scenario> {
    if parts.method != Method::POST || !parts.uri.path().ends_with("/responses") {
        return None;
    }
    let bearer = identify(state, &parts.headers);
    let mut book = state.book();
    ["*"].into_iter().chain(bearer.label()).find_map(|target| {
        let scenario = book.rules.peek_scenario(target)?;
        matches!(scenario, Scenario::CutUpload | Scenario::StallUpload)
            .then(|| book.rules.take_scenario(target))
            .flatten()
    })
}

/// Reads the first part of a body, and no more. Never returns: the connection ends, or the client does.
async fn break_off(state: &SimState, line: &Line, parts: &Parts, body: &mut Incoming, scenario: &Scenario) {
    let read = match body.frame().await {
        Some(Ok(frame)) => frame.into_data().map(|data| data.len()).unwrap_or_default(),
        _ => 0,
    };
    let bearer = identify(state, &parts.headers);
    let (record, kept) = describe(state, line, parts, &bearer, read, &Bytes::new());
    let record = RecordedRequest { scenario: Some(scenario.to_string()), ..record };
    let mut exchange = state.recorder().open(record, kept, &line.over);
    if *scenario == Scenario::CutUpload {
        exchange.finish("cut");
        line.end(Ending::Reset);
    }
    std::future::pending().await
}

fn ray(request_id: &str) -> String {
    format!("{}-SIM", tokens::fingerprint(request_id, 16))
}

/// The body without its content encoding.
fn decode(headers: &HeaderMap, wire: &Bytes) -> Result<Bytes, Reply> {
    let encoding = headers.get(header::CONTENT_ENCODING).map_or("identity", |value| value.to_str().unwrap_or("?"));
    let limit = BODY_LIMIT as u64 + 1;
    let mut decoded = Vec::new();
    let read = match encoding {
        "identity" => return Ok(wire.clone()),
        "gzip" => flate2::read::GzDecoder::new(wire.as_ref()).take(limit).read_to_end(&mut decoded),
        "zstd" => zstd::stream::read::Decoder::new(wire.as_ref())
            .and_then(|decoder| decoder.take(limit).read_to_end(&mut decoded)),
        other => return Err(reply::detail(415, format!("Unsupported content encoding: {other}"))),
    };
    match read {
        Ok(size) if size as u64 == limit => Err(reply::detail(413, "Request body too large")),
        Ok(_) => Ok(decoded.into()),
        Err(_) => Err(reply::detail(400, format!("The body is not {encoding}"))),
    }
}

/// Whom the `authorization` header belongs to.
fn identify(state: &SimState, headers: &HeaderMap) -> Bearer {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(token) = header.and_then(|value| value.strip_prefix("Bearer ")) else { return Bearer::Missing };
    let mut book = state.book();
    if let Some(label) = book.rules.key(token) {
        return Bearer::Key { label };
    }
    if token.starts_with("sk-") {
        return Bearer::WrongKey { label: key_label(token) };
    }
    if book.logins.check_access(token).0.is_none()
        && state.config().adopt_own_tokens
        && tokens::read_own_access_token(token).is_some()
    {
        let own = AdoptTokens { access_token: Some(token.to_owned()), ..AdoptTokens::default() };
        // It has claims, so this cannot fail; if it did, the token would stay unknown.
        let _ = book.logins.adopt(own, state.access_token_ttl());
    }
    match book.logins.check_access(token) {
        (Some(account_id), check) => Bearer::Access { account_id: account_id.to_owned(), check },
        (None, _) => Bearer::Unknown,
    }
}

/// What the recorder keeps of a request.
fn describe(
    state: &SimState,
    line: &Line,
    parts: &Parts,
    bearer: &Bearer,
    wire_bytes: usize,
    body: &Bytes,
) -> (RecordedRequest, Kept) {
    let identity = parts.uri.path().starts_with("/oauth") || parts.uri.path().starts_with("/api/accounts");
    let record = RecordedRequest {
        at_unix_ms: tokens::now_ms(),
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        http_version: format!("{:?}", parts.version).replace("2.0", "2"),
        tls: line.tls,
        connection_id: line.id,
        headers: parts.headers.iter().map(|(name, value)| shown(name, value, bearer)).collect(),
        authorized: parts.headers.contains_key(header::AUTHORIZATION),
        credential: bearer.label().map(str::to_owned),
        wire_bytes: wire_bytes as u64,
        decoded_bytes: body.len() as u64,
        body_sha256: if state.config().record_limit > 0 { tokens::fingerprint(body, 64) } else { String::new() },
        ..RecordedRequest::default()
    };
    let kept = if body.is_empty() || body.len() > state.config().record_body_bytes {
        Kept::Nothing
    } else if identity {
        Kept::Value(redacted(fields(body)))
    } else if parts
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
    {
        Kept::Json(body.clone())
    } else {
        Kept::Text(body.clone())
    };
    (record, kept)
}

fn shown(name: &http::HeaderName, value: &http::HeaderValue, bearer: &Bearer) -> (String, String) {
    let text = String::from_utf8_lossy(value.as_bytes());
    let text = if name == header::AUTHORIZATION {
        let scheme = text.split(' ').next().unwrap_or_default();
        let secret = text.get(scheme.len() + 1..).unwrap_or_default();
        format!("{scheme} {} sha256:{}", bearer.label().unwrap_or("unknown"), tokens::fingerprint(secret, 12))
    } else {
        text.into_owned()
    };
    (name.as_str().to_owned(), text)
}

/// The fields of a JSON or form body, whichever it is.
pub(crate) fn fields(body: &Bytes) -> Map<String, Value> {
    if let Ok(Value::Object(fields)) = serde_json::from_slice(body) {
        return fields;
    }
    form_urlencoded::parse(body).map(|(name, value)| (name.into_owned(), Value::String(value.into_owned()))).collect()
}

fn redacted(mut fields: Map<String, Value>) -> Value {
    for name in SECRET_FIELDS {
        if let Some(Value::String(secret)) = fields.get_mut(*name) {
            *secret = format!("sha256:{}", tokens::fingerprint(&secret, 12));
        }
    }
    Value::Object(fields)
}

/// Counts an open event stream for as long as it exists.
pub(crate) struct OpenStream(SimState);

impl OpenStream {
    pub(crate) fn count(state: &SimState) -> Self {
        state.counters().open_streams.fetch_add(1, Ordering::Relaxed);
        state.counters().total_streams.fetch_add(1, Ordering::Relaxed);
        Self(state.clone())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.counters().open_streams.fetch_sub(1, Ordering::Relaxed);
    }
}
