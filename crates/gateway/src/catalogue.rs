//! What upstreams list: read when somebody asks for models, never on a call's way, and kept while it is good.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{Failure, Reason, service};
use proto::auth::v1::Bound;
use proto::common::v1::Header;
use proto::gateway::v1::Catalogue;
use proto::router::v1::Route;
use proto::transport::v1::{FetchModelsRequest, FetchModelsResponse, UpstreamModel};
use service_kit::{failure_from_proto, failure_to_proto};
use tokio::time::Instant;

use crate::bound;
use crate::budget::Budget;
use crate::caller::Caller;
use crate::core::Core;
use crate::egress::{Wish, best_allowed};
use crate::pipeline::judged;

/// How long a list is good.
const FRESH: Duration = Duration::from_secs(300);
/// How long after a failure it is asked for again.
const AGAIN: Duration = Duration::from_secs(30);
/// How long somebody who asks for models waits for a list; after that it is for the next one.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most credentials whose lists are kept.
const MAX_LISTS: usize = 1000;
/// Where an answer names the list that is in force.
const ETAG_HEADER: &str = "x-models-etag";

/// Every list, by credential id.
#[derive(Default)]
pub(crate) struct Catalogues(Mutex<HashMap<String, Known>>);

/// What is known of one list.
#[derive(Clone, Default)]
pub(crate) struct Known {
    /// Its models.
    pub(crate) models: Arc<Vec<UpstreamModel>>,
    etag: Option<String>,
    /// Unix seconds at which it was last known to be right.
    fetched_at: Option<f64>,
    /// Why it could not be read since.
    failure: Option<Failure>,
    /// When it is worth asking again; `None` is now.
    again_at: Option<Instant>,
    /// True while somebody asks.
    asking: bool,
}

impl Known {
    /// As it is shown.
    pub(crate) fn told(&self, provider: String, credential: String) -> Catalogue {
        Catalogue {
            provider,
            credential,
            models: i32::try_from(self.models.len()).unwrap_or(i32::MAX),
            fetched_at: self.fetched_at,
            failure: self.failure.as_ref().map(failure_to_proto),
        }
    }

    /// Takes what an upstream said.
    fn learn(&mut self, answer: Result<FetchModelsResponse, Failure>, now_s: i64) {
        let failure = match answer {
            Ok(FetchModelsResponse { outcome: Some(outcome), models, etag, unchanged }) => match outcome.failure {
                Some(failure) => failure_from_proto(&failure),
                None => {
                    if !unchanged {
                        self.models = Arc::new(models);
                    }
                    self.etag = etag;
                    self.fetched_at = Some(now_s as f64);
                    self.failure = None;
                    self.again_at = Some(Instant::now() + FRESH);
                    return;
                }
            },
            Ok(_) => Failure::new(Reason::Internal, service::TRANSPORT, "transport-svc gave no outcome"),
            Err(failure) => failure,
        };
        self.failure = Some(failure);
        self.again_at = Some(Instant::now() + AGAIN);
    }
}

impl Catalogues {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, credential_id: &str) -> Known {
        self.lock().get(credential_id).cloned().unwrap_or_default()
    }

    /// Takes note of the list that an answer names: if it is another one than is known, it is read at the next occasion.
    pub(crate) fn announced(&self, credential_id: &str, headers: &[Header]) {
        let Some(etag) = headers.iter().find(|header| header.name == ETAG_HEADER) else { return };
        if let Some(known) = self.lock().get_mut(credential_id)
            && known.etag.as_ref().is_some_and(|known| *known != etag.value)
        {
            known.again_at = None;
        }
    }

    /// True if it is time to ask, and nobody does: whoever is told so has to.
    fn claim(&self, credential_id: &str) -> bool {
        let mut lists = self.lock();
        if lists.len() >= MAX_LISTS && !lists.contains_key(credential_id) {
            return false;
        }
        let known = lists.entry(credential_id.to_owned()).or_default();
        let due = !known.asking && known.again_at.is_none_or(|at| at <= Instant::now());
        known.asking |= due;
        due
    }

    fn learn(&self, credential_id: &str, answer: Result<FetchModelsResponse, Failure>, now_s: i64) {
        if let Some(known) = self.lock().get_mut(credential_id) {
            known.asking = false;
            known.learn(answer, now_s);
        }
    }
}

