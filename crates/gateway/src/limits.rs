//! What an agent key may use at this gateway: requests per minute, calls at a time, and the tokens of the day, which
//! auth-svc counts over all gateways.
//!
//! The minute is a sliding one and counted exactly: at most as many calls as the limit says in any 60 seconds. A token
//! bucket would let nearly twice as many through in its first minute, and what is kept here, a time for each call of
//! the last minute, is little beside the call itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{Failure, Reason, service};
use proto::auth::v1::{KeyLimits, VerifyKeyResponse};
use tokio::time::Instant;

/// The longest wait in seconds that clients are asked to wait out by themselves.
pub(crate) const LONG_WAIT_S: f64 = 60.0;
/// Seconds of a UTC day.
const DAY_S: i64 = 86_400;
/// The window of the rate.
const MINUTE: Duration = Duration::from_secs(60);
/// A key that was not used for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Time between two looks for keys to forget.
const SWEPT_EVERY: Duration = Duration::from_secs(60);

/// Counts what keys use. Cheap to clone; clones share everything.
#[derive(Clone, Default)]
pub(crate) struct Limits {
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    /// By the key's id.
    keys: HashMap<String, Used>,
    swept: Option<Instant>,
    /// Tokens that calls by this gateway have used, by the key's id, of UTC day `day`.
    tokens: HashMap<String, u64>,
    day: i64,
}

struct Used {
    /// Calls under way.
    running: u32,
    /// When the calls of the last minute began, oldest first.
    began: VecDeque<Instant>,
    /// When it was last used.
    seen: Instant,
}

/// A call of a limited key, under way until this goes.
pub(crate) struct Permit {
    limits: Limits,
    key_id: String,
}

impl Limits {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere cannot leave a count half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call in, or says by AGENT_LIMITED why not; a call that is refused counts for nothing. `now_s` is Unix
    /// time. `None` is a key without limits of its own at the gateway.
    pub(crate) fn enter(&self, key: &VerifyKeyResponse, now_s: f64) -> Result<Option<Permit>, Failure> {
        if let Some(until) = key.exhausted_until.filter(|until| *until > now_s) {
            return Err(used_up(key, until, now_s));
        }
        if let Some(until) = self.spent_here(key, now_s) {
            return Err(used_up(key, until, now_s));
        }
        let KeyLimits { requests_per_minute: rate, concurrent_calls: at_once, .. } = key.limits.unwrap_or_default();
        if rate.is_none() && at_once.is_none() {
            return Ok(None);
        }
        let now = Instant::now();
        let mut table = self.lock();
        table.sweep(now);
        let fresh = || Used { running: 0, began: VecDeque::new(), seen: now };
        let used = table.keys.entry(key.key_id.clone()).or_insert_with(fresh);
        used.seen = now;
        if let Some(most) = at_once.filter(|most| used.running >= unsigned(*most)) {
            return Err(too_many(key, most));
        }
        if let Some(most) = rate {
            if let Some(wait) = used.wait(unsigned(most), now) {
                return Err(too_fast(key, most, wait));
            }
            used.began.push_back(now);
        }
        used.running += 1;
        Ok(Some(Permit { limits: self.clone(), key_id: key.key_id.clone() }))
    }

    /// Takes note of tokens that a call with this key has used. What auth-svc counts over all gateways is known some
    /// seconds late; what was used here counts here at once.
    pub(crate) fn spent(&self, key_id: &str, tokens: u64, now_s: i64) {
        let mut table = self.lock();
        table.turn_to(now_s.div_euclid(DAY_S));
        let spent = table.tokens.entry(key_id.to_owned()).or_default();
        *spent = spent.saturating_add(tokens);
    }

    /// The end of the day, if this gateway's own calls alone have used up the tokens of the key.
    fn spent_here(&self, key: &VerifyKeyResponse, now_s: f64) -> Option<f64> {
        let most = key.limits.and_then(|limits| limits.tokens_per_day)?;
        let day = (now_s as i64).div_euclid(DAY_S);
        let mut table = self.lock();
        table.turn_to(day);
        let spent = table.tokens.get(&key.key_id).copied().unwrap_or_default();
        (spent as f64 >= most).then(|| ((day + 1) * DAY_S) as f64)
    }
}

