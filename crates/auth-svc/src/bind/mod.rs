//! Which credential is bound to a route: one decision, used by calls and by status alike.

mod candidates;
mod failure;
mod judge;
mod probes;
mod rejected;
mod report;
mod seal;
mod state;
#[cfg(test)]
mod tests;
mod usage;
mod workspace;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::{Config, TargetKind};
use domain::{Candidate, CandidateReason, Clock, Failure, Reason, service};
use proto::auth::v1::{Rejected, Wanted};
use proto::common::v1::EgressRule;
use secrecy::SecretString;
use service_kit::SealKey;

use crate::refresh::{Refresher, Why, login_due};
use crate::store::{Credential, Kind, LatchKind, Mode, Store};
use crate::workspace::Workspaces;

use candidates::{Entry, entries};
use failure::overall;
use judge::{Refusal, Route, Verdict, judge};
use probes::Probes;
use seal::Target;
pub(crate) use state::state;
#[cfg(test)]
pub(crate) use tests::oauth as test_credential;

/// Tries at settling one credential: a refresh that was joined late may have been for the version before.
const TRIES: usize = 2;
/// How long a call whose token lives waits for a newer one.
const PATIENCE: Duration = Duration::from_secs(2);

/// Decides.
pub(crate) struct Binder {
    store: Store,
    refresher: Refresher,
    targets: BTreeMap<String, Target>,
    /// Target ids by provider.
    providers: BTreeMap<String, String>,
    /// Egress rules of the providers that have one.
    provider_egress: BTreeMap<String, EgressRule>,
    /// How long a quota may go unheard of before it is asked for, in milliseconds; 0 is for ever.
    usage_refresh_ms: i64,
    probes: Probes,
    workspaces: Workspaces,
    seal_key: SealKey,
    clock: Clock,
}

/// What was decided.
pub(crate) struct Decision {
    /// The bound credential.
    pub(crate) winner: Option<Winner>,
    /// Why none was bound.
    pub(crate) failure: Option<Failure>,
    /// Everything that was considered.
    pub(crate) candidates: Vec<Candidate>,
}

/// A bound credential.
pub(crate) struct Winner {
    /// It.
    pub(crate) credential: Arc<Credential>,
    /// Its token or key.
    pub(crate) token: SecretString,
    /// True if its token was refreshed for this decision.
    pub(crate) refreshed: bool,
}

/// Which egresses may make a provider's requests.
fn rule(provider: &config::Provider) -> Option<EgressRule> {
    let rule = provider.egress.as_ref()?;
    Some(EgressRule { require: rule.require.clone(), prefer: rule.prefer.clone() })
}

/// What came of a refresh that a call need not wait for.
enum Beside {
    /// It is over.
    Done,
    /// It is under way still. The token may have ended meanwhile.
    Late,
    /// It is somebody else's, or failed.
    Not,
}

/// A candidate and, where it is not eligible, what the overall failure is made of.
struct Considered {
    candidate: Candidate,
    refusal: Option<Refusal>,
    plan: Option<String>,
}

impl Binder {
    pub(crate) fn new(store: Store, refresher: Refresher, seal_key: SealKey, config: &Config, clock: Clock) -> Self {
        Self {
            store,
            refresher,
            targets: config.targets.iter().map(|(id, t)| (id.clone(), Target::new(t))).collect(),
            providers: config.providers.iter().map(|(id, p)| (id.clone(), p.target.clone())).collect(),
            provider_egress: config.providers.iter().filter_map(|(id, p)| Some((id.clone(), rule(p)?))).collect(),
            usage_refresh_ms: i64::try_from(config.auth.usage_refresh.as_secs()).unwrap_or(0).saturating_mul(1000),
            probes: Probes::new(config.auth.usage_probe_after),
            workspaces: Workspaces::new(config),
            seal_key,
            clock,
        }
    }

