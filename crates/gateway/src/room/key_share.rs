//! How much of the room each key has taken.
//!
//! One key, and so one agent that runs wild, must not take all of it from the others. The rule knows nothing of how many
//! others there are: what is kept free for them is free at the moment they come.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Calls, and units of held bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) calls: usize,
    pub(super) units: usize,
}

/// What each key has taken, by its id. A key that has nothing is not among them.
#[derive(Debug)]
pub(super) struct KeyShares {
    most: Amount,
    taken: Mutex<HashMap<Arc<str>, Amount>>,
}

/// What one key has taken; it is given back when this goes.
#[derive(Debug)]
pub(super) struct Part {
    shares: Arc<KeyShares>,
    key: Arc<str>,
    amount: Amount,
}

impl KeyShares {
    /// One key may take `most`.
    pub(super) fn new(most: Amount) -> Self {
        Self { most, taken: Mutex::default() }
    }

    /// Takes `more` for a key; the error is the most that it may have.
    pub(super) fn take(self: &Arc<Self>, key: &str, more: Amount) -> Result<Part, Amount> {
        let mut taken = self.lock();
        let (key, has) =
            taken.get_key_value(key).map_or_else(|| (key.into(), Amount::default()), |(k, v)| (Arc::clone(k), *v));
        let grown = Amount { calls: has.calls + more.calls, units: has.units + more.units };
        if grown.calls > self.most.calls || grown.units > self.most.units {
            return Err(self.most);
        }
        taken.insert(Arc::clone(&key), grown);
        drop(taken);
        Ok(Part { shares: Arc::clone(self), key, amount: more })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Amount>> {
        // A panic elsewhere cannot leave a count half changed.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    /// Together with another part of the same key.
    pub(super) fn merge(&mut self, mut other: Part) {
        let more = std::mem::take(&mut other.amount);
        self.amount.calls += more.calls;
        self.amount.units += more.units;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut taken = self.shares.lock();
        let Some(has) = taken.get_mut(&self.key) else { return };
        has.calls = has.calls.saturating_sub(self.amount.calls);
        has.units = has.units.saturating_sub(self.amount.units);
        if *has == Amount::default() {
            taken.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_takes_no_more_than_its_share_and_is_forgotten_with_its_last_part() {
        let shares = Arc::new(KeyShares::new(Amount { calls: 2, units: 10 }));
        let call = Amount { calls: 1, units: 0 };
        let (first, second) = (shares.take("a", call).expect("room"), shares.take("a", call).expect("room"));
        assert_eq!(shares.take("a", call).map(drop), Err(Amount { calls: 2, units: 10 }));
        let other = shares.take("b", call).expect("another key has its own");
        let mut held = shares.take("a", Amount { calls: 0, units: 4 }).expect("room");
        held.merge(shares.take("a", Amount { calls: 0, units: 6 }).expect("room"));
        assert!(shares.take("a", Amount { calls: 0, units: 1 }).is_err());
        drop(first);
        assert!(shares.take("a", call).is_ok() && shares.take("a", Amount { calls: 0, units: 1 }).is_err());
        drop(held);
        assert!(shares.take("a", Amount { calls: 0, units: 10 }).is_ok());
        drop((second, other));
        assert!(shares.lock().is_empty());
    }
}
