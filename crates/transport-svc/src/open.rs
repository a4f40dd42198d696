//! Opening sealed credentials, each once.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{Clock, Failure, Reason, service, timestamp_ms};
use proto::transport::v1::SealedCredential;
use service_kit::{SealKey, SealRefusal, UpstreamSecret, UpstreamUrl};

use crate::targets::{Endpoint, Target};

/// Most seals remembered: a seal lives about a minute, so this is some 4,000 calls a second.
const MAX_SEEN: usize = 256 * 1024;

/// Longer than any seal lives.
const YOUNG: Duration = Duration::from_secs(70);

/// Opens seals and remembers which were opened until they expire.
#[derive(Debug)]
pub(crate) struct Opener {
    key: SealKey,
    clock: Clock,
    /// The beginning of this memory: Unix milliseconds, and a clock that nobody sets.
    since: (i64, Instant),
    seen: Mutex<Seen>,
}

/// Tells one seal from another.
type Nonce = [u8; 24];

#[derive(Debug, Default)]
struct Seen {
    nonces: HashSet<Nonce>,
    /// In the order they were opened, which is nearly that of their expiry: all live equally long.
    order: VecDeque<(i64, Nonce)>,
}

impl Opener {
    pub(crate) fn new(key: SealKey, clock: Clock) -> Self {
        let since = (clock.now_ms(), Instant::now());
        Self { key, clock, since, seen: Mutex::default() }
    }

    /// Opens the seal for this call, and for what stands where `endpoint` does: a seal for a target's calls does not
    /// open for its account endpoints, nor the reverse.
    pub(crate) fn open(
        &self,
        sealed: Option<&SealedCredential>,
        call_id: &str,
        target: &Target,
        endpoint: &Endpoint,
    ) -> Result<UpstreamSecret, Failure> {
        let now = self.clock.now_ms();
        let asked = For { call_id, target: &target.id, base: &endpoint.base, now_ms: now };
        let Some(sealed) = sealed else {
            return Err(refusal("the request holds no sealed credential".to_owned()));
        };
        let secret = self.key.open(sealed, call_id, asked.base, now).map_err(|why| explain(why, sealed, &asked))?;
        if self.may_be_of_before(sealed) {
            return Err(explain(SealRefusal::BeforeStart, sealed, &asked));
        }
        // Only what opened is remembered: nobody without the key can fill the memory.
        self.remember(sealed, now, &asked)?;
        Ok(secret)
    }

    /// True if the seal was made before this memory begins: its key outlives a process, and the memory of what was opened
    /// does not. A little later all such seals have expired; a wall clock that is set back then does no harm.
    fn may_be_of_before(&self, sealed: &SealedCredential) -> bool {
        let (since_ms, started) = self.since;
        started.elapsed() < YOUNG && service_kit::sealed_at_ms(sealed) < since_ms
    }

    fn remember(&self, sealed: &SealedCredential, now: i64, asked: &For<'_>) -> Result<(), Failure> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        while seen.order.front().is_some_and(|(expires, _)| *expires < now) {
            if let Some((_, nonce)) = seen.order.pop_front() {
                seen.nonces.remove(&nonce);
            }
        }
        let nonce = Nonce::try_from(sealed.nonce.as_ref());
        let nonce = nonce.map_err(|_| explain(SealRefusal::Undecryptable, sealed, asked))?;
        if seen.nonces.contains(&nonce) {
            return Err(explain(SealRefusal::Replayed, sealed, asked));
        }
        if seen.nonces.len() >= MAX_SEEN {
            let message =
                format!("{} sealed credentials were opened within a minute, more cannot be told apart", MAX_SEEN);
            return Err(Failure::new(Reason::Shed, service::TRANSPORT, message));
        }
        seen.order.push_back((sealed.expires_at_ms as i64, nonce));
        seen.nonces.insert(nonce);
        Ok(())
    }
}

/// What a seal has to name.
struct For<'a> {
    call_id: &'a str,
    /// Id of the target.
    target: &'a str,
    base: &'a UpstreamUrl,
    /// Unix milliseconds, by this host's clock.
    now_ms: i64,
}

fn explain(why: SealRefusal, sealed: &SealedCredential, asked: &For<'_>) -> Failure {
    let For { call_id, target, base, now_ms } = asked;
    let case = match why {
        SealRefusal::OtherTarget => {
            format!("it names {}{}, and the target {target} is {base}", sealed.origin, sealed.path_prefix)
        }
        SealRefusal::OtherCall => format!("it names call {}, this is call {call_id}", sealed.call_id),
        SealRefusal::Expired | SealRefusal::BeforeStart => format!(
            "call {call_id}, target {target}; sealed at {} by auth-svc's clock, and it is {} by this host's",
            timestamp_ms(service_kit::sealed_at_ms(sealed)),
            timestamp_ms(*now_ms)
        ),
        SealRefusal::Replayed | SealRefusal::Undecryptable => format!("call {call_id}, target {target}"),
    };
    refusal(format!("{why} ({case}; credential {} version {})", sealed.credential_id, sealed.version))
}

/// The failure of a credential that is not opened.
pub(crate) fn refusal(message: String) -> Failure {
    Failure::new(Reason::SealRefused, service::TRANSPORT, message)
}

#[cfg(test)]
mod tests {
    use service_kit::SealRequest;

    use super::*;

    fn target() -> Target {
        let codex = config::Target { base_url: "https://chatgpt.com/backend-api/codex".into(), ..Default::default() };
        Target::new("chatgpt-codex", &codex).expect("good")
    }

