//! A database, keys and a data directory that are not as they should be: a service does not start, says which file and
//! why, and leaves everything as it is, so that what was there works again once it is mended.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use e2e::{Home, Output, Part, Switchboard, Topology};

use crate::support::{World, call, lasting_files, start_fails, starter};

/// A store with a login and a key, made by a first start, and stopped again.
async fn stopped(topology: Topology) -> World {
    let (world, _) = World::with_login().await;
    let mut switchboard = world.start(topology).await;
    let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
    switchboard.stop().await;
    world
}

fn file(world: &World, name: &str) -> PathBuf {
    world.home.data_dir().join(name)
}

/// What a start says that must fail with `code`, and must not change a byte.
async fn fails(home: &Home, topology: Topology, code: i32, parts: &[&str]) -> Output {
    let before = lasting_files(home);
    let refused = start_fails(home, topology, "auth-svc").await.exits(code);
    for part in parts {
        assert!(refused.stderr.contains(part), "{part}: {refused}");
    }
    assert!(refused.stderr.starts_with("error: ") && !refused.stderr.contains("panicked"), "{refused}");
    assert!(lasting_files(home) == before, "it changed something: {refused}");
    refused
}

/// Starts again and makes a call: nothing was lost.
async fn works(world: &World, topology: Topology) {
    let mut switchboard = world.start(topology).await;
    let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
    let _ = switchboard.http().get("/v1/models").await.is(200);
    switchboard.stop().await;
}

