//! The findings about one credential: pure, so that they can be read and tested as a table.

use domain::{Reason, when, window_name};
use proto::auth::v1 as pb;
use proto::common::v1::QuotaWindow;
use secrecy::ExposeSecret;
use service_kit::{Finding, Severity};

use crate::jwt::unverified_claims;
use crate::refresh::outlook::Outlook;
use crate::refresh::{describe, expiry_s};
use crate::store::{Credential, Doubt, Kind, Latch, LatchKind, Secrets};

/// What nobody refreshes here, or may not be refreshed any more, is pressing when its access token ends within this
/// time, in seconds.
const ENDS_SOON_S: i64 = 24 * 3600;
/// Clocks of two hosts differ by less than this, in seconds.
const SKEW_S: i64 = 300;
/// A window that is used up to here is nearly used up, in percent.
const NEARLY_USED: f64 = 90.0;

/// What the rules look at beside what an operator is shown.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// Its kind.
    pub(super) kind: Kind,
    /// Unix seconds at which its access token ends, as a binding takes it.
    pub(super) expires_at: Option<i64>,
    /// Unix seconds at which its tokens were made, by what they and the last refresh say: the later of the two.
    pub(super) made_at: Option<i64>,
    /// A time of a failed refresh that was recorded by a clock ahead of this one, Unix seconds.
    pub(super) ahead_at: Option<i64>,
    /// Why it is not used until it has a newer version.
    pub(super) latch: Option<Latch>,
    /// A refresh whose answer was lost: its refresh token may be spent.
    pub(super) doubt: Option<Doubt>,
    /// A refresh of another process that has begun and not ended, for a person.
    pub(super) under_way: Option<String>,
}

impl Facts {
    /// The facts of a stored credential whose refreshing stands as `outlook` says.
    pub(super) fn of(stored: &Credential, outlook: Outlook) -> Self {
        let issued = match &stored.secrets {
            Secrets::Present { access: Some(access), .. } => unverified_claims(access.expose_secret()).iat,
            _ => None,
        };
        Self {
            kind: stored.kind,
            expires_at: expiry_s(stored),
            made_at: issued.max(stored.last_refresh),
            ahead_at: stored.refresh.ahead_ms.map(|at| at.div_euclid(1000)),
            latch: stored.latch.clone(),
            doubt: stored.refresh.doubt.clone(),
            under_way: outlook.under_way,
        }
    }
}

/// Everything about one credential, which an operator is shown as `shown`; that it is well where nothing is amiss.
pub(super) fn findings(facts: &Facts, shown: &pb::Credential, now: i64) -> Vec<Finding> {
    let mut found: Vec<Finding> = state(facts, shown, now).into_iter().collect();
    let fails = found.iter().any(|finding| finding.severity == Severity::Error);
    if !fails {
        found.extend(under_way(facts, shown));
        let refresh = login_due(facts, shown, now).or_else(|| in_doubt(facts, shown, now));
        found.extend(refresh.or_else(|| failing(facts, shown, now)));
        found.extend(ending(facts, shown, now));
        found.extend(unconfirmed(shown));
    }
    found.extend(shown.quota.iter().filter(|window| window.used_percent >= NEARLY_USED).map(|w| used(shown, w, now)));
    found.extend(workspace(shown));
    found.extend(ahead(facts, shown, now).or_else(|| was_ahead(facts, shown, now)));
    if found.is_empty() { vec![well(facts, shown, now)] } else { found }
}

/// A login that is over while another credential of its provider serves: a call fails only where it must be this one, and
/// the finding about that route says so.
pub(super) fn beside(finding: Finding, other: Option<&pb::Credential>) -> Finding {
    let over = [Reason::CredentialNeedsLogin, Reason::CredentialRejected].map(|reason| reason.as_str());
    let is_over = finding.reason.as_deref().is_some_and(|reason| over.contains(&reason));
    match other {
        Some(other) if finding.severity == Severity::Error && is_over => Finding {
            severity: Severity::Warning,
            message: format!("{}; calls that may use credential {} go on", finding.message, other.label),
            ..finding
        },
        _ => finding,
    }
}

/// That nobody knows where requests of its account must go, or that it is not followed. Calls are made all the same.
fn workspace(shown: &pb::Credential) -> Option<Finding> {
    let known = shown.workspace.as_ref()?;
    let problem = known.problem.as_deref()?;
    let last = if known.observed_at.is_some() { "what was told last is followed" } else { "nothing is known of it" };
    let message = format!("where requests of its account must go (workspace): {problem}; {last}");
    let step = "nothing while calls work: it is asked again; if they fail for it, see `switchboard credentials show`";
    Some(Finding::warning(subject(shown), message).next(step))
}

fn subject(shown: &pb::Credential) -> String {
    format!("credential {}", shown.label)
}

