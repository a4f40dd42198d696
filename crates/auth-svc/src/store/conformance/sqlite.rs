//! SQLite.

use domain::Clock;
use service_kit::SecretKey;
use tempfile::TempDir;

use super::{Engine, NOW_S, conformance};
use crate::store::{Keys, Store, create, open};

/// A file in a directory of its own.
pub(super) struct Sqlite {
    dir: TempDir,
    key: SecretKey,
    clock: Clock,
}

impl Engine for Sqlite {
    async fn new() -> Self {
        let (dir, key) = (tempfile::tempdir().expect("tempdir"), SecretKey::generate().expect("random"));
        Self { dir, key, clock: Clock::manual(NOW_S * 1000) }
    }

    async fn open(&self) -> Store {
        let path = self.dir.path().join("t.db");
        if path.exists() {
            let keys = Keys { current: self.key.clone(), next: None, source: "its key".to_owned() };
            open(&path, keys, self.clock.clone()).await.expect("opened")
        } else {
            create(&path, self.key.clone(), self.clock.clone(), async |_| Ok(())).await.expect("made")
        }
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }
}

conformance!(cases, crate::store::conformance::sqlite::Sqlite);
