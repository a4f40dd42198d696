use std::convert::Infallible;

use axum::routing::post;
use http::{StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::*;
use crate::Mounted;
use crate::status::failure_from_status;

fn full() -> Full {
    Full { service: "auth-svc", what: "auth_calls", message: "full".into(), next_step: "raise it" }
}

fn asked(path: &str) -> Request {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/grpc");
    request.body(Body::empty()).expect("a request")
}

fn failure_of(answer: &Response) -> Failure {
    let status = tonic::Status::from_header_map(answer.headers()).expect("a status");
    failure_from_status(&status, "gateway")
}

#[tokio::test]
async fn a_call_without_a_place_is_refused_and_the_place_of_one_that_ends_is_the_next_ones() {
    let go = Arc::new(Notify::new());
    let waits = Arc::clone(&go);
    let slow = post(async move || {
        waits.notified().await;
        "done"
    });
    let routes = axum::Router::new().route("/a/slow", slow).route("/a/quick", post(async || "done"));
    let places = CallRoom::new(1, full());
    let mounted = Mounted::new().merge_http(routes).bounded(&places);
    let ask = async |path: &str| mounted.router().oneshot(asked(path)).await.expect("an answer");
    let slow = TaskTracker::new().spawn(mounted.router().oneshot(asked("/a/slow")));
    while places.places.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    let refused = failure_of(&ask("/a/quick").await);
    assert_eq!((refused.reason, refused.service.as_str()), (Reason::Shed, "auth-svc"));
    assert_eq!((refused.retry_after_seconds, refused.next_step.as_str()), (Some(1.0), "raise it"));
    // What is not of the service, its health for one, takes no place and needs none.
    assert_eq!(ask("/grpc.health.v1.Health/Check").await.status(), StatusCode::NOT_FOUND);
    go.notify_one();
    let answered = slow.await.expect("no panic").expect("an answer");
    assert_eq!(failure_of(&ask("/a/quick").await).reason, Reason::Shed, "its answer is not read yet");
    let _ = answered.into_body().collect().await.expect("read");
    let second = ask("/a/quick").await;
    assert_eq!(second.status(), StatusCode::OK);
    drop(second);
    assert_eq!(places.places.available_permits(), 1, "given back by who does not read it");
}

#[test]
fn bytes_are_held_until_the_last_of_them_goes() {
    let room = ByteRoom::new(4 * ByteRoom::UNIT_BYTES, full());
    let (one, other) = (room.held(), room.held());
    one.announce(3 * ByteRoom::UNIT_BYTES).expect("room");
    one.grow(2 * ByteRoom::UNIT_BYTES).expect("it was announced");
    assert_eq!(room.left(), ByteRoom::UNIT_BYTES);
    assert_eq!(other.grow(ByteRoom::UNIT_BYTES + 1).expect_err("none").reason, Reason::Shed);
    let kept = one.clone().keep(Bytes::from_static(b"a request"));
    drop(one);
    let part = kept.slice(2..5);
    drop(kept);
    assert_eq!((room.left(), part.as_ref()), (ByteRoom::UNIT_BYTES, b"req".as_slice()));
    drop(part);
    assert_eq!(room.left(), 4 * ByteRoom::UNIT_BYTES);
    drop(room.held().keep(Bytes::new()));
    assert_eq!(room.held().announce(usize::MAX).expect_err("none").reason, Reason::Shed);
    assert_eq!(room.left(), 4 * ByteRoom::UNIT_BYTES);
}

/// A gRPC message of `length` bytes, of which `pieces` come.
fn message(length: u32, pieces: Vec<Vec<u8>>) -> Request {
    let mut head = vec![0];
    head.extend(length.to_be_bytes());
    let all = std::iter::once(head).chain(pieces);
    let body = Body::from_stream(futures_util::stream::iter(all.map(Ok::<_, Infallible>)));
    asked("/a/read").map(|_| body)
}

#[tokio::test]
async fn a_message_that_there_is_no_room_for_is_refused_before_it_is_read() {
    let room = ByteRoom::new(10 * ByteRoom::UNIT_BYTES, full());
    let read = post(async |request: Request| {
        let read = request.into_body().collect().await;
        match read.map_err(|error| tonic::Status::from_error(error.into())) {
            Ok(read) => Response::new(Body::from(read.to_bytes().len().to_string())),
            Err(status) => status.into_http(),
        }
    });
    let mounted = Mounted::new().merge_http(axum::Router::new().route("/a/read", read)).counted(&room);
    let ask = async |request| mounted.router().oneshot(request).await.expect("an answer");
    let refused = failure_of(&ask(message(11 * ByteRoom::UNIT_BYTES as u32, vec![])).await);
    assert_eq!((refused.reason, refused.next_step.as_str()), (Reason::Shed, "raise it"));
    assert_eq!(room.left(), 10 * ByteRoom::UNIT_BYTES);
    let answered = ask(message(6, vec![b"abc".to_vec(), b"def".to_vec()])).await;
    assert_eq!(answered.into_body().collect().await.expect("read").to_bytes(), "11");
    // Whoever announces less than they send, or too much to be read at all, is counted by what comes.
    for length in [1, u32::MAX] {
        let refused = failure_of(&ask(message(length, vec![vec![0; 11 * ByteRoom::UNIT_BYTES]])).await);
        assert_eq!(refused.reason, Reason::Shed, "{length}");
    }
    assert_eq!(room.left(), 10 * ByteRoom::UNIT_BYTES);
}
