//! The rules for one credential: pure, so that they can be read and tested as a table.

use domain::{CandidateReason, Failure, timestamp, timestamp_ms, window_name};

use crate::refresh::{Note, can_refresh, expiry_s, is_due, issued_by, rejected_again_s};
use crate::store::{Credential, Kind, Latch, LatchKind, Rest, RestKind, Secrets};

/// A token that nothing comes after is used until so shortly before its end, in seconds: it has to reach the upstream.
const LAST_S: i64 = 5;

/// What a credential is wanted for.
pub(super) struct Route<'a> {
    /// Provider.
    pub(super) provider: &'a str,
    /// Upstream model name.
    pub(super) model: &'a str,
    /// Realm, by its name.
    pub(super) realm: &'a str,
    /// The kind of credential that bills this realm.
    pub(super) kind: Kind,
    /// Target id.
    pub(super) target: &'a str,
    /// True if the target is the Codex backend.
    pub(super) codex: bool,
    /// Origin of the identity provider.
    pub(super) identity: &'a str,
    /// How long before its expiry a token is refreshed, in seconds.
    pub(super) margin_s: i64,
}

impl<'a> Route<'a> {
    /// The kind of route that `credential` is made for, whatever the model: what rests for one model only is ready for
    /// the others.
    pub(super) fn of(credential: &'a Credential, identity: &'a str) -> Self {
        Self {
            provider: &credential.provider,
            model: "",
            realm: "",
            kind: credential.kind,
            target: "",
            codex: credential.kind == Kind::OAuth,
            identity,
            margin_s: 0,
        }
    }
}

/// Whether a credential can be used.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Now.
    Usable,
    /// After a refresh. `alive`: if that fails for now, its token is good still.
    Refresh {
        /// Whether the token is valid now.
        alive: bool,
    },
    /// Not.
    No(Refusal),
}

/// Why a credential is not used.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    /// The reason.
    pub(super) reason: CandidateReason,
    /// For a person, with its next step.
    pub(super) detail: String,
    /// The rest: its kind, and Unix milliseconds at which it ends.
    pub(super) rest: Option<(RestKind, i64)>,
    /// The latch.
    pub(super) latch: Option<LatchKind>,
    /// What helps, where that depends on this very credential.
    pub(super) next_step: Option<String>,
    /// Unix milliseconds at which a refresh that failed is tried again.
    pub(super) retry_at_ms: Option<i64>,
    /// What hinders us and not the provider: a database that takes no writes.
    pub(super) ours: Option<Box<Failure>>,
    /// What a list of the caller's has to do with it.
    pub(super) listed: Option<Listed>,
}

/// Why the lists of an agent and its key refuse something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    /// They leave it out: it is none of the caller's business.
    LeftOut,
    /// They name it, and it is of another provider.
    Elsewhere,
    /// They name it, and there is none.
    Absent,
}

impl Refusal {
    pub(super) fn new(reason: CandidateReason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            rest: None,
            latch: None,
            next_step: None,
            retry_at_ms: None,
            ours: None,
            listed: None,
        }
    }

    /// A refresh that we could not do, or whose result we could not keep.
    pub(super) fn ours(failure: Failure) -> Self {
        let ours = Some(Box::new(failure.clone()));
        Self { ours, ..Self::new(CandidateReason::RefreshFailed, failure.message) }
    }

    /// One that a list is the reason for.
    pub(super) fn listed(self, listed: Listed) -> Self {
        Self { listed: Some(listed), ..self }
    }

    /// True if the caller's lists leave it out.
    pub(super) fn is_left_out(&self) -> bool {
        self.listed == Some(Listed::LeftOut)
    }
}