    /// Decides, and refreshes where that is needed. An error means that nothing could be decided: the database cannot be
    /// read. One that takes no writes hinders only the candidates that need one.
    pub(crate) async fn decide(
        &self,
        wanted: &Wanted,
        rejected: Option<&Rejected>,
        exclude: &[String],
    ) -> Result<Decision, Failure> {
        let route = self.route(wanted)?;
        // Labels of other providers matter only where a list names them.
        let all = !wanted.credentials.is_empty() || !wanted.key_credentials.is_empty();
        let stored = self.store.recent_credentials((!all).then_some(wanted.provider.as_str())).await?;
        let by_session = self.by_session(wanted).await?;
        let mut considered = Vec::new();
        let mut winner = None;
        for entry in entries(stored, wanted, by_session) {
            let one = match entry {
                Entry::Refused(label, refusal) => Considered::refused(label, refusal, None),
                Entry::Stored(credential) if winner.is_some() => self.glance(&credential, &route),
                Entry::Stored(credential) if exclude.contains(&credential.id) => self.excluded(&credential, &route),
                Entry::Stored(credential) => {
                    let rejected = rejected.filter(|rejected| rejected.credential_id == credential.id);
                    let (won, one) = self.settle(credential, &route, rejected).await?;
                    winner = won;
                    one
                }
            };
            considered.push(one);
        }
        let failure = winner.is_none().then(|| overall(&route, wanted, &considered, self.clock.now_ms()));
        Ok(Decision { winner, failure, candidates: considered.into_iter().map(|one| one.candidate).collect() })
    }

    /// Does the caller's session choose among the credentials? An agent's own list is an order already.
    async fn by_session(&self, wanted: &Wanted) -> Result<bool, Failure> {
        if wanted.session.is_empty() || !wanted.credentials.is_empty() {
            return Ok(false);
        }
        Ok(self.store.recent_selection(&wanted.provider).await? == Mode::Session)
    }

    fn route<'a>(&'a self, wanted: &'a Wanted) -> Result<Route<'a>, Failure> {
        let invalid = |message: String, param: &str| {
            Failure::new(Reason::RequestInvalid, service::AUTH, message).param(param.to_owned())
        };
        if wanted.provider.is_empty() {
            return Err(invalid("the request names no provider".to_owned(), "provider"));
        }
        let kind = match wanted.realm.as_str() {
            "subscription" => Kind::OAuth,
            "api-key" => Kind::ApiKey,
            other => {
                let message = format!("there is no realm {other:?}: it is \"subscription\" or \"api-key\"");
                return Err(invalid(message, "realm"));
            }
        };
        self.target_url(&wanted.target)?;
        Ok(Route {
            provider: &wanted.provider,
            model: &wanted.upstream_model,
            realm: &wanted.realm,
            kind,
            target: &wanted.target,
            codex: self.targets.get(&wanted.target).is_some_and(|t| t.kind == TargetKind::ChatgptCodex),
            identity: self.refresher.origin(),
            margin_s: self.refresher.rules().margin_s,
        })
    }

    fn judge(&self, credential: &Credential, route: &Route<'_>) -> Verdict {
        let note = self.refresher.notes().get(&credential.id, credential.version);
        judge(credential, note.as_ref(), route, self.clock.now_ms())
    }

    /// A credential whose turn did not come: it is shown as it is, and nothing is refreshed for it.
    fn glance(&self, credential: &Credential, route: &Route<'_>) -> Considered {
        match self.judge(credential, route) {
            Verdict::Usable => Considered::eligible(credential, None),
            Verdict::Refresh { alive: false } if credential.latch.is_some() => Considered::eligible(
                credential,
                Some("the upstream rejected its token a while ago; refreshed once more when its turn comes"),
            ),
            Verdict::Refresh { alive: true } => Considered::eligible(credential, Some("refreshed when its turn comes")),
            Verdict::Refresh { alive: false } => {
                Considered::eligible(credential, Some("its access token has expired; refreshed when its turn comes"))
            }
            Verdict::No(refusal) => Considered::of(credential, refusal),
        }
    }

    fn excluded(&self, credential: &Credential, route: &Route<'_>) -> Considered {
        match self.judge(credential, route) {
            Verdict::No(refusal) => Considered::of(credential, refusal),
            Verdict::Usable | Verdict::Refresh { .. } => {
                let detail = "it has already failed in this call and is not tried again in it";
                Considered::of(credential, Refusal::new(CandidateReason::NotAllowed, detail))
            }
        }
    }

