//! Good answers.

use std::{io::Write as _, time::Duration};

use codex_sim::{SimConfig, TlsMode};
use reqwest::Version;
use serde_json::{Value, json};

use crate::support::{API_KEY, Bench, RESPONSES, body, body_with, events, read, text_of, trusting, types, user};

#[tokio::test]
async fn an_answer_over_http_1_is_complete_and_recorded() {
    let bench = Bench::start().await;
    let response = bench.ask("Reply exactly: Guten Tag").await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_11));
    let headers = response.headers().clone();
    let (stream, whole) = read(response).await;
    let events = events(&stream);
    assert!(whole);
    assert_eq!(text_of(&events), "Guten Tag");
    let mut kinds = types(&events);
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    let numbers: Vec<u64> = events.iter().filter_map(|event| event["sequence_number"].as_u64()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    let usage = &events.last().unwrap()["response"]["usage"];
    assert_eq!((usage["input_tokens"].as_u64(), usage["total_tokens"].as_u64()), (Some(11), Some(18)));
    for name in ["x-request-id", "cf-ray", "openai-model", "x-codex-turn-state", "x-codex-plan-type"] {
        assert!(headers.contains_key(name), "{name}");
    }
    assert_eq!(headers["x-codex-primary-window-minutes"], "300");
    assert_eq!(headers.get_all("set-cookie").iter().count(), 2);

    let record = bench.last();
    assert_eq!((record.path.as_str(), record.outcome.as_str(), record.status), (RESPONSES, "completed", Some(200)));
    assert_eq!(record.credential.as_deref(), Some("acct-1"));
    assert_eq!(record.request_id, headers["x-request-id"].to_str().unwrap());
    assert_eq!(record.body.as_ref().unwrap()["prompt_cache_key"], "session-1");
    assert!(!record.header("authorization").unwrap().contains(&bench.login.access_token));
    assert_eq!((record.events_sent, record.client_gone()), (events.len() as u64, false));
}

#[tokio::test]
async fn http_2_over_tls_shares_one_connection() {
    let bench = Bench::tls().await;
    let (one, two) = tokio::join!(bench.ask("Reply exactly: 1"), bench.ask("Reply exactly: 2"));
    for (response, wanted) in [(one.unwrap(), "1"), (two.unwrap(), "2")] {
        assert_eq!(response.version(), Version::HTTP_2);
        assert_eq!(text_of(&events(&read(response).await.0)), wanted);
    }
    bench.ask("again").await.unwrap();
    let records = bench.sim.state().requests();
    assert!(records.iter().all(|record| record.tls && record.http_version == "HTTP/2"));
    assert_eq!(records[1].connection_id, records[2].connection_id);
}

#[tokio::test]
async fn one_port_can_take_tls_and_plain_and_prior_knowledge() {
    let bench = Bench::with(SimConfig { tls: Some(TlsMode::AlsoPlain), ..SimConfig::default() }).await;
    let plain = format!("{}/sim/health", bench.sim.plain_base_url().unwrap());
    let h2c = trusting(&bench.sim).http2_prior_knowledge().build().unwrap();
    assert_eq!(bench.client.get(&plain).send().await.unwrap().version(), Version::HTTP_11);
    assert_eq!(h2c.get(&plain).send().await.unwrap().version(), Version::HTTP_2);
    assert_eq!(bench.client.get(bench.url("/sim/health")).send().await.unwrap().version(), Version::HTTP_2);

    // By its real name, too.
    let named = trusting(&bench.sim).resolve("chatgpt.com", bench.sim.addr()).build().unwrap();
    let url = format!("https://chatgpt.com:{}/sim/health", bench.sim.addr().port());
    assert_eq!(named.get(url).send().await.unwrap().status(), 200);

    let old = Bench::with(SimConfig { tls: Some(TlsMode::Only), http2: false, ..SimConfig::default() }).await;
    assert_eq!(old.ask("x").await.unwrap().version(), Version::HTTP_11);
    assert!(old.sim.plain_base_url().is_none());
}

