//! What the canary of every test rests on: processes say themselves that nothing can be read out of them, and an
//! operator who wants to debug one can.

use e2e::Part;
use serde_json::Value;

use crate::support::World;

fn memory(doctor: &Value) -> &Value {
    let all = doctor["findings"].as_array().expect("findings");
    all.iter().find(|finding| finding["subject"] == "memory").expect("it is looked at")
}

/// The soft and hard limit of a process's core dumps.
fn core_limits(id: u32) -> Vec<String> {
    let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).expect("limits");
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("the line").to_owned();
    line.split_whitespace().skip(4).take(2).map(str::to_owned).collect()
}

e2e::in_each_topology! {
    /// No dumps and no debuggers, unless the operator asks for them; then `doctor` and the log say so.
    async fn processes_leave_no_dumps_unless_they_may(topology) {
        let (world, _) = World::with_login().await;
        let mut switchboard = world.start(topology).await;
        for process in switchboard.processes() {
            assert_eq!(core_limits(process.id()), ["0", "0"], "{}", process.name());
        }
        let found = switchboard.cli(&["doctor", "--json"]).await.ok().json();
        assert_eq!(memory(&found)["severity"], "ok", "{found}");
        switchboard.stop().await;

        world.home.env("SWITCHBOARD_ALLOW_CORE", "1");
        let mut switchboard = world.start(topology).await;
        let found = switchboard.cli(&["doctor", "--json"]).await.ok().json();
        assert_eq!(memory(&found)["severity"], "warning", "{found}");
        switchboard.logged(Part::Auth, "core dumps and debuggers").await;
    }

    /// A database key in the environment is in no child's, for there are no children; and with it nothing else changes.
    async fn a_key_in_the_environment_stays_there(topology) {
        let world = World::new().await;
        let key = "c0ffee00".repeat(8);
        world.home.env("SWITCHBOARD_DATABASE_KEY", &key);
        world.login("acct-1", "main").await;
        let switchboard = world.start(topology).await;
        assert!(!world.home.data_dir().join("database.key").exists());
        let found = switchboard.cli(&["doctor", "--json"]).await.ok().json();
        assert!(found.to_string().contains("in the environment of this process"), "{found}");
        // The canary looks at the children of every process, at what they print, and at the database.
        assert!(!found.to_string().contains(&key));
    }
}