    /// Finds out whether this credential can be used now, with a refresh if it takes one.
    async fn settle(
        &self,
        mut credential: Arc<Credential>,
        route: &Route<'_>,
        rejected: Option<&Rejected>,
    ) -> Result<(Option<Winner>, Considered), Failure> {
        let before = credential.version;
        let mut why = Why::Expiry;
        if rejected.is_some_and(|rejected| rejected.version >= credential.version) {
            if let Verdict::No(refusal) = self.judge(&credential, route) {
                return Ok((None, Considered::of(&credential, refusal)));
            }
            why = Why::Rejected;
            let recoverable = self.recoverable(&credential).await?;
            self.refresher.notes().rejected(&credential.id, credential.version);
            if !recoverable {
                credential = match self.latch_rejected(credential).await {
                    Ok(credential) => credential,
                    Err(one) => return Ok((None, one)),
                };
            }
        }
        for _ in 0..TRIES {
            match self.judge(&credential, route) {
                Verdict::Refresh { alive: true } => match self.refresh_beside(&credential, why).await {
                    Beside::Done => {}
                    Beside::Late => continue,
                    Beside::Not => break,
                },
                Verdict::Refresh { alive: false } => {
                    let refresh = self.refresher.refresh(&credential.id, credential.version, why);
                    if let Err(failure) = refresh.await {
                        // The others may be good, and binding them takes no write.
                        return Ok((None, Considered::of(&credential, Refusal::ours(failure))));
                    }
                }
                Verdict::No(refusal) if why == Why::Rejected && refusal.latch == Some(LatchKind::NeedsLogin) => {
                    // Refused to somebody who did not know that its access token is rejected, too.
                    credential = match self.latch_rejected(credential).await {
                        Ok(credential) => credential,
                        Err(one) => return Ok((None, one)),
                    };
                    break;
                }
                Verdict::Usable | Verdict::No(_) => break,
            }
            credential = match self.store.credential_by_id(&credential.id).await? {
                Some(credential) => Arc::new(credential),
                None => {
                    let refusal = Refusal::new(CandidateReason::Missing, "it was removed a moment ago");
                    return Ok((None, Considered::refused(credential.label.clone(), refusal, None)));
                }
            };
        }
        let refusal = match self.judge(&credential, route) {
            Verdict::No(refusal) => refusal,
            Verdict::Refresh { alive: false } => Refusal::new(
                CandidateReason::RefreshFailed,
                "its refresh brought no access token that is valid now; is this host's clock right?",
            ),
            Verdict::Usable | Verdict::Refresh { alive: true } => match credential.secrets.upstream().cloned() {
                Some(token) => {
                    let considered = Considered::eligible(&credential, None);
                    let refreshed = credential.version != before;
                    return Ok((Some(Winner { credential, token, refreshed }), considered));
                }
                None => Refusal::new(CandidateReason::Expired, "it holds no token; log in or import it again"),
            },
        };
        Ok((None, Considered::of(&credential, refusal)))
    }

    /// Refreshes a credential whose token is valid still. Neither a provider that does not answer nor a database that
    /// takes no writes keeps a call from a token that lives: what is not done soon goes on without it.
    async fn refresh_beside(&self, credential: &Credential, why: Why) -> Beside {
        if self.refresher.is_at(&credential.id) {
            return Beside::Not;
        }
        let refresh = self.refresher.refresh(&credential.id, credential.version, why);
        match tokio::time::timeout(PATIENCE, refresh).await {
            Ok(Ok(())) => Beside::Done,
            Ok(Err(failure)) => {
                tracing::warn!(credential = %credential.label, %failure, "a refresh failed; the token is used while it lives");
                Beside::Not
            }
            Err(_) => Beside::Late,
        }
    }
}

impl Considered {
    fn eligible(credential: &Credential, detail: Option<&str>) -> Self {
        // What ends soon is told of before it does.
        let due = login_due(credential).map(|due| format!("its refresh was {due}"));
        let candidate = Candidate {
            credential: credential.label.clone(),
            eligible: true,
            reason: None,
            detail: due.or_else(|| detail.map(str::to_owned)),
        };
        Self { candidate, refusal: None, plan: None }
    }

    fn of(credential: &Credential, refusal: Refusal) -> Self {
        Self::refused(credential.label.clone(), refusal, credential.plan.clone())
    }

    fn refused(label: String, refusal: Refusal, plan: Option<String>) -> Self {
        let candidate = Candidate {
            credential: label,
            eligible: false,
            reason: Some(refusal.reason),
            detail: Some(refusal.detail.clone()),
        };
        Self { candidate, refusal: Some(refusal), plan }
    }
}
