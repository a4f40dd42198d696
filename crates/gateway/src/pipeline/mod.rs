//! The pipeline of a call: resolve, bind, respond. One place, used by every face.
//!
//! It is a pulled stream: nothing happens unless the face asks for the next event, nothing goes on when the face drops
//! it, and no task of its own has to be found and stopped.

mod ask;
mod attempt;
mod call;
mod decide;
mod hold;
mod limit;
mod plan;
mod report;
mod tracer;
mod way;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use domain::{Failure, Reason, service};
use futures_util::Stream;
use proto::auth::v1::UsageProbe;
use proto::common::v1::{Header, QuotaWindow};
use proto::router::v1::Route;
use proto::transport::v1::Outcome;
use tracing::Span;

pub(crate) use ask::{Ask, Words};
pub(crate) use attempt::judged;
pub(crate) use call::{Binding, Call, Ended, binding, unbound, wanted};
pub(crate) use hold::{Terminal, is_silent};
pub(crate) use report::Reports;

use crate::pipeline::attempt::{Attempt, Begun, End, Message};
use crate::pipeline::decide::NextStep;
use crate::pipeline::plan::{Plan, Refusal, Way};
use crate::pipeline::way::Leave;
use crate::room::Held;
use crate::workspaces;

/// How long the next bind waits for auth-svc to have heard of the last failure.
const REPORT_WAIT: Duration = Duration::from_millis(300);

/// The winning attempt has begun; its first bytes follow at once.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// The upstream's headers for the caller.
    pub(crate) headers: Vec<Header>,
    /// Request fields that a rule of the target dropped.
    pub(crate) dropped: Vec<String>,
    /// Provider that answers.
    pub(crate) provider: String,
    /// Model that answers.
    pub(crate) model: String,
    /// The hops known by now, as a `server-timing` header.
    pub(crate) server_timing: String,
}

/// What a call yields: at most one head, then bytes, and always one end.
#[derive(Debug)]
pub(crate) enum CallEvent {
    /// The winning attempt has begun.
    Head(Head),
    /// Bytes of the upstream's body, unchanged.
    Bytes(Bytes),
    /// The end.
    End(Box<Ended>),
}

/// The events of one call.
pub(crate) struct CallStream {
    span: Span,
    /// What its reader keeps of it, and the key that it is kept for.
    kept: Held,
    key: Option<String>,
    events: Pin<Box<dyn Stream<Item = CallEvent> + Send>>,
}

impl CallStream {
    /// The reader keeps what comes, until this stream is dropped: it is counted, and the call ends with SHED where there
    /// is no room for more.
    pub(crate) fn keep(&self) {
        // Nothing is announced, so that this cannot fail.
        drop(self.kept.begin(self.key.as_deref()));
    }
}

impl Stream for CallStream {
    type Item = CallEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<CallEvent>> {
        // Whoever polls, the hops below are children of the call's span.
        let this = &mut *self;
        this.span.in_scope(|| this.events.as_mut().poll_next(cx))
    }
}

