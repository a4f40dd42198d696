//! One call: who makes it, what is known of it so far, and its record, which is written however the call ends.

use std::sync::Arc;

use domain::{Failure, Reason, Usage, service};
use http::{Extensions, HeaderMap};
use proto::auth::v1::{BindRequest, BindResponse, Bound, UsageProbe, Wanted};
use proto::common::v1::{Header, QuotaWindow};
use proto::router::v1::{ResolveRequest, Route};
use proto::transport::v1::{Chunk, Outcome, RespondRequest, SealedCredential};
use service_kit::{Ending, Peer, failure_from_proto, usage_from_proto};
use tracing::Span;

use crate::budget::{Budget, deadline_passed};
use crate::caller::{Caller, Identified, Introduced};
use crate::core::Core;
use crate::keys::Verified;
use crate::limits::Permit;
use crate::links::{Asked, Egress};
use crate::pipeline::ask::Ask;
use crate::pipeline::attempt::{Attempt, End};
use crate::pipeline::hold::Terminal;
use crate::pipeline::plan::Plan;
use crate::pipeline::tracer::Tracer;
use crate::records::{Face, Record};
use crate::room::{Held, Place};

/// A bound credential, for one attempt.
pub(crate) struct Binding {
    /// Which.
    pub(crate) bound: Bound,
    /// It, sealed.
    pub(crate) sealed: SealedCredential,
    /// True if another credential of this route is eligible too.
    pub(crate) others: bool,
    /// To be asked before its requests go where they must: nobody has yet.
    pub(crate) workspace: Option<UsageProbe>,
}

/// How a call has ended, for its face.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its record.
    pub(crate) record: Arc<Record>,
    /// Id of the upstream's response object.
    pub(crate) response_id: Option<String>,
    /// Request fields that a rule of the target dropped.
    pub(crate) dropped: Vec<String>,
    /// The upstream's headers, where it refused.
    pub(crate) headers: Vec<Header>,
    /// True if the caller has got the upstream's own terminal event.
    pub(crate) terminal_relayed: bool,
    /// That event.
    pub(crate) terminal: Option<Terminal>,
}

/// One call. Dropping it before it has ended records it as cancelled.
pub(crate) struct Call {
    /// What all calls share.
    pub(crate) core: Arc<Core>,
    /// Its id.
    pub(crate) id: String,
    /// Its trace id.
    pub(crate) trace_id: String,
    /// The server's span.
    pub(crate) span: Span,
    /// The caller's time.
    pub(crate) budget: Budget,
    /// The end of this process, as far as it is in sight.
    pub(crate) ending: Ending,
    /// Its trace.
    pub(crate) tracer: Tracer,
    /// The terminal event, once the caller has got it.
    pub(crate) terminal: Option<Terminal>,
    /// Id of the response that the caller has seen begin.
    pub(crate) response_id: Option<String>,
    /// Request fields that a rule of the target dropped.
    pub(crate) dropped: Vec<String>,
    face: Face,
    caller: Option<Caller>,
    /// The key that it was admitted with.
    holds: Option<Arc<Verified>>,
    /// Its place among the calls of its key, until it ends.
    permit: Option<Permit>,
    /// Its place among all calls under way, until it ends.
    place: Option<Place>,
    /// What is held of its request, until nothing will be sent again.
    held: Option<Held>,
    started_at_ms: i64,
    usage: Option<Usage>,
    ended: bool,
}

impl Call {
    /// A call arrives.
    pub(crate) fn accept(core: &Arc<Core>, face: Face, headers: &HeaderMap, extensions: &Extensions) -> Self {
        let span = Span::current();
        let id = domain::new_call_id();
        span.record("switchboard.call_id", id.as_str());
        let trace_id = telemetry::trace_id(&span)
            .or_else(|| named_trace(headers))
            .unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
        Self {
            tracer: Tracer::new(&id, &trace_id),
            core: Arc::clone(core),
            id,
            trace_id,
            span,
            budget: Budget::from_headers(headers),
            ending: extensions.get::<Ending>().cloned().unwrap_or_default(),
            terminal: None,
            response_id: None,
            dropped: Vec::new(),
            face,
            caller: None,
            holds: None,
            permit: None,
            place: None,
            held: extensions.get::<Held>().cloned(),
            started_at_ms: core.clock.now_ms(),
            usage: None,
            ended: false,
        }
    }

    /// Finds out who calls.
    pub(crate) async fn identify(
        &mut self,
        headers: &HeaderMap,
        peer: Option<Peer>,
        agent: &str,
    ) -> Result<(), Failure> {
        let introduced = Introduced::of(&self.core.keys, headers, peer, self.budget).await;
        self.admit(introduced.speaking_for(agent))
    }

    /// Takes note of who calls, and finds out whether the limits of their key let another call in.
    pub(crate) fn admit(&mut self, identified: Identified) -> Result<(), Failure> {
        if let Some(asked) = &identified.asked {
            self.tracer.began(asked.began);
            self.tracer.asked(asked);
        }
        let caller = self.caller.insert(identified.result?);
        let key = caller.key_id.clone();
        self.place = Some(self.core.room.enter(key.as_deref())?);
        self.holds = identified.holds;
        if let Some(verified) = &self.holds {
            self.permit = self.core.limits.enter(&verified.key, self.core.clock.now_ms() as f64 / 1e3)?;
        }
        self.held.as_ref().map_or(Ok(()), |held| held.begin(key.as_deref()))
    }