/// Can `credential` be used for `route` now? The order of the rules is the order in which a person would mend them:
/// what can never fit first, what passes by itself last.
pub(super) fn judge(credential: &Credential, note: Option<&Note>, route: &Route<'_>, now_ms: i64) -> Verdict {
    let refusal = misfit(credential, route)
        .or_else(|| undecryptable(credential))
        .or_else(|| latched(credential, note, route, now_ms))
        .or_else(|| resting(credential, route, now_ms));
    match refusal {
        Some(refusal) => Verdict::No(refusal),
        // What is refused for good and not latched here lives: that its refresh is over changes nothing before its end.
        None if credential.kind == Kind::ApiKey || credential.refused().is_some() => Verdict::Usable,
        None => freshness(credential, note, route, now_ms),
    }
}

/// What no waiting and no login changes: the wrong realm, target or issuer.
fn misfit(credential: &Credential, route: &Route<'_>) -> Option<Refusal> {
    use CandidateReason::{WrongIssuer, WrongRealm};
    let refuse = |reason, detail| Some(Refusal::new(reason, detail));
    match (credential.kind, route.kind) {
        (Kind::ApiKey, Kind::OAuth) => refuse(
            WrongRealm,
            format!(
                "it is an API key, and {} is billed to a subscription; log in: `switchboard login codex`",
                route.provider
            ),
        ),
        (Kind::OAuth, Kind::ApiKey) => refuse(
            WrongRealm,
            format!(
                "it is a subscription's login, and {provider} is billed to an API key; hand one over: \
                 `switchboard login api-key --provider {provider}`",
                provider = route.provider
            ),
        ),
        (Kind::OAuth, Kind::OAuth) if !route.codex => refuse(
            WrongRealm,
            format!("a subscription's login is sent to chatgpt-codex only, never to target {}", route.target),
        ),
        (Kind::ApiKey, Kind::ApiKey) if route.codex => {
            refuse(WrongRealm, format!("an API key is never sent to the Codex backend (target {})", route.target))
        }
        (Kind::OAuth, Kind::OAuth) if !issued_by(credential, route.identity) => refuse(
            WrongIssuer,
            format!(
                "it was issued by {}, and [auth] identity_url is {}; log in there: `switchboard login codex`",
                credential.issuer.as_deref().unwrap_or("an unknown issuer"),
                route.identity
            ),
        ),
        _ => None,
    }
}

fn undecryptable(credential: &Credential) -> Option<Refusal> {
    match &credential.secrets {
        Secrets::Undecryptable { detail } => Some(Refusal::new(CandidateReason::Undecryptable, detail.clone())),
        Secrets::Present { .. } => None,
    }
}

/// What the latch forbids: everything, or only refreshing, which is no hindrance while the access token lives.
fn latched(credential: &Credential, note: Option<&Note>, route: &Route<'_>, now_ms: i64) -> Option<Refusal> {
    let latch = credential.latch.as_ref()?;
    let now_s = now_ms / 1000;
    let again_s = rejected_again_s(credential, route.identity);
    let holds = match latch.kind {
        LatchKind::NeedsLogin => !lives(credential, note, now_s.saturating_add(LAST_S)),
        LatchKind::Rejected => again_s.is_none_or(|at| at > now_s),
        LatchKind::Ended => true,
    };
    holds.then(|| refused(credential, latch, again_s))
}

fn refused(credential: &Credential, latch: &Latch, again_s: Option<i64>) -> Refusal {
    let label = &credential.label;
    let step = match (credential.kind, again_s) {
        (Kind::OAuth, Some(at)) => format!(
            "it is refreshed once more after {}, or now: `switchboard credentials refresh {label}`; if that token is \
             rejected too, log in: `switchboard login codex`",
            timestamp(at)
        ),
        (Kind::OAuth, None) if credential.borrowed => "import it again from its other holder".to_owned(),
        (Kind::OAuth, None) if credential.unconfirmed => "else log in: `switchboard login codex`".to_owned(),
        (Kind::OAuth, None) => "log in again: `switchboard login codex`".to_owned(),
        (Kind::ApiKey, _) => {
            "hand a new key over: `switchboard login api-key`, with this provider and label".to_owned()
        }
    };
    let mut refusal = Refusal::new(CandidateReason::NeedsLogin, format!("{}; {step}", latch.detail));
    refusal.latch = Some(latch.kind);
    refusal.next_step = (!credential.unconfirmed).then_some(step);
    refusal
}