e2e::in_each_topology! {
    /// Damage in the head, in the middle and at the end of the database.
    async fn a_corrupt_database_is_left_as_it_is(topology) {
        let world = stopped(topology).await;
        let path = file(&world, "switchboard.db");
        let whole = std::fs::read(&path).expect("read");
        let mut head = whole.clone();
        head[..16].fill(b'x');
        let mut middle = whole.clone();
        let (from, to) = (whole.len() / 4, whole.len() * 3 / 4);
        for (index, byte) in middle[from..to].iter_mut().enumerate() {
            *byte = (index * 31 + 7) as u8;
        }
        let cut = whole[..whole.len() / 2].to_vec();
        for (what, bytes) in [
            ("head", head),
            ("middle", middle),
            ("cut", cut),
            ("empty", Vec::new()),
            ("text", b"not a database".to_vec()),
        ] {
            std::fs::write(&path, &bytes).expect("written");
            let refused = fails(&world.home, topology, 1, &["switchboard.db", "damaged"]).await;
            assert!(refused.stderr.contains("restore"), "{what}: {refused}");
            // Nor do commands that open the store themselves touch it.
            let refused = world.home.cli(&["credentials", "list"]).await.exits(1);
            assert!(refused.stderr.contains("switchboard.db"), "{what}: {refused}");
            // One line says what is wrong, with SQLite's words last; what is to be typed stands on lines of its own.
            assert_eq!(refused.stderr.matches("error:").count(), 1, "{what}: {refused}");
            assert!(refused.stderr.contains("\n  for f in ") && !refused.stderr.contains("***"), "{what}: {refused}");
            assert!(std::fs::read(&path).expect("read") == bytes, "{what}");
        }
        std::fs::write(&path, &whole).expect("written");
        works(&world, topology).await;
    }

    /// The key of another database, one that others can read, none, and one that is no key.
    async fn without_its_own_key_nothing_starts(topology) {
        let world = stopped(topology).await;
        let path = file(&world, "database.key");
        let key = std::fs::read(&path).expect("read");
        let set_mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("changed");

        world.home.write("data/database.key", &"ab".repeat(32));
        fails(&world.home, topology, 78, &["switchboard.db", "database.key", "nothing was changed"]).await;
        std::fs::write(&path, "not a key").expect("written");
        fails(&world.home, topology, 78, &["database.key", "64 hex digits"]).await;
        std::fs::write(&path, &key).expect("written");
        set_mode(0o644);
        fails(&world.home, topology, 78, &["database.key", "0644", "chmod 600"]).await;
        std::fs::remove_file(&path).expect("removed");
        fails(&world.home, topology, 78, &["switchboard.db", "database.key", "SWITCHBOARD_DATABASE_KEY"]).await;
        assert!(!path.exists(), "no new key is made: it would open nothing");

        // The variable stands in for the file.
        world.home.env("SWITCHBOARD_DATABASE_KEY", "no key");
        fails(&world.home, topology, 78, &["SWITCHBOARD_DATABASE_KEY"]).await;
        world.home.env("SWITCHBOARD_DATABASE_KEY", String::from_utf8_lossy(&key).trim());
        works(&world, topology).await;
    }

    /// A second process on the same data directory, as a server or as a command that needs the store to itself.
    async fn two_processes_do_not_share_a_data_directory(topology) {
        let (world, _) = World::with_login().await;
        let mut switchboard = world.start(topology).await;
        let holder = switchboard.process(Part::Auth).id().to_string();
        let refused = start_fails(&world.home, topology, "auth-svc").await.exits(1);
        let data = world.home.data_dir();
        for part in [data.to_string_lossy().as_ref(), "in use by process", holder.as_str()] {
            assert!(refused.stderr.contains(part), "{part}: {refused}");
        }
        if topology == Topology::FourProcesses {
            // The others hold no database; their sockets tell.
            for service in ["router-svc", "transport-svc", "gateway"] {
                let refused = Output::of(starter(&world.home, topology, service), "").await.exits(1);
                assert!(refused.stderr.contains(&format!("{service}.sock")), "{refused}");
            }
        }
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        // Commands go through the server instead.
        let _ = switchboard.cli(&["keys", "create", "mine"]).await.ok();

        // A holder that answers nobody is not pushed aside.
        switchboard.process(Part::Auth).signal(e2e::Signal::STOP);
        std::fs::rename(socket(&data, topology), data.join("hidden")).expect("renamed");
        let refused = world.home.cli(&["keys", "list"]).await.exits(1);
        let program = if topology == Topology::OneProcess { "switchboard up" } else { "auth-svc" };
        let says = format!("in use by process {holder} ({program}), which does not answer at its socket");
        assert!(refused.stderr.contains(&says) && refused.stderr.contains("try again in a moment"), "{refused}");
        std::fs::rename(data.join("hidden"), socket(&data, topology)).expect("renamed back");
        switchboard.process(Part::Auth).signal(e2e::Signal::CONT);
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
    }

    /// The disk is full while the services run: calls with tokens that live go on, and what a refresh brings in that time
    /// is kept and written when there is room again. `/readyz` says why.
    async fn a_full_disk_loses_nothing(topology) {
        let (world, _) = World::with_login().await;
        let mut switchboard = world.start(topology).await;
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        assert_eq!(ready(&switchboard).await.0, 200);
        // The provider takes its time, and the disk fills up meanwhile.
        world.sim.state().set_token_scenario("acct-1", Some("delay:1500".parse().expect("a scenario")));
        let home = world.home.clone();
        let asking = tokio_util::task::TaskTracker::new();
        let refresh = asking.spawn(async move { home.cli(&["credentials", "refresh", "main"]).await });
        e2e::eventually("the token was asked for", || world.sim.state().token_requests().len() == 1).await;
        full(&mut switchboard, true);
        let failed = refresh.await.expect("not cancelled").exits(1);
        assert!(failed.stderr.contains("STORE_UNAVAILABLE") && failed.stderr.contains("switchboard.db"), "{failed}");
        let (code, why) = ready(&switchboard).await;
        assert_eq!(code, 503);
        for part in ["STORE_UNAVAILABLE", "switchboard.db", "wait in memory", "main"] {
            assert!(why.contains(part), "{part}: {why}");
        }
        // Every health check says what `/readyz` says, and the list says what hangs on this process.
        let health = switchboard.cli(&["health"]).await.exits(1);
        assert!(health.stdout.contains("STORE_UNAVAILABLE") && health.stdout.contains("wait in memory"), "{health}");
        assert!(health.stdout.contains("error  pending writes: "), "{health}");
        let listed = switchboard.cli(&["credentials", "list"]).await.ok();
        assert!(listed.stdout.contains("main: a newer token waits in memory"), "{listed}");
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        let refused = switchboard.cli(&["keys", "create", "mine"]).await.exits(1);
        assert!(refused.stderr.contains("STORE_UNAVAILABLE"), "{refused}");
        full(&mut switchboard, false);
        e2e::eventually_async("it is ready again", async || ready(&switchboard).await.0 == 200).await;
        let _ = switchboard.cli(&["health"]).await.ok();
        switchboard.kill_all().await;
        switchboard.restart().await;
        let kept = switchboard.cli(&["credentials", "show", "main", "--json"]).await.ok().json();
        assert_eq!(kept["version"], 2, "{kept}");
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
        world.sim.state().set_token_scenario("acct-1", None);
        let _ = switchboard.cli(&["credentials", "refresh", "main"]).await.ok();
        let outcomes: Vec<_> = world.sim.state().token_requests().into_iter().map(|one| one.outcome).collect();
        assert_eq!(outcomes, ["ok", "ok"], "the token that was kept in memory is the one that was written");
    }

    /// There is no directory: commands that need one say so and make none.
    async fn an_absent_data_directory_is_named(topology) {
        let world = World::new().await;
        let data = world.home.data_dir();
        for args in [
            &["credentials", "list"][..],
            &["keys", "list"],
            &["call", "--message", "Hello"],
            &["models", "status"],
            &["health"],
        ] {
            let refused = world.home.cli(args).await.exits(1);
            assert!(refused.stderr.contains(data.to_string_lossy().as_ref()), "{refused}");
            assert!(refused.stderr.contains("switchboard up"), "{refused}");
        }
        if topology == Topology::FourProcesses {
            for service in ["auth-svc", "router-svc", "transport-svc", "gateway"] {
                let refused = Output::of(world.home.command(service), "").await.exits(1);
                assert!(refused.stderr.contains("does not exist"), "{refused}");
            }
        }
        assert!(!data.exists());
        std::fs::write(&data, "a file").expect("written");
        let refused = start_fails(&world.home, topology, "auth-svc").await.exits(1);
        assert!(refused.stderr.contains("is not a directory"), "{refused}");
        assert_eq!(std::fs::read(&data).expect("read"), b"a file");
    }
}

/// Lets the process that has the database write to no file any more, or to all again.
fn full(switchboard: &mut Switchboard, full: bool) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let id = switchboard.process(Part::Auth).id();
    let pid = Pid::from_raw(id.try_into().expect("a process id")).expect("a process id");
    let limit = Rlimit { current: full.then_some(0), maximum: None };
    prlimit(Some(pid), Resource::Fsize, limit).expect("a child's limits can be set");
}

/// What `/readyz` of the process that has the database says.
async fn ready(switchboard: &Switchboard) -> (u16, String) {
    let answer = reqwest::get(format!("{}/readyz", switchboard.admin_url(Part::Auth))).await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a text"))
}

/// The socket that operators use.
fn socket(data: &std::path::Path, topology: Topology) -> PathBuf {
    data.join(format!("{}.sock", topology.process_of(Part::Auth)))
}
