//! Configurations that cannot be: the process names file, line, key and what would be right, and exits with 78.

use std::net::TcpListener;

use e2e::{Home, Output, Topology};

use crate::keys::sent_before_reading;
use crate::support::{World, call, starter, whole};

const SERVICES: [&str; 4] = ["auth-svc", "router-svc", "transport-svc", "gateway"];

/// Every process of the topology refuses, as does `config check`: exit code 78, all of `parts` on standard error.
async fn all_refuse(home: &Home, topology: Topology, parts: &[&str]) {
    let mut refusals = vec![home.cli(&["config", "check"]).await];
    match topology {
        Topology::OneProcess => refusals.push(Output::of(starter(home, topology, "switchboard"), "").await),
        Topology::FourProcesses | Topology::MutualTls => {
            for service in SERVICES {
                refusals.push(Output::of(starter(home, topology, service), "").await);
            }
        }
    }
    for refused in refusals {
        let refused = refused.exits(78);
        for part in parts {
            assert!(refused.stderr.contains(part), "{part}: {refused}");
        }
        assert!(!refused.stderr.contains("panicked"), "{refused}");
    }
    assert!(!home.data_dir().exists(), "nothing was made");
}

e2e::in_each_topology! {
    /// A key that does not exist, with the line it stands on and the nearest one that does.
    async fn an_unknown_key_is_named_with_file_and_line(topology) {
        let world = World::new().await;
        world.home.set("gateway.lisen", "\"127.0.0.1:0\"");
        let text = std::fs::read_to_string(world.home.config_file()).expect("read");
        let line = 1 + text.lines().position(|line| line.starts_with("gateway.lisen")).expect("the line");
        all_refuse(&world.home, topology, &[&format!("switchboard.toml:{line}"), "gateway.lisen", "gateway.listen"])
            .await;
        let as_json = world.home.cli(&["config", "check", "--json"]).await.exits(78).json();
        assert_eq!(as_json["problems"][0]["key"], "gateway.lisen", "{as_json}");
    }

    /// A variable that means nothing is a typing error, not something to pass over.
    async fn an_unknown_variable_is_named(topology) {
        let world = World::new().await;
        world.home.env("SWITCHBOARD__GATEWAY__LISEN", "127.0.0.1:0");
        all_refuse(&world.home, topology, &["SWITCHBOARD__GATEWAY__LISEN", "SWITCHBOARD__GATEWAY__LISTEN"]).await;
        // Variables with one underscore are other programs' business.
        let world = World::new().await;
        world.home.env("SWITCHBOARD_PORT", "tcp://10.0.0.1:7411").env("SWITCHBOARD__GATEWAY__LISTEN", "127.0.0.1:0");
        let _ = world.home.cli(&["config", "check"]).await.ok();
    }

    /// A file that is no text, no TOML, or not there.
    async fn a_file_that_cannot_be_read_is_named(topology) {
        let world = World::new().await;
        let path = world.home.config_file();
        std::fs::write(&path, b"[gateway]\nlisten = \"127.0.0.1:0\xff\"\n").expect("written");
        all_refuse(&world.home, topology, &["switchboard.toml:2", "UTF-8"]).await;
        std::fs::write(&path, b"[gateway]\nlisten = \n").expect("written");
        all_refuse(&world.home, topology, &["switchboard.toml:2", "not TOML"]).await;
        std::fs::write(&path, b"[gateway]\nlisten = 7411\n").expect("written");
        all_refuse(&world.home, topology, &["switchboard.toml:2", "gateway.listen", "7411"]).await;
        std::fs::remove_file(&path).expect("removed");
        all_refuse(&world.home, topology, &["switchboard.toml"]).await;
    }

    /// A Codex target under another API's name is refused before anything starts.
    async fn a_wrong_target_is_refused_by_name(topology) {
        let world = World::new().await;
        world.home.set("providers.mine.target", "\"chatgpt-codx\"");
        all_refuse(&world.home, topology, &["providers.mine.target", "chatgpt-codx", "chatgpt-codex"]).await;
        let world = World::new().await;
        world.home.set("targets.openai-api.base_url", "\"https://chatgpt.com/backend-api/codex\"");
        all_refuse(&world.home, topology, &["targets.openai-api.base_url", "chatgpt-codex"]).await;
        let world = World::new().await;
        world.home.set("auth.identity_url", "\"http://auth.example.com\"");
        all_refuse(&world.home, topology, &["auth.identity_url", "https"]).await;
    }

    /// Ports that others have: agents' and admin.
    async fn a_port_in_use_is_named(topology) {
        let (world, _) = World::with_login().await;
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("an address").to_string();
        for (key, service) in [("gateway.listen", "gateway"), ("gateway.admin_listen", "gateway")] {
            world.home.set(key, format!("\"{address}\""));
            let refused = Output::of(starter(&world.home, topology, service), "").await.exits(1);
            assert!(refused.stderr.contains(&address) && refused.stderr.contains("in use"), "{refused}");
            assert!(!refused.stdout.contains("listening"), "no address is announced before all are bound: {refused}");
            world.home.set(key, "\"127.0.0.1:0\"");
        }
        if topology == Topology::FourProcesses {
            world.home.set("router.admin_listen", format!("\"{address}\""));
            let refused = Output::of(starter(&world.home, topology, "router-svc"), "").await.exits(1);
            assert!(refused.stderr.contains(&address), "{refused}");
            world.home.set("router.admin_listen", "\"127.0.0.1:0\"");
        }
        let sockets = std::fs::read_dir(world.home.data_dir()).expect("a folder");
        let sockets: Vec<_> = sockets
            .map(|e| e.expect("an entry").file_name())
            .filter(|n| n.to_string_lossy().ends_with(".sock"))
            .collect();
        assert!(sockets.is_empty(), "{sockets:?}");
        let switchboard = world.start(topology).await;
        let _ = call(&switchboard, "codex/gpt-5.5").await.ok();
    }

    /// Bodies over the limit, of no known encoding of text, and of no JSON.
    async fn bad_bodies_are_refused_with_their_cause(topology) {
        let (world, _) = World::with_login().await;
        world.home.set("gateway.max_body_bytes", "2000");
        let switchboard = world.start(topology).await;
        let http = switchboard.http();
        let send = async |body: Vec<u8>| {
            let request =
                http.request(reqwest::Method::POST, "/v1/responses").header("content-type", "application/json");
            e2e::Answer::of(request.body(body)).await
        };
        let large = send(whole(&"x".repeat(3000)).to_string().into_bytes()).await.is(413).json();
        assert_eq!(
            (&large["error"]["reason"], &large["error"]["code"]),
            (&"REQUEST_TOO_LARGE".into(), &"request_too_large".into())
        );
        assert!(large["error"]["message"].as_str().expect("a message").contains("2000"), "{large}");
        assert!(large["error"]["next_step"].as_str().expect("a next step").contains("max_body_bytes"), "{large}");
        let question = e2e::question("codex/gpt-5.5", &"x".repeat(3000));
        let over_grpc = switchboard.grpc().complete(question).await.expect_err("too large");
        assert_eq!(over_grpc.code(), tonic::Code::ResourceExhausted);
        assert_eq!(e2e::failure_from_status(&over_grpc, "gateway").reason, domain::Reason::RequestTooLarge);
        // Nor does a connection break over a body of any length.
        let answer = sent_before_reading(switchboard.address(), &switchboard.key(), &"word ".repeat(800_000));
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        // A chunked body says no length beforehand.
        let chunks = futures_util::stream::iter((0..40).map(|_| Ok::<_, std::io::Error>(vec![b' '; 100])));
        let chunked = http.request(reqwest::Method::POST, "/v1/responses").body(reqwest::Body::wrap_stream(chunks));
        let _ = e2e::Answer::of(chunked).await.is(413);

        for (body, cause) in [
            (&b"{\"model\": \"gpt-5.5\", \"input\": \"\xff\xfe\"}"[..], "UTF-8"),
            (b"{\"model\": \"gpt-5.5\", \"input\": ", "JSON"),
            (b"", "JSON"),
            (b"[]", "JSON object"),
            (b"{\"model\": 7, \"input\": \"x\"}", "`model`"),
            (b"{\"model\": \"gpt-5.5\", \"input\": \"x\", \"stream\": \"yes\"}", "`stream`"),
        ] {
            let refused = send(body.to_vec()).await.is(400).json();
            assert_eq!(refused["error"]["reason"], "REQUEST_INVALID", "{refused}");
            assert!(refused["error"]["message"].as_str().expect("a message").contains(cause), "{cause}: {refused}");
        }
        let neither =
            switchboard.grpc().complete(e2e::question("codex/gpt-5.5", "")).await.expect_err("nothing is asked");
        assert_eq!(neither.code(), tonic::Code::InvalidArgument);
        assert_eq!(world.upstream().len(), 0);
        let _ = send(whole("Hello").to_string().into_bytes()).await.is(200);
    }
}
