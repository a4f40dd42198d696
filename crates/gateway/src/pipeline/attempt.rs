//! One attempt: what transport-svc says, message by message.

use std::collections::VecDeque;
use std::time::Duration;

use domain::{Failure, Reason, service};
use proto::transport::v1::respond_response::Message as Wire;
use proto::transport::v1::{Chunk, Head, Outcome, RespondResponse, Sent};
use service_kit::{failure_from_proto, failure_from_status};
use tokio::time::timeout_at;
use tonic::Streaming;

use crate::budget::{Budget, deadline_passed};
use crate::egress::Verdict;
use crate::pipeline::decide::{Failed, verdict};
use crate::pipeline::hold::{Hold, is_silent};

/// How long the chunk with the terminal event waits for the outcome, which comes right behind it. Clients close the
/// connection at the terminal event; with the outcome at hand the record is whole by then.
const OUTCOME_WAIT: Duration = Duration::from_millis(100);

/// The end of an attempt.
#[derive(Debug)]
pub(crate) struct End {
    /// Why it failed; `None` on success.
    pub(crate) failure: Option<Failure>,
    /// What transport-svc said; `None` where it broke off or refused.
    pub(crate) outcome: Option<Outcome>,
    /// How much of the request the upstream may have acted on, where there is no outcome to say it.
    sent: Sent,
}

/// One message.
pub(crate) enum Message {
    /// Bytes for the caller, and what they hold.
    Chunk(Chunk),
    /// Nothing more will come.
    End(Box<End>),
}

/// How an attempt has begun.
pub(crate) enum Begun {
    /// It answers: its messages, from the first on, are for the caller.
    Answers,
    /// It failed before anything went to the caller.
    Failed(Box<End>),
}

/// One attempt.
pub(crate) struct Attempt {
    inbound: Streaming<RespondResponse>,
    /// The upstream's headers, once they came.
    pub(crate) head: Head,
    /// Messages that were read ahead.
    ahead: VecDeque<Message>,
    /// Chunks of a failed attempt, which the caller may get after all.
    pub(crate) held: Vec<Chunk>,
    /// True if the upstream itself ended the response as failed before any content.
    failed_event: bool,
}

impl Attempt {
    pub(crate) fn new(inbound: Streaming<RespondResponse>) -> Self {
        Self { inbound, head: Head::default(), ahead: VecDeque::new(), held: Vec::new(), failed_event: false }
    }

    /// Waits until the attempt either answers or has failed. With `hold` the events that carry no content wait, so that
    /// an early failure can still be followed by another attempt. Comment lines always wait for the first event.
    pub(crate) async fn begin(&mut self, hold: bool, budget: Budget) -> Begun {
        let mut held = Hold::default();
        loop {
            let received = match held.until() {
                Some(until) => match timeout_at(until, self.receive(budget)).await {
                    Ok(received) => received,
                    Err(_) => return self.answer(held, None),
                },
                None => self.receive(budget).await,
            };
            match received {
                Received::Chunk(chunk) if is_silent(&chunk.data) => held.take_silent(chunk),
                Received::Chunk(chunk) => {
                    self.failed_event |= chunk.only_failure;
                    if !held.take(chunk) || !hold {
                        return self.answer(held, None);
                    }
                }
                Received::End(end) if end.failure.is_none() => return self.answer(held, Some(end)),
                Received::End(end) => {
                    self.held = held.release();
                    return Begun::Failed(end);
                }
            }
        }
    }

    fn answer(&mut self, held: Hold, end: Option<Box<End>>) -> Begun {
        self.ahead.extend(held.release().into_iter().map(Message::Chunk));
        self.ahead.extend(end.map(Message::End));
        Begun::Answers
    }

    /// The next message of an attempt that answers.
    pub(crate) async fn next(&mut self, budget: Budget) -> Message {
        if let Some(message) = self.ahead.pop_front() {
            return message;
        }
        match self.receive(budget).await {
            Received::Chunk(chunk) => Message::Chunk(chunk),
            Received::End(end) => Message::End(end),
        }
    }

