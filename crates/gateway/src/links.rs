//! The gateway's peers: one method per question, each within a time limit and with what the trace needs to know.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{Failure, Reason, service};
use proto::auth::v1::binding_service_client::BindingServiceClient;
use proto::auth::v1::{
    BindRequest, BindResponse, CheckBindingRequest, CheckBindingResponse, ClaimProbesRequest, ClaimProbesResponse,
    ReportOutcomeRequest, ReportUsageRequest, ReportUsageResponse, ReportWorkspaceRequest, VerifyKeyRequest,
    VerifyKeyResponse,
};
use proto::router::v1::router_service_client::RouterServiceClient;
use proto::router::v1::{ListModelsRequest, ListModelsResponse, ResolveRequest, ResolveResponse};
use proto::transport::v1::transport_service_client::TransportServiceClient;
use proto::transport::v1::{
    DiscoverWorkspaceRequest, DiscoverWorkspaceResponse, FetchModelsRequest, FetchModelsResponse, FetchUsageRequest,
    FetchUsageResponse, ProbeRequest, ProbeResponse, RespondRequest, RespondResponse,
};
use service_kit::{
    HopInfo, MAX_CALL_BYTES, MAX_MESSAGE_BYTES, PeerChannel, failure_from_status, hop_info, why_not_serving,
};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::budget::{Budget, Limit};
use crate::egress::Known;
use crate::peers::Peers;
use crate::service::BuildError;
use crate::turns::Turns;

/// Patience with what is answered from memory or one database read.
const QUICK: Duration = Duration::from_secs(5);
/// Patience with a bind: it may have to wait for a token refresh, its timeout at the identity provider included.
const BIND: Duration = Duration::from_secs(90);
/// Patience with a probe: a real upstream request.
const PROBE: Duration = Duration::from_secs(60);

/// A question that a peer was asked, answered or not.
#[derive(Clone)]
pub(crate) struct Asked<T> {
    /// The peer.
    pub(crate) service: &'static str,
    /// The question's name in the trace.
    pub(crate) name: &'static str,
    /// When it was asked.
    pub(crate) began: Instant,
    /// How long it took.
    pub(crate) took: Duration,
    /// Where it was answered.
    pub(crate) info: HopInfo,
    /// The answer.
    pub(crate) result: Result<T, Failure>,
}

/// One transport-svc.
pub(crate) struct Egress {
    /// Its name in the configuration.
    pub(crate) name: String,
    client: TransportServiceClient<PeerChannel>,
    channel: PeerChannel,
}

/// Clients of all peers.
pub(crate) struct Links {
    router: RouterServiceClient<PeerChannel>,
    auth: BindingServiceClient<PeerChannel>,
    egresses: Vec<Egress>,
    known: Vec<Known>,
    /// router-svc and auth-svc.
    needed: [PeerChannel; 2],
    turns: Turns,
    heard: Heard,
}

/// When router-svc and auth-svc last answered anything.
#[derive(Default)]
struct Heard {
    router: Mutex<Option<Instant>>,
    auth: Mutex<Option<Instant>>,
}

impl Heard {
    fn of(&self, service: &str) -> MutexGuard<'_, Option<Instant>> {
        let at = if service == service::ROUTER { &self.router } else { &self.auth };
        at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Links {
    /// Clients over the given channels; `local` is the first egress, the others follow by name.
    pub(crate) fn new(peers: Peers, config: &config::Gateway) -> Result<Self, BuildError> {
        if peers.transports.is_empty() {
            return Err(BuildError::NoEgress);
        }
        let needed = [peers.router.clone(), peers.auth.clone()];
        let mut egresses: Vec<Egress> = peers
            .transports
            .into_iter()
            .map(|(name, channel)| {
                let client = TransportServiceClient::new(channel.clone())
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_CALL_BYTES);
                Egress { name, client, channel }
            })
            .collect();
        egresses.sort_by_key(|egress| egress.name != "local");
        let router = RouterServiceClient::new(peers.router).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let auth = BindingServiceClient::new(peers.auth);
        let labels = |name: &str| config.transports.get(name).map(|egress| egress.labels.clone()).unwrap_or_default();
        let known = |egress: &Egress| Known { labels: labels(&egress.name), name: egress.name.clone() };
        let known = egresses.iter().map(known).collect();
        Ok(Self { router, auth, egresses, known, needed, turns: Turns::new(service::ROUTER), heard: Heard::default() })
    }

    /// The egress at this place among the known ones.
    pub(crate) fn egress(&self, index: usize) -> Option<&Egress> {
        self.egresses.get(index)
    }

    /// The egresses as rules see them, `local` first, the others by name.
    pub(crate) fn known(&self) -> &[Known] {
        &self.known
    }

    pub(crate) async fn resolve(&self, question: ResolveRequest, budget: Budget) -> Asked<ResolveResponse> {
        let turn = match self.turns.take(budget).await {
            Ok(turn) => turn,
            Err(failure) => return Asked::not("resolve", failure),
        };
        let (limit, mut client) = (budget.limit(QUICK), self.router.clone());
        let request = request(question, limit);
        let asked = self.ask(service::ROUTER, "resolve", limit, async move { client.resolve(request).await }).await;
        drop(turn);
        asked
    }

