//! HTTP at the agents' port.

use bytes::{Bytes, BytesMut};
use domain::sse::{Event, Splitter};
use futures_util::StreamExt;
use http::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;

use crate::canary::Canary;

/// A client of one server.
#[derive(Clone, Debug)]
pub struct Http {
    base: String,
    key: Option<String>,
    client: Client,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, as far as it came.
    pub body: Bytes,
    /// True if the body broke off.
    pub cut: bool,
}

impl Http {
    /// A client of `base` (`http://host:port`), with a bearer key or without.
    pub fn new(base: &str, key: Option<&str>) -> Self {
        // A proxy of the machine's is none of the test's business.
        let client = Client::builder().no_proxy().build().expect("an HTTP client");
        Self { base: base.to_owned(), key: key.map(str::to_owned), client }
    }

    /// A request to `path`, to be completed with headers and a body.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(body)).await
    }

    /// `POST /v1/responses`, read to its end, streamed or not as `body` says.
    pub async fn respond(&self, body: &Value) -> Answer {
        self.post("/v1/responses", body).await
    }

    /// `POST /v1/responses` up to its headers: the body is the caller's, to be read slowly or dropped.
    pub async fn open(&self, body: &Value) -> Response {
        self.request(Method::POST, "/v1/responses").json(body).send().await.expect("an answer")
    }
}

impl Answer {
    /// Sends a request and reads the answer to its end.
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        let address = response.url().host_str().zip(response.url().port()).map(|(host, port)| format!("{host}:{port}"));
        let canary = address.as_deref().and_then(Canary::at);
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut chunks = response.bytes_stream();
        let (mut body, mut cut) = (BytesMut::new(), false);
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(chunk) => body.extend_from_slice(&chunk),
                Err(_) => cut = true,
            }
        }
        let answer = Self { status, headers, body: body.freeze(), cut };
        if let Some(canary) = canary {
            canary.see("the headers of an HTTP answer", format!("{:?}", answer.headers));
            canary.see("the body of an HTTP answer", &answer.body);
        }
        answer
    }

    /// Asserts a status.
    #[must_use]
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// A header's text; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON: {error}: {}", self.text()))
    }

    /// The body as server-sent events.
    pub fn events(&self) -> Vec<Event> {
        Splitter::default().push(self.body.clone()).map(|piece| piece.events).unwrap_or_default()
    }

    /// The types of the events, in order.
    pub fn event_kinds(&self) -> Vec<String> {
        self.events().iter().map(Event::kind).collect()
    }

    /// The text that a streamed answer's deltas add up to.
    pub fn streamed_text(&self) -> String {
        let deltas = self.events().into_iter().filter(|event| event.kind() == "response.output_text.delta");
        let parsed = deltas.filter_map(|event| serde_json::from_slice::<Value>(&event.data).ok());
        parsed.filter_map(|value| value.get("delta")?.as_str().map(str::to_owned)).collect()
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};

    use super::*;

    #[tokio::test]
    async fn answers_are_read_whole() {
        let stream = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"O\"}\n\n\
                      data: {\"type\":\"response.output_text.delta\",\"delta\":\"K\"}\n\n";
        let app = axum::Router::new()
            .route("/v1/responses", post(move || async move { ([("x-a", "b")], stream) }))
            .route("/key", get(async |headers: HeaderMap| format!("{:?}", headers.get("authorization"))));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let tasks = tokio_util::task::TaskTracker::new();
        tasks.spawn(async move { axum::serve(listener, app).await });
        let answer = Http::new(&base, Some("k")).respond(&serde_json::json!({})).await.is(200);
        assert_eq!((answer.header("x-a"), answer.streamed_text().as_str(), answer.cut), ("b", "OK", false));
        assert_eq!(answer.event_kinds().len(), 2);
        assert_eq!(Http::new(&base, Some("k")).get("/key").await.text(), "Some(\"Bearer k\")");
        assert_eq!(Http::new(&base, None).get("/key").await.text(), "None");
    }
}
