//! `POST /v1/chat/completions`: asked and answered in the words of Chat Completions, served by the Responses API.
//!
//! Requests are translated field by field; values move as the bytes they are. What the Responses API cannot do is
//! refused by name, and a field that is not known is passed over and named in `x-switchboard-dropped`.

mod answer;
mod fields;
mod messages;
mod request;
mod stream;
mod tools;
mod wire;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use domain::Failure;

use crate::core::Core;
use crate::http::answer::{Dialect, Incoming, Labels, serve};
use crate::http::error;
use crate::pipeline::{Ask, CallStream, Head};

use request::Wanted;

pub(super) async fn create(State(core): State<Arc<Core>>, request: Request) -> Response {
    serve::<Wanted>(core, request).await
}

impl Dialect for Wanted {
    fn read(Incoming { body, passing, session }: Incoming) -> Result<(Ask, Self), Failure> {
        let (body, wanted) = request::translate(&body)?;
        Ok((Ask::from_body(body, passing, session)?, wanted))
    }

    fn streams(&self) -> bool {
        self.stream
    }

    fn error(failure: &Failure, call_id: Option<&str>, now_s: i64) -> String {
        error::body(failure, call_id, now_s)
    }

    async fn answer(self, core: &Arc<Core>, events: CallStream, labels: &Labels) -> Response {
        if self.stream {
            stream::relay(core, events, labels, self).await
        } else {
            answer::assemble(core, events, self).await
        }
    }
}

impl Wanted {
    /// Adds to what the target dropped, in the caller's own words, what had no place in the Responses body.
    fn tell(&mut self, head: &mut Head) {
        if let Some(limit) = self.limit {
            let is_limit = |name: &&mut String| name.as_str() == "max_output_tokens";
            head.dropped.iter_mut().filter(is_limit).for_each(|name| limit.clone_into(name));
        }
        head.dropped.append(&mut self.dropped);
    }
}

#[cfg(test)]
mod golden;