    pub(crate) async fn list_models(&self, question: ListModelsRequest, budget: Budget) -> Asked<ListModelsResponse> {
        let (limit, mut client) = (budget.limit(QUICK), self.router.clone());
        let request = request(question, limit);
        self.ask(service::ROUTER, "list_models", limit, async move { client.list_models(request).await }).await
    }

    pub(crate) async fn verify_key(&self, question: VerifyKeyRequest, budget: Budget) -> Asked<VerifyKeyResponse> {
        let (limit, mut client) = (budget.limit(QUICK), self.auth.clone());
        let request = request(question, limit);
        self.ask(service::AUTH, "verify_key", limit, async move { client.verify_key(request).await }).await
    }

    pub(crate) async fn bind(&self, question: BindRequest, budget: Budget) -> Asked<BindResponse> {
        let (limit, mut client) = (budget.limit(BIND), self.auth.clone());
        let request = request(question, limit);
        self.ask(service::AUTH, "bind", limit, async move { client.bind(request).await }).await
    }

    pub(crate) async fn check_binding(
        &self,
        question: CheckBindingRequest,
        budget: Budget,
    ) -> Asked<CheckBindingResponse> {
        let (limit, mut client) = (budget.limit(BIND), self.auth.clone());
        let request = request(question, limit);
        self.ask(service::AUTH, "check_binding", limit, async move { client.check_binding(request).await }).await
    }

    /// Asks one of the two, and notes that it answers. One that answers others, and not this in time, is there, and has more
    /// to do than it can.
    async fn ask<T>(
        &self,
        service: &'static str,
        name: &'static str,
        limit: Limit,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Asked<T> {
        let mut asked = measure(service, name, limit, call).await;
        let mut heard = self.heard.of(service);
        match &asked.result {
            Err(failure) if *failure == limit.passed(service) && heard.is_some_and(|at| at > asked.began) => {
                asked.result = Err(limit.overrun(service));
            }
            // It was not there, or not in time.
            Err(failure) if failure.service != service => {}
            _ => *heard = Some(Instant::now()),
        }
        drop(heard);
        asked
    }

    /// Tells auth-svc what came of a credential; outlives the call, so no deadline but our patience applies.
    pub(crate) async fn report(&self, outcome: ReportOutcomeRequest) -> Result<(), Failure> {
        let (limit, mut client) = (Budget::default().limit(QUICK), self.auth.clone());
        let request = request(outcome, limit);
        let asked =
            self.ask(service::AUTH, "report_outcome", limit, async move { client.report_outcome(request).await });
        asked.await.result.map(|_| ())
    }

    /// Tells auth-svc what was gathered. `None` is an auth-svc that does not know the question.
    pub(crate) async fn report_usage(&self, batch: ReportUsageRequest) -> Result<Option<ReportUsageResponse>, Failure> {
        let (limit, mut client) = (Budget::default().limit(QUICK), self.auth.clone());
        let request = request(batch, limit);
        let call = async move { unless_unknown(client.report_usage(request).await) };
        self.ask(service::AUTH, "report_usage", limit, call).await.result
    }

    /// Asks auth-svc which usage requests are due. `None` is an auth-svc that does not know the question.
    pub(crate) async fn claim_probes(&self) -> Result<Option<ClaimProbesResponse>, Failure> {
        let (limit, mut client) = (Budget::default().limit(QUICK), self.auth.clone());
        let request = request(ClaimProbesRequest {}, limit);
        let call = async move { unless_unknown(client.claim_probes(request).await) };
        self.ask(service::AUTH, "claim_probes", limit, call).await.result
    }

    /// Tells auth-svc where requests of an account must go, or that nobody could tell.
    pub(crate) async fn report_workspace(&self, report: ReportWorkspaceRequest) -> Result<(), Failure> {
        let (limit, mut client) = (Budget::default().limit(QUICK), self.auth.clone());
        let request = request(report, limit);
        let call = async move { client.report_workspace(request).await };
        self.ask(service::AUTH, "report_workspace", limit, call).await.result.map(drop)
    }

    /// Checks that what calls need answers: the other services, and one egress at least. A peer in this process has no
    /// health service of its own, and saying so is an answer.
    pub(crate) async fn check(&self) -> Result<(), Failure> {
        let needed = futures_util::future::try_join_all(self.needed.iter().cloned().map(check_peer));
        let (needed, silent) = tokio::join!(needed, self.silent_egresses());
        needed?;
        let all = silent.len() == self.egresses.len();
        silent.into_iter().next().filter(|_| all).map_or(Ok(()), |(_, failure)| Err(failure))
    }

    /// The egresses that do not answer, by name, each with its failure.
    pub(crate) async fn silent_egresses(&self) -> Vec<(String, Failure)> {
        let ask = |egress: &Egress| {
            let (name, channel) = (egress.name.clone(), egress.channel.clone());
            async move { check_peer(channel).await.err().map(|failure| (name, failure)) }
        };
        let asked = futures_util::future::join_all(self.egresses.iter().map(ask)).await;
        asked.into_iter().flatten().collect()
    }
}

impl Egress {
    /// Begins the upstream call. Has no patience of its own: transport-svc owns the timers of an upstream call.
    pub(crate) async fn respond(&self, question: RespondRequest, budget: Budget) -> Asked<Streaming<RespondResponse>> {
        let (limit, mut client) = (budget.limit(Duration::MAX), self.client.clone());
        let request = request(question, limit);
        measure(service::TRANSPORT, "respond", limit, async move { client.respond(request).await }).await
    }

