//! The files that auth-svc stands on: who can read them, and whether the disk has room.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use domain::Reason;
use service_kit::Finding;

/// Less room than this on the database's disk is too little, in bytes: a refresh that cannot be written is a login that
/// hangs by this process's life.
const ROOM: u64 = 100 * 1024 * 1024;

/// Where the secrets outside the database are.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The database key's file; `None` where an environment variable holds it.
    pub(crate) database_key: Option<PathBuf>,
    /// The seal key's file; `None` where it is in memory only.
    pub(crate) seal_key: Option<PathBuf>,
    /// The first agent key's file, which its operator may have taken away.
    pub(crate) agent_key: PathBuf,
}

impl Places {
    /// What is found about these files and the `database`.
    pub(super) fn findings(&self, database: &Path) -> Vec<Finding> {
        let mut findings = vec![of_database(database)];
        match &self.database_key {
            Some(file) => findings.extend(of_file("database key", file, true)),
            None => findings.push(Finding::ok("database key", "it is in the environment of this process, in no file")),
        }
        if let Some(file) = &self.seal_key {
            findings.extend(of_file("seal key", file, true));
        }
        findings.extend(of_file("agent key file", &self.agent_key, false));
        findings
    }
}

fn of_database(path: &Path) -> Finding {
    let shown = path.display();
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let free = rustix::fs::statvfs(folder).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    match (open_to_others(path), free) {
        (Some(finding), _) => finding,
        (None, Ok(free)) if free < ROOM => {
            let message = format!("{} MiB are free on the disk of {shown}", free / (1024 * 1024));
            let step = "make room: a refreshed token that cannot be written is lost when this process ends";
            Finding::warning("database", message).next(step).reason(Reason::StoreUnavailable)
        }
        (None, Ok(free)) => {
            let bytes = std::fs::metadata(path).map_or(0, |meta| meta.len());
            let (size, free) = (bytes / 1024, free / (1024 * 1024));
            Finding::ok("database", format!("{shown} ({size} KiB) takes writes; {free} MiB are free on its disk"))
        }
        (None, Err(error)) => {
            Finding::warning("database", format!("the disk of {shown} does not tell its room: {error}"))
        }
    }
}

/// A file that others can read; `None` if it is private or cannot be looked at.
fn open_to_others(path: &Path) -> Option<Finding> {
    let mode = std::fs::metadata(path).ok()?.mode();
    (mode & 0o077 != 0).then(|| {
        let message = format!("{} has mode {:04o}: others can read it", path.display(), mode & 0o7777);
        Finding::warning("file mode", message).next(format!("chmod 600 {}", path.display()))
    })
}

fn of_file(what: &str, path: &Path, needed: bool) -> Option<Finding> {
    match std::fs::metadata(path) {
        // What a container engine mounts there has the modes that it wants.
        Ok(_) if path.starts_with("/run/secrets") => Some(Finding::ok(what, format!("{} is mounted", path.display()))),
        Ok(_) => {
            Some(open_to_others(path).unwrap_or_else(|| Finding::ok(what, format!("{} is private", path.display()))))
        }
        Err(_) if !needed => None,
        Err(error) => {
            let message = format!("{} cannot be looked at any more: {error}", path.display());
            let step = "put it back from your backup: the next start needs it";
            Some(Finding::warning(what, message).next(step))
        }
    }
}
