//! The binaries that are measured: those beside this one, built before a run so that none of them is an old one.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Failed;

const BINARIES: [&str; 7] =
    ["codex-sim", "thin-proxy", "switchboard", "auth-svc", "router-svc", "transport-svc", "gateway"];

/// Builds them where `cargo run` started this, and looks whether they are there.
pub(crate) fn ensure(build: bool) -> Result<(), Failed> {
    let own = std::env::current_exe()?;
    let release = own.parent().is_some_and(|folder| folder.ends_with("release"));
    let flag: &[&str] = if release { &["--release"] } else { &[] };
    // Set by cargo for what it runs.
    if let Some(cargo) = std::env::var_os("CARGO").filter(|_| build) {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut command = Command::new(cargo);
        command.current_dir(workspace).args(["build", "--workspace", "--bins"]).args(flag).stdin(Stdio::null());
        if !command.status()?.success() {
            return Err("the binaries cannot be built".into());
        }
    }
    match BINARIES.iter().map(|name| own.with_file_name(name)).find(|path| !path.is_file()) {
        Some(path) => Err(format!(
            "{} is not there: build it with `cargo build {}--workspace --bins`, then start this again",
            path.display(),
            flag.iter().map(|flag| format!("{flag} ")).collect::<String>()
        )
        .into()),
        None => Ok(()),
    }
}
