//! What the system tells every process of the same user about a process of ours.

use std::os::unix::fs::MetadataExt;

use super::Canary;

/// A variable that may hold a key: its purpose is the secret.
const KEY_VARIABLE: &[u8] = b"SWITCHBOARD_DATABASE_KEY=";
/// The variable that lets a process be dumped.
const ALLOW_CORE: &[u8] = b"SWITCHBOARD_ALLOW_CORE=1";

/// Shows `canary` the arguments and environment of a running process, and complains if it could be dumped or has
/// children, who would inherit that environment.
pub(crate) fn look(canary: &Canary, name: &str, id: u32) {
    let folder = format!("/proc/{id}");
    if let Ok(line) = std::fs::read(format!("{folder}/cmdline")) {
        canary.see(format!("{folder}/cmdline of {name}"), line);
    }
    // Of a process that cannot be dumped only root can read it.
    let environment = std::fs::read(format!("{folder}/environ")).unwrap_or_default();
    let mut may_dump = false;
    for variable in environment.split(|byte| *byte == 0) {
        may_dump |= variable == ALLOW_CORE;
        if !variable.starts_with(KEY_VARIABLE) {
            canary.see(format!("{folder}/environ of {name}"), variable);
        }
    }
    if !may_dump {
        closed(canary, name, &folder);
    }
    let children = std::fs::read_to_string(format!("{folder}/task/{id}/children")).unwrap_or_default();
    if !children.trim().is_empty() {
        canary.complain(format!("{name} has started other processes: {}", children.trim()));
    }
}

fn closed(canary: &Canary, name: &str, folder: &str) {
    let Ok(limits) = std::fs::read_to_string(format!("{folder}/limits")) else { return };
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
    let numbers: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    if numbers != ["0", "0"] {
        canary.complain(format!("{name} may leave core dumps: {core}"));
    }
    // The files of a process that cannot be dumped belong to root. To root itself that tells nothing.
    let owner = std::fs::metadata(folder).map(|meta| meta.uid());
    if !rustix::process::geteuid().is_root() && owner.is_ok_and(|uid| uid != 0) {
        canary.complain(format!("{name} can be dumped and read by a debugger of its user"));
    }
}
