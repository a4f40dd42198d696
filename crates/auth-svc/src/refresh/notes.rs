//! What is known about a credential's token for the moment only: that its refresh has just failed, that the upstream
//! has just rejected it. A restart forgets it and tries anew.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// First wait after a failed refresh, in milliseconds; doubles each time.
const FIRST_MS: i64 = 1_000;
/// Longest wait of our own, in milliseconds.
const MOST_MS: i64 = 30_000;
/// Longest wait that the provider can ask for, in milliseconds.
const MOST_ASKED_MS: i64 = 300_000;
/// Most credentials that something is noted of.
const MOST: usize = 10_000;

/// About one version of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// The version.
    pub(crate) version: i32,
    /// True if the upstream has rejected its access token.
    pub(crate) rejected: bool,
    /// Why its refresh failed; empty if it did not.
    pub(crate) cause: String,
    /// Unix milliseconds before which it is not refreshed again.
    pub(crate) retry_at_ms: i64,
    /// Unix milliseconds at which its refresh first failed; 0 if it did not.
    pub(crate) since_ms: i64,
    /// Failures in a row.
    strikes: u32,
}

impl Note {
    /// Unix milliseconds before which it is not refreshed again; now if the clock has been put back since it was noted.
    pub(crate) fn retry_ms(&self, now_ms: i64) -> i64 {
        if self.retry_at_ms.saturating_sub(now_ms) > MOST_ASKED_MS { now_ms } else { self.retry_at_ms }
    }
}

/// All notes, by credential id.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<HashMap<String, Note>>);

impl Notes {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Note>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The note about this version, if there is one.
    pub(crate) fn get(&self, id: &str, version: i32) -> Option<Note> {
        self.lock().get(id).filter(|note| note.version == version).cloned()
    }

    fn change(&self, id: &str, version: i32, change: impl FnOnce(&mut Note)) {
        let fresh = || Note { version, rejected: false, cause: String::new(), retry_at_ms: 0, since_ms: 0, strikes: 0 };
        let mut notes = self.lock();
        if notes.len() >= MOST && !notes.contains_key(id) {
            // Of credentials that are no more, nearly all: what still fails is noted again.
            notes.clear();
        }
        let note = notes.entry(id.to_owned()).or_insert_with(fresh);
        if note.version != version {
            *note = fresh();
        }
        change(note);
    }

    /// The upstream has rejected this version.
    pub(crate) fn rejected(&self, id: &str, version: i32) {
        self.change(id, version, |note| note.rejected = true);
    }

    /// A refresh of this version failed for now. `earlier` failures in a row are on record from before.
    pub(crate) fn failed(
        &self,
        id: &str,
        version: i32,
        cause: &str,
        retry_after: Option<f64>,
        now_ms: i64,
        earlier: u32,
    ) {
        self.change(id, version, |note| {
            note.strikes = note.strikes.max(earlier);
            let own = FIRST_MS.saturating_mul(1 << note.strikes.min(10)).min(MOST_MS);
            let asked = retry_after.map_or(0, |seconds| (seconds * 1000.0) as i64).min(MOST_ASKED_MS);
            if note.strikes == 0 {
                note.since_ms = now_ms;
            }
            note.strikes = note.strikes.saturating_add(1);
            note.retry_at_ms = now_ms.saturating_add(own.max(asked));
            cause.clone_into(&mut note.cause);
        });
    }

    /// Nothing more is known about this credential.
    pub(crate) fn forget(&self, id: &str) {
        self.lock().remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_limit_and_belong_to_a_version() {
        let notes = Notes::default();
        let waits: Vec<i64> = (0..7)
            .map(|_| {
                notes.failed("c", 1, "down", None, 0, 0);
                notes.get("c", 1).expect("noted").retry_at_ms
            })
            .collect();
        assert_eq!(waits, [1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(notes.get("c", 2), None);
        notes.failed("c", 2, "down", Some(45.0), 0, 0);
        assert_eq!(notes.get("c", 2).expect("noted").retry_at_ms, 45_000);
        notes.failed("c", 3, "down", Some(f64::MAX), 0, 0);
        assert_eq!(notes.get("c", 3).expect("noted").retry_at_ms, MOST_ASKED_MS);
        let note = notes.get("c", 3).expect("noted");
        assert_eq!((note.retry_ms(0), note.retry_ms(-1)), (MOST_ASKED_MS, -1), "a clock that was put back is no wait");
        notes.failed("c", 4, "down", None, 0, 3);
        assert_eq!(notes.get("c", 4).expect("noted").retry_at_ms, 8_000, "those before a restart count");
    }
}