    /// After the terminal event: the end, if it comes within a moment and nothing else comes before it.
    pub(crate) async fn end_at_hand(&mut self, budget: Budget) -> Option<Box<End>> {
        match tokio::time::timeout(OUTCOME_WAIT, self.next(budget)).await {
            Ok(Message::End(end)) => Some(end),
            Ok(other) => {
                self.ahead.push_front(other);
                None
            }
            Err(_) => None,
        }
    }

    async fn receive(&mut self, budget: Budget) -> Received {
        loop {
            let message = match budget.deadline() {
                None => self.inbound.message().await,
                Some(deadline) => match timeout_at(deadline, self.inbound.message()).await {
                    Ok(message) => message,
                    Err(_) => return Received::End(End::broken(deadline_passed(service::TRANSPORT))),
                },
            };
            match message {
                Ok(Some(RespondResponse { message: Some(Wire::Head(head)) })) => self.head = head,
                Ok(Some(RespondResponse { message: Some(Wire::Chunk(chunk)) })) => {
                    return Received::Chunk(chunk);
                }
                Ok(Some(RespondResponse { message: Some(Wire::Outcome(outcome)) })) => {
                    return Received::End(End::from_outcome(outcome));
                }
                // A message of a later version.
                Ok(Some(RespondResponse { message: None })) => {}
                Ok(None) => return Received::End(End::broken(broke_off("ended its stream without an outcome"))),
                Err(status) => {
                    return Received::End(End::broken(failure_from_status(&status, service::TRANSPORT)));
                }
            }
        }
    }

    /// What the decision about another attempt needs to know.
    pub(crate) fn failed(&self, failure: &Failure, end: &End) -> Failed {
        Failed { failed_event: self.failed_event, ..end.failed(failure) }
    }
}

enum Received {
    Chunk(Chunk),
    End(Box<End>),
}

impl End {
    /// transport-svc did not say how it ended.
    pub(crate) fn broken(failure: Failure) -> Box<Self> {
        Box::new(Self { failure: Some(failure), outcome: None, sent: Sent::Unspecified })
    }

    /// transport-svc refused the request, or was not there: no upstream request was made.
    pub(crate) fn not_begun(failure: Failure) -> Box<Self> {
        Box::new(Self { failure: Some(failure), outcome: None, sent: Sent::NotSent })
    }

    fn from_outcome(outcome: Outcome) -> Box<Self> {
        Box::new(Self {
            failure: outcome.failure.as_ref().map(failure_from_proto),
            sent: outcome.sent(),
            outcome: Some(outcome),
        })
    }

    /// What the decision about another attempt needs to know, before anything was relayed.
    pub(crate) fn failed(&self, failure: &Failure) -> Failed {
        let outcome = self.outcome.as_ref();
        Failed {
            reason: failure.reason,
            status: outcome.and_then(|o| o.status).and_then(|s| u16::try_from(s).ok()),
            sent: self.sent,
            relayed: false,
            failed_event: false,
            reasoning_refused: outcome.is_some_and(|o| o.reasoning_refused),
            retry_after: failure.retry_after_seconds,
        }
    }
}

/// What the answer to a question that is no call says of its egress and target: its outcome, or that transport-svc gave
/// none.
pub(crate) fn judged(answer: Result<Option<&Outcome>, &Failure>) -> (Verdict, Option<Failure>) {
    let end = match answer {
        Ok(Some(outcome)) => End::from_outcome(outcome.clone()),
        Ok(None) => End::broken(broke_off("gave no outcome")),
        Err(failure) => End::not_begun(failure.clone()),
    };
    match &end.failure {
        None => (Verdict::Works, None),
        Some(failure) => (verdict(&end.failed(failure)), Some(failure.clone())),
    }
}

fn broke_off(what: &str) -> Failure {
    Failure::new(Reason::PeerUnavailable, service::GATEWAY, format!("transport-svc {what}"))
}
