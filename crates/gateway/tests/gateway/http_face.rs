//! What HTTP clients get beside answers: bodies in every dress, and JSON for every mistake.

use std::io::Write;

use reqwest::Method;
use serde_json::Value;

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
    let cases: [(&str, Vec<u8>, u16, &str, &str); 8] = [
        ("identity", large.clone().into_bytes(), 413, "REQUEST_TOO_LARGE", "100000 bytes"),
        ("zstd", bomb, 413, "REQUEST_TOO_LARGE", "after decompression"),
        ("zstd", b"not zstd".to_vec(), 400, "REQUEST_INVALID", "decoded"),
        ("br", b"x".to_vec(), 400, "UNSUPPORTED", "zstd, gzip"),
        ("identity", b"{\"model\":\"\xff\"}".to_vec(), 400, "REQUEST_INVALID", "UTF-8"),
        ("identity", b"{\"model\":".to_vec(), 400, "REQUEST_INVALID", "JSON"),
        ("identity", b"{\"previous_response_id\":\"r\"}".to_vec(), 400, "UNSUPPORTED", "previous_response_id"),
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
