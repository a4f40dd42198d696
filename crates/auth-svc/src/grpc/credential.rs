//! `CredentialService`: credentials, for operators. No method but an export, which hands a login over in the other
//! program's file, returns a token.

use std::collections::BTreeSet;

use domain::{Clock, Failure, Reason, service, timestamp};
use proto::auth::v1 as pb;
use proto::auth::v1::credential_service_server::CredentialService;
use proto::common::v1::QuotaWindow;
use service_kit::failure_to_proto;
use tonic::{Request, Response, Status};

use super::status;
use crate::audit::{About, Actor, Audit};
use crate::bind::state;
use crate::export;
use crate::import;
use crate::refresh::outlook::describe;
use crate::refresh::{Refresher, Why, expiry_s, login_due};
use crate::store::{Credential, EgressRule, Kind, Secrets, Store, Window};
use crate::workspace::Workspaces;

/// The face.
#[derive(Clone)]
pub(crate) struct Credentials {
    store: Store,
    refresher: Refresher,
    clock: Clock,
    audit: Audit,
    workspaces: Workspaces,
}

impl Credentials {
    pub(crate) fn new(store: Store, refresher: Refresher, clock: Clock, audit: Audit, workspaces: Workspaces) -> Self {
        Self { store, refresher, clock, audit, workspaces }
    }

    /// Where requests of its account must go, with what is not followed of it.
    fn workspace(&self, credential: &Credential) -> Option<pb::AccountWorkspace> {
        let known = credential.workspace.as_ref()?;
        Some(pb::AccountWorkspace {
            origin: known.origin.clone(),
            routing_override: known.routing.clone(),
            observed_at: known.learned_ms.map(|ms| ms as f64 / 1000.0),
            problem: known.problem.clone().or(self.workspaces.follow(credential).problem),
        })
    }

    /// A credential as an operator sees it.
    fn show(&self, credential: &Credential) -> pb::Credential {
        let note = self.refresher.notes().get(&credential.id, credential.version);
        let state = state(credential, note.as_ref(), self.refresher.origin(), self.clock.now_ms());
        let outlook = self.refresher.outlook(credential);
        let waiting = self.refresher.is_pending(&credential.id).then(|| {
            "a newer token waits in memory for the database to take it: mend the database before this process ends, or the \
             login is lost (`switchboard doctor`)"
                .to_owned()
        });
        let sentences = waiting.into_iter().chain(state.detail).chain(outlook.under_way);
        let detail = sentences.reduce(|one, other| format!("{one}; {other}"));
        pb::Credential {
            id: credential.id.clone(),
            label: credential.label.clone(),
            provider: credential.provider.clone(),
            kind: credential.kind.as_str().to_owned(),
            state: state.name.to_owned(),
            detail,
            account_id: credential.account_id.clone(),
            email: credential.email.clone(),
            plan: credential.plan.clone(),
            issuer: credential.issuer.clone(),
            expires_at: credential.access_expires_at.map(|s| s as f64),
            last_refresh: credential.last_refresh.map(|s| s as f64),
            version: credential.version,
            source: credential.source.as_str().to_owned(),
            rest_until: state.rest_until_ms.map(|ms| ms as f64 / 1000.0),
            borrowed: credential.borrowed,
            quota: Vec::new(),
            quota_observed_at: None,
            next_refresh: outlook.next_refresh_s.map(|s| s as f64),
            refresh_failing_since: outlook.failing_since_s.map(|s| s as f64),
            refresh_problem: outlook.problem,
            unconfirmed: credential.unconfirmed,
            exported_at: credential.exported_at.map(|s| s as f64),
            egress: credential.egress.to_proto(),
            workspace: self.workspace(credential),
        }
    }

    /// Credentials as they are shown, with their quotas.
    pub(crate) async fn show_all(&self, credentials: &[Credential]) -> Result<Vec<pb::Credential>, Failure> {
        let mut quotas = self.store.quotas().await?;
        let shown = credentials.iter().map(|credential| {
            let quota = quotas.remove(&credential.id).unwrap_or_default();
            let observed_ms = quota.iter().map(|window| window.observed_ms).max();
            pb::Credential {
                quota: quota.into_iter().map(window_to_proto).collect(),
                quota_observed_at: observed_ms.map(|ms| ms as f64 / 1000.0),
                ..self.show(credential)
            }
        });
        Ok(shown.collect())
    }

    /// How the credentials of each provider that has some are chosen.
    async fn selections(&self, credentials: &[Credential]) -> Result<Vec<pb::Selection>, Failure> {
        let chosen = self.store.selections().await?;
        let providers: BTreeSet<&String> = credentials.iter().map(|credential| &credential.provider).collect();
        let selection = |provider: &String| {
            let mode = chosen.get(provider).copied().unwrap_or_default();
            pb::Selection { provider: provider.clone(), mode: mode.as_str().to_owned() }
        };
        Ok(providers.into_iter().map(selection).collect())
    }

