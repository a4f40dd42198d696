//! Large requests: what clients with images send.

use e2e::Answer;
use reqwest::Method;
use serde_json::json;

use crate::support::{MODEL, World};

/// Of the image, in its encoding: nearly what the gateway takes by default.
const IMAGE_BYTES: usize = 60 * 1024 * 1024;

e2e::in_each_topology! {
    /// An image of nearly 64 MiB passes, and a larger one is refused although it is small as it travels.
    async fn a_large_image_passes_and_a_larger_one_is_refused(topology) {
        let (world, _) = World::with_login().await;
        let switchboard = world.start(topology).await;
        let http = switchboard.http();
        let body = |bytes: usize| {
            let content = json!([{ "type": "input_text", "text": "Reply exactly: OK" },
                { "type": "input_image", "image_url": format!("data:image/png;base64,{}", "A".repeat(bytes)) }]);
            json!({ "model": MODEL, "stream": true, "input": [{ "role": "user", "content": content }] }).to_string()
        };
        let packed = zstd::encode_all(body(IMAGE_BYTES).as_bytes(), 1).expect("packed");
        let request = http.request(Method::POST, "/v1/responses").header("content-type", "application/json");
        let answer = Answer::of(request.header("content-encoding", "zstd").body(packed)).await.is(200);
        assert_eq!(answer.streamed_text(), "OK");
        assert!(answer.headers.get("set-cookie").is_none(), "cookies stay here");
        let sent = world.upstream().pop().expect("a request");
        assert!(sent.decoded_bytes > IMAGE_BYTES as u64, "{} bytes", sent.decoded_bytes);
        let packed = zstd::encode_all(body(65 * 1024 * 1024).as_bytes(), 1).expect("packed");
        let request = http.request(Method::POST, "/v1/responses").header("content-type", "application/json");
        let refused = Answer::of(request.header("content-encoding", "zstd").body(packed)).await.is(413).json();
        assert_eq!(refused["error"]["reason"], "REQUEST_TOO_LARGE", "{refused}");
        assert_eq!(world.upstream().len(), 1);
    }
}
