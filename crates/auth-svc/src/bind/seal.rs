//! The seal under which a token leaves this service, and where it may go.

use config::TargetKind;
use domain::{Failure, Reason, service};
use proto::transport::v1::SealedCredential;
use service_kit::{SealRequest, UpstreamSecret, UpstreamUrl};

use super::{Binder, Winner};

/// A target as this service's own configuration has it: where its credentials may go.
pub(super) struct Target {
    pub(super) kind: TargetKind,
    /// For calls.
    url: Result<UpstreamUrl, String>,
    /// For the account endpoints.
    backend: Result<UpstreamUrl, String>,
}

impl Target {
    pub(super) fn new(target: &config::Target) -> Self {
        let parse = |url: &str| UpstreamUrl::parse(url).map_err(|error| error.to_string());
        Self { kind: target.kind, url: parse(&target.base_url), backend: parse(target.backend()) }
    }
}

impl Binder {
    /// The seal under which the winner travels to make a call.
    pub(crate) fn seal(&self, winner: &Winner, target: &str, call_id: &str) -> Result<SealedCredential, Failure> {
        let url = self.target_url(target)?;
        if self.target(target)?.kind != TargetKind::ChatgptCodex {
            return self.seal_for(winner, url, call_id, None);
        }
        let followed = self.workspaces.follow(&winner.credential);
        // Allowed by this service's configuration, and by transport-svc's own, or the seal opens nothing.
        let moved = followed.origin.map(|origin| UpstreamUrl { path: url.path.clone(), ..origin });
        self.seal_for(winner, moved.as_ref().unwrap_or(url), call_id, followed.routing)
    }

    /// The seal under which it travels to the target's account endpoints, and to nothing else.
    pub(super) fn seal_for_account(
        &self,
        winner: &Winner,
        target: &str,
        call_id: &str,
    ) -> Result<SealedCredential, Failure> {
        let url = self.target(target)?.backend.as_ref();
        self.seal_for(
            winner,
            url.map_err(|error| invalid(format!("target {target}: backend_url: {error}")))?,
            call_id,
            None,
        )
    }

    fn seal_for(
        &self,
        winner: &Winner,
        target: &UpstreamUrl,
        call_id: &str,
        routing: Option<&str>,
    ) -> Result<SealedCredential, Failure> {
        let request = SealRequest {
            credential_id: &winner.credential.id,
            version: winner.credential.version,
            call_id,
            target,
            now_ms: self.clock.now_ms(),
        };
        let secret = UpstreamSecret {
            token: winner.token.clone(),
            account_id: winner.credential.account_id.clone(),
            fedramp: winner.credential.fedramp,
            routing: routing.map(str::to_owned),
        };
        let ends_ms = winner.credential.access_expires_at.map_or(i64::MAX, |at| at.saturating_mul(1000));
        self.seal_key.seal_until(&request, &secret, ends_ms).map_err(|error| {
            Failure::new(Reason::Internal, service::AUTH, format!("the access token cannot be sealed: {error}"))
        })
    }

    fn target(&self, id: &str) -> Result<&Target, Failure> {
        self.targets.get(id).ok_or_else(|| {
            let known: Vec<&str> = self.targets.keys().map(String::as_str).collect();
            let message = format!("auth-svc's configuration has no target {id:?}; it has: {}", known.join(", "));
            invalid(message).next_step("give auth-svc and router-svc the same [targets]")
        })
    }

    pub(super) fn target_url(&self, id: &str) -> Result<&UpstreamUrl, Failure> {
        self.target(id)?.url.as_ref().map_err(|error| invalid(format!("target {id}: {error}")))
    }
}

fn invalid(message: String) -> Failure {
    Failure::new(Reason::RequestInvalid, service::AUTH, message).param("target")
}