    async fn order(&self, request: &pb::OrderCredentialsRequest) -> Result<(), Failure> {
        let invalid = |message: &str| {
            Failure::new(Reason::RequestInvalid, service::AUTH, message.to_owned()).param("credentials")
        };
        match (request.by_session, request.credentials.is_empty()) {
            (true, true) => Ok(self.store.select_by_session(&request.provider).await?),
            (false, false) if let Some(twice) = twice(&request.credentials) => {
                Err(invalid(&format!("credential {twice} is named twice: an order names each once")))
            }
            (false, false) => Ok(self.store.set_order(&request.provider, &request.credentials).await?),
            (true, false) => Err(invalid("credentials are tried in an order or chosen by session, not both")),
            (false, true) => Err(invalid("an order names at least one credential")),
        }
    }

    async fn remove(&self, name: &str) -> Result<(), Failure> {
        let credential = self.store.credential_named(name).await?;
        self.store.remove_credential(&credential.id).await?;
        self.refresher.notes().forget(&credential.id);
        Ok(())
    }

    /// Says which egresses may make requests with a credential. What the operator should know comes with it.
    async fn set_egress(&self, name: &str, rule: &EgressRule) -> Result<(Credential, Vec<String>), Failure> {
        if let Some(why) = self.refresher.identity().unknown_egress(rule) {
            let failure = Failure::new(Reason::RequestInvalid, service::AUTH, why).param("egress");
            let step =
                "name one that is there, or configure it first: `[gateway.transports.NAME]` in every service's file";
            return Err(failure.next_step(step));
        }
        let credential = self.store.credential_named(name).await?;
        self.store.set_egress(&credential.id, rule).await?;
        let note = self.refresher.identity().egress_note(rule).filter(|_| credential.kind == Kind::OAuth);
        Ok((self.store.credential_named(&credential.id).await?, note.into_iter().collect()))
    }

    /// Permits the refresh of a restored credential; one that needs no confirmation is left as it is. Also whether anything
    /// was changed.
    async fn confirm(&self, name: &str) -> Result<(Credential, bool), Failure> {
        let credential = self.store.credential_named(name).await?;
        self.store.confirm_credential(&credential.id).await?;
        // What was known of it was known of one that could not be refreshed.
        self.refresher.notes().forget(&credential.id);
        Ok((self.store.credential_named(&credential.id).await?, credential.unconfirmed))
    }

    /// Refreshes now, whatever the expiry says. The failure says why there is no newer token.
    async fn refresh_now(&self, name: &str) -> Result<(Credential, Option<Failure>), Failure> {
        let before = self.store.credential_named(name).await?;
        let label = &before.label;
        if let Err(why) = self.refresher.can_refresh(&before) {
            let failure = not_refreshable(&before, &why.to_string());
            return Ok((before, Some(failure)));
        }
        self.refresher.refresh(&before.id, before.version, Why::Operator).await?;
        let after = self.store.credential_named(&before.id).await?;
        if after.version > before.version {
            return Ok((after, None));
        }
        let failure = match after.refused() {
            Some(latch) => {
                let lives = login_due(&after).and_then(|_| expiry_s(&after)).filter(|at| *at > self.clock.now_s());
                let lives =
                    lives.map(|at| format!("; its access token is used until {}, and calls fail then", timestamp(at)));
                let cause = format!("{}{}", latch.detail, lives.unwrap_or_default());
                let message = format!("credential {label} needs a new login: {cause}");
                Failure::new(Reason::CredentialNeedsLogin, service::AUTH, message)
            }
            _ => {
                let note = self.refresher.notes().get(&after.id, after.version);
                let noted = note.map(|note| note.cause).filter(|cause| !cause.is_empty());
                let failed = |cause: &str| {
                    let message = format!("the refresh of credential {label} failed: {cause}");
                    Failure::new(Reason::IdentityUnavailable, service::AUTH, message)
                };
                match &after.refresh.doubt {
                    Some(doubt) => failed(&format!("{}: its refresh token may be spent", describe(doubt)))
                        .next_step(
                            "log in again before its access token ends (`switchboard login codex`); asking once more \
                             ends the login at once if the token is spent",
                        )
                        .not_retryable(),
                    None => failed(noted.as_deref().unwrap_or("it brought no newer token")),
                }
            }
        };
        Ok((after, Some(failure)))
    }
}

