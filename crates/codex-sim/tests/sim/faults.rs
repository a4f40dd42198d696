//! Streams that break, connections that end, clients that leave.

use std::time::Duration;

use codex_sim::{Scenario, SimConfig};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{ACCOUNT, Bench, RESPONSES, body, events, read, types};

const SOON: Duration = Duration::from_millis(400);

#[tokio::test]
async fn failures_within_a_stream() {
    let bench = Bench::start().await;
    for (scenario, kind, code) in [
        ("failed:rate_limit_exceeded", "response.failed", "rate_limit_exceeded"),
        ("failed:server_is_overloaded", "response.failed", "server_is_overloaded"),
        ("policy:cyber_policy", "response.failed", "cyber_policy"),
        ("incomplete", "response.incomplete", "max_output_tokens"),
    ] {
        let (stream, whole) = read(bench.ask_as(scenario).await.unwrap()).await;
        let events = events(&stream);
        let response = &events.last().unwrap()["response"];
        assert_eq!((types(&events)[0], *types(&events).last().unwrap(), whole), ("response.created", kind, true));
        assert!(response["error"]["code"] == code || response["incomplete_details"]["reason"] == code, "{scenario}");
        assert_eq!(bench.last().outcome, kind.trim_start_matches("response."));
    }
    let stream = read(bench.ask_as("failed:rate_limit_exceeded").await.unwrap()).await.0;
    assert!(stream.contains("Please try again in 1.5s."));
}

#[tokio::test]
async fn streams_break_off_where_they_are_told_over_both_versions() {
    for bench in [Bench::start().await, Bench::tls().await] {
        for (scenario, count, whole, outcome) in [
            ("cut_before_event", 0, false, "cut"),
            ("cut:3", 3, false, "cut"),
            ("reset_stream:2", 2, false, "reset"),
            ("end_early:4", 4, true, "ended_early"),
            ("end_early:100", 11, true, "ended_early"),
        ] {
            let response = bench.ask_as(scenario).await.unwrap();
            assert_eq!(response.status(), 200);
            let (stream, ended_well) = read(response).await;
            let events = events(&stream);
            assert!(!types(&events).contains(&"response.completed"));
            let expected = if scenario == "end_early:100" { events.len() } else { count };
            assert_eq!((events.len(), ended_well), (expected, whole), "{scenario}");
            let record = bench.until(|record| record.finished_at_unix_ms.is_some()).await;
            assert_eq!((record.outcome.as_str(), record.client_gone()), (outcome, false), "{scenario}");
        }
    }
}

#[tokio::test]
async fn a_stream_reset_leaves_an_http_2_connection_alone() {
    let bench = Bench::tls().await;
    read(bench.ask_as("reset_stream").await.unwrap()).await;
    read(bench.ask_as("ok").await.unwrap()).await;
    assert_eq!(bench.sim.state().total_connections(), 1);
    read(bench.ask_as("cut").await.unwrap()).await;
    read(bench.ask_as("ok").await.unwrap()).await;
    assert_eq!(bench.sim.state().total_connections(), 2);
}

#[tokio::test]
async fn silence_lasts_until_the_client_gives_up() {
    for bench in [Bench::start().await, Bench::tls().await] {
        assert!(timeout(SOON, bench.ask_as("no_headers")).await.is_err());
        let record = bench.until(|record| record.client_gone()).await;
        assert_eq!(record.status, None);

        let mut response = bench.ask_as("silence:2").await.unwrap();
        let mut seen = String::new();
        while let Ok(chunk) = timeout(SOON, response.chunk()).await {
            seen.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
        }
        assert_eq!(types(&events(&seen)), ["response.created", "response.in_progress"]);
        assert_eq!(bench.last().outcome, "silent");
        drop(response);
        bench.until(|record| record.client_gone()).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_with_the_time() {
    for mut bench in [Bench::start().await, Bench::tls().await] {
        let mut response = bench.ask("[[sim:long:10000:10:5]]").await.unwrap();
        response.chunk().await.unwrap();
        assert_eq!(bench.sim.state().open_streams(), 1);
        let before = bench.last().at_unix_ms;
        drop(response);
        let record = bench.until(|record| record.client_gone()).await;
        let left = record.client_gone_at_unix_ms.unwrap();
        assert!(left >= before && left < before + 2_000);
        assert_eq!((record.outcome.as_str(), record.finished_at_unix_ms), ("client_gone", None));
        assert!(record.events_sent >= 1);
        let stats = bench.sim.state().stats();
        assert_eq!((stats.open_streams, stats.total_streams, stats.clients_gone), (0, 1, 1));
        bench.client = reqwest::Client::new();
    }
}

#[tokio::test]
async fn connections_end_instead_of_answers() {
    for bench in [Bench::start().await, Bench::tls().await] {
        for scenario in ["hangup", "goaway", "refused_stream"] {
            assert!(timeout(5 * SOON, bench.ask_as(scenario)).await.unwrap().is_err(), "{scenario}");
            let record = bench.last();
            let http_1_goaway = scenario == "goaway" && !record.tls;
            assert_eq!(record.outcome, if http_1_goaway { "hangup" } else { scenario });
            assert_eq!(record.status, None);
        }
    }
}

#[tokio::test]
async fn http_2_says_that_a_request_was_not_processed() {
    let bench = Bench::tls().await;
    for (scenario, wanted) in [("goaway", "NO_ERROR"), ("refused_stream", "REFUSED_STREAM")] {
        read(bench.ask_as("ok").await.unwrap()).await;
        let error = bench.ask_as(scenario).await.unwrap_err();
        let mut source: Option<&dyn std::error::Error> = Some(&error);
        let reason = std::iter::from_fn(|| {
            let here = source?;
            source = here.source();
            Some(here.downcast_ref::<h2::Error>())
        });
        let h2_error = reason.flatten().next().unwrap();
        assert_eq!(format!("{:?}", h2_error.reason().unwrap()), wanted);
        assert_eq!(h2_error.is_go_away(), scenario == "goaway");
    }
}

#[tokio::test]
async fn places_combine_and_a_broken_account_breaks_any_shape() {
    let bench = Bench::start().await;
    bench.sim.state().set_scenario(ACCOUNT, Some(Scenario::Cut { after: 50 }));
    let (stream, whole) = read(bench.ask("[[sim:long:1000]]").await.unwrap()).await;
    assert_eq!((events(&stream).len(), whole), (50, false));
    assert_eq!(bench.last().scenario.as_deref(), Some("long:1000:16+cut:50"));
}

#[tokio::test]
async fn dropping_connections_and_stopping_leave_nothing_behind() {
    let bench = Bench::with(SimConfig { pace: Duration::from_millis(20), ..SimConfig::default() }).await;
    let state = bench.sim.state().clone();
    let response = bench.post(RESPONSES).json(&body("[[sim:long:1000]]")).send().await.unwrap();
    state.drop_connections();
    assert!(!read(response).await.1);
    assert_eq!(bench.until(|record| record.finished_at_unix_ms.is_some()).await.outcome, "dropped");
    assert_eq!(state.live_connections(), 0);

    let response = bench.post(RESPONSES).json(&body("[[sim:silence]]")).send().await.unwrap();
    assert_eq!(state.live_connections(), 1);
    let url = bench.url(RESPONSES);
    timeout(SOON, bench.sim.stop()).await.unwrap();
    assert!(!read(response).await.1);
    assert_eq!((state.live_connections(), state.open_streams()), (0, 0));
    assert!(bench.client.post(url).json(&json!({})).send().await.is_err());
}