impl Used {
    /// How long until the rate has room for another call; nothing if it has.
    fn wait(&mut self, most: u32, now: Instant) -> Option<Duration> {
        while self.began.front().is_some_and(|began| now.duration_since(*began) >= MINUTE) {
            self.began.pop_front();
        }
        let over = self.began.len().checked_sub(most as usize)?;
        // When the minute of this one ends, there is room.
        let in_the_way = self.began.get(over).copied().unwrap_or(now);
        Some(MINUTE.saturating_sub(now.duration_since(in_the_way)))
    }
}

impl Table {
    /// Forgets the tokens of other days.
    fn turn_to(&mut self, day: i64) {
        if self.day != day {
            self.day = day;
            self.tokens.clear();
        }
    }

    /// Forgets keys that are not in use, so that what is kept is bounded by the traffic of the last minutes.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.duration_since(swept) < SWEPT_EVERY) {
            return;
        }
        self.swept = Some(now);
        self.keys.retain(|_, used| used.running > 0 || now.duration_since(used.seen) < FORGOTTEN_AFTER);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut table = self.limits.lock();
        if let Some(used) = table.keys.get_mut(&self.key_id) {
            used.running = used.running.saturating_sub(1);
            // A long call's key was in use until now.
            used.seen = Instant::now();
        }
    }
}

/// A limit below zero, which auth-svc does not store, lets nothing through.
fn unsigned(limit: i32) -> u32 {
    u32::try_from(limit).unwrap_or(0)
}

fn limited(message: String) -> Failure {
    Failure::new(Reason::AgentLimited, service::GATEWAY, message)
}

fn too_fast(key: &VerifyKeyResponse, most: i32, wait: Duration) -> Failure {
    let message =
        format!("agent key {:?} has reached its limit of requests a minute at this gateway, {most}", key.name);
    // Whole seconds, rounded up: whoever comes back then is let in.
    let seconds = wait.as_secs_f64().ceil().max(1.0);
    limited(message)
        .retry_after(seconds)
        .next_step(format!("wait {seconds} s, or use a key with a higher limit (`switchboard keys create`)"))
}

fn too_many(key: &VerifyKeyResponse, most: i32) -> Failure {
    let message = format!("agent key {:?} has reached its limit of calls at a time at this gateway, {most}", key.name);
    limited(message).next_step("wait for a call to end, or use a key with a higher limit (`switchboard keys create`)")
}

