//! What the gateway has room for: calls under way, and bytes that it holds for them; and how much of it one key may take.
//!
//! Who comes when there is no room is told so at once, with SHED, and costs next to nothing: a queue would only move the
//! memory, and let callers wait for what they give up before it comes.

mod body;
mod key_share;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use domain::{Failure, Reason, service};
use service_kit::{ByteRoom, CallRoom, Full, HeldBytes};
use telemetry::metrics;
use tokio::sync::OwnedSemaphorePermit;

pub(crate) use body::{Counted, Refused, Travelled};
use key_share::{Amount, KeyShares, Part};

/// What the bytes of a key's share are counted in, as those of all are.
const UNIT_BYTES: usize = ByteRoom::UNIT_BYTES;

/// How much room there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measures {
    /// Calls under way.
    pub(crate) calls: usize,
    /// Bytes held for all of them.
    pub(crate) bytes: usize,
    /// How much of each one key may take, in percent.
    pub(crate) key_percent: usize,
    /// The largest body: a key may hold one in any case.
    pub(crate) body_bytes: usize,
}

/// The room there is. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    measures: Measures,
    calls: CallRoom,
    bytes: ByteRoom,
    keys: Arc<KeyShares>,
}

/// A call's place among those under way.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _of_key: Option<Part>,
}

/// Bytes that are held for one call. Cheap to clone; clones share everything. They are given back when the last one goes.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    room: Room,
    /// Bytes that will come, as far as is known before.
    announced: usize,
    /// Whoever reads more bytes than these throws them all away.
    limit: usize,
    share: Arc<Mutex<Share>>,
}

#[derive(Debug, Default)]
struct Share {
    /// Who calls is known, and that they may: what is read from now on is kept.
    counting: bool,
    /// Id of their key; the operator has none.
    key: Option<String>,
    bytes: usize,
    /// Units that are reserved for them: as many are held, and taken of the key's share where there is one.
    units: usize,
    held: Option<HeldBytes>,
    of_key: Option<Part>,
}

impl Room {
    /// An empty room.
    pub(crate) fn new(measures: Measures) -> Self {
        let Measures { calls, bytes, key_percent, body_bytes } = measures;
        // Where one key may take everything, it is the gateway that is full, and its setting that helps.
        let part = |of: usize| if key_percent < 100 { of.saturating_mul(key_percent) / 100 } else { usize::MAX };
        let units = bytes / UNIT_BYTES;
        let most = Amount { calls: part(calls).max(1), units: part(units).max(body_bytes.div_ceil(UNIT_BYTES)) };
        Self {
            measures,
            calls: CallRoom::new(calls, full_of_calls(calls)),
            bytes: ByteRoom::new(bytes, full_of_bytes(bytes)),
            keys: Arc::new(KeyShares::new(most)),
        }
    }

    /// A place for a call with the key of this id; the operator has none.
    ///
    /// # Errors
    ///
    /// SHED if all are taken, or all that one key may take.
    pub(crate) fn enter(&self, key: Option<&str>) -> Result<Place, Failure> {
        let of_key = self.of_key(key, Amount { calls: 1, units: 0 }).map_err(|most| self.key_has_calls(most.calls))?;
        Ok(Place { _permit: self.calls.take()?, _of_key: of_key })
    }

    /// For what comes without an announcement. Nothing is held yet, nor counted before [`Held::begin`].
    pub(crate) fn held(&self) -> Held {
        self.held_for(None, usize::MAX)
    }

    /// For a body of which `announced` bytes will come, and of which more than `limit` are thrown away.
    pub(crate) fn held_for(&self, announced: Option<usize>, limit: usize) -> Held {
        let announced = announced.filter(|bytes| *bytes <= limit).unwrap_or_default();
        Held { room: self.clone(), announced, limit, share: Arc::default() }
    }

    /// Takes a part of a key's share; the error is how much that is.
    fn of_key(&self, key: Option<&str>, more: Amount) -> Result<Option<Part>, Amount> {
        key.map(|key| self.keys.take(key, more)).transpose()
    }

