//! What is held, refused and given back.

use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Instant, sleep};

use super::*;

/// Room of which one key may take all.
fn room(calls: usize, bytes: usize) -> Room {
    Room::new(Measures { calls, bytes, key_percent: 100, body_bytes: 0 })
}

fn reason(result: Result<(), Failure>) -> Option<Reason> {
    result.err().map(|failure| failure.reason)
}

#[test]
fn calls_have_places_until_they_go() {
    let room = room(2, 0);
    let (first, second) = (room.enter(None).unwrap(), room.enter(None).unwrap());
    let refused = room.enter(None).unwrap_err();
    assert_eq!((refused.reason, refused.retry_after_seconds), (Reason::Shed, Some(1.0)));
    assert!(refused.retryable && refused.next_step.contains("max_calls"), "{refused}");
    drop(first);
    let third = room.enter(None);
    assert!(third.is_ok() && room.enter(None).is_err());
    drop((second, third));
}

#[test]
fn bytes_are_held_until_they_are_given_back_or_their_call_goes() {
    let room = room(1, 10 * UNIT_BYTES);
    let (one, other) = (room.held(), room.held());
    assert_eq!(reason(one.grow(usize::MAX)), None, "nobody is known yet");
    assert_eq!((reason(one.begin(None)), reason(other.begin(None))), (None, None));
    for _ in 0..9 {
        assert_eq!(reason(one.grow(UNIT_BYTES)), None);
    }
    assert_eq!(reason(other.grow(1)), None);
    assert_eq!(reason(other.grow(UNIT_BYTES - 1)), None, "the rest of its unit");
    let third = room.held();
    assert_eq!((reason(third.begin(None)), reason(third.grow(1))), (None, Some(Reason::Shed)));
    assert_eq!(reason(third.grow(usize::MAX)), None, "it was refused, and what still comes is not kept");
    one.give_back();
    assert_eq!(reason(one.begin(None)), None);
    assert_eq!(reason(other.grow(9 * UNIT_BYTES)), None);
    let clone = other.clone();
    drop(other);
    assert_eq!(reason(one.grow(1)), Some(Reason::Shed), "a clone still holds them");
    drop(clone);
    assert_eq!(reason(one.begin(None)), None);
    assert_eq!(reason(one.grow(10 * UNIT_BYTES)), None);
    assert_eq!(reason(one.grow(usize::MAX)), Some(Reason::Shed));
}

#[test]
fn what_is_announced_has_its_room_at_once_and_what_is_thrown_away_needs_none() {
    let room = room(1, 10 * UNIT_BYTES);
    let one = room.held_for(Some(6 * UNIT_BYTES), 8 * UNIT_BYTES);
    let other = room.held_for(Some(6 * UNIT_BYTES), 8 * UNIT_BYTES);
    assert_eq!((reason(one.begin(None)), reason(other.begin(None))), (None, Some(Reason::Shed)));
    assert_eq!(reason(other.grow(9 * UNIT_BYTES)), None, "it was refused, and what still comes is not kept");
    assert_eq!(reason(one.grow(6 * UNIT_BYTES)), None);
    assert_eq!(reason(room.held_for(Some(4 * UNIT_BYTES), usize::MAX).begin(None)), None);
    assert_eq!(reason(one.grow(3 * UNIT_BYTES)), None, "over its limit");
    assert_eq!(reason(other.begin(None)), None);
    assert_eq!(reason(room.held_for(Some(9 * UNIT_BYTES), 8 * UNIT_BYTES).begin(None)), None, "refused for its size");
}

#[tokio::test]
async fn a_body_ends_where_the_room_does() {
    use http_body_util::{BodyExt, Full};
    let room = room(1, UNIT_BYTES);
    let held = room.held();
    held.begin(None).unwrap();
    let body = |bytes: usize| Full::new(Bytes::from(vec![0; bytes]));
    assert!(Counted::new(body(UNIT_BYTES), held.clone(), Duration::from_secs(1)).collect().await.is_ok());
    let error = Counted::new(body(1), held, Duration::from_secs(1)).collect().await.map(|_| ()).unwrap_err();
    assert!(error.downcast_ref::<Refused>().is_some_and(|none| none.0.reason == Reason::Shed), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_refused_and_a_slow_one_is_not() {
    use futures_util::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};
    let takes = async |bytes: usize, every_s: u64, pieces: usize| {
        let piece = move |_| async move {
            sleep(Duration::from_secs(every_s)).await;
            Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(vec![0; bytes])))
        };
        let body = StreamBody::new(Box::pin(stream::iter(0..pieces).then(piece)));
        let began = Instant::now();
        let result = Counted::new(body, room(1, 0).held(), Duration::from_secs(60)).collect().await;
        let reason = result.err().and_then(|error| Some(error.downcast_ref::<Refused>()?.0.reason));
        (reason, began.elapsed().as_secs())
    };
    assert_eq!(takes(1, 30, 100).await, (Some(Reason::RequestInvalid), 60));
    assert_eq!(takes(1, 100, 1).await, (Some(Reason::RequestInvalid), 60));
    assert_eq!(takes(8 * 1024, 10, 60).await.0, Some(Reason::RequestInvalid), "in the long run too slow");
    assert_eq!(takes(12 * 1024, 10, 20).await, (None, 200));
}

#[test]
fn one_key_does_not_take_all_of_it() {
    let room = Room::new(Measures { calls: 4, bytes: 10 * UNIT_BYTES, key_percent: 50, body_bytes: UNIT_BYTES });
    let _calls = [room.enter(Some("a")).unwrap(), room.enter(Some("a")).unwrap()];
    let refused = room.enter(Some("a")).unwrap_err();
    assert_eq!(refused.reason, Reason::Shed);
    assert!(refused.message.contains("50 % of 4 calls") && refused.next_step.contains("max_key_share"), "{refused}");
    let others = (room.enter(Some("b")).unwrap(), room.enter(None).unwrap());
    let full = room.enter(Some("c")).unwrap_err();
    assert!(full.next_step.contains("max_calls"), "{full}");
    drop(others);
    let (one, other) = (room.held(), room.held());
    assert_eq!((reason(one.begin(Some("a"))), reason(other.begin(Some("a")))), (None, None));
    assert_eq!((reason(one.grow(3 * UNIT_BYTES)), reason(other.grow(2 * UNIT_BYTES))), (None, None));
    let refused = other.grow(1).unwrap_err();
    assert!(refused.message.contains("50 % of 40960 bytes"), "{refused}");
    assert_eq!(reason(one.grow(2 * UNIT_BYTES)), None, "what was refused is given back");
    let operators = room.held();
    assert_eq!((reason(operators.begin(None)), reason(operators.grow(5 * UNIT_BYTES))), (None, None));
    let body = Room::new(Measures { calls: 1, bytes: 4 * UNIT_BYTES, key_percent: 1, body_bytes: 3 * UNIT_BYTES });
    let (held, _call) = (body.held(), body.enter(Some("a")).unwrap());
    assert_eq!(
        (reason(held.begin(Some("a"))), reason(held.grow(3 * UNIT_BYTES))),
        (None, None),
        "one body in any case"
    );
}
