//! The three peers, as simple as their contracts allow, and with a record of what they were asked.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::{Candidate, CandidateReason, Failure, Reason, service};
use futures_util::Stream;
use proto::auth::v1::binding_service_server::BindingService;
use proto::auth::v1::{
    BindRequest, BindResponse, Bound, CheckBindingRequest, CheckBindingResponse, ClaimProbesRequest,
    ClaimProbesResponse, ReportOutcomeRequest, ReportOutcomeResponse, ReportUsageRequest, ReportUsageResponse,
    ReportWorkspaceRequest, ReportWorkspaceResponse, UsageProbe, VerifyKeyRequest, VerifyKeyResponse, Wanted,
};
use proto::common::v1::{EgressRule, QuotaWindow};
use proto::router::v1::router_service_server::RouterService;
use proto::router::v1::{
    Agent, ExplainRequest, ExplainResponse, ListModelsRequest, ListModelsResponse, Model, ReloadRequest,
    ReloadResponse, ResolveRequest, ResolveResponse, Route,
};
use proto::transport::v1::respond_response::Message;
use proto::transport::v1::transport_service_server::TransportService;
use proto::transport::v1::{
    DiscoverWorkspaceRequest, DiscoverWorkspaceResponse, FetchModelsRequest, FetchModelsResponse, FetchUsageRequest,
    FetchUsageResponse, Head, ProbeRequest, ProbeResponse, RespondRequest, RespondResponse, SealedCredential,
    Workspace,
};
use service_kit::{candidate_to_proto, failure_to_proto, status_from_failure};
use tonic::{Request, Response, Status};

use crate::script::{Step, URL, answers, header, success, told};

/// Key of agent "main".
pub(crate) const KEY: &str = "sbk_main";
/// Key of agent "other".
pub(crate) const OTHER_KEY: &str = "sbk_other";

pub(crate) fn route(provider: &str, model: &str, fallback: bool) -> Route {
    let subscription = provider == "openai-codex";
    Route {
        model: format!("{provider}/{model}"),
        provider: provider.into(),
        upstream_model: model.into(),
        target: if subscription { "chatgpt-codex" } else { "openai-api" }.into(),
        realm: if subscription { "subscription" } else { "api-key" }.into(),
        url: if subscription { URL } else { "https://api.openai.com/v1/responses" }.into(),
        fallback,
        ..Route::default()
    }
}

/// Knows `routes` under every name but those of provider "unknown".
pub(crate) struct FakeRouter {
    pub(crate) routes: Mutex<Vec<Route>>,
    pub(crate) agents: Mutex<Vec<Agent>>,
}

impl Default for FakeRouter {
    fn default() -> Self {
        let main = Agent { name: "main".into(), model: "openai-codex/gpt-5.5".into(), ..Agent::default() };
        Self { routes: Mutex::new(vec![route("openai-codex", "gpt-5.5", false)]), agents: Mutex::new(vec![main]) }
    }
}

#[tonic::async_trait]
impl RouterService for FakeRouter {
    async fn resolve(&self, request: Request<ResolveRequest>) -> Result<Response<ResolveResponse>, Status> {
        let asked = request.into_inner();
        if asked.model.starts_with("unknown/") {
            let failure = Failure::new(Reason::RouteUnknown, service::ROUTER, "no route for it; nearest: codex/*");
            return Err(status_from_failure(&failure));
        }
        let mut routes = self.routes.lock().unwrap().clone();
        if let Some(at) = routes.iter().position(|r| r.model == asked.model) {
            routes.drain(..at);
        }
        if !asked.allowed.is_empty() && !asked.allowed.contains(&routes[0].model) {
            let failure = Failure::new(Reason::AgentNotAllowed, service::ROUTER, "the key does not allow it");
            return Err(status_from_failure(&failure));
        }
        Ok(Response::new(ResolveResponse { routes, table_digest: "digest-1".into() }))
    }

    async fn explain(&self, _: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        Err(Status::unimplemented("not asked by the gateway"))
    }

    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let model = |route: &Route| Model {
            id: route.model.clone(),
            name: route.upstream_model.to_uppercase(),
            provider: route.provider.clone(),
            input: vec!["text".into()],
            ..Model::default()
        };
        Ok(Response::new(ListModelsResponse {
            models: self.routes.lock().unwrap().iter().map(model).collect(),
            table_digest: "digest-1".into(),
            default_model: "openai-codex/gpt-5.5".into(),
            configured_default: "codex/gpt-5.5".into(),
            agents: self.agents.lock().unwrap().clone(),
            ..ListModelsResponse::default()
        }))
    }

    async fn reload(&self, _: Request<ReloadRequest>) -> Result<Response<ReloadResponse>, Status> {
        Err(Status::unimplemented("not asked by the gateway"))
    }
}

