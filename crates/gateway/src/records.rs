//! The last calls, in memory: what `calls list`, `calls show` and `GET /v1/switchboard/calls/{id}` answer from.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{ExecutionTrace, Failure, Reason, Usage, service};

use crate::caller::Caller;

/// Most calls kept.
const MAX_RECORDS: usize = 1000;
/// Most bytes they may take together, as estimated.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// By which face a call came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// gRPC.
    Grpc,
    /// HTTP.
    Http,
}

impl Face {
    /// The name users see.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

/// One call that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Agent that called.
    pub(crate) agent: String,
    /// Id of the key that it called with; an operator has none.
    pub(crate) key_id: Option<String>,
    /// By which face.
    pub(crate) face: Face,
    /// Unix milliseconds of its start.
    pub(crate) started_at_ms: i64,
    /// Duration in milliseconds.
    pub(crate) elapsed_ms: f64,
    /// Why it failed.
    pub(crate) failure: Option<Failure>,
    /// Hop by hop; holds the call's id.
    pub(crate) trace: ExecutionTrace,
    /// Tokens.
    pub(crate) usage: Option<Usage>,
}

impl Record {
    /// About how many bytes it takes. Texts that can be long are counted, the rest is a flat share.
    fn size(&self) -> usize {
        let failure = self.failure.as_ref().map_or(0, |f| f.message.len() + f.candidates.len() * 200);
        let attempts: usize = self.trace.attempts.iter().map(|a| 200 + a.url.len()).sum();
        512 + self.trace.requested_model.len() + failure + attempts + self.trace.hops.len() * 160
    }
}

#[derive(Default)]
struct Ring {
    /// Oldest first.
    records: VecDeque<Arc<Record>>,
    bytes: usize,
}

/// The last calls.
#[derive(Default)]
pub(crate) struct Records {
    ring: Mutex<Ring>,
}

impl Records {
    fn lock(&self) -> MutexGuard<'_, Ring> {
        // A panic elsewhere cannot leave the ring half changed in a way that matters.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a call, and forgets the oldest ones beyond the bounds.
    pub(crate) fn keep(&self, record: Arc<Record>) {
        let mut ring = self.lock();
        ring.bytes += record.size();
        ring.records.push_back(record);
        while ring.records.len() > MAX_RECORDS || (ring.bytes > MAX_BYTES && ring.records.len() > 1) {
            let Some(oldest) = ring.records.pop_front() else { break };
            ring.bytes = ring.bytes.saturating_sub(oldest.size());
        }
    }

    /// A call by its id, if `caller` may see it.
    pub(crate) fn find(&self, call_id: &str, caller: &Caller) -> Option<Arc<Record>> {
        let ring = self.lock();
        ring.records.iter().rev().find(|r| r.trace.call_id == call_id && visible(r, caller)).cloned()
    }

    /// The newest calls that `caller` may see, newest first.
    pub(crate) fn list(&self, caller: &Caller, limit: usize, failed: bool) -> Vec<Arc<Record>> {
        let ring = self.lock();
        let wanted = |r: &&Arc<Record>| visible(r, caller) && (!failed || r.failure.is_some());
        ring.records.iter().rev().filter(wanted).take(limit).cloned().collect()
    }
}

fn visible(record: &Record, caller: &Caller) -> bool {
    caller.operator || (record.key_id.is_some() && record.key_id == caller.key_id)
}

/// The failure of a look-up, whether the call does not exist or was made with another key.
pub(crate) fn no_such_call(call_id: &str) -> Failure {
    let shown: String = call_id.chars().take(64).collect();
    Failure::new(Reason::NotFound, service::GATEWAY, format!("no call {shown:?} among the last 1,000 of this caller"))
}

#[cfg(test)]
mod tests {
    use domain::Reason;

    use super::*;

    fn record(id: usize, agent: &str, message: usize) -> Arc<Record> {
        let failure = (message > 0).then(|| Failure::new(Reason::Internal, "gateway", "x".repeat(message)));
        let trace = ExecutionTrace { call_id: id.to_string(), ..ExecutionTrace::default() };
        let (started_at_ms, elapsed_ms) = (0, 1.0);
        Arc::new(Record {
            agent: agent.into(),
            key_id: (agent != "operator").then(|| format!("key of {agent}")),
            face: Face::Http,
            started_at_ms,
            elapsed_ms,
            failure,
            trace,
            usage: None,
        })
    }

    fn caller(agent: &str, operator: bool) -> Caller {
        Caller {
            agent: agent.into(),
            operator,
            models: vec![],
            credentials: vec![],
            key_id: (!operator).then(|| format!("key of {agent}")),
        }
    }

    #[test]
    fn a_key_sees_its_own_calls() {
        let records = Records::default();
        records.keep(record(1, "a", 0));
        records.keep(record(2, "b", 5));
        records.keep(record(3, "operator", 0));
        assert!(records.find("2", &caller("a", false)).is_none());
        assert!(records.find("2", &caller("b", false)).is_some());
        let ids = |c: &Caller, failed| -> Vec<String> {
            records.list(c, 10, failed).iter().map(|r| r.trace.call_id.clone()).collect()
        };
        assert_eq!(ids(&caller("a", false), false), ["1"]);
        let other_key = Caller { key_id: Some("another key of a".into()), ..caller("a", false) };
        assert!(ids(&other_key, false).is_empty(), "a key of the same agent may be somebody else's");
        assert_eq!(ids(&caller("main", true), false), ["3", "2", "1"]);
        assert_eq!(ids(&caller("main", true), true), ["2"]);
    }

    #[test]
    fn the_ring_is_bounded() {
        let records = Records::default();
        for id in 0..MAX_RECORDS + 5 {
            records.keep(record(id, "a", 0));
        }
        let operator = caller("main", true);
        assert_eq!(records.list(&operator, usize::MAX, false).len(), MAX_RECORDS);
        assert!(records.find("4", &operator).is_none() && records.find("5", &operator).is_some());
        for id in 0..3 {
            records.keep(record(id, "a", MAX_BYTES / 2));
        }
        assert_eq!(records.list(&operator, usize::MAX, false).len(), 1);
        assert!(records.lock().bytes <= MAX_BYTES);
    }
}
