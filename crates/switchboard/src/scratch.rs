//! A private directory that goes when it is dropped.

use std::path::{Path, PathBuf};

use service_kit::DataDir;
use service_kit::startup::StartError;

/// The directory.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in the system's temporary directory, mode 0700.
    pub(crate) fn make(purpose: &str) -> Result<Self, StartError> {
        let path = std::env::temp_dir().join(format!("switchboard-{purpose}-{}", uuid::Uuid::now_v7()));
        DataDir::open(&path, true)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now lies in the system's temporary directory, which is emptied sooner or later.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
