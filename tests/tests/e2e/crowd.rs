//! A crowd: five thousand calls at once, of which there is room for a part. Those have their answers, the others are told so
//! at once, memory grows by what those need who are let in, and when all have gone nothing of them stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use e2e::{Http, Part, Switchboard, eventually, eventually_async};
use reqwest::Client;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::{World, streamed, whole};
use crate::vanished::Account;

/// Calls at once.
const CROWD: usize = 5000;
/// Connections of HTTP/2 that they come by.
const CONNECTIONS: usize = 10;
/// Upstream requests that there is room for, where there are descriptors for as many.
const ADMITTED: usize = 1500;
/// Calls that the gateway lets in: those that go on to the other services, which refuse the rest.
const LET_IN: usize = 2 * ADMITTED;
/// Descriptors for what is not of the crowd: the simulator's, the test's and the processes' own.
const SPARE_FDS: u64 = 500;
/// Idle connections to the upstream that transport-svc keeps for later.
const KEPT_IDLE: f64 = 256.0;
/// Descriptors and tasks that may come and go for other reasons.
const SPARE: f64 = 16.0;
/// What the processes may grow by together: for each call that is let in, over all hops and in a debug build, and for each
/// that is refused what its way in and out again leaves with the allocator.
const GROWTH: u64 = (ADMITTED * 224 * 1024 + (CROWD - ADMITTED) * 24 * 1024) as u64 + 64 * 1024 * 1024;

/// How many upstream requests there are descriptors for, at both of their ends in one process: the soft limit is raised to
/// the hard one, for this process and those that it starts.
fn places() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let places = ADMITTED.min(usize::try_from(most.saturating_sub(SPARE_FDS) / 2).unwrap_or(ADMITTED));
    if places < ADMITTED {
        println!("the limit of descriptors is {most}: {places} calls are let in instead of {ADMITTED}");
    }
    places
}

fn memory(switchboard: &mut Switchboard) -> u64 {
    switchboard.processes().filter_map(|process| process.memory()).sum()
}

/// What has come of the crowd so far.
#[derive(Default)]
struct Tally {
    answering: AtomicUsize,
    completed: AtomicUsize,
    refused: AtomicUsize,
}

/// One of the crowd: let in and answered to the end, or told to come again.
async fn call(client: Client, url: String, key: String, tally: Arc<Tally>) {
    let response =
        client.post(url).bearer_auth(key).json(&streamed("Reply exactly: OK")).send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    if status == 200 {
        tally.answering.fetch_add(1, Ordering::Relaxed);
        let events = response.text().await.expect("a whole answer");
        assert!(events.contains("response.completed"), "{events}");
        tally.completed.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let error: Value = response.json().await.expect("JSON");
    assert_eq!((status, &error["error"]["reason"]), (503, &"SHED".into()), "{error}");
    assert_eq!(headers.get("retry-after").and_then(|value| value.to_str().ok()), Some("1"), "{error}");
    let (service, step) =
        (error["error"]["service"].as_str(), error["error"]["next_step"].as_str().unwrap_or_default());
    let setting = match service {
        Some("gateway") => "[gateway] max_calls",
        Some("transport-svc") => "[transport] max_calls",
        // On a machine that is slow for so many at once.
        Some("auth-svc" | "router-svc") => "[gateway] max_calls",
        _ => panic!("{error}"),
    };
    assert!(step.contains(setting), "{error}");
    tally.refused.fetch_add(1, Ordering::Relaxed);
}

e2e::in_each_topology! {
    async fn a_crowd_is_let_in_as_far_as_there_is_room_and_leaves_nothing_behind(topology) {
        let places = places();
        let (world, _) = World::with_login().await;
        world.home.set("gateway.max_calls", LET_IN.to_string()).set("gateway.max_key_share", "100");
        world.home.set("transport.max_calls", places.to_string());
        let mut switchboard = world.start(topology).await;
        let _ = switchboard.http().respond(&whole("Reply exactly: OK")).await.is(200);
        let (account, before) = (Account::of(&switchboard), memory(&mut switchboard));
        let open_before = account.held().await;
        world.sim.state().hold_streams(true);

        let (began, tally, mut crowd) = (Instant::now(), Arc::new(Tally::default()), JoinSet::new());
        let url = format!("http://{}/v1/responses", switchboard.address());
        for _ in 0..CONNECTIONS {
            let client = Client::builder().no_proxy().http2_prior_knowledge().build().expect("a client");
            for _ in 0..CROWD / CONNECTIONS {
                crowd.spawn(call(client.clone(), url.clone(), switchboard.key(), Arc::clone(&tally)));
            }
        }
        let mut most = 0;
        let settled = || {
            let (answering, refused) = (tally.answering.load(Ordering::Relaxed), tally.refused.load(Ordering::Relaxed));
            (answering, refused, answering + refused == CROWD)
        };
        while !settled().2 {
            // Nobody waits in a queue: every one of them is answered while those that are let in go on.
            assert!(began.elapsed() < 4 * e2e::PATIENCE, "{:?}", settled());
            if let Some(ended) = crowd.try_join_next() {
                ended.expect("as it has to be");
            }
            most = most.max(memory(&mut switchboard));
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        println!("{:?} after {:?}, {} MiB more", settled(), began.elapsed(), most.saturating_sub(before) >> 20);
        // All places are taken, but on a machine that is too slow for so many at once.
        let (answering, refused, _) = settled();
        assert!((places / 10..=places).contains(&answering) && answering + refused == CROWD, "{answering}, {refused}");
        assert_eq!(world.sim.state().open_streams(), answering as u64);
        // A process that is full is no sick one.
        for part in Part::ALL {
            let _ = Http::new(&switchboard.admin_url(part), None).get("/readyz").await.is(200);
        }
        let _ = switchboard.cli(&["health"]).await.ok();

        world.sim.state().hold_streams(false);
        while let Some(ended) = crowd.join_next().await {
            ended.expect("as it has to be");
        }
        assert_eq!(tally.completed.load(Ordering::Relaxed), answering);
        most = most.max(memory(&mut switchboard));
        let grown = most.saturating_sub(before);
        assert!(grown < GROWTH, "memory has grown by {} MiB, of {} at most", grown >> 20, GROWTH >> 20);

        eventually("no upstream request goes on", || world.sim.state().open_streams() == 0).await;
        eventually_async("all has been given back", async || {
            let open = account.held().await;
            open.iter().all(|(name, value)| {
                let idle = if name.starts_with("process_open_fds") { KEPT_IDLE } else { 0.0 };
                *value <= open_before[name] + idle + SPARE
            })
        })
        .await;
        let shed = shed(&switchboard).await;
        // Beside them there are questions that no call waits for.
        let spare = (refused + CROWD / 50) as f64;
        assert!((refused as f64..=spare).contains(&shed), "{shed} counted of {refused} refusals");
        let _ = switchboard.http().respond(&whole("Reply exactly: OK")).await.is(200);
    }
}

/// What all processes have refused.
async fn shed(switchboard: &Switchboard) -> f64 {
    let urls: std::collections::BTreeSet<String> = Part::ALL.map(|part| switchboard.admin_url(part)).into();
    let mut sum = 0.0;
    for url in urls {
        let page = Http::new(&url, None).get("/metrics").await.is(200).text();
        let lines = page.lines().filter(|line| line.starts_with("switchboard_shed_total{"));
        sum += lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
    }
    sum
}
