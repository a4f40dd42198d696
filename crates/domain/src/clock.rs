//! Time as a value, so that tests can move it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Wall-clock time in Unix milliseconds: the system's, or one that a test sets.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Milliseconds that stand in for the system's; `None` is the system's clock.
    manual: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self { manual: None }
    }

    /// A clock that stands still at `unix_ms` until it is moved.
    pub fn manual(unix_ms: i64) -> Self {
        Self { manual: Some(Arc::new(AtomicI64::new(unix_ms))) }
    }

    /// Moves a manual clock by `ms`; the system's clock cannot be moved, and this does nothing.
    pub fn advance_ms(&self, ms: i64) {
        if let Some(manual) = &self.manual {
            manual.fetch_add(ms, Ordering::SeqCst);
        }
    }

    /// Unix time in milliseconds. A system clock before 1970 reads 0.
    pub fn now_ms(&self) -> i64 {
        match &self.manual {
            Some(manual) => manual.load(Ordering::SeqCst),
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .ok()
                .and_then(|d| i64::try_from(d.as_millis()).ok())
                .unwrap_or(0),
        }
    }

    /// Unix time in whole seconds.
    pub fn now_s(&self) -> i64 {
        self.now_ms() / 1000
    }
}
