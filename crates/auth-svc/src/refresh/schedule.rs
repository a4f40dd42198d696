//! When a login is refreshed unasked: pure, so that it can be read and tested as a table.

use secrecy::ExposeSecret;

use super::{Note, can_refresh};
use crate::jwt::unverified_claims;
use crate::store::{Credential, LatchKind, MOST_WAIT_MS};

/// The life of a token that does not say when it was issued, in seconds (reports on Codex: about 10 days).
const NOMINAL_LIFE_S: i64 = 10 * 24 * 3600;
/// A token that does not say when it expires is taken for good this long after its last refresh, in seconds (facts of
/// Codex CLI: 8 days).
const UNDATED_LIFE_S: i64 = 8 * 24 * 3600;
/// Credentials that are overdue when they are first seen are spread over this time, in milliseconds.
const SPREAD_MS: i64 = 60_000;
/// First wait after a failed refresh that nobody waits for, in milliseconds; doubles each time.
const FIRST_MS: i64 = 1_000;
/// Longest such wait, in milliseconds.
const MOST_MS: i64 = MOST_WAIT_MS;
/// How long a login rests whose newest token the upstream has rejected, in seconds. It is not at its end: its refresh
/// token is good as far as anybody knows, and what the upstream did wrong may be over by then.
const REJECTED_REST_S: i64 = 3600;

/// The times of one access token, Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// When it is refreshed unasked: about half of its life, never later than `margin`.
    pub(crate) half: i64,
    /// From when on every call refreshes it.
    pub(crate) margin: i64,
}

/// The times of a token that was issued at `issued` and ends at `expires`. Each has its own `place`, from 0 to 1, within
/// a tenth of the life before and after the half, so that those which were taken in together are not refreshed together.
fn due(place: f64, issued: Option<i64>, expires: i64, margin_s: i64) -> Due {
    let issued = issued.filter(|at| *at < expires).unwrap_or_else(|| expires.saturating_sub(NOMINAL_LIFE_S));
    let life = expires.saturating_sub(issued);
    let margin = expires.saturating_sub(margin_s.min(life / 2));
    let tenth = life / 10;
    let jitter = ((place * 2.0 - 1.0) * tenth as f64) as i64;
    let half = issued.saturating_add(life / 2).saturating_add(jitter).min(margin);
    Due { half, margin }
}

/// Unix seconds at which the access token ends; `None` if nothing tells.
pub(crate) fn expiry_s(credential: &Credential) -> Option<i64> {
    credential.access_expires_at.or_else(|| credential.last_refresh.map(|at| at.saturating_add(UNDATED_LIFE_S)))
}

/// The same as [`due`], of the token that `credential` holds. `None`: nothing tells when it ends.
fn due_of(credential: &Credential, margin_s: i64) -> Option<Due> {
    let Some(token) = credential.secrets.upstream() else { return Some(Due { half: 0, margin: 0 }) };
    let expires = expiry_s(credential)?;
    // The later of what the token says and what we saw: by a clock that is days ahead, a token that has just come looks
    // half used, and would be refreshed again and again.
    let known = [unverified_claims(token.expose_secret()).iat, credential.last_refresh];
    let issued = known.into_iter().flatten().filter(|at| *at < expires).max();
    // By the token that it will spend, which an import knows before the credential has an id.
    let place = credential.secrets.refresh().map_or(0.5, |token| fraction(token.expose_secret()));
    Some(due(place, issued, expires, margin_s))
}

/// Whether every call refreshes the token that `credential` holds, from its margin on.
pub(crate) fn is_due(credential: &Credential, margin_s: i64, now_s: i64) -> bool {
    // No token's margin is longer than this: most need not be read to know, and each call asks.
    let early = |expires: i64| now_s < expires.saturating_sub(margin_s);
    if credential.secrets.upstream().is_some() && expiry_s(credential).is_some_and(early) {
        return false;
    }
    due_of(credential, margin_s).is_some_and(|due| due.margin <= now_s)
}

/// When a login whose token is latched as rejected is refreshed once more, Unix seconds. `None`: it is not latched so, or
/// no refresh can help it.
pub(crate) fn rejected_again_s(credential: &Credential, origin: &str) -> Option<i64> {
    credential.latch.as_ref().filter(|latch| latch.kind == LatchKind::Rejected)?;
    can_refresh(credential, origin).ok()?;
    Some(credential.last_refresh.map_or(0, |at| at.saturating_add(REJECTED_REST_S)))
}

/// What this deployment has decided about refreshing.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// The only origin that is sent a refresh token.
    pub(crate) origin: String,
    /// How long before its end every call refreshes a token, in seconds.
    pub(crate) margin_s: i64,
    /// True if tokens are refreshed unasked, at half of their life.
    pub(crate) proactive: bool,
}