    /// Id of the key that it is made with, where it is known who calls; the operator has none.
    pub(crate) fn key_id(&self) -> Option<&str> {
        self.caller.as_ref().and_then(|caller| caller.key_id.as_deref())
    }

    /// Gives its place to the next one, among the calls of its key and among all.
    pub(crate) fn leave(&mut self) {
        self.permit = None;
        self.place = None;
    }

    /// Nothing of its request will be sent again.
    pub(crate) fn forget_request(&mut self) {
        if let Some(held) = self.held.take() {
            held.give_back();
        }
    }

    /// Finds out whether the caller may still call, where reading the request took long.
    async fn confirm(&mut self) -> Result<(), Failure> {
        let Some(verified) = self.holds.take() else { return Ok(()) };
        let Some((asked, found)) = self.core.keys.confirm(&verified, self.budget).await else { return Ok(()) };
        if let Some(asked) = &asked {
            self.tracer.asked(asked);
        }
        found.map(|_| ())
    }

    /// The routes for what is asked.
    pub(crate) async fn resolve(&mut self, ask: &Ask) -> Result<Plan, Failure> {
        self.tracer.requested(&ask.model);
        self.confirm().await?;
        let caller = self.caller()?;
        let question =
            ResolveRequest { model: ask.model.clone(), agent: caller.agent.clone(), allowed: caller.models.clone() };
        let asked = self.core.links.resolve(question, self.budget).await;
        self.tracer.asked(&asked);
        self.tracer.table(asked.info.route_table);
        let answer = asked.result?;
        self.tracer.table(answer.table_digest);
        Ok(Plan::new(answer.routes, self.core.max_attempts))
    }

    /// A credential for `route`.
    pub(crate) async fn bind(&mut self, plan: &Plan, route: &Route, session: &str) -> Result<Binding, Failure> {
        let question = BindRequest {
            call_id: self.id.clone(),
            wanted: Some(wanted(self.caller()?, route, session)),
            rejected: plan.rejected(),
            exclude: plan.excluded(),
        };
        let asked = self.core.links.bind(question, self.budget).await.and_then(binding);
        self.tracer.asked(&asked);
        if let Err(failure) = &asked.result
            && !plan.tried()
        {
            self.tracer.skipped(route, asked.took, failure.reason);
        }
        asked.result
    }

    /// Begins an attempt on `route`.
    pub(crate) async fn respond(
        &mut self,
        plan: &Plan,
        route: &Route,
        binding: &mut Binding,
        ask: &Ask,
        egress: &Egress,
    ) -> Result<Attempt, Box<End>> {
        let question = RespondRequest {
            call_id: self.id.clone(),
            target: route.target.clone(),
            credential: Some(std::mem::take(&mut binding.sealed)),
            upstream_model: route.upstream_model.clone(),
            body: ask.body.clone(),
            headers: ask.headers.clone(),
            resource: ask.resource.into(),
            drop_encrypted_reasoning: plan.drops_reasoning(),
        };
        self.tracer.begin(route, &binding.bound.credential, &egress.name);
        let asked = egress.respond(question, self.budget).await;
        // What transport-svc itself refuses is refused before any upstream request.
        let not_begun = asked.info.unreached || !asked.info.host.is_empty();
        self.tracer.taken(asked.info);
        asked.result.map(Attempt::new).map_err(if not_begun { End::not_begun } else { End::broken })
    }

    /// Takes note of what an answer said of the credential's quota, and of the list of models.
    pub(crate) fn note_quota(&self, binding: &Binding, quota: Vec<QuotaWindow>, headers: &[Header]) {
        self.core.catalogues.announced(&binding.bound.credential_id, headers);
        self.core.usage.quota(&binding.bound.credential_id, quota, headers, self.core.clock.now_s());
    }

    fn caller(&self) -> Result<&Caller, Failure> {
        let nobody = || Failure::new(Reason::AgentKeyInvalid, service::GATEWAY, "nobody has been identified");
        self.caller.as_ref().ok_or_else(nobody)
    }

    /// Takes note of what a chunk for the caller holds.
    pub(crate) fn read(&mut self, chunk: &Chunk) {
        if self.response_id.is_none() {
            self.response_id.clone_from(&chunk.response_id);
        }
        if self.terminal.is_none() {
            self.terminal = Terminal::of(chunk);
        }
    }

    /// Takes over what the outcome says of the whole call.
    pub(crate) fn learn(&mut self, outcome: Option<&Outcome>) {
        if let Some(usage) = outcome.and_then(|o| o.usage.as_ref()) {
            self.usage = Some(usage_from_proto(usage));
        }
    }

