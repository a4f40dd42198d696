//! Another user of the same machine.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{Home, Output, Topology};

use crate::support::{World, lasting_files, starter};

/// `nobody`.
const STRANGER: u32 = 65534;

/// True if this test may run commands as other users; says so if not.
pub(crate) fn can_be_others() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: only root can run a command as another user");
    }
    root
}

/// A copy of a binary where every user finds it: the build directory may be private.
fn public_copy(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    set_mode(folder.path(), 0o755);
    let copy = folder.path().join(name);
    if !copy.exists() {
        // By another process: a file that this one has open for writing would be "busy" for any command that it starts
        // at the same time.
        let status = Command::new("cp").arg(e2e::bin(name)).arg(&copy).status().expect("cp");
        assert!(status.success());
        set_mode(&copy, 0o755);
    }
    copy
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its mode can be changed");
}

/// `command` run by the stranger, from a copy of its program.
async fn as_stranger(folder: &tempfile::TempDir, command: &Command) -> Output {
    let name = Path::new(command.get_program()).file_name().expect("a name").to_string_lossy().into_owned();
    let mut other = Command::new(public_copy(folder, &name));
    other.args(command.get_args()).env_clear().current_dir("/").uid(STRANGER).gid(STRANGER);
    other.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))).filter(|(name, _)| *name != "HOME"));
    Output::of(other, "").await
}

/// Runs the CLI against a server's socket as the stranger.
async fn ask(folder: &tempfile::TempDir, home: &Home, socket: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(e2e::bin("switchboard"));
    command
        .arg("--data-dir")
        .arg(home.data_dir())
        .arg("--server")
        .arg(format!("unix://{}", socket.display()))
        .args(args);
    as_stranger(folder, &command).await
}

e2e::in_each_topology! {
    /// The modes of directory and sockets keep strangers out; with the modes loosened by mistake, every service still
    /// refuses them by name.
    async fn another_user_is_refused_twice_over(topology) {
        if !can_be_others() {
            return;
        }
        let (world, login) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let data = world.home.data_dir();
        let folder = tempfile::tempdir().expect("a folder");
        let sockets: Vec<PathBuf> = std::fs::read_dir(&data)
            .expect("the data directory")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "sock"))
            .collect();
        assert_eq!(sockets.len(), if topology == Topology::OneProcess { 1 } else { 4 }, "{sockets:?}");
        let mode = |path: &Path| std::fs::metadata(path).expect("its mode").permissions().mode() & 0o777;
        assert_eq!(mode(&data), 0o700);
        assert!(sockets.iter().all(|socket| mode(socket) == 0o600), "{sockets:?}");
        for (name, _) in lasting_files(&world.home) {
            assert_eq!(mode(&data.join(&name)) & 0o077, 0, "{name} is private");
        }

        let operate = match topology {
            Topology::OneProcess => data.join("switchboard.sock"),
            Topology::FourProcesses | Topology::MutualTls => data.join("auth-svc.sock"),
        };
        let talk = match topology {
            Topology::OneProcess => data.join("switchboard.sock"),
            Topology::FourProcesses | Topology::MutualTls => data.join("gateway.sock"),
        };
        for args in [&["credentials", "list"][..], &["call", "--message", "Hello"]] {
            let refused = ask(&folder, &world.home, &operate, args).await.exits(1);
            assert!(
                refused.stderr.contains("PEER_REFUSED") && refused.stderr.contains("ermission denied"),
                "{refused}"
            );
        }

        set_mode(&world.home.path("."), 0o711);
        set_mode(&data, 0o711);
        for socket in &sockets {
            set_mode(socket, 0o666);
        }
        for args in [
            &["credentials", "list"][..],
            &["keys", "list"],
            &["keys", "create", "mine"],
            &["credentials", "remove", "main"],
        ] {
            let refused = ask(&folder, &world.home, &operate, args).await.exits(1);
            assert!(refused.stderr.contains("PEER_REFUSED"), "{refused}");
            assert!(refused.stderr.contains("auth-svc") && refused.stderr.contains("uid 65534"), "{refused}");
        }
        // The gateway's own methods ask a stranger for a key, as they ask everybody.
        for args in [&["call", "--message", "Hello"][..], &["models", "status"], &["calls", "list"]] {
            let refused = ask(&folder, &world.home, &talk, args).await.exits(1);
            assert!(refused.stderr.contains("AGENT_KEY_INVALID"), "{refused}");
        }
        assert_eq!(world.upstream().len(), 0);
        let kept = switchboard.cli(&["credentials", "list", "--json"]).await.ok();
        assert_eq!(kept.json()["credentials"][0]["label"], "main");
        assert!(!kept.stdout.contains(&login.access_token));
    }

    /// A data directory that cannot be written, or made, is an error that names it; nothing is left behind.
    async fn a_directory_that_cannot_be_used_is_named(topology) {
        let world = World::new().await;
        // Root writes everywhere: then the stranger runs it, in a place of its own.
        let other = rustix::process::geteuid().is_root();
        let folder = tempfile::tempdir().expect("a folder");
        let parent = world.home.path("parent");
        std::fs::create_dir(&parent).expect("made");
        if other {
            set_mode(&world.home.path("."), 0o711);
            set_mode(&world.home.config_file(), 0o644);
            chown(&parent, Some(STRANGER), Some(STRANGER)).expect("given away");
        }
        for (mode, name) in [(0o500, "absent"), (0o700, "read-only")] {
            set_mode(&parent, mode);
            let data = parent.join(name);
            if name == "read-only" {
                std::fs::create_dir(&data).expect("made");
                if other {
                    chown(&data, Some(STRANGER), Some(STRANGER)).expect("given away");
                }
                set_mode(&data, 0o500);
            }
            let mut command = starter(&world.home, topology, "auth-svc");
            // The last one counts for neither: clap takes an option once. So the command is made anew.
            let program = command.get_program().to_owned();
            let sub: Vec<_> = command.get_args().skip(4).map(std::ffi::OsStr::to_owned).collect();
            command = Command::new(program);
            command.arg("--data-dir").arg(&data).arg("--config").arg(world.home.config_file()).args(sub);
            let refused = if other { as_stranger(&folder, &command).await } else { Output::of(command, "").await };
            let refused = refused.exits(1);
            assert!(refused.stderr.contains(&data.display().to_string()), "{refused}");
            assert!(refused.stderr.to_lowercase().contains("permission denied"), "{refused}");
            let left = std::fs::read_dir(&data).map(Iterator::count).unwrap_or_default();
            assert_eq!(left, 0, "nothing was made");
        }
        set_mode(&parent, 0o700);
    }

    /// Another user's data directory is not taken over.
    async fn a_directory_of_another_user_is_refused(topology) {
        if !can_be_others() {
            return;
        }
        let world = World::new().await;
        let data = world.home.data_dir();
        std::fs::create_dir(&data).expect("made");
        set_mode(&data, 0o700);
        chown(&data, Some(STRANGER), Some(STRANGER)).expect("given away");
        let refused = Output::of(starter(&world.home, topology, "auth-svc"), "").await.exits(1);
        assert!(refused.stderr.contains("belongs to user id 65534"), "{refused}");
        chown(&data, Some(0), Some(0)).expect("taken back");
        set_mode(&data, 0o755);
        let refused = Output::of(starter(&world.home, topology, "auth-svc"), "").await.exits(1);
        assert!(refused.stderr.contains("0755") && refused.stderr.contains("chmod 700"), "{refused}");
    }
}