    fn seal(key: &SealKey, target: &Target, now_ms: i64) -> SealedCredential {
        let secret = UpstreamSecret { token: "tok".to_owned().into(), account_id: None, fedramp: false, routing: None };
        let request =
            SealRequest { credential_id: "c1", version: 1, call_id: "call", target: &target.responses.base, now_ms };
        key.seal(&request, &secret).expect("sealed")
    }

    #[test]
    fn each_seal_opens_once_and_is_forgotten_when_it_has_expired() {
        let (key, clock, target) = (SealKey::generate().expect("random"), Clock::manual(1_000_000), target());
        let opener = Opener::new(key.clone(), clock.clone());
        let first = seal(&key, &target, clock.now_ms());
        opener.open(Some(&first), "call", &target, &target.responses).expect("opens");
        let again = opener.open(Some(&first), "call", &target, &target.responses).expect_err("replayed");
        assert_eq!(again.reason, Reason::SealRefused);
        assert!(again.message.contains("replayed"), "{}", again.message);
        clock.advance_ms(61_000);
        let expired = opener.open(Some(&first), "call", &target, &target.responses).expect_err("expired");
        assert!(expired.message.contains("expired"), "{}", expired.message);
        opener.open(Some(&seal(&key, &target, clock.now_ms())), "call", &target, &target.responses).expect("opens");
        assert_eq!(opener.seen.lock().expect("lock").nonces.len(), 1);
    }

    #[test]
    fn more_than_can_be_told_apart_is_shed() {
        let (key, clock, target) = (SealKey::generate().expect("random"), Clock::manual(1_000_000), target());
        let opener = Opener::new(key.clone(), clock.clone());
        let others = (0..MAX_SEEN).map(|number| {
            let mut nonce = Nonce::default();
            nonce.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
            nonce
        });
        opener.seen.lock().expect("lock").nonces.extend(others);
        let sealed = seal(&key, &target, clock.now_ms());
        let shed = opener.open(Some(&sealed), "call", &target, &target.responses).expect_err("full");
        assert_eq!((shed.reason, shed.retryable), (Reason::Shed, true), "{shed}");
    }

    #[test]
    fn a_seal_does_not_open_again_after_a_restart() {
        let (key, clock, target) = (SealKey::generate().expect("random"), Clock::manual(1_000_000), target());
        let sealed = seal(&key, &target, clock.now_ms());
        Opener::new(key.clone(), clock.clone()).open(Some(&sealed), "call", &target, &target.responses).expect("opens");
        clock.advance_ms(1_000);
        let restarted = Opener::new(key.clone(), clock.clone());
        let refused = restarted.open(Some(&sealed), "call", &target, &target.responses).expect_err("refused");
        assert_eq!(refused.reason, Reason::SealRefused);
        assert!(refused.message.contains("older than this transport-svc"), "{}", refused.message);
        for words in ["clocks", "by auth-svc's clock", "1970-01-01T00:16:41"] {
            assert!(refused.message.contains(words), "{words}: {}", refused.message);
        }
        restarted
            .open(Some(&seal(&key, &target, clock.now_ms())), "call", &target, &target.responses)
            .expect("a new one opens");
    }

    #[test]
    fn a_refusal_names_its_cause() {
        let (key, target) = (SealKey::generate().expect("random"), target());
        let opener = Opener::new(key.clone(), Clock::manual(0));
        let sealed = seal(&key, &target, 0);
        let cases = [
            (opener.open(None, "call", &target, &target.responses), "no sealed credential"),
            (opener.open(Some(&sealed), "other", &target, &target.responses), "another call"),
            (
                opener.open(
                    Some(&seal(&SealKey::generate().expect("random"), &target, 0)),
                    "call",
                    &target,
                    &target.responses,
                ),
                "cannot be opened",
            ),
        ];
        for (result, text) in cases {
            let failure = result.expect_err(text);
            assert!(failure.message.contains(text), "{}", failure.message);
        }
        let other = config::Target { base_url: "https://evil.example/v1".into(), ..Default::default() };
        let other = Target::new("evil", &other).expect("good");
        let failure = opener.open(Some(&sealed), "call", &other, &other.responses).expect_err("another target");
        assert!(failure.message.contains("names another target"), "{}", failure.message);
        assert!(failure.message.contains("https://evil.example/v1"), "{}", failure.message);
    }

    #[test]
    fn a_seal_for_calls_and_one_for_the_account_do_not_stand_for_each_other() {
        let (key, target) = (SealKey::generate().expect("random"), target());
        let usage = target.usage.clone().expect("the Codex backend has one");
        let opener = Opener::new(key.clone(), Clock::manual(0));
        let secret = UpstreamSecret { token: "tok".to_owned().into(), account_id: None, fedramp: false, routing: None };
        let request = SealRequest { credential_id: "c1", version: 1, call_id: "call", target: &usage.base, now_ms: 0 };
        let for_usage = key.seal(&request, &secret).expect("sealed");
        let for_calls = seal(&key, &target, 0);
        for (sealed, endpoint) in [(&for_usage, &target.responses), (&for_calls, &usage)] {
            let failure = opener.open(Some(sealed), "call", &target, endpoint).expect_err("the other use");
            assert!(failure.message.contains("names another target"), "{}", failure.message);
        }
        opener.open(Some(&for_usage), "call", &target, &usage).expect("opens");
    }
}
