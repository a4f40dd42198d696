//! A disk that is full for real: a small file system in memory as data directory. Every act says so and loses nothing, and
//! what waits goes on by itself as soon as there is room. Where a test may mount nothing, it says so and passes; the
//! same by a limit on the size of files is in `bad_stores`, and by SQLite's own limit in auth-svc's store.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{Home, Output, Part, Switchboard, Topology};

use crate::support::{World, call, lasting_files, start_fails};

/// A file system of a few megabytes, mounted until it is dropped.
struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounted on `at`; `None` where that is not permitted.
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).expect("made");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs"]).arg(at).output();
        match done {
            Ok(done) if done.status.success() => Some(Self { at: at.to_owned() }),
            Ok(done) => skipped(&String::from_utf8_lossy(&done.stderr)),
            Err(error) => skipped(&error.to_string()),
        }
    }

    fn filling(&self) -> PathBuf {
        self.at.join("filling")
    }

    /// Leaves no byte free.
    fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.filling()).expect("made");
        for size in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.filling()).expect("removed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

fn skipped(why: &str) -> Option<Disk> {
    println!("skipped: no file system can be mounted here: {}", why.trim());
    None
}

/// A login on a disk of its own.
async fn on_a_small_disk() -> Option<(World, Disk)> {
    let world = World::new().await;
    let disk = Disk::mount(&world.home.data_dir())?;
    world.login("acct-1", "main").await;
    Some((world, disk))
}

/// It failed, and said that the disk is full and what to do.
#[track_caller]
fn says_full(output: Output) {
    let output = output.exits(1);
    for part in ["error: STORE_UNAVAILABLE", "the disk that holds it is full (", " free)", "next: "] {
        assert!(output.stderr.contains(part), "{part}: {output}");
    }
    assert!(output.stderr.contains("make room") || output.stderr.contains("must have room"), "{output}");
    assert!(!output.stderr.contains("os error") && !output.stderr.contains("disk I/O error"), "{output}");
}

fn names(home: &Home) -> Vec<String> {
    lasting_files(home).into_iter().map(|(name, _)| name).filter(|name| name != "filling").collect()
}

async fn ready(switchboard: &Switchboard) -> (u16, String) {
    let answer = reqwest::get(format!("{}/readyz", switchboard.admin_url(Part::Auth))).await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a text"))
}

e2e::in_each_topology! {
    /// While it serves: each command, and then room again.
    async fn a_server_says_so_and_heals(topology) {
        let Some((world, disk)) = on_a_small_disk().await else { return };
        let home = &world.home;
        let switchboard = world.start(topology).await;
        let passphrase = home.write("passphrase", "correct horse battery staple\n").to_string_lossy().into_owned();
        let file = |name: &str| home.path(name).to_string_lossy().into_owned();
        let (_, another) = home.codex_login(&world.sim, codex_sim::SeedLogin::account("acct-2"));
        let files = names(home);
        disk.fill();
        says_full(switchboard.cli(&["credentials", "refresh", "main"]).await);
        assert!(world.sim.state().token_requests().is_empty(), "no token is spent whose answer has no place");
        says_full(switchboard.cli(&["keys", "create", "mine"]).await);
        says_full(world.import(&another, "another").await);
        says_full(switchboard.cli(&["credentials", "rekey"]).await);
        let here = home.data_dir().join("backup").to_string_lossy().into_owned();
        says_full(switchboard.cli(&["backup", &here, "--passphrase-file", &passphrase]).await);
        let _ = switchboard.cli(&["backup", &file("backup"), "--passphrase-file", &passphrase]).await.ok();
        assert_eq!(names(home), files, "nothing half is left");
        let (code, why) = ready(&switchboard).await;
        assert!(code == 503 && why.contains("the disk that holds it is full"), "{code} {why}");
        let found = switchboard.cli(&["doctor"]).await.exits(1);
        assert!(found.stdout.contains("the disk that holds it is full"), "{found}");
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();

        disk.free();
        e2e::eventually_async("it is ready again", async || ready(&switchboard).await.0 == 200).await;
        let _ = switchboard.cli(&["credentials", "refresh", "main"]).await.ok();
        let _ = switchboard.cli(&["keys", "create", "mine"]).await.ok();
        let _ = world.import(&another, "another").await.ok();
        let _ = switchboard.cli(&["restore", &file("backup"), "--passphrase-file", &passphrase]).await.ok();
        let _ = switchboard.cli(&["credentials", "rekey"]).await.ok();
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        assert!(world.sim.state().stats().logins.iter().all(|login| login.alive));
        drop(switchboard);
        drop(disk);
    }

    /// At a start, and for commands that open the store themselves.
    async fn a_start_says_so_and_changes_nothing(topology) {
        let Some((world, disk)) = on_a_small_disk().await else { return };
        let home = &world.home;
        let mut switchboard = world.start(topology).await;
        switchboard.stop().await;
        disk.fill();
        let before = lasting_files(home);
        says_full(start_fails(home, topology, "auth-svc").await);
        for args in [&["credentials", "list"][..], &["keys", "create", "mine"], &["credentials", "rekey"]] {
            says_full(home.cli(args).await);
        }
        assert!(lasting_files(home) == before);
        disk.free();
        let again = world.start(topology).await;
        let _ = call(&again, "codex/gpt-5.5").await.ok();
        drop(again);
        drop(disk);
    }
}

/// Where there is no room for a first start, the next one is a first start still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_begins_anew() {
    let world = World::new().await;
    let Some(disk) = Disk::mount(&world.home.data_dir()) else { return };
    let (_, path) = world.home.codex_login(&world.sim, codex_sim::SeedLogin::account("acct-1"));
    disk.fill();
    says_full(world.import(&path, "main").await);
    // Room for the keys, and not for the database.
    disk.free();
    fs::write(disk.filling(), vec![b'x'; 3 * 1024 * 1024 - 120 * 1024]).expect("written");
    says_full(start_fails(&world.home, Topology::FourProcesses, "auth-svc").await);
    assert!(names(&world.home).iter().all(|name| name.ends_with(".key")), "{:?}", names(&world.home));
    disk.free();
    let _ = world.import(&path, "main").await.ok();
    let switchboard = world.start(Topology::OneProcess).await;
    let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
    drop(switchboard);
    drop(disk);
}
