//! `Debug` for the messages that carry secrets: the generated one would print them.

use std::fmt;

use crate::auth::v1::{CreateKeyResponse, ImportFile};

impl fmt::Debug for ImportFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImportFile").field("name", &self.name).field("content_bytes", &self.content.len()).finish()
    }
}

impl fmt::Debug for CreateKeyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateKeyResponse").field("key", &"[redacted]").field("info", &self.info).finish()
    }
}
