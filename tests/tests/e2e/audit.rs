//! The audit log: every act of an operator, with who, what and what came of it.

use e2e::Part;
use proto::router::v1::ReloadRequest;
use proto::router::v1::router_service_client::RouterServiceClient;
use serde_json::Value;
use service_kit::Peer;

use crate::keys::create;
use crate::support::World;

/// Acts with their subjects and outcomes, newest first.
fn told(audit: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let entries = audit["entries"].as_array().expect("entries");
    entries.iter().map(|entry| (text(&entry["act"]), text(&entry["subject"]), text(&entry["outcome"]))).collect()
}

fn acts(of: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    of.iter().map(|(act, subject, outcome)| ((*act).into(), (*subject).into(), (*outcome).into())).collect()
}

e2e::in_each_topology! {
    /// Acts over a socket and acts without a server are in one log; reading it takes no server.
    async fn what_operators_did_is_kept(topology) {
        let (world, _) = World::with_login().await;
        let offline = Peer::InProcess.describe();
        let user = offline.strip_suffix(", in process").expect("who, and how").to_owned();
        let mut switchboard = world.start(topology).await;
        let key = create(&switchboard, &["ci", "--model", "codex/*", "--concurrent", "2"]).await;
        let _ = switchboard.cli(&["keys", "create", "ci"]).await.exits(1);
        let rotated = switchboard.cli(&["keys", "rotate", "ci", "--grace", "1h"]).await.ok().stdout;
        let _ = switchboard.cli(&["keys", "revoke", "ci"]).await.ok();
        let _ = switchboard.cli(&["credentials", "remove", "nobody"]).await.exits(1);
        let audit = switchboard.cli(&["audit", "list", "--json"]).await.ok();
        let expected = acts(&[
            ("credential.remove", "nobody", "NOT_FOUND"),
            ("key.revoke", "ci", "ok"),
            ("key.rotate", "ci", "ok"),
            ("key.create", "ci", "REQUEST_INVALID"),
            ("key.create", "ci", "ok"),
        ]);
        assert_eq!(told(&audit.json())[..5], expected);
        let entries = audit.json()["entries"].clone();
        assert_eq!(entries[2]["detail"], "grace 3600 s");
        assert_eq!(entries[4]["detail"], "agent main; models codex/*; calls at a time 2");
        for entry in 0..5 {
            assert_eq!(entries[entry]["actor"], user.as_str(), "{entries}");
        }
        let import = entries.as_array().expect("entries").iter().find(|entry| entry["act"] == "credential.import");
        assert_eq!(import.expect("made before the start")["actor"], offline.as_str());
        assert!(!audit.stdout.contains(&key) && !audit.stdout.contains(rotated.trim()), "no secret is in it");

        // Routes are router-svc's, which has no database: its operators' acts are in its own log.
        let mut router = RouterServiceClient::new(switchboard.peer(Part::Router));
        let _ = router.reload(ReloadRequest {}).await.expect("reloaded");
        switchboard.logged(Part::Router, "config.reload").await;

        let _ = switchboard.stop().await;
        let narrowed = world.home.cli(&["audit", "list", "--act", "key.r", "--since", "1h", "--json"]).await.ok();
        assert_eq!(told(&narrowed.json()), acts(&[("key.revoke", "ci", "ok"), ("key.rotate", "ci", "ok")]));
        let table = world.home.cli(&["audit", "list", "--limit", "1"]).await.ok().stdout;
        assert!(table.lines().count() == 2 && table.contains("credential.remove") && table.contains(&user), "{table}");
        let _ = world.home.cli(&["audit", "list", "--since", "yesterday"]).await.exits(2);
        let _ = world.home.cli(&["audit", "list", "--limit", "0"]).await.exits(2);
    }
}