/// A credential of the fake store.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) label: &'static str,
    pub(crate) provider: &'static str,
    pub(crate) version: i32,
    /// Why it cannot be bound.
    pub(crate) flaw: Option<CandidateReason>,
    /// What comes of its refresh.
    pub(crate) refresh: Option<Reason>,
}

impl Credential {
    pub(crate) fn new(label: &'static str, provider: &'static str) -> Self {
        Self { label, provider, version: 1, flaw: None, refresh: None }
    }
}

#[derive(Default)]
pub(crate) struct FakeAuth {
    pub(crate) credentials: Mutex<Vec<Credential>>,
    pub(crate) binds: Mutex<Vec<BindRequest>>,
    pub(crate) checks: AtomicUsize,
    pub(crate) reports: Mutex<Vec<ReportOutcomeRequest>>,
    /// Reports that are refused before one is taken.
    pub(crate) deaf: AtomicUsize,
    pub(crate) verified: AtomicUsize,
    /// True while questions about keys that are none are not answered.
    pub(crate) strangers_wait: AtomicBool,
    /// What is said of every key beside its agent and models.
    pub(crate) key: Mutex<VerifyKeyResponse>,
    /// Why no key is verified.
    pub(crate) refuses_keys: Mutex<Option<Failure>>,
    /// Reports of usage, in the order they came, refused ones included.
    pub(crate) usage: Mutex<Vec<ReportUsageRequest>>,
    /// Reports of usage that are refused before one is taken.
    pub(crate) usage_deaf: AtomicUsize,
    /// Usage requests that are due: one answer each; without one, none are.
    pub(crate) due: Mutex<VecDeque<ClaimProbesResponse>>,
    pub(crate) claims: AtomicUsize,
    /// True while nobody has said where requests must go: then each bind asks.
    pub(crate) unknown_workspace: AtomicBool,
    /// What was said of that.
    pub(crate) workspaces: Mutex<Vec<ReportWorkspaceRequest>>,
    /// The rule of every credential.
    pub(crate) egress: Mutex<Option<EgressRule>>,
    /// True for an auth-svc that does not know of usage.
    pub(crate) old: AtomicBool,
}

impl FakeAuth {
    fn decide(&self, wanted: &Wanted, exclude: &[String]) -> (Option<Bound>, Vec<Candidate>) {
        let all = self.credentials.lock().unwrap().clone();
        let usable = |c: &&Credential| {
            c.provider == wanted.provider && c.flaw.is_none() && !exclude.iter().any(|id| id == c.label)
        };
        let bound = all.iter().find(usable).map(|c| Bound {
            credential_id: c.label.into(),
            credential: c.label.into(),
            version: c.version,
            expires_at: Some(2e9),
            refreshed: false,
            egress: self.egress.lock().unwrap().clone(),
        });
        let candidate = |c: &Credential| Candidate {
            credential: c.label.into(),
            eligible: usable(&c),
            reason: c.flaw.or((c.provider != wanted.provider).then_some(CandidateReason::WrongRealm)),
            detail: None,
        };
        (bound, all.iter().map(candidate).collect())
    }
}

fn not_bound() -> Failure {
    Failure::new(Reason::CredentialNotBound, service::AUTH, "no usable credential for this route")
}

#[tonic::async_trait]
impl BindingService for FakeAuth {
    async fn bind(&self, request: Request<BindRequest>) -> Result<Response<BindResponse>, Status> {
        let asked = request.into_inner();
        self.binds.lock().unwrap().push(asked.clone());
        let mut refused = None;
        if let Some(rejected) = &asked.rejected {
            let mut all = self.credentials.lock().unwrap();
            if let Some(credential) = all.iter_mut().find(|c| c.label == rejected.credential_id) {
                match credential.refresh {
                    Some(reason) => {
                        credential.flaw = Some(CandidateReason::NeedsLogin);
                        refused = Some(Failure::new(reason, service::AUTH, "the refresh was refused"));
                    }
                    None => credential.version += 1,
                }
            }
        }
        let (bound, candidates) = self.decide(&asked.wanted.clone().unwrap_or_default(), &asked.exclude);
        let sealed = bound.as_ref().map(|bound| SealedCredential {
            credential_id: bound.credential_id.clone(),
            version: bound.version,
            call_id: asked.call_id.clone(),
            ..SealedCredential::default()
        });
        let failure = bound.is_none().then(|| refused.unwrap_or_else(not_bound).candidates(candidates.clone()));
        let failure = failure.as_ref().map(failure_to_proto);
        let candidates = candidates.iter().map(candidate_to_proto).collect();
        let question = |bound: &Bound| UsageProbe {
            credential_id: bound.credential_id.clone(),
            credential: bound.credential.clone(),
            target: "chatgpt-codex".into(),
            egress: bound.egress.clone(),
            ..UsageProbe::default()
        };
        let workspace = bound.as_ref().filter(|_| self.unknown_workspace.load(Ordering::SeqCst)).map(question);
        Ok(Response::new(BindResponse { bound, failure, candidates, sealed, workspace }))
    }