/// What an import was about, and what came of it.
fn imported(answer: &pb::ImportCredentialsResponse, named: &str, from: &str) -> About {
    let labels: Vec<&str> = answer.credentials.iter().map(|c| c.label.as_str()).filter(|l| !l.is_empty()).collect();
    let subject = if labels.is_empty() { named.to_owned() } else { labels.join(", ") };
    let left = answer.credentials.iter().filter(|c| matches!(c.action.as_str(), "skipped" | "undecryptable"));
    let left: Vec<String> = left.map(|c| format!("{} {}: {}", c.profile, c.action, c.detail)).collect();
    let outcome = match (answer.usable, left.is_empty()) {
        (true, true) => None,
        (true, false) => Some("partial"),
        (false, _) => Some("failed"),
    };
    let unusable = (!answer.usable).then(|| "no usable credential came in".to_owned());
    let detail = [from.to_owned()].into_iter().chain(unusable).chain(left).collect::<Vec<_>>().join("; ");
    About { outcome, ..About::new(subject, detail) }
}

/// What an export was about, and what came of it.
fn exported(answer: &pb::ExportCredentialsResponse, named: &str, to: &str) -> About {
    let labels: Vec<&str> = answer.credentials.iter().map(|c| c.label.as_str()).collect();
    let subject = if labels.is_empty() { named.to_owned() } else { labels.join(", ") };
    let left: Vec<_> = answer.credentials.iter().filter(|c| c.action != "exported").collect();
    let outcome = match left.len() {
        all if all == labels.len() => Some("failed"),
        0 => None,
        _ => Some("partial"),
    };
    let left = left.iter().map(|c| format!("{} {}: {}", c.label, c.action, c.detail));
    let detail = [to.to_owned()].into_iter().chain(left).collect::<Vec<_>>().join("; ");
    About { outcome, ..About::new(subject, detail) }
}

/// The first label that is there twice.
fn twice(labels: &[String]) -> Option<&String> {
    labels.iter().enumerate().find(|(at, label)| labels[..*at].contains(label)).map(|(_, label)| label)
}

/// Why a credential is not refreshed here, and what helps instead.
fn not_refreshable(credential: &Credential, why: &str) -> Failure {
    let label = &credential.label;
    let (why, step) = match (&credential.secrets, credential.kind) {
        (Secrets::Undecryptable { detail }, _) => (
            format!("its secrets cannot be opened: {detail}"),
            "import it again with the right key (--secret-key-file), or log in: `switchboard login codex`".to_owned(),
        ),
        (_, Kind::ApiKey) => (why.to_owned(), "nothing: an API key does not expire by itself".to_owned()),
        _ if credential.unconfirmed => (
            why.to_owned(),
            format!(
                "`switchboard credentials confirm {label}` if nothing else has used its login since the backup; else \
                 `switchboard login codex`"
            ),
        ),
        _ if credential.borrowed => (
            why.to_owned(),
            "let its owner refresh it and import it again, or log in: `switchboard login codex`".to_owned(),
        ),
        _ if credential.exported_at.is_some() => {
            (why.to_owned(), "import it again to take it back, or log in: `switchboard login codex`".to_owned())
        }
        _ => (why.to_owned(), "log in: `switchboard login codex`".to_owned()),
    };
    let message = format!("credential {label} cannot be refreshed: {why}");
    Failure::new(Reason::Unsupported, service::AUTH, message).next_step(step)
}

fn window_to_proto(window: Window) -> QuotaWindow {
    QuotaWindow {
        limit: window.limit,
        window_seconds: window.window_s,
        used_percent: window.used_percent,
        resets_at: window.resets_at.map(|at| at as f64),
        limit_name: window.name,
    }
}

#[tonic::async_trait]
impl CredentialService for Credentials {
    async fn list_credentials(
        &self,
        request: Request<pb::ListCredentialsRequest>,
    ) -> Result<Response<pb::ListCredentialsResponse>, Status> {
        let provider = Some(request.get_ref().provider.as_str()).filter(|provider| !provider.is_empty());
        let stored = self.store.list_credentials(provider).await.map_err(status)?;
        let selections = self.selections(&stored).await.map_err(status)?;
        let credentials = self.show_all(&stored).await.map_err(status)?;
        Ok(Response::new(pb::ListCredentialsResponse { credentials, selections }))
    }

    async fn import_credentials(
        &self,
        request: Request<pb::ImportCredentialsRequest>,
    ) -> Result<Response<pb::ImportCredentialsResponse>, Status> {
        let actor = Actor::of(&request);
        let request = request.into_inner();
        let (format, dry_run) = (request.format.clone(), request.dry_run);
        let named = request.label.clone().unwrap_or_default();
        let settings = import::Settings { now_s: self.clock.now_s(), rules: self.refresher.rules().clone() };
        let store = self.store.clone();
        let answer = async move { import::run(&store, &settings, request).await };
        if dry_run {
            return Ok(Response::new(answer.await.map_err(status)?));
        }
        let about = move |answer: &Result<pb::ImportCredentialsResponse, Failure>| {
            let from = format!("from {format}");
            answer.as_ref().map_or_else(|_| About::new(&named, &from), |answer| imported(answer, &named, &from))
        };
        let answer = self.audit.act(actor, "credential.import", about, answer).await;
        Ok(Response::new(answer.map_err(status)?))
    }