impl Rules {
    /// When `credential` is refreshed next without being rejected or asked for, Unix milliseconds: unasked, or else by
    /// the first call from then on. `None`: never. A time that has passed is one that is due. While its refresh token
    /// may be spent it is not tried before the access token is about to end: a provider that answers a second use by
    /// ending the login would end one that works for days still.
    pub(crate) fn next_ms(&self, credential: &Credential) -> Option<i64> {
        if can_refresh(credential, &self.origin).is_err() || credential.refused().is_some() {
            return None;
        }
        let not_before = credential.refresh.failing.as_ref().map_or(i64::MIN, |failing| failing.next_ms);
        if let Some(at) = rejected_again_s(credential, &self.origin) {
            return Some(at.saturating_mul(1000).max(not_before));
        }
        let due = due_of(credential, self.margin_s)?;
        if !self.proactive {
            return Some(due.margin.saturating_mul(1000));
        }
        let at = if credential.refresh.doubt.is_some() { due.margin } else { due.half };
        Some(at.saturating_mul(1000).max(not_before))
    }

    /// The same, where calls are at it too: from the margin on, and where its token was rejected, each one tries again
    /// as soon as `note` lets it. The one time that a person is told, wherever it stands.
    pub(crate) fn again_ms(&self, credential: &Credential, note: Option<&Note>, now_ms: i64) -> Option<i64> {
        let unasked = self.next_ms(credential)?;
        let rejected = note.is_some_and(|note| note.rejected);
        let wanted = is_due(credential, self.margin_s, now_ms / 1000);
        let by_call = note.map_or(now_ms, |note| note.retry_ms(now_ms).max(now_ms));
        let calls = (rejected || wanted) && rejected_again_s(credential, &self.origin).is_none();
        Some(match (calls, self.proactive) {
            (true, true) => unasked.min(by_call),
            (true, false) => by_call,
            (false, _) => unasked,
        })
    }
}

/// How long a credential that is overdue waits from when it is first seen, in milliseconds.
pub(super) fn spread_ms(id: &str) -> i64 {
    (fraction(id) * SPREAD_MS as f64) as i64
}

/// The wait after a refresh that failed, `failures` others in a row before it, in milliseconds.
pub(super) fn backoff_ms(failures: u32, retry_after: Option<f64>) -> i64 {
    let own = FIRST_MS.saturating_mul(1 << failures.min(16)).min(MOST_MS);
    let asked = retry_after.map_or(0, |seconds| (seconds * 1000.0) as i64).min(MOST_MS);
    own.max(asked)
}

/// A number from 0 to 1 that is always the same for one text, and as good as random over all.
fn fraction(text: &str) -> f64 {
    let hash = blake3::hash(text.as_bytes());
    let bytes = hash.as_bytes();
    f64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    #[test]
    fn half_of_the_life_spread_and_before_the_margin() {
        let halves: Vec<i64> = (0..200).map(|i| due(fraction(&format!("c{i}")), Some(0), 10 * DAY, 300).half).collect();
        assert!(halves.iter().all(|at| (4 * DAY..=6 * DAY).contains(at)), "{halves:?}");
        let (first, last) = (halves.iter().min().expect("some"), halves.iter().max().expect("some"));
        assert!(last - first > DAY, "they are spread");
        assert_eq!(due(0.25, Some(0), 10 * DAY, 300), due(0.25, Some(0), 10 * DAY, 300));
        assert_eq!(due(0.25, Some(0), 10 * DAY, 300).margin, 10 * DAY - 300);
        // A token of one minute has a margin of half its life, and is due no later.
        for i in 0..50 {
            let short = due(fraction(&format!("c{i}")), Some(1000), 1060, 300);
            assert!((1024..=1030).contains(&short.half) && short.margin == 1030, "{short:?}");
        }
    }

    #[test]
    fn dates_that_make_no_sense_are_no_reason_to_fail() {
        let nominal = due(0.25, None, 100 * DAY, 300);
        assert!((94 * DAY..=96 * DAY).contains(&nominal.half), "{nominal:?}");
        assert_eq!(due(0.25, Some(100 * DAY), 100 * DAY, 300), nominal, "issued when it ends");
        for (issued, expires) in [(i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (0, i64::MIN), (i64::MIN, 0)] {
            let odd = due(0.25, Some(issued), expires, i64::MAX);
            assert!(odd.half <= odd.margin, "{odd:?}");
        }
    }

    #[test]
    fn no_margin_is_longer_than_asked_for() {
        // Whether a token is due is mostly told by this alone.
        for life in [0, 1, 60, 599, 600, 601, 10 * DAY] {
            for margin_s in [0, 1, 300, DAY, 20 * DAY] {
                for issued in [Some(30 * DAY - life), Some(30 * DAY + 1), None] {
                    let margin = due(0.5, issued, 30 * DAY, margin_s).margin;
                    assert!(
                        (30 * DAY - margin_s..=30 * DAY).contains(&margin),
                        "{life} {margin_s} {issued:?}: {margin}"
                    );
                }
            }
        }
    }

    #[test]
    fn waits_grow_to_some_minutes() {
        let waits: Vec<i64> = (0..11).map(|failures| backoff_ms(failures, None) / 1000).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(backoff_ms(0, Some(45.0)), 45_000);
        assert_eq!(backoff_ms(u32::MAX, Some(f64::MAX)), MOST_MS);
        assert!((0..100).all(|i| (0..=SPREAD_MS).contains(&spread_ms(&format!("c{i}")))));
    }
}