/// The rest in force that ends last, and what to do about it.
fn resting(credential: &Credential, route: &Route<'_>, now_ms: i64) -> Option<Refusal> {
    let rest = credential
        .rests
        .iter()
        .filter(|rest| rest.covers(route.model, now_ms))
        // What an account may not use stays so: it is the better answer.
        .max_by_key(|rest| (rest.kind == RestKind::NotEntitled, rest.until_ms))?;
    let until = timestamp_ms(rest.until_ms);
    let (reason, detail) = match rest.kind {
        RestKind::NotEntitled => (
            CandidateReason::NotEntitled,
            format!("its account may not use {}; asked again after {until}. Use another model or account", route.model),
        ),
        RestKind::UsageLimit => {
            (CandidateReason::Resting, format!("{}; it rests until {until}", limit_reached(credential, rest)))
        }
        RestKind::RateLimited => (CandidateReason::Resting, format!("too many requests; it rests until {until}")),
    };
    let mut refusal = Refusal::new(reason, detail);
    refusal.rest = (rest.kind != RestKind::NotEntitled).then_some((rest.kind, rest.until_ms));
    Some(refusal)
}

/// Which limit is reached: its plan and its window, where they are known.
pub(super) fn limit_reached(credential: &Credential, rest: &Rest) -> String {
    let plan = credential.plan.as_deref().map(|plan| format!(" of plan {plan}")).unwrap_or_default();
    let window =
        if rest.window_s > 0 { format!(" (the {} window)", window_name(rest.window_s)) } else { String::new() };
    format!("the usage limit{plan} is reached{window}")
}

/// Has the upstream rejected its access token?
fn is_rejected(credential: &Credential, note: Option<&Note>) -> bool {
    let latched = credential.latch.as_ref().is_some_and(|latch| latch.kind != LatchKind::NeedsLogin);
    latched || note.is_some_and(|note| note.rejected)
}

/// Is its access token good at `at_s` (Unix seconds), as far as anybody knows?
fn lives(credential: &Credential, note: Option<&Note>, at_s: i64) -> bool {
    credential.secrets.upstream().is_some()
        && !is_rejected(credential, note)
        && expiry_s(credential).is_none_or(|ends| ends > at_s)
}

fn freshness(credential: &Credential, note: Option<&Note>, route: &Route<'_>, now_ms: i64) -> Verdict {
    let now_s = now_ms / 1000;
    let has_token = credential.secrets.upstream().is_some();
    let alive = lives(credential, note, now_s);
    let due = is_due(credential, route.margin_s, now_s);
    if alive && !due {
        return Verdict::Usable;
    }
    if let Err(why) = can_refresh(credential, route.identity) {
        if alive {
            return Verdict::Usable;
        }
        let ended = if has_token { "its access token has expired" } else { "it has no access token" };
        let again = if credential.unconfirmed { "else log in" } else { "log in again" };
        let detail = format!("{ended}, and {why}; {again}: `switchboard login codex`");
        let reason = if credential.unconfirmed { CandidateReason::Unconfirmed } else { CandidateReason::Expired };
        return Verdict::No(Refusal::new(reason, detail));
    }
    match note.filter(|note| note.retry_ms(now_ms) > now_ms) {
        Some(_) if alive => Verdict::Usable,
        Some(note) => Verdict::No(failed(note, is_rejected(credential, Some(note)))),
        None => Verdict::Refresh { alive },
    }
}

fn failed(note: &Note, rejected: bool) -> Refusal {
    let what = if rejected { "the upstream rejected its token" } else { "its access token has expired" };
    let detail = format!(
        "{what}, and its refresh failed: {}; tried again after {}. The login itself is kept",
        note.cause,
        timestamp_ms(note.retry_at_ms)
    );
    let mut refusal = Refusal::new(CandidateReason::RefreshFailed, detail);
    refusal.retry_at_ms = Some(note.retry_at_ms);
    refusal
}