#[tokio::test]
async fn compressed_bodies_are_taken() {
    let bench = Bench::start().await;
    let plain = body("Reply exactly: small").to_string();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(plain.as_bytes()).unwrap();
    let encoded = [("gzip", gzip.finish().unwrap()), ("zstd", zstd::encode_all(plain.as_bytes(), 3).unwrap())];
    for (encoding, wire) in encoded {
        let size = wire.len() as u64;
        let request = bench.post(RESPONSES).header("content-type", "application/json");
        let response = request.header("content-encoding", encoding).body(wire).send().await.unwrap();
        assert_eq!(text_of(&events(&read(response).await.0)), "small", "{encoding}");
        let record = bench.last();
        assert_eq!((record.wire_bytes, record.decoded_bytes), (size, plain.len() as u64));
    }
    let request = bench.post(RESPONSES).header("content-type", "application/json");
    let broken = request.header("content-encoding", "zstd").body(plain).send().await.unwrap();
    assert_eq!(broken.status(), 400);
}

#[tokio::test]
async fn a_tool_makes_the_round_trip() {
    let bench = Bench::start().await;
    let ask = user("please [[sim:tool {\"cmd\":\"date\"}]]");
    let first = bench.post(RESPONSES).json(&body_with(json!([ask]))).send().await.unwrap();
    let events_of_call = events(&read(first).await.0);
    let call =
        events_of_call.iter().find(|event| event["type"] == "response.output_item.done").unwrap()["item"].clone();
    assert_eq!((&call["name"], &call["arguments"]), (&json!("exec_command"), &json!("{\"cmd\":\"date\"}")));
    let deltas = events_of_call.iter().filter(|event| event["type"] == "response.function_call_arguments.delta");
    let arguments: String = deltas.filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(arguments, "{\"cmd\":\"date\"}");

    let output = json!({ "type": "function_call_output", "call_id": call["call_id"], "output": "Monday" });
    let second = bench.post(RESPONSES).json(&body_with(json!([ask, call, output]))).send().await.unwrap();
    assert_eq!(text_of(&events(&read(second).await.0)), "The tool answered: Monday");
    // The default arguments are the real Codex CLI's test command.
    let third = read(bench.ask("sim:tool").await.unwrap()).await.0;
    assert!(third.contains("echo hello-from-tool"));
}