/// What its state says; nothing where it is ready.
fn state(facts: &Facts, shown: &pb::Credential, now: i64) -> Option<Finding> {
    let detail = || shown.detail.clone().unwrap_or_else(|| format!("it is {}", shown.state));
    let latch = facts.latch.as_ref();
    let message = || latch.map_or_else(detail, |latch| latch.detail.clone());
    match shown.state.as_str() {
        "ready" | "login_due" | "unconfirmed" => None,
        "resting" => {
            let step = "nothing: it is used again then, and until then another of its provider that does not rest, if there \
                        is one (`switchboard models status`)";
            Some(Finding::warning(subject(shown), detail()).next(step).reason(Reason::UsageLimit))
        }
        "expired" => {
            let failing = shown.refresh_failing_since.is_some();
            let reason = if failing { Reason::IdentityUnavailable } else { Reason::CredentialNotBound };
            let step = match facts.doubt {
                Some(_) if failing => settle(shown, now),
                _ if failing => reach(shown),
                _ => again(facts, shown).to_owned(),
            };
            Some(Finding::error(subject(shown), detail()).next(step).reason(reason))
        }
        "undecryptable" => {
            let finding = Finding::error(subject(shown), format!("its secrets cannot be opened: {}", detail()));
            Some(finding.next(again(facts, shown)).reason(Reason::CredentialNotBound))
        }
        _ => {
            let reason = match latch.map(|latch| latch.kind) {
                Some(LatchKind::Rejected) => Reason::CredentialRejected,
                Some(_) => Reason::CredentialNeedsLogin,
                None => Reason::CredentialNotBound,
            };
            let again_s = shown.next_refresh.map(|at| at as i64);
            let (message, step) = match (latch, again_s) {
                (Some(Latch { kind: LatchKind::Rejected, detail }), Some(at)) => (
                    format!("{detail}; it is refreshed once more at {}", when(at, now)),
                    format!(
                        "refresh it now: `switchboard credentials refresh {}`; if that token is rejected too, log in: \
                         `switchboard login codex`",
                        shown.label
                    ),
                ),
                _ => (message(), again(facts, shown).to_owned()),
            };
            Some(Finding::error(subject(shown), message).next(step).reason(reason))
        }
    }
}

/// Its refresh was refused for good, and its access token lives.
fn login_due(facts: &Facts, shown: &pb::Credential, now: i64) -> Option<Finding> {
    let latch = facts.latch.as_ref().filter(|latch| latch.kind == LatchKind::NeedsLogin)?;
    let since = shown.refresh_failing_since.map(|at| format!(" since {}", when(at as i64, now))).unwrap_or_default();
    let until = facts.expires_at.map_or_else(|| "nobody knows when".to_owned(), |at| when(at, now));
    let message = format!(
        "its refresh is refused for good{since}: {}; calls work until its access token ends, {until}",
        latch.detail
    );
    let step = "log in before that: `switchboard login codex`";
    Some(Finding::warning(subject(shown), message).next(step).reason(Reason::CredentialNeedsLogin))
}

/// Somebody else has begun a refresh and not ended it: it is going on this very moment, or its process is gone.
fn under_way(facts: &Facts, shown: &pb::Credential) -> Option<Finding> {
    let step = "nothing for now: calls work while its access token lives. If it says then that its refresh token may be \
                spent, log in again: `switchboard login codex`";
    Some(Finding::warning(subject(shown), facts.under_way.clone()?).next(step).reason(Reason::IdentityUnavailable))
}

/// The answer to a refresh was lost, and with it maybe the login: calls work until the access token ends.
fn in_doubt(facts: &Facts, shown: &pb::Credential, now: i64) -> Option<Finding> {
    // Told only of what is refreshed here.
    shown.refresh_failing_since?;
    let what = describe(facts.doubt.as_ref()?);
    let ends = match facts.expires_at {
        Some(at) if at > now => format!("calls work until its access token ends, {}", when(at, now)),
        Some(at) => format!("its access token ended {}", when(at, now)),
        None => "nothing tells how long its access token lives".to_owned(),
    };
    let message = format!("{what}: its refresh token may be spent; {ends}");
    let pressing = facts.expires_at.is_none_or(|at| at - now <= ENDS_SOON_S);
    let found = if pressing { Finding::error } else { Finding::warning };
    Some(found(subject(shown), message).next(settle(shown, now)).reason(Reason::CredentialNeedsLogin))
}

/// Its refresh fails, and its access token lives.
fn failing(facts: &Facts, shown: &pb::Credential, now: i64) -> Option<Finding> {
    let since = shown.refresh_failing_since? as i64;
    let cause = shown.refresh_problem.as_deref().unwrap_or("no cause is known");
    let until = facts.expires_at.map_or_else(|| "an unknown time".to_owned(), |at| when(at, now));
    let message = format!(
        "its refresh fails since {}: {cause}; calls work until its access token ends, {until}",
        when(since, now)
    );
    Some(Finding::warning(subject(shown), message).next(reach(shown)).reason(Reason::IdentityUnavailable))
}

