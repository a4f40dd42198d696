//! What the simulator remembers of the requests it got.
//!
//! Tests ask it what really went over the wire. Secrets are shown as fingerprints even though they are
//! simulated: a test that prints a record must not teach anyone to print tokens. Memory is bounded by
//! count and by the bytes of kept bodies, since a benchmark sends more than anyone will look at.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::tokens::now_ms;

/// Bodies kept in all; the oldest ones go first.
const KEPT_BODIES_BYTES: usize = 64 * 1024 * 1024;

/// One request to any path but `/sim`, and what became of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordedRequest {
    /// Counts up from 1 over the simulator's life.
    pub id: u64,
    /// When its body had been read, unix milliseconds.
    pub at_unix_ms: u64,
    /// `GET`, `POST`, …
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query as sent.
    pub query: Option<String>,
    /// `HTTP/1.1` or `HTTP/2`.
    pub http_version: String,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Which connection it came on; equal ids mean a reused connection.
    pub connection_id: u64,
    /// All headers in the order received (HTTP/2 keeps no order between names). The value of
    /// `authorization` is replaced by the scheme, the credential it resolved to and a fingerprint.
    pub headers: Vec<(String, String)>,
    /// Whether there was an `authorization` header.
    pub authorized: bool,
    /// The account id, or the label of the API key, that the bearer token resolved to.
    pub credential: Option<String>,
    /// The body's size as sent.
    pub wire_bytes: u64,
    /// The body's size after decompression.
    pub decoded_bytes: u64,
    /// SHA-256 of the decoded body, hexadecimal.
    pub body_sha256: String,
    /// The decoded body: JSON as such, a form as an object, anything else as a string. `None` if it was
    /// empty or too long to be kept. Tokens and codes in it are replaced by fingerprints.
    pub body: Option<Value>,
    /// The scenarios that applied.
    pub scenario: Option<String>,
    /// The `x-request-id` of the answer.
    pub request_id: String,
    /// The `cf-ray` of the answer.
    pub cf_ray: String,
    /// The status answered; `None` if no headers were sent.
    pub status: Option<u16>,
    /// `pending`, `answered`, `streaming`, `completed`, `failed`, `ended_early`, `cut`, `reset`, `silent`,
    /// `hangup`, `goaway`, `refused_stream`, `client_gone` or `dropped` (the simulator gave up the connection).
    pub outcome: String,
    /// Events given to the connection.
    pub events_sent: u64,
    /// Bytes of a streamed body given to the connection.
    pub bytes_sent: u64,
    /// When the answer was complete, or broken off by the simulator; unix milliseconds.
    pub finished_at_unix_ms: Option<u64>,
    /// When the client went away before that.
    pub client_gone_at_unix_ms: Option<u64>,
}

impl RecordedRequest {
    /// The first value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// Whether the client went away before the answer was complete.
    pub fn client_gone(&self) -> bool {
        self.client_gone_at_unix_ms.is_some()
    }
}

/// One request to the token endpoint.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenRequest {
    /// Unix milliseconds.
    pub at_unix_ms: u64,
    /// `refresh_token`, `authorization_code`, or what was sent.
    pub grant_type: String,
    /// `json` or `form`.
    pub encoding: String,
    /// The client id as sent.
    pub client_id: Option<String>,
    /// Codex's `refresh_reason`, if sent.
    pub refresh_reason: Option<String>,
    /// The account that the token or code belongs to, if known.
    pub account_id: Option<String>,
    /// The first 12 digits of the SHA-256 of the refresh token or code: equal values mean a reuse.
    pub fingerprint: Option<String>,
    /// `ok`, or the error code of the refusal, or the fault that was asked for.
    pub outcome: String,
}

/// How much of a body the recorder was given.
pub(crate) enum Kept {
    Nothing,
    /// JSON, parsed when somebody looks.
    Json(Bytes),
    /// Anything else.
    Text(Bytes),
    /// A small body whose secrets have been replaced.
    Value(Value),
}

struct Entry {
    request: RecordedRequest,
    body: Kept,
}

#[derive(Default)]
struct Log {
    entries: VecDeque<Entry>,
    /// The id of the first entry.
    first: u64,
    kept_bytes: usize,
    /// The entries before this id have no body any more.
    bodies_from: u64,
    tokens: VecDeque<TokenRequest>,
}

/// The bounded memory. One lock, held for a push or a small change only.
pub(crate) struct Recorder {
    limit: usize,
    next: AtomicU64,
    log: Mutex<Log>,
    /// Clients that went away before their answer was complete.
    pub(crate) clients_gone: AtomicU64,
}