#[tokio::test]
async fn a_long_stream_has_its_length_and_its_pace() {
    let bench = Bench::start().await;
    let stream = read(bench.ask("[[sim:long:500:10]]").await.unwrap()).await.0;
    let events = events(&stream);
    assert_eq!(events.iter().filter(|event| event["type"] == "response.output_text.delta").count(), 500);
    assert_eq!(text_of(&events).len(), 5000);
    let done = events.iter().find(|event| event["type"] == "response.output_text.done").unwrap();
    assert_eq!(done["text"].as_str().unwrap(), text_of(&events));
    let numbers = events.iter().map(|event| event["sequence_number"].as_u64().unwrap());
    assert!(numbers.eq(0..events.len() as u64));

    let begun = std::time::Instant::now();
    read(bench.ask("[[sim:long:10:1:10]]").await.unwrap()).await;
    assert!(begun.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn unusual_streams_say_the_same() {
    let bench = Bench::start().await;
    for scenario in ["unknown_events", "garbage", "huge_event:200000", "reasoning", "delay:20"] {
        let (stream, whole) = read(bench.ask_as(scenario).await.unwrap()).await;
        let events = events(&stream);
        assert_eq!((text_of(&events).as_str(), whole), ("OK", true), "{scenario}");
        assert_eq!(events.last().unwrap()["type"], "response.completed", "{scenario}");
        match scenario {
            "unknown_events" => assert!(types(&events).contains(&"response.sparkle.delta") && stream.contains("\r\n")),
            "garbage" => assert!(events.contains(&Value::Null)),
            "huge_event:200000" => assert!(stream.len() > 200_000),
            "reasoning" => assert!(stream.contains("encrypted_content")),
            _ => {}
        }
        let record = bench.last();
        assert_eq!((record.outcome.as_str(), record.scenario.as_deref()), ("completed", Some(scenario)));
    }
}

#[tokio::test]
async fn the_public_api_takes_keys_and_more_parameters() {
    let bench = Bench::start().await;
    let post =
        |key: &str, body: Value| bench.client.post(bench.url("/v1/responses")).bearer_auth(key).json(&body).send();
    let lenient = json!({
        "model": "gpt-5.5", "input": "Reply exactly: yes", "max_output_tokens": 100, "metadata": { "a": "b" },
        "temperature": 0.5, "store": true,
    });
    let whole: Value = post(API_KEY, lenient.clone()).await.unwrap().json().await.unwrap();
    assert_eq!((&whole["object"], &whole["status"]), (&json!("response"), &json!("completed")));
    assert_eq!(whole["output"][0]["content"][0]["text"], "yes");
    assert_eq!(whole["max_output_tokens"], 100);
    let mut streamed = lenient.clone();
    streamed["stream"] = json!(true);
    let response = post(API_KEY, streamed).await.unwrap();
    assert_eq!(text_of(&events(&read(response).await.0)), "yes");

    let refused = post("sk-wrong", lenient.clone()).await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["code"], "invalid_api_key");
    let subscription = post(&bench.login.access_token, lenient.clone()).await.unwrap();
    assert_eq!(subscription.json::<Value>().await.unwrap()["error"]["code"], "missing_scope");
    let mut unknown = lenient;
    unknown["sparkle"] = json!(1);
    assert_eq!(post(API_KEY, unknown).await.unwrap().status(), 400);

    let models = bench.client.get(bench.url("/v1/models")).bearer_auth(API_KEY).send().await.unwrap();
    assert_eq!(models.json::<Value>().await.unwrap()["object"], "list");
    let lost = bench.client.get(bench.url("/v1/embeddings")).bearer_auth(API_KEY).send().await.unwrap();
    assert_eq!(lost.status(), 404);
    assert!(lost.json::<Value>().await.unwrap()["error"]["message"].is_string());
}

#[tokio::test]
async fn answers_take_the_other_shapes_of_the_real_one() {
    let bench = Bench::start().await;
    let shaped = async |scenario: &str, change: Value| {
        let mut body = body_with(json!([user(&format!("Reply exactly: OK [[sim:{scenario}]]"))]));
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        events(&read(bench.post(RESPONSES).json(&body).send().await.unwrap()).await.0)
    };
    let of = |events: &[Value], kind: &str| -> Vec<Value> {
        events.iter().filter(|event| event["type"] == kind).cloned().collect()
    };
    let tools = json!({ "tools": [{ "type": "function", "name": "f", "parameters": {}, "strict": false }] });
    let calls = shaped("parallel:3", tools).await;
    let places: Vec<u64> = of(&calls, "response.function_call_arguments.delta")
        .iter()
        .map(|delta| delta["output_index"].as_u64().unwrap())
        .collect();
    assert_eq!(places[..6], [2, 1, 0, 2, 1, 0], "by turns");
    let items = of(&calls, "response.output_item.done");
    let arguments: Vec<&str> = items.iter().map(|event| event["item"]["arguments"].as_str().unwrap()).collect();
    assert_eq!(arguments, [0, 1, 2].map(|n| format!("{{\"cmd\":\"echo {n}\",\"n\":{n}}}")));
    assert_eq!(
        text_of(&shaped("parallel", json!({ "tools": [] })).await),
        "OK",
        "without tools there is nothing to call"
    );

    let refused = shaped("refusal", json!({})).await;
    assert_eq!(of(&refused, "response.output_item.done")[0]["item"]["content"][0]["type"], "refusal");
    let told = shaped("reasoning", json!({ "reasoning": { "effort": "low", "summary": "auto" } })).await;
    assert!(of(&told, "response.reasoning_summary_text.delta").len() > 2);
    let silent = shaped("reasoning", json!({ "reasoning": { "effort": "low" } })).await;
    assert!(of(&silent, "response.reasoning_summary_text.delta").is_empty(), "nobody asked for it");
    let minimal = shaped("minimal", json!({})).await;
    assert_eq!(types(&minimal), ["response.output_item.done", "response.completed"]);
    let filtered = shaped("incomplete:content_filter", json!({})).await;
    assert_eq!(filtered.last().unwrap()["response"]["incomplete_details"]["reason"], "content_filter");
}
