//! What every process of ours does before it reads its first secret: no core dump may hold them, no other process of
//! the same user may read them out of its memory, and no file that it makes may be read by others.
//!
//! A process that is not dumpable cannot be attached to by a debugger of the same user, and its files below `/proc`
//! belong to root. What depends on neither goes on working: who is at the other end of a unix socket, `/proc/<pid>/status`
//! and `stat`, and a process's look at itself. To debug one, start it with `SWITCHBOARD_ALLOW_CORE=1`.
//!
//! No process of ours starts another one (`.ci/house` holds that), so there are no children to inherit an environment
//! that may hold `SWITCHBOARD_DATABASE_KEY`.

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, dumpable_behavior, getrlimit, set_dumpable_behavior, setrlimit, umask,
};

/// Set to `1`, it leaves core dumps and debuggers as the system has them.
pub const ALLOW_CORE: &str = "SWITCHBOARD_ALLOW_CORE";

/// Whether what is in this process's memory can get out of it by a dump or a debugger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Neither dumps nor debuggers of the same user.
    Closed,
    /// The operator has allowed both by [`ALLOW_CORE`].
    Allowed,
    /// They are possible, and nobody has asked for it.
    Open,
}

/// Hardens this process. First thing in `main`.
///
/// # Errors
///
/// The system refuses: the process must not go on to read secrets.
pub fn harden() -> std::io::Result<()> {
    umask(Mode::RWXG | Mode::RWXO);
    if allowed() {
        return Ok(());
    }
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // The limit does not hold for a core that is piped to a program; this does.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// How it is with this process now.
pub fn memory() -> Memory {
    let closed = getrlimit(Resource::Core).current == Some(0)
        && dumpable_behavior().is_ok_and(|now| now == DumpableBehavior::NotDumpable);
    match (closed, allowed()) {
        (true, _) => Memory::Closed,
        (false, true) => Memory::Allowed,
        (false, false) => Memory::Open,
    }
}

fn allowed() -> bool {
    std::env::var_os(ALLOW_CORE).is_some_and(|value| value == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardened_process_says_so() {
        // A test process is one that nobody has hardened.
        assert_eq!(memory(), Memory::Open);
        harden().expect("hardened");
        assert_eq!(memory(), Memory::Closed);
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("f");
        std::fs::write(&file, "").expect("written");
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).expect("there"));
        assert_eq!(mode & 0o777, 0o600);
        // What a process asks about itself still works.
        assert!(std::fs::read_link("/proc/self/exe").is_ok() && std::fs::read("/proc/self/status").is_ok());
    }
}
