//! What HTTP clients get beside answers: bodies in every dress, and JSON for every mistake.

use std::io::Write;

use domain::Reason;
use proto::transport::v1::{FetchModelsResponse, Resource, Sent, UpstreamModel};
use reqwest::Method;
use serde_json::Value;

use crate::script::{Step, chunk, failed, refuses, success};
use crate::world::{World, body};

#[tokio::test]
async fn mistakes_are_answered_in_json() {
    let world = World::new(vec![]).await;
    for (method, path, status, reason) in [
        ("POST", "/v1/embeddings", 404, "NOT_FOUND"),
        ("GET", "/", 404, "NOT_FOUND"),
        ("GET", "/v1/switchboard/calls/none", 404, "NOT_FOUND"),
        ("GET", "/v1/models/%FF", 404, "NOT_FOUND"),
        ("GET", "/v1/models/unknown/x", 404, "NOT_FOUND"),
        ("GET", "/v1/responses", 405, "UNSUPPORTED"),
        ("DELETE", "/v1/responses", 405, "UNSUPPORTED"),
        ("POST", "/backend-api/codex/models", 405, "UNSUPPORTED"),
    ] {
        let response = world.http(method, path).send().await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["x-should-retry"], "false");
        if status == 405 && method != "GET" {
            assert!(response.headers().contains_key("allow"), "{method} {path}");
        }
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["reason"], reason, "{method} {path}");
        assert!(error["error"]["message"].as_str().is_some_and(|m| !m.is_empty()));
    }
}

#[tokio::test]
async fn a_websocket_is_sent_to_http() {
    let world = World::new(vec![]).await;
    for path in ["/v1/responses", "/backend-api/codex/responses"] {
        let request = world.http("GET", path).header("connection", "Upgrade").header("upgrade", "websocket");
        let response = request
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 426);
        let error: Value = response.json().await.unwrap();
        assert!(error["error"]["next_step"].as_str().unwrap().contains("POST"));
    }
}

#[tokio::test]
async fn a_compaction_passes_both_ways_as_it_is() {
    let parts = ["{\"output\": [1.50,", "\n :\"x\"] }"];
    let answer = || vec![Step::Head, chunk(parts[0], true), chunk(parts[1], true), Step::Outcome(Box::new(success()))];
    let cut = Step::Outcome(Box::new(failed(Reason::StreamCut, Some(200), Sent::Sent)));
    let scripts =
        vec![answer(), answer(), refuses(Reason::RateLimited, 429), vec![Step::Head, chunk(parts[0], true), cut]];
    let world = World::new(scripts).await;
    let asked = "{\"model\": \"codex/gpt-5.5\", \"input\": [], \"x\": 1.50}";
    for path in ["/v1/responses/compact", "/backend-api/codex/responses/compact"] {
        let response = world.http("POST", path).body(asked).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap()),
            (200, "application/json")
        );
        assert!(response.headers().contains_key("x-switchboard-call-id"));
        assert_eq!(response.text().await.unwrap(), parts.concat());
        let request = world.transport.requests.lock().unwrap().pop().unwrap();
        assert_eq!((request.resource(), request.body.as_ref()), (Resource::Compact, asked.as_bytes()));
    }
    let limited = world.http("POST", "/v1/responses/compact").body(asked).send().await.unwrap();
    assert_eq!(limited.status(), 429);
    let cut = world.http("POST", "/v1/responses/compact").body(asked).send().await.unwrap();
    assert_eq!(cut.status(), 502, "half a document is none");
    assert_eq!(cut.json::<Value>().await.unwrap()["error"]["reason"], "STREAM_CUT");
    let streamed = world.http("POST", "/v1/responses/compact").json(&body(true)).send().await.unwrap();
    assert_eq!(streamed.status(), 400);
    assert_eq!(streamed.json::<Value>().await.unwrap()["error"]["param"], "stream");
}

#[tokio::test]
async fn bodies_come_compressed_and_pass_decoded() {
    let world = World::new(vec![]).await;
    let plain = body(true).to_string();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(plain.as_bytes()).unwrap();
    let zstd = zstd::encode_all(plain.as_bytes(), 3).unwrap();
    for (encoding, bytes) in [("gzip", gzip.finish().unwrap()), ("zstd", zstd)] {
        let request = world.http("POST", "/v1/responses").header("content-encoding", encoding).body(bytes);
        assert_eq!(request.send().await.unwrap().status(), 200, "{encoding}");
        assert_eq!(world.transport.requests.lock().unwrap().pop().unwrap().body, plain.as_bytes(), "{encoding}");
    }
}

