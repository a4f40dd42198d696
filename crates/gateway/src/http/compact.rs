//! `POST /v1/responses/compact`: a conversation made shorter, asked and answered whole.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::BytesMut;
use domain::{Failure, Reason, service};
use futures_util::StreamExt;
use proto::transport::v1::Resource;

use crate::core::Core;
use crate::http::answer::{self, Dialect, Incoming, Labels, defect, refused};
use crate::http::error::{self, call_response};
use crate::pipeline::{Ask, CallEvent, CallStream};

/// Largest answer that is held until it is whole, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A compaction: its body passes as it came, and so does its answer.
struct Compact;

pub(super) async fn create(State(core): State<Arc<Core>>, request: Request) -> Response {
    answer::serve::<Compact>(core, request).await
}

impl Dialect for Compact {
    fn read(Incoming { body, passing, session }: Incoming) -> Result<(Ask, Self), Failure> {
        let ask = Ask::from_body(body, passing, session)?;
        if ask.stream {
            let message = "`stream` is not served here: a compaction is answered whole";
            return Err(Failure::new(Reason::Unsupported, service::GATEWAY, message).param("stream"));
        }
        Ok((Ask { resource: Resource::Compact, ..ask }, Self))
    }

    fn streams(&self) -> bool {
        false
    }

    fn error(failure: &Failure, call_id: Option<&str>, now_s: i64) -> String {
        error::body(failure, call_id, now_s)
    }

    /// The upstream's bytes, once all of them are here: half a document helps nobody, and a failure has a status.
    async fn answer(self, core: &Arc<Core>, mut events: CallStream, _: &Labels) -> Response {
        let (mut head, mut body, mut fits) = (None, BytesMut::new(), true);
        while let Some(event) = events.next().await {
            match event {
                CallEvent::Head(begun) => head = Some(begun),
                CallEvent::Bytes(bytes) => {
                    fits &= body.len() + bytes.len() <= MAX_ANSWER_BYTES;
                    if fits {
                        body.extend_from_slice(&bytes);
                    }
                }
                CallEvent::End(ended) if ended.record.failure.is_some() => return refused::<Compact>(core, &ended),
                CallEvent::End(ended) if !fits => {
                    let message = format!("the upstream's answer is over {MAX_ANSWER_BYTES} bytes");
                    let failure = Failure::new(Reason::UpstreamError, service::UPSTREAM, message);
                    return call_response::<Compact>(&failure, &ended, core.clock.now_s());
                }
                CallEvent::End(ended) => return answer::whole(body.freeze(), head.as_ref(), &ended),
            }
        }
        defect::<Compact>()
    }
}
