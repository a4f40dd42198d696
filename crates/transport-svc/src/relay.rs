//! From the upstream's bytes to chunks for the caller, event by event, until the stream ends in one way or another.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::sse::{Piece, Splitter};
use domain::{Clock, Failure, Reason, service};
use futures_util::FutureExt;
use proto::transport::v1::{Chunk, Terminal};
use service_kit::usage_to_proto;

use crate::egress::{self, Cut};
use crate::events::{self, Ending, Meaning};
use crate::progress::Progress;
use crate::send::Response;

/// How long the body's own end is waited for after the terminal event: it usually comes with it, and a connection whose
/// response was read to its end can serve the next call.
const AFTER_TERMINAL: Duration = Duration::from_millis(50);
/// Most bytes that are forwarded together, but for one piece of the body that is larger.
const MAX_TOGETHER: usize = 32 * 1024;
/// How long an `error` event is given to be followed by `response.failed`, which says more.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// A stream that is being forwarded.
#[derive(Debug)]
pub(crate) struct Relay {
    response: Response,
    splitter: Splitter,
    url: String,
    idle: Duration,
    clock: Clock,
    state: State,
    /// Something beside lifecycle events and failures was seen.
    content: bool,
    /// How the body has ended, where what came before that had to be forwarded first.
    ended: Option<Result<(), Cut>>,
}

#[derive(Debug)]
enum State {
    Open,
    /// An `error` event came.
    Failing(Failure),
    /// The terminal event came.
    Ended(Option<Failure>),
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Step {
    Chunk(Chunk),
    End(Option<Failure>),
}

impl Relay {
    pub(crate) fn new(response: Response, url: String, idle: Duration, clock: Clock) -> Self {
        Self {
            response,
            splitter: Splitter::default(),
            url,
            idle,
            clock,
            state: State::Open,
            content: false,
            ended: None,
        }
    }

    /// The next chunk, or the end.
    pub(crate) async fn next(&mut self, progress: &mut Progress) -> Step {
        loop {
            let patience = match &self.state {
                State::Open => self.idle,
                State::Failing(_) => AFTER_ERROR.min(self.idle),
                State::Ended(_) => AFTER_TERMINAL,
            };
            let bytes = match tokio::time::timeout(patience, self.read()).await {
                Ok(Ok(Some(bytes))) => self.with_what_is_at_hand(bytes),
                Ok(Ok(None)) => return self.end(|this| this.ended_early(progress)),
                Ok(Err(error)) => return self.end(|this| egress::cut(&error, &this.url, progress.events)),
                Err(_) => return self.end(|this| this.silent(progress)),
            };
            if let Some(piece) = self.splitter.push(bytes) {
                return Step::Chunk(self.forward(piece, progress));
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Cut> {
        match self.ended.take() {
            Some(ended) => ended.map(|()| None),
            None => self.response.chunk().await,
        }
    }

    /// Events that have come together go on together: on every hop a message costs more than what is in it.
    fn with_what_is_at_hand(&mut self, first: Bytes) -> Bytes {
        let mut all = BytesMut::new();
        let mut last = first;
        while all.len() + last.len() < MAX_TOGETHER {
            match self.response.chunk().now_or_never() {
                None => break,
                Some(Ok(Some(more))) => {
                    all.extend_from_slice(&last);
                    last = more;
                }
                Some(ended) => {
                    self.ended = Some(ended.map(|_| ()));
                    break;
                }
            }
        }
        if all.is_empty() {
            return last;
        }
        all.extend_from_slice(&last);
        all.freeze()
    }

    /// The body is over; what the events said of it counts more than how it ended.
    fn end(&mut self, otherwise: impl FnOnce(&Self) -> Failure) -> Step {
        let failure = match std::mem::replace(&mut self.state, State::Ended(None)) {
            State::Open => Some(otherwise(self)),
            State::Failing(failure) => Some(failure),
            State::Ended(failure) => failure,
        };
        // Half an event that is still held is no event: the caller does not get it.
        Step::End(failure)
    }

    fn forward(&mut self, piece: Piece, progress: &mut Progress) -> Chunk {
        progress.relayed(piece.events.len(), piece.oversized);
        // Of an event that is too large to be held a part has gone to the caller before it was read.
        self.content |= piece.oversized;
        let known = progress.response_id.is_some();
        let mut terminal = None;
        let (mut failures, mut others) = (0, u32::from(piece.oversized));
        for event in &piece.events {
            let head =
                events::Stream { status: progress.status(), headers: &progress.headers, now_s: self.clock.now_s() };
            let meaning = events::read(event, head);
            match &meaning {
                Meaning::Lifecycle { .. } => {}
                Meaning::Error { .. } | Meaning::Terminal(Ending { failure: Some(_), .. }) => failures += 1,
                Meaning::Content | Meaning::Terminal(_) => others += 1,
            }
            if let Meaning::Terminal(ending) = &meaning {
                terminal.get_or_insert_with(|| told(ending));
            }
            self.learn(meaning, progress);
        }
        Chunk {
            data: piece.bytes,
            content: self.content,
            response_id: progress.response_id.clone().filter(|_| !known),
            terminal,
            only_failure: failures > 0 && others == 0,
        }
    }

    fn learn(&mut self, meaning: Meaning, progress: &mut Progress) {
        match meaning {
            // After the end nothing changes it.
            _ if matches!(self.state, State::Ended(_)) => {}
            Meaning::Lifecycle { response_id } => {
                if response_id.is_some() {
                    progress.response_id = response_id;
                }
            }
            Meaning::Content => self.content = true,
            // A failure is no content: while nothing else was relayed, another attempt is still possible.
            Meaning::Error { failure, reasoning_refused } => {
                progress.reasoning_refused |= reasoning_refused;
                self.state = State::Failing(failure);
            }
            Meaning::Terminal(Ending { response_id, usage, failure, reasoning_refused, .. }) => {
                progress.reasoning_refused |= reasoning_refused;
                progress.response_id = response_id.or(progress.response_id.take());
                progress.usage = usage;
                progress.terminal_relayed = true;
                self.content |= failure.is_none();
                self.state = State::Ended(failure);
            }
        }
    }

    fn ended_early(&self, progress: &Progress) -> Failure {
        let message =
            format!("the stream from {} ended after {} events without a terminal one", self.url, progress.events);
        Failure::new(Reason::StreamCut, service::UPSTREAM, message)
    }

    fn silent(&self, progress: &Progress) -> Failure {
        let message = format!(
            "the stream from {} was silent for {} s after {} events",
            self.url,
            self.idle.as_secs(),
            progress.events
        );
        Failure::new(Reason::StreamIdle, service::UPSTREAM, message)
    }
}

/// The end of a response, for the gateway.
fn told(ending: &Ending) -> Terminal {
    Terminal {
        kind: ending.kind.into(),
        usage: ending.usage.as_ref().map(usage_to_proto),
        incomplete_reason: ending.incomplete_reason.clone(),
    }
}
