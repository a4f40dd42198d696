//! A script as a response body.
//!
//! The body is pulled, not pushed: nothing runs for a stream but the connection that wants its bytes, and
//! when the client goes away hyper drops the body, which is how the departure is noticed.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;

use crate::{
    call::{Call, OpenStream},
    record::Exchange,
    reply::{Abort, Body},
    responses::script::{Script, Step},
    server::line::{Ending, Leaving, Line},
    state::SimState,
};

/// How long what was handed to hyper gets to reach the wire before the connection is broken.
const FLUSH: Duration = Duration::from_millis(25);

struct Running {
    steps: Box<dyn Iterator<Item = Step> + Send>,
    pace: Duration,
    begun: bool,
    exchange: Exchange,
    line: Arc<Line>,
    state: SimState,
    _open: OpenStream,
}

/// Turns a script into a body; the exchange of the call goes with it.
pub(crate) fn body(call: &mut Call, script: Script, pace: Duration) -> Body {
    let exchange = call.exchange.take();
    exchange.note(|record| record.outcome = "streaming".into());
    let running = Running {
        steps: script.steps,
        pace,
        begun: false,
        exchange,
        line: Arc::clone(&call.line),
        state: call.state.clone(),
        _open: OpenStream::count(&call.state),
    };
    StreamBody::new(stream::unfold(running, Running::next)).boxed_unsync()
}

impl Running {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, Abort>, Self)> {
        let Some(step) = self.steps.next() else {
            // Does nothing after a terminal event.
            self.exchange.finish("ended_early");
            return None;
        };
        let paced = matches!(step, Step::Event(_) | Step::Stamped(..) | Step::Last(..));
        if std::mem::replace(&mut self.begun, true) && paced {
            if !self.pace.is_zero() {
                tokio::time::sleep(self.pace).await;
            }
            self.state.let_go().await;
        }
        let frame = match step {
            Step::Event(bytes) => self.frame(bytes, true),
            Step::Stamped(before, after) => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
                self.frame([&before[..], now.to_string().as_bytes(), &after[..]].concat().into(), true)
            }
            Step::Chunk(bytes) => self.frame(bytes, false),
            Step::Last(bytes, outcome) => {
                let frame = self.frame(bytes, true);
                // Clients leave at the terminal event: from here on that is no departure.
                self.exchange.finish(outcome);
                frame
            }
            Step::Reset => {
                tokio::time::sleep(FLUSH).await;
                self.exchange.finish("reset");
                Err(Abort::reset(h2::Reason::INTERNAL_ERROR))
            }
            Step::Cut => {
                tokio::time::sleep(FLUSH).await;
                self.exchange.finish("cut");
                self.line.end(Ending::Reset);
                std::future::pending().await
            }
            Step::EndAndClose => {
                self.line.leave(Leaving::WhenIdle);
                return None;
            }
            Step::Silence => {
                self.exchange.note(|record| record.outcome = "silent".into());
                std::future::pending().await
            }
        };
        Some((frame, self))
    }

    fn frame(&mut self, bytes: Bytes, is_event: bool) -> Result<Frame<Bytes>, Abort> {
        self.exchange.sent(bytes.len(), is_event);
        Ok(Frame::data(bytes))
    }
}
