//! What answers say of quotas and what calls cost, gathered here and told to auth-svc in batches, off the calls' path;
//! and the usage requests that auth-svc wants made.
//!
//! Nothing here may hold up a call: gathering is a short look into a map under a lock, the maps are bounded, and what
//! does not fit is counted and let go. A quota that was lost is told again by the next answer.

mod flush;
mod probes;

pub(crate) use probes::leave_by;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::day_of;
use proto::auth::v1::{CredentialUsage, KeyUsage};
use proto::common::v1::{Header, QuotaWindow};

use crate::core::Core;

/// Most credentials gathered at once.
const MAX_CREDENTIALS: usize = 10_000;
/// Most keys gathered at once.
const MAX_KEYS: usize = 20_000;
/// Most windows kept of one credential.
const MAX_WINDOWS: usize = 64;
/// How long an auth-svc that does not know these questions yet is left alone.
const OLD_PEER_PAUSE: Duration = Duration::from_secs(600);

/// Begins to tell what is gathered and to make the usage requests that are due, until the gateway closes.
pub(crate) fn start(core: &Arc<Core>) {
    drop(core.tasks.spawn(flush::run(Arc::clone(core))));
    drop(core.tasks.spawn(probes::run(Arc::clone(core))));
}

/// What has been gathered since it was last told.
#[derive(Default)]
pub(crate) struct Collector(Mutex<Gathered>);

#[derive(Default)]
struct Gathered {
    credentials: HashMap<String, CredentialUsage>,
    /// By key and UTC day: what is told after midnight still counts for the day it was used on.
    keys: HashMap<(String, i64), KeyUsage>,
    lost: u64,
}

/// One batch.
#[derive(Debug, Default, PartialEq)]
struct Batch {
    credentials: Vec<CredentialUsage>,
    keys: Vec<KeyUsage>,
    /// Entries that there was no room for.
    lost: u64,
}

impl Collector {
    fn lock(&self) -> MutexGuard<'_, Gathered> {
        // A panic elsewhere cannot leave the maps half changed in a way that matters.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what an answer said of a credential's quota; the newest word on each window counts. `headers` are the
    /// answer's, of which the plan is read; `now_s` is Unix seconds.
    pub(crate) fn quota(&self, credential_id: &str, windows: Vec<QuotaWindow>, headers: &[Header], now_s: i64) {
        if windows.is_empty() {
            return;
        }
        let plan = headers.iter().find(|h| h.name == "x-codex-plan-type").map(|h| h.value.clone());
        let mut gathered = self.lock();
        let room = gathered.credentials.len() < MAX_CREDENTIALS;
        if !room && !gathered.credentials.contains_key(credential_id) {
            gathered.lost += 1;
            return;
        }
        let usage = gathered.credentials.entry(credential_id.to_owned()).or_insert_with(|| CredentialUsage {
            credential_id: credential_id.to_owned(),
            ..CredentialUsage::default()
        });
        usage.observed_at = now_s as f64;
        usage.plan = plan.filter(|plan| !plan.is_empty()).or(usage.plan.take());
        for window in windows {
            let same = |w: &QuotaWindow| w.limit == window.limit && w.window_seconds == window.window_seconds;
            match usage.windows.iter().position(same) {
                Some(at) => usage.windows[at] = window,
                None if usage.windows.len() < MAX_WINDOWS => usage.windows.push(window),
                None => {}
            }
        }
    }

    /// Takes the tokens that a call with this key has used, at `now_s` (Unix seconds).
    pub(crate) fn tokens(&self, key_id: &str, tokens: u64, now_s: i64) {
        if tokens == 0 {
            return;
        }
        let mut gathered = self.lock();
        let day = (key_id.to_owned(), day_of(now_s));
        if gathered.keys.len() >= MAX_KEYS && !gathered.keys.contains_key(&day) {
            gathered.lost += 1;
            return;
        }
        let usage =
            gathered.keys.entry(day).or_insert_with(|| KeyUsage { key_id: key_id.to_owned(), ..Default::default() });
        usage.tokens += tokens as f64;
        usage.at = usage.at.max(now_s as f64);
    }

    /// Everything gathered, if there is anything.
    fn take(&self) -> Option<Batch> {
        let Gathered { credentials, keys, lost } = std::mem::take(&mut *self.lock());
        let batch =
            Batch { credentials: credentials.into_values().collect(), keys: keys.into_values().collect(), lost };
        (batch != Batch::default()).then_some(batch)
    }
}

#[cfg(test)]
mod tests {
    use domain::DAY_S;

    use super::*;

    fn window(limit: &str, seconds: i32, used: f64) -> QuotaWindow {
        QuotaWindow { limit: limit.into(), window_seconds: seconds, used_percent: used, ..QuotaWindow::default() }
    }

    #[test]
    fn the_newest_word_on_each_window_counts() {
        let collector = Collector::default();
        let plan = [Header { name: "x-codex-plan-type".into(), value: "plus".into() }];
        collector.quota("c1", vec![window("codex", 18_000, 1.0), window("codex", 604_800, 5.0)], &plan, 10);
        collector.quota("c1", vec![window("codex", 18_000, 2.0), window("other", 18_000, 9.0)], &[], 20);
        collector.quota("c2", vec![], &plan, 20);
        let batch = collector.take().unwrap();
        let [usage] = batch.credentials.as_slice() else { panic!("{batch:?}") };
        assert_eq!((usage.observed_at, usage.plan.as_deref()), (20.0, Some("plus")));
        let used: Vec<f64> = usage.windows.iter().map(|w| w.used_percent).collect();
        assert_eq!(used, [2.0, 5.0, 9.0]);
        assert!(!usage.probe && usage.allowed.is_none());
        assert_eq!(collector.take(), None);
    }

    #[test]
    fn tokens_count_for_the_day_they_were_used_on() {
        let collector = Collector::default();
        collector.tokens("k1", 5, DAY_S - 10);
        collector.tokens("k1", 7, DAY_S - 20);
        collector.tokens("k1", 100, DAY_S + 1);
        collector.tokens("k2", 0, DAY_S);
        let mut keys = collector.take().unwrap().keys;
        keys.sort_by(|a, b| a.at.total_cmp(&b.at));
        let told: Vec<_> = keys.iter().map(|k| (k.key_id.as_str(), k.tokens, k.at)).collect();
        assert_eq!(told, [("k1", 12.0, (DAY_S - 10) as f64), ("k1", 100.0, (DAY_S + 1) as f64)]);
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let collector = Collector::default();
        for n in 0..MAX_KEYS + 3 {
            collector.tokens(&n.to_string(), 1, 0);
        }
        collector.tokens("0", 1, 0);
        for n in 0..MAX_CREDENTIALS + 2 {
            collector.quota(&n.to_string(), vec![window("codex", 1, 1.0)], &[], 0);
        }
        let many = (0..200).map(|n| window("codex", n, 1.0)).collect();
        collector.quota("0", many, &[], 0);
        let batch = collector.take().unwrap();
        assert_eq!((batch.keys.len(), batch.credentials.len(), batch.lost), (MAX_KEYS, MAX_CREDENTIALS, 5));
        assert!(batch.credentials.iter().all(|c| c.windows.len() <= MAX_WINDOWS));
    }
}