/// Runs a call whose caller is known.
pub(crate) fn run(mut call: Call, ask: Ask) -> CallStream {
    let (span, kept) = (call.span.clone(), call.core.room.held());
    let keeping = kept.clone();
    let key = call.key_id().map(str::to_owned);
    let events = async_stream::stream! {
        // What is needed for a moment only is not kept for as long as the answer streams: hence the boxes.
        let mut plan = match Box::pin(call.resolve(&ask)).await {
            Ok(plan) => plan,
            Err(failure) => {
                yield CallEvent::End(Box::new(call.finish(Some(failure), None)));
                return;
            }
        };
        let ending = call.ending.clone();
        let won = tokio::select! {
            won = Box::pin(call.winner(&mut plan, &ask)) => won,
            () = ending.over() => {
                yield CallEvent::End(Box::new(call.finish(Some(stopping()), None)));
                return;
            }
        };
        // A long answer does not hold what was asked.
        drop(ask);
        call.forget_request();
        let Some((mut attempt, binding)) = won else {
            let (failure, refusal) = plan.verdict();
            for event in call.give_up(failure, refusal) {
                yield event;
            }
            return;
        };
        let route = plan.route().cloned().unwrap_or_default();
        call.note_quota(&binding, std::mem::take(&mut attempt.head.quota), &attempt.head.headers);
        yield CallEvent::Head(call.head(std::mem::take(&mut attempt.head), route));
        loop {
            let message = tokio::select! {
                message = attempt.next(call.budget) => message,
                () = ending.over() => Message::End(End::broken(stopping())),
            };
            let chunk = match message {
                Message::Chunk(chunk) => chunk,
                Message::End(end) => {
                    yield call.settle(end, &plan, &binding);
                    return;
                }
            };
            if let Err(full) = keeping.grow(chunk.data.len()) {
                yield call.settle(End::broken(full), &plan, &binding);
                return;
            }
            call.read(&chunk);
            let data = chunk.data;
            if call.terminal.is_some() {
                // For the caller the call is over when it sees this, and the next one may begin.
                call.leave();
                if let Some(end) = attempt.end_at_hand(call.budget).await {
                    // The record is written before the caller can see that the call is over.
                    let ended = call.settle(end, &plan, &binding);
                    yield CallEvent::Bytes(data);
                    yield ended;
                    return;
                }
            }
            yield CallEvent::Bytes(data);
        }
    };
    CallStream { span, kept, key, events: Box::pin(events) }
}

/// The call was cut short by the end of this process, after the time that calls get to finish.
fn stopping() -> Failure {
    Failure::new(Reason::PeerUnavailable, service::GATEWAY, "the gateway stopped while the call was under way")
}

impl Call {
    /// Tries what there is to try until an attempt answers. `None` if none did.
    async fn winner(&mut self, plan: &mut Plan, ask: &Ask) -> Option<(Attempt, Binding)> {
        loop {
            if let Some(won) = self.try_all(plan, ask).await {
                return Some(won);
            }
            if !self.waited_out(plan).await {
                return None;
            }
        }
    }

    async fn try_all(&mut self, plan: &mut Plan, ask: &Ask) -> Option<(Attempt, Binding)> {
        let core = Arc::clone(&self.core);
        while let Some(route) = plan.route().cloned() {
            let mut binding = match self.bind_where_it_must_go(plan, &route, &ask.session).await {
                Ok(binding) => binding,
                Err(failure) => {
                    plan.not_bound(failure);
                    continue;
                }
            };
            let Some(leave) = self.leave_by(plan, &route, &binding, ask) else { continue };
            let Some(egress) = core.links.egress(leave.index) else { continue };
            if plan.is_fresh() {
                core.retries.deposit();
            }
            plan.begin();
            let begun = match self.respond(plan, &route, &mut binding, ask, egress).await {
                Ok(mut attempt) => match attempt.begin(plan.could_go_on(binding.others), self.budget).await {
                    Begun::Answers => {
                        leave.works();
                        return Some((attempt, binding));
                    }
                    Begun::Failed(end) => (Some(attempt), end),
                },
                Err(end) => (None, end),
            };
            self.lost(plan, &binding, (leave, &egress.name), begun.0, begun.1).await;
        }
        None
    }

    /// A credential for `route`, sealed for where requests of its account must go. Who does not know that yet asks first.
    async fn bind_where_it_must_go(&mut self, plan: &Plan, route: &Route, session: &str) -> Result<Binding, Failure> {
        let binding = self.bind(plan, route, session).await?;
        let Some(question) = binding.workspace.clone() else { return Ok(binding) };
        let question = UsageProbe { provider_egress: route.egress.clone(), ..question };
        let found = workspaces::discover(&self.core, question, self.budget).await;
        if found { self.bind(plan, route, session).await } else { Ok(binding) }
    }

