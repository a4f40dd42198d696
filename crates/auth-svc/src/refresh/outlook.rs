//! What a person is told about the refreshing of a credential.

use domain::{timestamp, timestamp_ms};

use super::{Refresher, can_refresh, expiry_s};
use crate::store::{Credential, Doubt, LatchKind, UnderWay};

/// How the refreshing of one credential stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// When it is refreshed next, Unix seconds; `None`: never.
    pub(crate) next_refresh_s: Option<i64>,
    /// Since when its refresh fails, Unix seconds.
    pub(crate) failing_since_s: Option<i64>,
    /// What is wrong, with what is done about it.
    pub(crate) problem: Option<String>,
    /// Somebody else's refresh that has not ended.
    pub(crate) under_way: Option<String>,
}

impl Refresher {
    /// How the refreshing of `credential` stands.
    pub(crate) fn outlook(&self, credential: &Credential) -> Outlook {
        let record = &credential.refresh;
        let failing_since_ms = record.failing.as_ref().map(|failing| failing.since_ms);
        if can_refresh(credential, self.origin()).is_err() {
            return Outlook::default();
        }
        if credential.refused().is_some() {
            // What can be used no more says so by its state.
            let problem = login_due(credential);
            let since = failing_since_ms.filter(|_| problem.is_some());
            return Outlook { problem, failing_since_s: since.map(|at| at / 1000), ..Outlook::default() };
        }
        let now_ms = self.inner.clock.now_ms();
        let note = self.notes().get(&credential.id, credential.version);
        let next_ms = self.rules().again_ms(credential, note.as_ref(), now_ms);
        let again = next_ms.map(|at| again(at, now_ms));
        let waits = self.has_pending(&credential.id).then(|| {
            "its refreshed token waits in memory for the database to take it, and is lost if this process ends"
                .to_owned()
        });
        let doubt = record.doubt.as_ref().map(|doubt| {
            let when = again.as_ref().map(|again| format!(" ({again})")).unwrap_or_default();
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
            let again = again.as_ref().map(|again| format!("; tried again {again}")).unwrap_or_default();
            format!("its refresh failed {times}: {}{again}", failing.cause)
        });
        let since = [failing_since_ms, record.doubt.as_ref().map(|doubt| doubt.at_ms)].into_iter().flatten().min();
        Outlook {
            next_refresh_s: next_ms.map(|at| at.max(now_ms) / 1000),
            failing_since_s: since.map(|at| at / 1000),
            problem: waits.or(doubt).or(failing),
            under_way: self.of_another(credential).map(cut_off),
        }
    }

    /// The refresh of `credential` that another process has begun, and may have been killed at.
    pub(super) fn of_another<'a>(&self, credential: &'a Credential) -> Option<&'a UnderWay> {
        credential.refresh.under_way.as_ref().filter(|under_way| !self.is_ours(&under_way.owner))
    }
}

/// When something is tried again, for a person.
fn again(at_ms: i64, now_ms: i64) -> String {
    if at_ms > now_ms { format!("after {}", timestamp_ms(at_ms)) } else { "at once, or by the next call".to_owned() }
}

/// What a person is told of a login whose refresh was refused for good and whose access token is not known to be bad; of
/// others nothing.
pub(crate) fn login_due(credential: &Credential) -> Option<String> {
    let latch = credential.latch.as_ref().filter(|latch| latch.kind == LatchKind::NeedsLogin)?;
    let until = expiry_s(credential).map(|at| format!(" until {}", timestamp(at)));
    Some(format!(
        "refused for good: {}. Its access token is used{}; log in before that: `switchboard login codex`",
        latch.detail,
        until.unwrap_or_else(|| " while it lives".to_owned()),
    ))
}

/// A refresh whose process may be gone.
pub(super) fn cut_off(under_way: &UnderWay) -> String {
    let mut owner = under_way.owner.split('/');
    let (host, process) = (owner.next().unwrap_or_default(), owner.next().unwrap_or_default());
    format!(
        "a refresh was begun at {} by process {process} on {host} and has not ended; it is waited for until {}",
        timestamp_ms(under_way.since_ms),
        timestamp_ms(under_way.until_ms)
    )
}

/// What happened to a request whose answer was lost.
pub(crate) fn describe(doubt: &Doubt) -> String {
    let at = timestamp_ms(doubt.at_ms);
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