    /// The call is over: its record is written.
    pub(crate) fn finish(&mut self, failure: Option<Failure>, outcome: Option<&Outcome>) -> Ended {
        self.ended = true;
        self.leave();
        self.learn(outcome);
        let terminal = self.terminal.take();
        let usage = self.usage.or(terminal.as_ref().and_then(|t| t.usage));
        if let (Some(key_id), Some(usage)) = (self.caller.as_ref().and_then(|c| c.key_id.as_deref()), usage) {
            let tokens = u64::from(usage.input_tokens) + u64::from(usage.output_tokens);
            let now_s = self.core.clock.now_s();
            self.core.usage.tokens(key_id, tokens, now_s);
            self.core.limits.spent(key_id, tokens, now_s);
        }
        let trace = self.tracer.finish(failure.as_ref(), telemetry::span_id(&self.span).unwrap_or_default());
        let record = Arc::new(Record {
            agent: self.caller.as_ref().map(|c| c.agent.clone()).unwrap_or_default(),
            key_id: self.caller.as_ref().and_then(|c| c.key_id.clone()),
            face: self.face,
            started_at_ms: self.started_at_ms,
            elapsed_ms: self.tracer.elapsed().as_secs_f64() * 1e3,
            failure,
            trace,
            usage,
        });
        self.note(&record);
        // Strangers must not push agents' calls out of the ring.
        if self.caller.is_some() {
            self.core.records.keep(Arc::clone(&record));
        }
        let response_id = outcome.and_then(|o| o.response_id.clone());
        Ended {
            record,
            response_id: response_id.or_else(|| self.response_id.take()),
            dropped: std::mem::take(&mut self.dropped),
            headers: outcome.map(|o| o.headers.clone()).unwrap_or_default(),
            terminal_relayed: terminal.is_some() || outcome.is_some_and(|o| o.terminal_relayed),
            terminal,
        }
    }

    /// One log line a call, and the reason in its span.
    fn note(&self, record: &Record) {
        let last = record.trace.attempts.last();
        let (call_id, agent, elapsed_ms) = (self.id.as_str(), record.agent.as_str(), record.elapsed_ms.round());
        let model = record.trace.requested_model.as_str();
        let credential = last.and_then(|a| a.credential.as_deref()).unwrap_or("-");
        let Some(failure) = &record.failure else {
            tracing::info!(call_id, agent, model, credential, elapsed_ms, face = self.face.as_str(), "call answered");
            return;
        };
        self.span.record("switchboard.reason", failure.reason.as_str());
        self.span.record("otel.status_code", "ERROR");
        tracing::warn!(
            call_id,
            agent,
            model,
            credential,
            elapsed_ms,
            face = self.face.as_str(),
            reason = failure.reason.as_str(),
            service = failure.service,
            cause = failure.message,
            "call failed"
        );
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.ended || self.caller.is_none() {
            return;
        }
        let _entered = self.span.clone().entered();
        let failure = match &self.terminal {
            // Clients hang up at the terminal event, and then the call is over, not given up.
            Some(terminal) if terminal.success() => None,
            _ if self.budget.is_over() => Some(deadline_passed(service::GATEWAY)),
            _ => Some(Failure::new(Reason::Cancelled, service::GATEWAY, "the caller went away")),
        };
        self.finish(failure, None);
    }
}

/// What a credential is wanted for: the same question for a call and for its status.
pub(crate) fn wanted(caller: &Caller, route: &Route, session: &str) -> Wanted {
    Wanted {
        agent: caller.agent.clone(),
        provider: route.provider.clone(),
        target: route.target.clone(),
        realm: route.realm.clone(),
        upstream_model: route.upstream_model.clone(),
        credentials: route.credentials.clone(),
        key_credentials: caller.credentials.clone(),
        session: session.to_owned(),
    }
}

/// A bind's answer as a result: that nothing was bound is an answer there and a failure here.
pub(crate) fn binding(answer: BindResponse) -> Result<Binding, Failure> {
    match (answer.bound, answer.sealed) {
        (Some(bound), Some(sealed)) => {
            let others = answer.candidates.iter().any(|c| c.eligible && c.credential != bound.credential);
            Ok(Binding { bound, sealed, others, workspace: answer.workspace })
        }
        _ => Err(unbound(answer.failure.as_ref())),
    }
}

/// Why nothing was bound. Its candidates are those that the caller may know of.
pub(crate) fn unbound(failure: Option<&proto::common::v1::Failure>) -> Failure {
    failure.map_or_else(
        || Failure::new(Reason::Internal, service::AUTH, "auth-svc bound nothing and did not say why"),
        failure_from_proto,
    )
}

/// The trace id of a caller's `traceparent`, for a process without an OpenTelemetry layer.
fn named_trace(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("traceparent")?.to_str().ok()?.split('-').nth(1)?;
    let valid = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0');
    valid.then(|| id.to_ascii_lowercase())
}

impl<T> Asked<T> {
    /// The same question with what its answer means.
    pub(crate) fn and_then<U>(self, meaning: impl FnOnce(T) -> Result<U, Failure>) -> Asked<U> {
        let Asked { service, name, began, took, info, result } = self;
        Asked { service, name, began, took, info, result: result.and_then(meaning) }
    }
}