    /// An attempt failed before anything went to the caller.
    async fn lost(
        &mut self,
        plan: &mut Plan,
        binding: &Binding,
        (leave, egress): (Leave, &str),
        attempt: Option<Attempt>,
        end: Box<End>,
    ) {
        let Some(failure) = end.failure.clone() else { return plan.stop() };
        self.tracer.end(Some(&failure), end.outcome.as_ref());
        let failed = attempt.as_ref().map_or_else(|| end.failed(&failure), |a| a.failed(&failure, &end));
        leave.failed(&failed, &failure);
        let route = plan.route().cloned().unwrap_or_default();
        let others = self.other_egress(plan, &route, binding, &failed, egress);
        let model = route.upstream_model.clone();
        let (mut head, held) = attempt.map(|a| (a.head, a.held)).unwrap_or_default();
        let mut outcome = end.outcome;
        self.note_quota(binding, std::mem::take(&mut head.quota), &head.headers);
        let mut exhausted = None;
        if let Some(outcome) = &mut outcome {
            self.note_quota(binding, std::mem::take(&mut outcome.quota), &outcome.headers);
            exhausted = outcome.exhausted.take();
        }
        let refusal = Refusal { route, head, outcome, held };
        let step = plan.attempt_failed(failed, failure.clone(), &binding.bound, Way { egress, others }, refusal);
        if let Some(heard) = self.report(plan, binding, &model, &failure, exhausted)
            && step != NextStep::Stop
        {
            // So that the next bind already knows; a slow auth-svc hears of it later.
            let _ = tokio::time::timeout(REPORT_WAIT, heard).await;
        }
        self.prepare(plan, step, &failed).await;
    }

    /// Tells auth-svc of a failure that changes the credential's standing. A rejection that no refresh was tried for
    /// does not: the refresh is what decides.
    fn report(
        &self,
        plan: &Plan,
        binding: &Binding,
        model: &str,
        failure: &Failure,
        exhausted: Option<QuotaWindow>,
    ) -> Option<tokio::sync::oneshot::Receiver<()>> {
        let rejected = failure.reason == domain::Reason::CredentialRejected;
        let due = plan.rejected().is_none() && (!rejected || plan.refreshed(&binding.bound.credential_id));
        (due && report::changes_standing(failure.reason))
            .then(|| report::report(&self.core, &binding.bound, model, failure, exhausted))
    }

    fn head(&mut self, head: proto::transport::v1::Head, route: Route) -> Head {
        self.dropped.clone_from(&head.dropped);
        Head {
            headers: head.headers,
            dropped: head.dropped,
            provider: route.provider,
            model: route.upstream_model,
            server_timing: self.tracer.server_timing(),
        }
    }

    /// The attempt that answered has ended.
    fn settle(&mut self, end: Box<End>, plan: &Plan, binding: &Binding) -> CallEvent {
        let End { failure, mut outcome, .. } = *end;
        let answered = self.terminal.as_ref().is_some_and(Terminal::success);
        // The answer is whole; that transport-svc broke off behind it harms nobody.
        let failure = failure.filter(|_| outcome.is_some() || !answered);
        self.tracer.end(failure.as_ref(), outcome.as_ref());
        if let Some(failure) = &failure {
            let model = plan.route().map(|r| r.upstream_model.as_str()).unwrap_or_default();
            let exhausted = outcome.as_mut().and_then(|outcome| outcome.exhausted.take());
            drop(self.report(plan, binding, model, failure, exhausted));
        }
        CallEvent::End(Box::new(self.finish(failure, outcome.as_ref())))
    }

    /// Nothing is left to try. A response that the upstream itself ended as failed goes to the caller as it came: its
    /// clients know these events better than our words for them.
    fn give_up(&mut self, failure: Failure, refusal: Refusal) -> Vec<CallEvent> {
        let Refusal { route, head, outcome, held } = refusal;
        let mut events = Vec::new();
        if outcome.as_ref().is_some_and(|o: &Outcome| o.terminal_relayed) && !held.is_empty() {
            events.push(CallEvent::Head(self.head(head, route)));
            held.iter().for_each(|chunk| self.read(chunk));
            events.extend(held.into_iter().map(|chunk| CallEvent::Bytes(chunk.data)));
        }
        events.push(CallEvent::End(Box::new(self.finish(Some(failure), outcome.as_ref()))));
        events
    }
}