    async fn check_binding(
        &self,
        request: Request<CheckBindingRequest>,
    ) -> Result<Response<CheckBindingResponse>, Status> {
        self.checks.fetch_add(1, Ordering::SeqCst);
        let (bound, candidates) = self.decide(&request.into_inner().wanted.unwrap_or_default(), &[]);
        let failure = bound.is_none().then(|| failure_to_proto(&not_bound().candidates(candidates.clone())));
        let candidates = candidates.iter().map(candidate_to_proto).collect();
        Ok(Response::new(CheckBindingResponse { bound, failure, candidates }))
    }

    async fn report_outcome(
        &self,
        request: Request<ReportOutcomeRequest>,
    ) -> Result<Response<ReportOutcomeResponse>, Status> {
        if self.deaf.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(Status::unavailable("not now"));
        }
        self.reports.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ReportOutcomeResponse {}))
    }

    async fn report_usage(
        &self,
        request: Request<ReportUsageRequest>,
    ) -> Result<Response<ReportUsageResponse>, Status> {
        self.usage.lock().unwrap().push(request.into_inner());
        if self.old.load(Ordering::SeqCst) {
            return Err(Status::unimplemented("not yet"));
        }
        if self.usage_deaf.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(Status::unavailable("not now"));
        }
        Ok(Response::new(ReportUsageResponse {}))
    }

    async fn report_workspace(
        &self,
        request: Request<ReportWorkspaceRequest>,
    ) -> Result<Response<ReportWorkspaceResponse>, Status> {
        self.workspaces.lock().unwrap().push(request.into_inner());
        self.unknown_workspace.store(false, Ordering::SeqCst);
        Ok(Response::new(ReportWorkspaceResponse {}))
    }

    async fn claim_probes(&self, _: Request<ClaimProbesRequest>) -> Result<Response<ClaimProbesResponse>, Status> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        if self.old.load(Ordering::SeqCst) {
            return Err(Status::unimplemented("not yet"));
        }
        let nothing = || ClaimProbesResponse { next_in_seconds: 1.0, ..ClaimProbesResponse::default() };
        Ok(Response::new(self.due.lock().unwrap().pop_front().unwrap_or_else(nothing)))
    }

    async fn verify_key(&self, request: Request<VerifyKeyRequest>) -> Result<Response<VerifyKeyResponse>, Status> {
        self.verified.fetch_add(1, Ordering::SeqCst);
        if let Some(failure) = &*self.refuses_keys.lock().unwrap() {
            return Err(status_from_failure(failure));
        }
        let hash = request.into_inner().key_hash;
        let named = |key: &str| blake3::hash(key.as_bytes()).as_bytes().as_slice() == hash.as_ref();
        let agent = match () {
            () if named(KEY) => "main",
            () if named(OTHER_KEY) => "other",
            () => {
                while self.strangers_wait.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                let failure = Failure::new(Reason::AgentKeyInvalid, service::AUTH, "no live key has this hash");
                return Err(status_from_failure(&failure));
            }
        };
        // The other agent's key is a narrow one.
        let models = if agent == "other" { vec!["openai-codex/gpt-5.5".to_owned()] } else { vec![] };
        let key = self.key.lock().unwrap().clone();
        let key_id = format!("key-{agent}");
        Ok(Response::new(VerifyKeyResponse { key_id, agent: agent.into(), models, ..key }))
    }
}