    fn key_has_calls(&self, most: usize) -> Failure {
        metrics::shed("key_calls");
        let Measures { calls, key_percent, .. } = self.measures;
        full(format!(
            "this agent key has {most} calls under way, its share of this gateway: one key may take {key_percent} % of \
             {calls} calls"
        ))
        .next_step("wait and retry, give other agents keys of their own, or raise `[gateway] max_key_share`")
    }

    fn key_has_bytes(&self, most: usize) -> Failure {
        metrics::shed("key_bytes");
        let Measures { bytes, key_percent, .. } = self.measures;
        full(format!(
            "requests and answers of {} bytes are held for this agent key, its share of this gateway: one key may take \
             {key_percent} % of {bytes} bytes, and no less than one body",
            most.saturating_mul(UNIT_BYTES)
        ))
        .next_step("wait and retry, give other agents keys of their own, or raise `[gateway] max_key_share`")
    }
}

impl Held {
    /// From now on what is read is kept, for the key of this id. What came before, of somebody who may not call, was not.
    /// What is announced has its room from the beginning, or many who come at once would all be let in by half.
    ///
    /// # Errors
    ///
    /// SHED if there is no room for what is announced.
    pub(crate) fn begin(&self, key: Option<&str>) -> Result<(), Failure> {
        self.with(|share| {
            share.key = key.map(str::to_owned);
            self.reserve(share, self.announced)?;
            share.counting = true;
            Ok(())
        })
    }

    /// Takes note of `bytes` more.
    ///
    /// # Errors
    ///
    /// SHED if there is no room for them.
    pub(crate) fn grow(&self, bytes: usize) -> Result<(), Failure> {
        self.with(|share| {
            if !share.counting {
                return Ok(());
            }
            let grown = share.bytes.saturating_add(bytes);
            if grown > self.limit {
                *share = Share::default();
                return Ok(());
            }
            if let Err(full) = self.reserve(share, grown) {
                // All of it is refused; what came is thrown away, and so is what still comes.
                *share = Share::default();
                return Err(full);
            }
            share.bytes = grown;
            Ok(())
        })
    }

    fn reserve(&self, share: &mut Share, bytes: usize) -> Result<(), Failure> {
        let units = bytes.div_ceil(UNIT_BYTES);
        let Some(more) = units.checked_sub(share.units).filter(|more| *more > 0) else { return Ok(()) };
        let amount = Amount { calls: 0, units: more };
        let of_key = self.room.of_key(share.key.as_deref(), amount);
        let of_key = of_key.map_err(|most| self.room.key_has_bytes(most.units))?;
        share.held.get_or_insert_with(|| self.room.bytes.held()).announce(units.saturating_mul(UNIT_BYTES))?;
        match (&mut share.of_key, of_key) {
            (Some(held), Some(more)) => held.merge(more),
            (held, more) => *held = more,
        }
        share.units = units;
        Ok(())
    }

    /// They are held no more.
    pub(crate) fn give_back(&self) {
        self.with(|share| *share = Share::default());
    }

    fn with<T>(&self, change: impl FnOnce(&mut Share) -> T) -> T {
        // A panic elsewhere cannot leave a count half changed.
        change(&mut self.share.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn full_of_calls(most: usize) -> Full {
    Full {
        service: service::GATEWAY,
        what: "calls",
        message: format!("this gateway has {most} calls under way, as many as it takes"),
        next_step: "wait and retry, add a gateway, or raise `[gateway] max_calls`",
    }
}

fn full_of_bytes(most: usize) -> Full {
    Full {
        service: service::GATEWAY,
        what: "bytes",
        message: format!("this gateway holds requests and answers of {most} bytes, as many as it takes"),
        next_step: "wait and retry, add a gateway, or raise `[gateway] max_held_bytes`",
    }
}

fn full(message: String) -> Failure {
    Failure::new(Reason::Shed, service::GATEWAY, message)
}