impl Recorder {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let log = Mutex::new(Log { first: 1, ..Log::default() });
        Arc::new(Self { limit, next: AtomicU64::new(1), log, clients_gone: AtomicU64::new(0) })
    }

    /// How many requests there were, forgotten ones included.
    pub(crate) fn total(&self) -> u64 {
        self.next.load(Ordering::Relaxed) - 1
    }

    /// Remembers a request; the exchange follows it to its end.
    pub(crate) fn open(
        self: &Arc<Self>,
        mut request: RecordedRequest,
        body: Kept,
        over: &CancellationToken,
    ) -> Exchange {
        let mut log = self.lock();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        request.id = id;
        request.outcome = "pending".into();
        log.kept_bytes += body.len();
        log.entries.push_back(Entry { request, body });
        while log.entries.len() > self.limit {
            let gone = log.entries.pop_front().map_or(0, |entry| entry.body.len());
            log.kept_bytes -= gone;
            log.first += 1;
        }
        log.forget_bodies();
        drop(log);
        Exchange { recorder: Arc::clone(self), over: over.clone(), id, done: false, events: 0, bytes: 0 }
    }

    pub(crate) fn requests(&self) -> Vec<RecordedRequest> {
        self.lock().entries.iter().map(Entry::shown).collect()
    }

    pub(crate) fn clear(&self) {
        let mut log = self.lock();
        log.entries.clear();
        log.tokens.clear();
        log.kept_bytes = 0;
        log.first = self.next.load(Ordering::Relaxed);
    }

    pub(crate) fn token_request(&self, request: TokenRequest) {
        let mut log = self.lock();
        log.tokens.push_back(request);
        while log.tokens.len() > self.limit {
            log.tokens.pop_front();
        }
    }

    pub(crate) fn token_requests(&self) -> Vec<TokenRequest> {
        self.lock().tokens.iter().cloned().collect()
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut RecordedRequest)) {
        let mut log = self.lock();
        let place = id.checked_sub(log.first).and_then(|place| usize::try_from(place).ok());
        if let Some(entry) = place.and_then(|place| log.entries.get_mut(place)) {
            change(&mut entry.request);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// Drops the oldest bodies until the rest fits.
    fn forget_bodies(&mut self) {
        self.bodies_from = self.bodies_from.max(self.first);
        while self.kept_bytes > KEPT_BODIES_BYTES {
            let place = usize::try_from(self.bodies_from - self.first).unwrap_or(usize::MAX);
            let Some(entry) = self.entries.get_mut(place) else { return };
            self.kept_bytes -= entry.body.len();
            entry.body = Kept::Nothing;
            self.bodies_from += 1;
        }
    }
}

impl Entry {
    fn shown(&self) -> RecordedRequest {
        let body = match &self.body {
            Kept::Nothing => None,
            Kept::Value(value) => Some(value.clone()),
            Kept::Json(bytes) => serde_json::from_slice(bytes).ok(),
            Kept::Text(bytes) => Some(String::from_utf8_lossy(bytes).into()),
        };
        RecordedRequest { body, ..self.request.clone() }
    }
}

impl Kept {
    /// Only what grows with the body counts.
    fn len(&self) -> usize {
        match self {
            Self::Json(bytes) | Self::Text(bytes) => bytes.len(),
            Self::Nothing | Self::Value(_) => 0,
        }
    }
}

/// A request under way. If it is dropped before [`Exchange::finish`], the client went away: hyper drops
/// the handler or the body when the peer resets the stream or closes the connection.
pub(crate) struct Exchange {
    recorder: Arc<Recorder>,
    /// Tells who ended the connection: the simulator if cancelled, else the client.
    over: CancellationToken,
    id: u64,
    done: bool,
    events: u64,
    bytes: u64,
}

impl Exchange {
    pub(crate) fn note(&self, change: impl FnOnce(&mut RecordedRequest)) {
        self.recorder.change(self.id, change);
    }

    /// Counts what is handed to the connection.
    pub(crate) fn sent(&mut self, bytes: usize, is_event: bool) {
        self.bytes += bytes as u64;
        self.events += u64::from(is_event);
    }

    /// Hands the duty to finish over to the result (the body of a stream).
    pub(crate) fn take(&mut self) -> Self {
        let taken = Self { recorder: Arc::clone(&self.recorder), over: self.over.clone(), ..*self };
        self.done = true;
        taken
    }

    /// The simulator is done with this request; what the client does from now on is its own affair.
    pub(crate) fn finish(&mut self, outcome: &str) {
        if !std::mem::replace(&mut self.done, true) {
            self.settle(|request| {
                request.outcome = outcome.to_owned();
                request.finished_at_unix_ms = Some(now_ms());
            });
        }
    }

    fn settle(&self, change: impl FnOnce(&mut RecordedRequest)) {
        let (events, bytes) = (self.events, self.bytes);
        self.recorder.change(self.id, |request| {
            request.events_sent = events;
            request.bytes_sent = bytes;
            change(request);
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if self.over.is_cancelled() {
            self.finish("dropped");
        } else {
            self.recorder.clients_gone.fetch_add(1, Ordering::Relaxed);
            self.settle(|request| {
                request.outcome = "client_gone".into();
                request.client_gone_at_unix_ms = Some(now_ms());
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_are_kept_and_a_dropped_exchange_means_the_client_went() {
        let recorder = Recorder::new(2);
        let over = CancellationToken::new();
        let open = || recorder.open(RecordedRequest::default(), Kept::Nothing, &over);
        let mut exchanges: Vec<Exchange> = (0..3).map(|_| open()).collect();
        exchanges[0].finish("answered");
        exchanges[1].finish("answered");
        drop(exchanges);
        let seen: Vec<(u64, String)> = recorder.requests().into_iter().map(|r| (r.id, r.outcome)).collect();
        assert_eq!(seen, [(2, "answered".to_owned()), (3, "client_gone".to_owned())]);
        assert_eq!((recorder.total(), recorder.clients_gone.load(Ordering::Relaxed)), (3, 1));
        recorder.clear();
        assert!(recorder.requests().is_empty());
        let late = open();
        late.note(|request| request.status = Some(200));
        assert_eq!(recorder.requests()[0].status, Some(200));
    }
}