    pub(crate) async fn probe(&self, question: ProbeRequest, budget: Budget) -> Asked<ProbeResponse> {
        let (limit, mut client) = (budget.limit(PROBE), self.client.clone());
        let request = request(question, limit);
        measure(service::TRANSPORT, "probe", limit, async move { client.probe(request).await }).await
    }

    /// Asks the upstream how much of an account's quota is used; outlives no call, so only our patience applies.
    pub(crate) async fn fetch_usage(&self, question: FetchUsageRequest) -> Asked<FetchUsageResponse> {
        let (limit, mut client) = (Budget::default().limit(PROBE), self.client.clone());
        let request = request(question, limit);
        measure(service::TRANSPORT, "fetch_usage", limit, async move { client.fetch_usage(request).await }).await
    }

    /// Asks the upstream where requests of an account must go; outlives no call, so only our patience applies.
    pub(crate) async fn discover_workspace(
        &self,
        question: DiscoverWorkspaceRequest,
    ) -> Result<DiscoverWorkspaceResponse, Failure> {
        let (limit, mut client) = (Budget::default().limit(PROBE), self.client.clone());
        let request = request(question, limit);
        let call = async move { client.discover_workspace(request).await };
        measure(service::TRANSPORT, "discover_workspace", limit, call).await.result
    }

    /// Asks the upstream for its models; outlives no call, so only our patience applies. `None` is a transport-svc that
    /// does not know the question.
    pub(crate) async fn fetch_models(
        &self,
        question: FetchModelsRequest,
    ) -> Result<Option<FetchModelsResponse>, Failure> {
        let (limit, mut client) = (Budget::default().limit(PROBE), self.client.clone());
        let request = request(question, limit);
        let call = async move { unless_unknown(client.fetch_models(request).await) };
        measure(service::TRANSPORT, "fetch_models", limit, call).await.result
    }
}

impl<T> Asked<T> {
    /// A question to router-svc that was not asked.
    fn not(name: &'static str, failure: Failure) -> Self {
        let (service, began, info) = (service::ROUTER, Instant::now(), HopInfo::default());
        Self { service, name, began, took: Duration::ZERO, info, result: Err(failure) }
    }
}

/// An answer, or `None` from a peer of a version that does not have the method.
fn unless_unknown<T>(answer: Result<Response<T>, Status>) -> Result<Response<Option<T>>, Status> {
    match answer {
        Err(status) if status.code() == Code::Unimplemented => Ok(Response::new(None)),
        answer => answer.map(|response| response.map(Some)),
    }
}

fn request<M>(message: M, limit: Limit) -> Request<M> {
    let mut request = Request::new(message);
    if limit.time != Duration::MAX {
        request.set_timeout(limit.for_peers());
    }
    request
}

async fn measure<T>(
    service: &'static str,
    name: &'static str,
    limit: Limit,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Asked<T> {
    // Moved once: what waits for it is a part of every call.
    let (mut call, began) = (Box::pin(call), Instant::now());
    let answered = if limit.time == Duration::MAX { Ok(call.await) } else { limit.wait(&mut call).await };
    let (info, result) = match answered {
        Ok(Ok(response)) => (hop_info(response.metadata()), Ok(response.into_inner())),
        Ok(Err(status)) => {
            (hop_info(status.metadata()), Err(limit.judge(failure_from_status(&status, service), service)))
        }
        Err(_) => (HopInfo::default(), Err(limit.passed(service))),
    };
    Asked { service, name, began, took: began.elapsed(), info, result }
}

async fn check_peer(channel: PeerChannel) -> Result<(), Failure> {
    let (peer, place) = (channel.peer(), channel.describe());
    let limit = Limit { time: Duration::from_secs(3), callers: false };
    let request = request(HealthCheckRequest { service: String::new() }, limit);
    let mut client = HealthClient::new(channel);
    match tokio::time::timeout(limit.time, client.check(request)).await {
        Ok(Ok(answer)) if answer.get_ref().status == ServingStatus::Serving as i32 => Ok(()),
        // It is there, and may serve calls although something of its own is in the way: its own health says what.
        Ok(Ok(answer)) if why_not_serving(&answer).is_some() => Ok(()),
        Ok(Ok(_)) => {
            let message = format!("{place} answers, but is not serving");
            Err(Failure::new(Reason::PeerUnavailable, service::GATEWAY, message))
        }
        Ok(Err(status)) if status.code() == Code::Unimplemented => Ok(()),
        Ok(Err(status)) => Err(limit.judge(failure_from_status(&status, peer), peer)),
        Err(_) => Err(limit.passed(peer)),
    }
}
