//! What a person is told about the refreshing of a credential.

use super::{Refresher, can_refresh};
use crate::bind::timestamp;
use crate::store::{Credential, Doubt};

/// How the refreshing of one credential stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// When it is refreshed next, Unix seconds; `None`: never.
    pub(crate) next_refresh_s: Option<i64>,
    /// Since when its refresh fails, Unix seconds.
    pub(crate) failing_since_s: Option<i64>,
    /// What is wrong, with what is done about it.
    pub(crate) problem: Option<String>,
}

impl Refresher {
    /// How the refreshing of `credential` stands.
    pub(crate) fn outlook(&self, credential: &Credential) -> Outlook {
        if can_refresh(credential, self.origin()).is_err() || credential.latch.is_some() {
            return Outlook::default();
        }
        let next_ms = self.next_refresh_ms(credential);
        let record = &credential.refresh;
        let waits = self.has_pending(&credential.id).then(|| {
            "its refreshed token waits in memory for the database to take it, and is lost if this process ends"
                .to_owned()
        });
        let doubt = record.doubt.as_ref().map(|doubt| {
            let when = next_ms.map(|at| format!(" (after {})", timestamp(at))).unwrap_or_default();
            format!(
                "{}: its refresh token may be spent. Its access token is used while it lives; the refresh is tried \
                 again when that is about to end{when}, or now by `switchboard credentials refresh {}`, which ends the \
                 login if the token is spent. A new login settles it: `switchboard login codex`",
                describe(doubt),
                credential.label
            )
        });
        let failing = record.failing.as_ref().map(|failing| {
            let times = if failing.failures == 1 { "once".to_owned() } else { format!("{} times", failing.failures) };
            format!("its refresh failed {times}: {}; tried again after {}", failing.cause, timestamp(failing.next_ms))
        });
        let since = record.failing.as_ref().map(|failing| failing.since_ms);
        let since = [since, record.doubt.as_ref().map(|doubt| doubt.at_ms)].into_iter().flatten().min();
        Outlook {
            next_refresh_s: next_ms.map(|at| at.max(self.inner.clock.now_ms()) / 1000),
            failing_since_s: since.map(|at| at / 1000),
            problem: waits.or(doubt).or(failing),
        }
    }
}

/// What happened to a request whose answer was lost.
pub(crate) fn describe(doubt: &Doubt) -> String {
    let at = timestamp(doubt.at_ms);
    match &doubt.cause {
        None => format!("auth-svc was stopped at {at} between sending a refresh and storing its answer"),
        Some(cause) => format!("the refresh that was sent at {at} brought no answer ({cause})"),
    }
}

/// Why a credential is latched after the provider refused it with `cause`. A token that may have been spent by a lost
/// request was spent by it as far as anybody can know: no other holder is blamed.
pub(super) fn refused(cause: &str, doubt: Option<&Doubt>) -> String {
    match doubt {
        None => cause.to_owned(),
        Some(doubt) => {
            // The provider's code without our usual words for it, which blame another holder.
            let code = cause.rsplit_once('(').map_or(cause, |(_, code)| code.trim_end_matches(')'));
            format!(
                "{}, and the next refresh token was lost with that answer: the provider now says {code}",
                describe(doubt)
            )
        }
    }
}
