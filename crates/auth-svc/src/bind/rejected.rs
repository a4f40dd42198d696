//! A token that the upstream rejected: one more refresh, or a latch.

use std::sync::Arc;

use domain::Failure;

use super::judge::Refusal;
use super::{Binder, Considered};
use crate::store::{Credential, LatchKind};

/// How long a token that a refresh after a rejection has brought is taken for that refresh's result, unless it has worked
/// meanwhile: when it is rejected within this time, refreshing did not help, and is not done again at once.
const RECOVERY_S: i64 = 60;

impl Binder {
    /// Is a refresh worth trying for a token that the upstream rejected? Once for each version; not for one that such a
    /// refresh has just brought and that has never worked.
    pub(super) async fn recoverable(&self, credential: &Credential) -> Result<bool, Failure> {
        if self.refresher.can_refresh(credential).is_err() || credential.refused().is_some() {
            return Ok(false);
        }
        let Some(brought_s) = credential.last_refresh.filter(|at| self.clock.now_s() - at < RECOVERY_S) else {
            return Ok(true);
        };
        if credential.recovery_version != Some(credential.version) {
            return Ok(true);
        }
        // Every answer to a call tells of quotas, and a rejection tells of none.
        let quotas = self.store.quotas().await?;
        let heard_ms = quotas.get(&credential.id).into_iter().flatten().map(|window| window.observed_ms).max();
        Ok(heard_ms.is_some_and(|at| at >= brought_s.saturating_mul(1000)))
    }

    /// Latches what no refresh helps, now or at all. The error is a database that does not take that.
    pub(super) async fn latch_rejected(&self, credential: Arc<Credential>) -> Result<Arc<Credential>, Considered> {
        let why_not = match (self.refresher.can_refresh(&credential), credential.refused()) {
            (Err(why), _) => format!("and it cannot be refreshed: {why}"),
            (Ok(()), Some(latch)) => format!("and its refresh was refused for good: {}", latch.detail),
            (Ok(()), None) => "also after a refresh".to_owned(),
        };
        let detail = format!("the upstream rejected its token (401), {why_not}");
        tracing::warn!(credential = %credential.label, version = credential.version, "{detail}");
        let latched = async {
            self.store.latch(&credential.id, credential.version, LatchKind::Rejected, &detail).await?;
            self.store.credential_by_id(&credential.id).await
        };
        match latched.await {
            Ok(latched) => Ok(latched.map_or(credential, Arc::new)),
            Err(error) => Err(Considered::refused(credential.label.clone(), Refusal::ours(error.into()), None)),
        }
    }
}
