//! A whole JSON answer, forwarded as the bytes it is.

use std::time::Duration;

use bytes::Bytes;
use domain::{Failure, Reason, service};
use proto::transport::v1::Chunk;
use serde::Deserialize;
use serde_json::Value;

use crate::egress;
use crate::events;
use crate::progress::Progress;
use crate::relay::Step;
use crate::send::Response;

/// Answers up to this size are read beside being forwarded; of a larger one it is not known how many tokens it took.
const MAX_READ_BYTES: usize = 64 * 1024 * 1024;

/// An answer that is being forwarded.
#[derive(Debug)]
pub(crate) struct Document {
    response: Response,
    url: String,
    idle: Duration,
    /// What was forwarded, to be read at the end.
    pieces: Vec<Bytes>,
    bytes: usize,
}

/// What is read of an answer. An id or usage of an unexpected type is none.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    usage: Value,
}

impl Document {
    /// `idle` is how long the body may be silent.
    pub(crate) fn new(response: Response, url: String, idle: Duration) -> Self {
        Self { response, url, idle, pieces: Vec::new(), bytes: 0 }
    }

    /// The next chunk, or the end. A body that is no JSON object is a failure, which is known when it has been forwarded.
    pub(crate) async fn next(&mut self, progress: &mut Progress) -> Step {
        loop {
            match tokio::time::timeout(self.idle, self.response.chunk()).await {
                Ok(Ok(Some(data))) if data.is_empty() => {}
                Ok(Ok(Some(data))) => return Step::Chunk(self.forward(data)),
                Ok(Ok(None)) => return Step::End(self.read(progress)),
                Ok(Err(error)) => return Step::End(Some(egress::cut_short(&error, &self.url, self.bytes))),
                Err(_) => return Step::End(Some(self.silent())),
            }
        }
    }

    fn forward(&mut self, data: Bytes) -> Chunk {
        self.bytes += data.len();
        if self.bytes <= MAX_READ_BYTES {
            self.pieces.push(data.clone());
        } else {
            self.pieces = Vec::new();
        }
        Chunk { data, content: true, ..Chunk::default() }
    }

    fn read(&mut self, progress: &mut Progress) -> Option<Failure> {
        if self.bytes > MAX_READ_BYTES {
            return None;
        }
        let body = std::mem::take(&mut self.pieces).concat();
        match serde_json::from_slice::<Answer>(&body) {
            Ok(answer) => {
                progress.response_id = answer.id.as_str().map(str::to_owned);
                progress.usage = events::usage(&answer.usage);
                None
            }
            Err(_) => {
                let message = format!("{} answered with {} bytes that are no JSON object", self.url, self.bytes);
                Some(Failure::new(Reason::UpstreamError, service::UPSTREAM, message))
            }
        }
    }

    fn silent(&self) -> Failure {
        let (url, seconds, bytes) = (&self.url, self.idle.as_secs(), self.bytes);
        let message = format!("the answer of {url} was silent for {seconds} s after {bytes} bytes");
        Failure::new(Reason::StreamIdle, service::UPSTREAM, message)
    }
}