/// What is listed for the credential that `caller` is bound to on `route`: read anew if it is time, the last good list
/// otherwise. `None` where an upstream has no such list.
pub(crate) async fn of(
    core: &Arc<Core>,
    caller: &Caller,
    route: &Route,
    bound: &Bound,
    budget: Budget,
) -> Option<Known> {
    let id = &bound.credential_id;
    if core.catalogues.claim(id) {
        let (core, caller, route, id) = (Arc::clone(core), caller.clone(), route.clone(), id.clone());
        let tasks = core.tasks.clone();
        let asking = tasks.spawn(async move {
            let answer = tokio::select! {
                answer = ask(&core, &caller, &route, &id) => answer,
                () = core.closing.cancelled() => return,
            };
            core.catalogues.learn(&id, answer, core.clock.now_s());
        });
        let _ = tokio::time::timeout(budget.limit(PATIENCE).time, asking).await;
    }
    let known = core.catalogues.get(id);
    let none = known.failure.as_ref().is_some_and(|failure| failure.reason == Reason::Unsupported);
    (!none && (known.fetched_at.is_some() || known.failure.is_some())).then_some(known)
}

/// Binds for real and asks the upstream.
async fn ask(core: &Core, caller: &Caller, route: &Route, credential_id: &str) -> Result<FetchModelsResponse, Failure> {
    let call_id = domain::new_call_id();
    let bound = bound::bind(core, caller, route, &call_id, Budget::default()).await?;
    if bound.bound.credential_id != credential_id {
        let message = format!("calls have moved on to the credential {}", bound.bound.credential);
        return Err(Failure::new(Reason::CredentialNotBound, service::GATEWAY, message));
    }
    let wish = Wish { route, bound: &bound.bound, session: "", excluded: &[] };
    let egress = core.links.egress(best_allowed(core.links.known(), wish)?).ok_or_else(bound::no_egress)?;
    let etag = core.catalogues.get(credential_id).etag;
    let question = FetchModelsRequest { call_id, target: route.target.clone(), credential: Some(bound.sealed), etag };
    let unknown = || Failure::new(Reason::Unsupported, service::TRANSPORT, "this transport-svc lists no models");
    let pass = core.health.look(&egress.name, &route.target);
    let answer = egress.fetch_models(question).await;
    match &answer {
        Ok(Some(answer)) => {
            let (verdict, failure) = judged(Ok(answer.outcome.as_ref()));
            pass.settle(verdict, failure.as_ref());
        }
        Ok(None) => {}
        Err(failure) => {
            let (verdict, failure) = judged(Err(failure));
            pass.settle(verdict, failure.as_ref());
        }
    }
    answer?.ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use proto::transport::v1::Outcome;

    use super::*;

    fn listed(names: &[&str], etag: &str) -> Result<FetchModelsResponse, Failure> {
        let model = |name: &&str| UpstreamModel { id: (*name).to_owned(), ..UpstreamModel::default() };
        let models = names.iter().map(model).collect();
        let etag = Some(etag.to_owned());
        Ok(FetchModelsResponse { outcome: Some(Outcome::default()), models, etag, unchanged: false })
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_read_once_in_a_while_and_kept_when_it_cannot_be() {
        let lists = Catalogues::default();
        assert!(lists.claim("c") && !lists.claim("c"), "one asks at a time");
        lists.learn("c", listed(&["m"], "1"), 7);
        assert!(!lists.claim("c"));
        tokio::time::advance(FRESH).await;
        assert!(lists.claim("c"));
        lists.learn("c", Err(Failure::new(Reason::EdgeChallenge, service::UPSTREAM, "no")), 9);
        let known = lists.get("c");
        let told = known.told("p".into(), "main".into());
        assert_eq!((known.models.len(), told.fetched_at), (1, Some(7.0)), "the last good one stays");
        assert_eq!(told.failure.map(|f| f.reason).as_deref(), Some("EDGE_CHALLENGE"));
        tokio::time::advance(AGAIN).await;
        assert!(lists.claim("c"));
        let same = FetchModelsResponse { unchanged: true, models: vec![], ..listed(&[], "1").unwrap() };
        lists.learn("c", Ok(same), 11);
        let known = lists.get("c");
        assert_eq!((known.models.len(), known.fetched_at, known.failure), (1, Some(11.0), None));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_names_another_list_makes_it_due() {
        let lists = Catalogues::default();
        let header = |value: &str| [Header { name: ETAG_HEADER.into(), value: value.into() }];
        lists.announced("c", &header("1"));
        assert!(lists.lock().is_empty(), "nobody has asked for models yet");
        assert!(lists.claim("c"));
        lists.learn("c", listed(&["m"], "1"), 7);
        lists.announced("c", &header("1"));
        assert!(!lists.claim("c"));
        lists.announced("c", &header("2"));
        assert!(lists.claim("c"));
    }
}
