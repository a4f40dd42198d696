//! What stands in a backup: a JSON document of rows by table, which no engine is needed to read.
//!
//! A new table or column needs no new version: an older program says what it does not know, and a newer one takes what
//! is absent for unset. The version counts changes that an older program must not misread.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::envelope::EnvelopeError;
use crate::store::Snapshot;

const VERSION: u32 = 1;

/// A backup in the clear.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Document {
    /// Of this layout.
    version: u32,
    /// Of the database that it was made from.
    pub(super) database_id: String,
    /// Unix seconds.
    pub(super) made_at: i64,
    /// Version of the program that made it.
    pub(super) made_by: String,
    /// Rows by table.
    pub(super) tables: Snapshot,
}

/// As much as every version has.
#[derive(Deserialize)]
struct Head {
    version: u32,
    made_by: String,
}

impl Document {
    pub(super) fn new(tables: Snapshot, database_id: &str, made_at: i64) -> Self {
        let made_by = env!("CARGO_PKG_VERSION").to_owned();
        Self { version: VERSION, database_id: database_id.to_owned(), made_at, made_by, tables }
    }

    /// Its JSON, in a memory that is wiped.
    pub(super) fn to_json(&self) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        let failed = |error: serde_json::Error| EnvelopeError::Seal(error.to_string());
        // Counted first, so that the bytes never move: what grows leaves copies behind.
        let mut length = Length(0);
        serde_json::to_writer(&mut length, self).map_err(failed)?;
        let mut json = Zeroizing::new(Vec::with_capacity(length.0));
        serde_json::to_writer(&mut *json, self).map_err(failed)?;
        Ok(json)
    }

    pub(super) fn from_json(json: &[u8]) -> Result<Self, EnvelopeError> {
        // serde's messages may quote a value: not even a line of them is passed on.
        let damaged = |_| EnvelopeError::Damaged("it opens, and its content is no document of this version");
        let head: Head = serde_json::from_slice(json).map_err(damaged)?;
        if head.version > VERSION {
            return Err(EnvelopeError::Newer(format!("switchboard {}", head.made_by)));
        }
        serde_json::from_slice(json).map_err(damaged)
    }
}

struct Length(usize);

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_layout_is_named_and_a_newer_column_is_none() {
        let json = Document::new(Snapshot::default(), "db", 7).to_json().expect("JSON");
        assert_eq!(json.len(), json.capacity());
        let again = Document::from_json(&json).expect("read");
        assert_eq!((again.database_id.as_str(), again.made_at), ("db", 7));
        let newer = br#"{"version":2,"made_by":"9.1","what":[]}"#;
        assert!(matches!(Document::from_json(newer), Err(EnvelopeError::Newer(by)) if by == "switchboard 9.1"));
        let more = br#"{"version":1,"database_id":"d","made_at":1,"made_by":"1","tables":{"later":[{"a":1}],"credentials":[{"id":"i","later":1}]}}"#;
        assert_eq!(Document::from_json(more).expect("read").tables.credentials.len(), 1);
        assert!(matches!(Document::from_json(b"{}"), Err(EnvelopeError::Damaged(_))));
    }
}