#[tokio::test]
async fn bad_bodies_are_refused_by_name() {
    let world = World::new(vec![]).await;
    let large = format!("{{\"input\":\"{}\"}}", "x".repeat(100_000));
    let bomb = zstd::encode_all(vec![b' '; 10_000_000].as_slice(), 3).unwrap();
    assert!(bomb.len() < 100_000);
    let cases: [(&str, Vec<u8>, u16, &str, &str); 7] = [
        ("identity", large.clone().into_bytes(), 413, "REQUEST_TOO_LARGE", "100000 bytes"),
        ("zstd", bomb, 413, "REQUEST_TOO_LARGE", "after decompression"),
        ("zstd", b"not zstd".to_vec(), 400, "REQUEST_INVALID", "decoded"),
        ("br", b"x".to_vec(), 400, "UNSUPPORTED", "zstd, gzip"),
        ("identity", b"{\"model\":\"\xff\"}".to_vec(), 400, "REQUEST_INVALID", "UTF-8"),
        ("identity", b"{\"model\":".to_vec(), 400, "REQUEST_INVALID", "JSON"),
        ("identity", b"{\"model\":\"unknown/x\"}".to_vec(), 400, "ROUTE_UNKNOWN", "nearest"),
    ];
    for (encoding, bytes, status, reason, words) in cases {
        let request = world.http("POST", "/v1/responses").header("content-encoding", encoding).body(bytes);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{words}");
        let id = response.headers()["x-switchboard-call-id"].to_str().unwrap().to_owned();
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["reason"], reason);
        assert!(error["error"]["message"].as_str().unwrap().contains(words), "{error}");
        assert_eq!(world.record(&id).await["error"]["reason"], reason, "a refused call is a call");
    }
    // A body that does not announce its length is measured all the same.
    let chunks = futures_util::stream::iter((0..200).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1000])));
    let request = world.http("POST", "/v1/responses").body(reqwest::Body::wrap_stream(chunks));
    assert_eq!(request.send().await.unwrap().status(), 413);
    assert_eq!(world.attempts(), 0);
}

#[tokio::test]
async fn models_have_openais_shape() {
    let world = World::new(vec![]).await;
    for path in ["/v1/models", "/backend-api/codex/models?client_version=0.169.0"] {
        let list: Value = world.http("GET", path).send().await.unwrap().json().await.unwrap();
        assert_eq!((&list["object"], &list["models"]), (&"list".into(), &Value::Array(vec![])));
        let model = &list["data"][0];
        assert_eq!((&model["id"], &model["object"]), (&"openai-codex/gpt-5.5".into(), &"model".into()));
        assert_eq!(model["owned_by"], "openai-codex");
        assert!(model["created"].is_i64());
    }
    let one: Value = world.http("GET", "/v1/models/codex/gpt-5.5").send().await.unwrap().json().await.unwrap();
    assert_eq!(one["id"], "openai-codex/gpt-5.5");
    let stranger = reqwest::Client::new().request(Method::GET, format!("{}/v1/models", world.url)).send().await;
    assert_eq!(stranger.unwrap().status(), 401);
}

#[tokio::test]
async fn models_of_the_upstream_join_the_list_and_the_configurations_word_counts() {
    let world = World::new(vec![]).await;
    let model =
        |id: &str, window| UpstreamModel { id: id.into(), context_window: Some(window), ..UpstreamModel::default() };
    let models = vec![model("gpt-5.5", 1), model("gpt-6", 2)];
    let outcome = Some(success());
    world.transport.models.lock().unwrap().push_back(FetchModelsResponse { outcome, models, ..Default::default() });
    for _ in 0..2 {
        let list: Value = world.http("GET", "/v1/models").send().await.unwrap().json().await.unwrap();
        let of = |id: &str| list["data"].as_array().unwrap().iter().find(|model| model["id"] == id).cloned().unwrap();
        let (known, new) = (of("openai-codex/gpt-5.5"), of("openai-codex/gpt-6"));
        assert_eq!((&known["name"], &known["bound"]), (&"GPT-5.5".into(), &true.into()), "{list}");
        assert_eq!(known["context_window"], 1, "what the table does not say: {list}");
        assert_eq!((&new["context_window"], &new["tags"]), (&2.into(), &serde_json::json!(["upstream"])), "{list}");
        assert_eq!(
            (&new["owned_by"], &new["bound"], &list["models"]),
            (&"openai-codex".into(), &true.into(), &serde_json::json!([]))
        );
    }
    assert_eq!(world.transport.listings.lock().unwrap().len(), 1, "a list is good for a while");
}

#[tokio::test]
async fn unknown_grpc_methods_get_grpc_answers() {
    let world = World::new(vec![]).await;
    for path in ["/no.such.Service/Method", "/switchboard.gateway.v1.GatewayService/Nothing"] {
        let request = world.http("POST", path).header("content-type", "application/grpc");
        let response = request.send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["grpc-status"]),
            (200, &"12".parse().unwrap()),
            "{path}"
        );
    }
    let path = "/grpc.health.v1.Health/Check";
    let response = world.http("POST", path).header("content-type", "application/grpc").body(vec![0, 0, 0, 0, 0]).send();
    assert_eq!(response.await.unwrap().status(), 200, "health stands beside the fallback");
}
