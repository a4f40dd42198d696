//! The way back from a database that this program does not open, as lines to be typed: a sentence, then indented commands
//! that work as they stand.

use std::path::{Path, PathBuf};

use service_kit::startup::quoted;

/// Moves a database and its side files aside, never over what was moved there before.
fn aside(database: &Path, why: &str) -> String {
    let named = |n: u32| {
        let mut name = database.as_os_str().to_owned();
        name.push(if n == 1 { format!(".{why}") } else { format!(".{why}-{n}") });
        PathBuf::from(name)
    };
    let free = (1..).map(named).find(|path| !path.exists()).unwrap_or_else(|| named(1));
    let (from, to) = (quoted(database), quoted(&free));
    format!("  for f in '' -wal -shm; do [ ! -e {from}$f ] || mv {from}$f {to}$f; done")
}

/// From a newer version's database to this version's program. `copy` is the state before the upgrade, where there is
/// one that this program opens.
pub(crate) fn from_newer(command: &str, database: &Path, copy: Option<&Path>) -> String {
    let mut lines = vec![
        "run the newer version again. Or, to go back to this version and keep every login, as long as the newer version \
         still starts, make a backup with the newer version, and stop it:"
            .to_owned(),
        format!("  {command} backup ~/switchboard.backup"),
        "then, with this version, take it in:".to_owned(),
        aside(database, "newer"),
        format!("  {command} restore ~/switchboard.backup"),
        "and for each login that it says is unconfirmed:".to_owned(),
        format!("  {command} credentials confirm LABEL"),
    ];
    if let Some(copy) = copy {
        lines.push(format!(
            "or go back to the state before the upgrade, kept in {}. Refresh tokens that were used since then are spent, \
             and their logins lost: hand those back first (`switchboard export codex` with the newer version) or log in \
             again. Stop every process, then:",
            copy.display()
        ));
        // Under another name: what the first way has moved there stays.
        lines.push(aside(database, "set-aside"));
        lines.push(format!("  cp -p {} {}", quoted(copy), quoted(database)));
        lines.push("and start this version:".to_owned());
        lines.push(format!("  {command} up"));
    }
    lines.join("\n")
}

/// From a damaged database to one that works.
pub(crate) fn from_damage(command: &str, database: &Path, copy: Option<&Path>) -> String {
    let mut lines = vec![
        "stop every process that uses it, and move it aside (keep it until all logins work again):".to_owned(),
        aside(database, "damaged"),
        "then take your newest backup in:".to_owned(),
        format!("  {command} restore FILE"),
        "and for each login that it says is unconfirmed, if nothing has used it since the backup:".to_owned(),
        format!("  {command} credentials confirm LABEL"),
    ];
    if let Some(copy) = copy {
        lines.push(format!(
            "or, without a backup, go back to the state before the last upgrade, kept in {}; logins that were refreshed \
             since then have to be made again:",
            copy.display()
        ));
        lines.push(format!("  cp -p {} {}", quoted(copy), quoted(database)));
        lines.push(format!("  {command} up"));
    } else {
        lines.push("or, without a backup, begin with an empty database and log in again:".to_owned());
        lines.push(format!("  {command} login codex"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_moved_aside_before_is_not_written_over() {
        let dir = tempfile::tempdir().expect("tempdir");
        let database = dir.path().join("s w.db");
        let lines = from_damage("switchboard", &database, None);
        assert!(lines.contains(&format!("mv '{0}'$f '{0}.damaged'$f", database.display())), "{lines}");
        std::fs::write(dir.path().join("s w.db.damaged"), "").expect("written");
        let lines = from_damage("switchboard", &database, None);
        assert!(lines.contains(".damaged-2'$f"), "{lines}");
    }
}
