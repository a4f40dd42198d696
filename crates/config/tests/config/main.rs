//! The configuration as its users meet it: files, variables and flags in, a configuration or error lines out.

#![expect(clippy::expect_used, clippy::panic, reason = "a fixture that cannot be made is a failed test")]

mod defaults;
mod errors;
mod layers;
mod listeners;
mod routes;
mod services;
mod showing;
mod urls;

use std::path::Path;

use config::{ConfigError, LoadOptions, Loaded};

/// A data directory of its own, and what to load from it.
struct Fixture {
    directory: tempfile::TempDir,
    options: LoadOptions,
}

impl Fixture {
    /// A data directory without a file.
    fn empty() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let options = LoadOptions { data_dir: directory.path().to_owned(), ..LoadOptions::default() };
        Self { directory, options }
    }

    /// A data directory with this `switchboard.toml`.
    fn file(content: impl AsRef<[u8]>) -> Self {
        let fixture = Self::empty();
        std::fs::write(fixture.path().join("switchboard.toml"), content).expect("a file");
        fixture
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.options.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn flag(mut self, key: &str, value: &str) -> Self {
        self.options.overrides.push((key.to_owned(), value.to_owned()));
        self
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn try_load(&self) -> Result<Loaded, ConfigError> {
        config::load(&self.options)
    }

    fn load(&self) -> Loaded {
        self.try_load().unwrap_or_else(|error| panic!("refused: {error}"))
    }

    /// The error's lines, with file names as seen from the data directory.
    fn refused(&self) -> String {
        let error = self.try_load().expect_err("a configuration that is refused");
        error.to_string().replace(&format!("{}/", self.path().display()), "")
    }
}

/// The error's lines for a file.
fn refused(content: &str) -> String {
    Fixture::file(content).refused()
}

/// The configuration that a file gives.
fn loaded(content: &str) -> config::Config {
    Fixture::file(content).load().config
}