/// Plays one script per attempt; without a script, a whole answer.
#[derive(Default)]
pub(crate) struct FakeTransport {
    pub(crate) scripts: Mutex<VecDeque<Vec<Step>>>,
    /// What is played once the scripts are over, instead of a whole answer.
    pub(crate) always: Mutex<Option<Vec<Step>>>,
    pub(crate) requests: Mutex<Vec<RespondRequest>>,
    /// True once a stream was dropped before its end.
    pub(crate) dropped: Arc<AtomicBool>,
    /// The quota that every head tells.
    pub(crate) quota: Mutex<Vec<QuotaWindow>>,
    /// Questions for usage.
    pub(crate) asked: Mutex<Vec<FetchUsageRequest>>,
    /// Their answers; without one, an empty one.
    pub(crate) usage: Mutex<VecDeque<FetchUsageResponse>>,
    /// Questions for models.
    pub(crate) listings: Mutex<Vec<FetchModelsRequest>>,
    /// Their answers; without one, that of an earlier version.
    pub(crate) models: Mutex<VecDeque<FetchModelsResponse>>,
    /// Probes.
    pub(crate) probes: AtomicUsize,
    /// How they fail.
    pub(crate) probes_fail: Mutex<Option<Failure>>,
    /// Questions for workspaces.
    pub(crate) discoveries: AtomicUsize,
    /// Their answer comes after this time.
    pub(crate) discovers_in: Mutex<Duration>,
}

struct NoteDrop(Arc<AtomicBool>, bool);

impl Drop for NoteDrop {
    fn drop(&mut self) {
        if !self.1 {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

#[tonic::async_trait]
impl TransportService for FakeTransport {
    type RespondStream = Pin<Box<dyn Stream<Item = Result<RespondResponse, Status>> + Send>>;

    async fn respond(&self, request: Request<RespondRequest>) -> Result<Response<Self::RespondStream>, Status> {
        let request = request.into_inner();
        let limited = String::from_utf8_lossy(&request.body).contains("max_output_tokens");
        let mut fields = vec!["temperature".to_owned()];
        fields.extend(limited.then(|| "max_output_tokens".to_owned()));
        self.requests.lock().unwrap().push(request);
        let steps = self.scripts.lock().unwrap().pop_front();
        let steps =
            steps.or_else(|| self.always.lock().unwrap().clone()).unwrap_or_else(|| answers(crate::script::FULL));
        if let Some(Step::Refuse(failure)) = steps.first() {
            return Err(status_from_failure(failure));
        }
        let (dropped, quota) = (Arc::clone(&self.dropped), self.quota.lock().unwrap().clone());
        // Made here, so that a stream which is dropped before anybody has looked at it is noted, too.
        let note = NoteDrop(dropped, false);
        Ok(Response::new(Box::pin(async_stream::stream! {
            let mut note = note;
            for step in steps {
                let message = match step {
                    Step::Head => Message::Head(Head {
                        status: 200,
                        headers: vec![
                            header("x-request-id", "req-1"),
                            header("openai-model", "gpt-5.5"),
                            header("x-codex-plan-type", "plus"),
                        ],
                        dropped: fields.clone(),
                        quota: quota.clone(),
                    }),
                    Step::Chunk(data, content) => Message::Chunk(told(data, content)),
                    Step::Outcome(outcome) => Message::Outcome(*outcome),
                    Step::Pause(time) => {
                        tokio::time::sleep(time).await;
                        continue;
                    }
                    Step::Hang => std::future::pending().await,
                    Step::Break | Step::Refuse(_) => break,
                };
                yield Ok(RespondResponse { message: Some(message) });
            }
            note.1 = true;
        })))
    }

    async fn fetch_usage(&self, request: Request<FetchUsageRequest>) -> Result<Response<FetchUsageResponse>, Status> {
        self.asked.lock().unwrap().push(request.into_inner());
        let empty = || FetchUsageResponse { outcome: Some(success()), ..FetchUsageResponse::default() };
        Ok(Response::new(self.usage.lock().unwrap().pop_front().unwrap_or_else(empty)))
    }

    async fn fetch_models(
        &self,
        request: Request<FetchModelsRequest>,
    ) -> Result<Response<FetchModelsResponse>, Status> {
        self.listings.lock().unwrap().push(request.into_inner());
        let next = self.models.lock().unwrap().pop_front();
        next.map(Response::new).ok_or_else(|| Status::unimplemented("an earlier version"))
    }

    async fn discover_workspace(
        &self,
        _: Request<DiscoverWorkspaceRequest>,
    ) -> Result<Response<DiscoverWorkspaceResponse>, Status> {
        self.discoveries.fetch_add(1, Ordering::SeqCst);
        let wait = *self.discovers_in.lock().unwrap();
        tokio::time::sleep(wait).await;
        let workspace = Workspace { origin: None, routing_override: Some("us".into()) };
        Ok(Response::new(DiscoverWorkspaceResponse { outcome: Some(success()), workspace: Some(workspace) }))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        self.probes.fetch_add(1, Ordering::SeqCst);
        if let Some(failure) = &*self.probes_fail.lock().unwrap() {
            return Err(status_from_failure(failure));
        }
        Ok(Response::new(ProbeResponse { outcome: Some(success()), models: vec!["gpt-5.5".into()] }))
    }
}