    async fn export_credentials(
        &self,
        request: Request<pb::ExportCredentialsRequest>,
    ) -> Result<Response<pb::ExportCredentialsResponse>, Status> {
        let actor = Actor::of(&request);
        let request = request.into_inner();
        let (this, dry_run) = (self.clone(), request.dry_run);
        let (format, named) = (request.format.clone(), request.credentials.join(", "));
        let answer = async move { export::run(&this.store, &this.refresher, this.clock.now_s(), &request).await };
        if dry_run {
            return Ok(Response::new(answer.await.map_err(status)?));
        }
        let about = move |answer: &Result<pb::ExportCredentialsResponse, Failure>| {
            let to = format!("to {format}");
            answer.as_ref().map_or_else(|_| About::new(&named, &to), |answer| exported(answer, &named, &to))
        };
        let answer = self.audit.act(actor, "credential.export", about, answer).await;
        Ok(Response::new(answer.map_err(status)?))
    }

    async fn confirm_credential(
        &self,
        request: Request<pb::ConfirmCredentialRequest>,
    ) -> Result<Response<pb::ConfirmCredentialResponse>, Status> {
        let actor = Actor::of(&request);
        let (this, name) = (self.clone(), request.into_inner().credential);
        let about = About::new(&name, "");
        let done = async move { this.confirm(&name).await };
        let done = self.audit.act(actor, "credential.confirm", |_| about, done).await;
        let (credential, changed) = done.map_err(status)?;
        Ok(Response::new(pb::ConfirmCredentialResponse { credential: Some(self.show(&credential)), changed }))
    }

    async fn refresh_credential(
        &self,
        request: Request<pb::RefreshCredentialRequest>,
    ) -> Result<Response<pb::RefreshCredentialResponse>, Status> {
        let actor = Actor::of(&request);
        let (this, name) = (self.clone(), request.into_inner().credential);
        let about = About::new(&name, "");
        let about = move |done: &Result<(Credential, Option<Failure>), Failure>| About {
            failure: done.as_ref().ok().and_then(|(_, failure)| failure.clone()),
            ..about
        };
        let done = async move { this.refresh_now(&name).await };
        let (credential, failure) = self.audit.act(actor, "credential.refresh", about, done).await.map_err(status)?;
        let credential = self.show_all(std::slice::from_ref(&credential)).await.map_err(status)?.pop();
        Ok(Response::new(pb::RefreshCredentialResponse { credential, failure: failure.as_ref().map(failure_to_proto) }))
    }

    async fn remove_credential(
        &self,
        request: Request<pb::RemoveCredentialRequest>,
    ) -> Result<Response<pb::RemoveCredentialResponse>, Status> {
        let actor = Actor::of(&request);
        let (this, name) = (self.clone(), request.into_inner().credential);
        let about = About::new(&name, "");
        let done = async move { this.remove(&name).await };
        self.audit.act(actor, "credential.remove", |_| about, done).await.map_err(status)?;
        Ok(Response::new(pb::RemoveCredentialResponse {}))
    }

    async fn order_credentials(
        &self,
        request: Request<pb::OrderCredentialsRequest>,
    ) -> Result<Response<pb::OrderCredentialsResponse>, Status> {
        let actor = Actor::of(&request);
        let (this, request) = (self.clone(), request.into_inner());
        let detail = if request.by_session { "by session".to_owned() } else { request.credentials.join(", ") };
        let about = About::new(&request.provider, detail);
        let done = async move { this.order(&request).await };
        self.audit.act(actor, "credential.order", |_| about, done).await.map_err(status)?;
        Ok(Response::new(pb::OrderCredentialsResponse {}))
    }

    async fn set_credential_egress(
        &self,
        request: Request<pb::SetCredentialEgressRequest>,
    ) -> Result<Response<pb::SetCredentialEgressResponse>, Status> {
        let actor = Actor::of(&request);
        let (this, request) = (self.clone(), request.into_inner());
        let (name, rule) = (request.credential, EgressRule::from(request.egress.unwrap_or_default()));
        let about = About::new(&name, rule.describe());
        let done = async move { this.set_egress(&name, &rule).await };
        let (credential, notes) = self.audit.act(actor, "credential.egress", |_| about, done).await.map_err(status)?;
        let credential = self.show_all(std::slice::from_ref(&credential)).await.map_err(status)?.pop();
        Ok(Response::new(pb::SetCredentialEgressResponse { credential, notes }))
    }
}