fn used_up(key: &VerifyKeyResponse, until: f64, now_s: f64) -> Failure {
    let most = key.limits.and_then(|limits| limits.tokens_per_day).unwrap_or_default();
    let message = format!("agent key {:?} has used up its {most} tokens of this UTC day", key.name);
    let seconds = (until - now_s).ceil().max(1.0);
    let mut failure = limited(message)
        .retry_after(seconds)
        .next_step("wait for the next UTC day, or use a key with a higher limit (`switchboard keys create`)");
    failure.resets_at = Some(until.ceil() as i64);
    failure.retryable = seconds <= LONG_WAIT_S;
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: f64 = 1e9;

    fn limited_key(id: &str, rate: Option<i32>, at_once: Option<i32>) -> VerifyKeyResponse {
        let limits = KeyLimits { requests_per_minute: rate, concurrent_calls: at_once, tokens_per_day: None };
        let (key_id, name) = (id.to_owned(), format!("name of {id}"));
        VerifyKeyResponse { key_id, name, limits: Some(limits), ..VerifyKeyResponse::default() }
    }

    fn refused(limits: &Limits, key: &VerifyKeyResponse) -> Failure {
        let refused = limits.enter(key, NOW_S).err().unwrap();
        assert_eq!(refused.reason, Reason::AgentLimited);
        assert!(refused.message.contains(&key.name), "{refused}");
        refused
    }

    #[tokio::test(start_paused = true)]
    async fn no_minute_sees_more_requests_than_allowed() {
        let (limits, key) = (Limits::default(), limited_key("a", Some(3), None));
        for wait in [0, 10, 20] {
            tokio::time::advance(Duration::from_secs(wait)).await;
            assert!(limits.enter(&key, NOW_S).is_ok());
        }
        // Calls at 0, 10 and 30 s; now it is 30 s.
        assert_eq!(refused(&limits, &key).retry_after_seconds, Some(30.0));
        tokio::time::advance(Duration::from_millis(29_500)).await;
        assert_eq!(refused(&limits, &key).retry_after_seconds, Some(1.0), "refusals do not count");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(limits.enter(&key, NOW_S).is_ok());
        assert_eq!(refused(&limits, &key).retry_after_seconds, Some(10.0));
        assert!(limits.enter(&limited_key("b", Some(1), None), NOW_S).is_ok(), "another key has its own minute");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_holds_its_place_until_it_ends() {
        let (limits, key) = (Limits::default(), limited_key("a", None, Some(2)));
        let first = limits.enter(&key, NOW_S).unwrap();
        let second = limits.enter(&key, NOW_S).unwrap();
        assert_eq!(refused(&limits, &key).retry_after_seconds, Some(1.0));
        drop(first);
        let third = limits.enter(&key, NOW_S).unwrap();
        refused(&limits, &key);
        drop((second, third));
        assert!(limits.enter(&key, NOW_S).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_for_one_limit_counts_for_no_other() {
        let (limits, key) = (Limits::default(), limited_key("a", Some(2), Some(1)));
        let running = limits.enter(&key, NOW_S).unwrap();
        for _ in 0..5 {
            refused(&limits, &key);
        }
        drop(running);
        drop(limits.enter(&key, NOW_S).unwrap());
        let too_fast = refused(&limits, &key);
        assert!(too_fast.message.contains("requests a minute"), "{too_fast}");
        let idle = limits.lock().keys.get("a").is_some_and(|used| used.running == 0);
        assert!(idle, "a call that is refused holds no place");
    }

    #[tokio::test(start_paused = true)]
    async fn the_tokens_of_the_day_come_back() {
        let limits = Limits::default();
        let mut key = limited_key("a", None, None);
        key.limits = Some(KeyLimits { tokens_per_day: Some(1000.0), ..KeyLimits::default() });
        key.exhausted_until = Some(NOW_S + 7200.5);
        let refused = refused(&limits, &key);
        assert_eq!((refused.resets_at, refused.retry_after_seconds), (Some(1_000_007_201), Some(7201.0)));
        assert!(!refused.retryable && limits.enter(&key, NOW_S + 7150.0).is_err_and(|soon| soon.retryable));
        assert!(limits.enter(&key, NOW_S + 7200.5).is_ok_and(|permit| permit.is_none()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_used_here_counts_here_at_once_and_until_midnight() {
        let limits = Limits::default();
        let mut key = limited_key("a", None, None);
        key.limits = Some(KeyLimits { tokens_per_day: Some(30.0), ..KeyLimits::default() });
        let noon = 1000 * DAY_S + 43_200;
        limits.spent("a", 18, noon);
        limits.spent("b", 99, noon);
        assert!(limits.enter(&key, noon as f64).is_ok());
        limits.spent("a", 18, noon);
        let refused = limits.enter(&key, noon as f64).err().unwrap();
        assert_eq!((refused.reason, refused.resets_at), (Reason::AgentLimited, Some(1001 * DAY_S)));
        assert!(limits.enter(&key, (noon + 43_200) as f64).is_ok(), "another day");
        assert!(limits.enter(&limited_key("a", None, None), noon as f64).is_ok(), "no limit");
    }

    #[tokio::test(start_paused = true)]
    async fn idle_keys_are_forgotten_and_running_ones_are_not() {
        let limits = Limits::default();
        let running = limits.enter(&limited_key("running", None, Some(1)), NOW_S).unwrap();
        drop(limits.enter(&limited_key("idle", Some(1), None), NOW_S).unwrap());
        tokio::time::advance(FORGOTTEN_AFTER + Duration::from_secs(1)).await;
        drop(limits.enter(&limited_key("other", Some(1), None), NOW_S).unwrap());
        let mut known: Vec<String> = limits.lock().keys.keys().cloned().collect();
        known.sort();
        assert_eq!(known, ["other", "running"]);
        drop(running);
    }
}