/// Nobody refreshes it here, and its access token ends soon.
fn ending(facts: &Facts, shown: &pb::Credential, now: i64) -> Option<Finding> {
    let why = match (shown.borrowed, shown.exported_at) {
        (true, _) => "it is borrowed: its other holder refreshes it",
        (false, Some(_)) => "it was handed back by an export and is not refreshed here",
        (false, None) => return None,
    };
    let at = facts.expires_at.filter(|at| at - now <= ENDS_SOON_S)?;
    let message = format!("{why}, and its access token ends {}", when(at, now));
    let step = "import it again from its other holder, or log in: `switchboard login codex`";
    Some(Finding::warning(subject(shown), message).next(step))
}

fn unconfirmed(shown: &pb::Credential) -> Option<Finding> {
    shown.unconfirmed.then(|| {
        let message = "it was restored from a backup and is not refreshed until it is confirmed";
        let step = format!(
            "if nobody else has used this login since the backup: `switchboard credentials confirm {}`; otherwise log in \
             again: `switchboard login codex`",
            shown.label
        );
        Finding::warning(subject(shown), message).next(step)
    })
}

fn used(shown: &pb::Credential, window: &QuotaWindow, now: i64) -> Finding {
    let limit = window.limit_name.as_deref().unwrap_or(&window.limit);
    let reset = window.resets_at.map(|at| format!(", resets {}", when(at as i64, now))).unwrap_or_default();
    let message = format!(
        "{:.0} % of limit {limit} over {} are used{reset}",
        window.used_percent,
        window_name(window.window_seconds)
    );
    Finding::warning(subject(shown), message).next("add another credential, or wait for the reset")
}

/// A token that was made in the future: this host's clock, or the one that wrote the file, is wrong.
fn ahead(facts: &Facts, shown: &pb::Credential, now: i64) -> Option<Finding> {
    let made = facts.made_at?;
    (made - now > SKEW_S).then(|| {
        let message = format!(
            "credential {} was made {} by its own account: this host's clock seems to be slow, and tokens would be used \
             past their end",
            shown.label,
            when(made, now)
        );
        Finding::warning("clock", message).next("set this host's clock, e.g. with NTP")
    })
}

/// A failure that was recorded in the future: the clock was ahead then, or is slow now.
fn was_ahead(facts: &Facts, shown: &pb::Credential, now: i64) -> Option<Finding> {
    let at = facts.ahead_at?;
    (at - now > SKEW_S).then(|| {
        let message = format!(
            "a time of the failed refreshes of credential {} lies in the future, {}: this host's clock was ahead when it was \
             recorded, or is slow now; such times are read as now",
            shown.label,
            when(at, now)
        );
        Finding::warning("clock", message).next("see that this host's clock is right, e.g. by NTP; the next refresh mends the record")
    })
}

fn well(facts: &Facts, shown: &pb::Credential, now: i64) -> Finding {
    let mut message = shown.state.clone();
    if let Some(detail) = &shown.detail {
        message.push_str(&format!("; {detail}"));
    }
    if facts.kind == Kind::OAuth
        && let Some(at) = facts.expires_at.filter(|at| *at > now)
    {
        message.push_str(&format!("; access token good until {}", when(at, now)));
    }
    if shown.exported_at.is_some() {
        message.push_str("; handed back by an export, not refreshed here");
    }
    if let Some(at) = shown.next_refresh {
        message.push_str(&format!("; refreshed next at {}", when(at as i64, now)));
    }
    Finding::ok(subject(shown), message)
}

/// How to get what the provider will never give for this one any more.
fn again(facts: &Facts, shown: &pb::Credential) -> &'static str {
    match facts.kind {
        Kind::OAuth if shown.borrowed => "import it again from its other holder, or log in: `switchboard login codex`",
        Kind::OAuth => "log in again: `switchboard login codex`",
        Kind::ApiKey => "add a new key: `switchboard login api-key`, or import one",
    }
}

fn reach(shown: &pb::Credential) -> String {
    let issuer = shown.issuer.as_deref().unwrap_or("its identity provider");
    format!(
        "see whether this host reaches {issuer}, then try at once: `switchboard credentials refresh {}`",
        shown.label
    )
}

/// How to end the doubt about a refresh token: safely by a login, or by trying it before we do.
fn settle(shown: &pb::Credential, now: i64) -> String {
    let next = shown.next_refresh.map(|at| at as i64).filter(|at| *at > now);
    let before = next.map(|at| format!(" before {}, when its refresh is tried again", when(at, now)));
    format!(
        "log in again{}: `switchboard login codex`; or try now by `switchboard credentials refresh {}`, which ends the \
         login if its token is spent",
        before.unwrap_or_default(),
        shown.label
    )
}
