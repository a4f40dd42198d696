//! The times of one stream, on a connection that is kept, one call after the other.

use std::time::{Duration, Instant, SystemTime};

use crate::Failed;
use crate::client::Connection;
use crate::figures::percentile;
use crate::rows::{Endpoint, Running};
use crate::throughput::SHORT;

/// The end of a good stream.
pub(crate) const LAST_EVENT: &[u8] = b"response.completed";
/// What stands before the text of an event that holds a part of the answer.
const DELTA: &[u8] = b"\"delta\":\"";
/// Calls before a measurement, so that connections, pools and caches are as in service.
const WARM_UP: usize = 20;
/// Milliseconds between two events where each is timed.
const PACE_MS: u32 = 2;

/// Microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Times {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Times {
    fn of(mut values: Vec<Duration>) -> Self {
        values.sort_unstable();
        Self { p50: percentile(&values, 50), p99: percentile(&values, 99) }
    }
}

/// From sending the request to the first event. Ends after so many calls, or after `most`.
pub(crate) async fn first_event(row: &Running, calls: usize, most: Duration) -> Result<Times, Failed> {
    let request = row.endpoint.request(SHORT);
    let mut connection = warm(&row.endpoint).await?;
    let (began, mut times) = (Instant::now(), Vec::with_capacity(calls));
    while times.len() < calls && (began.elapsed() < most || times.is_empty()) {
        let sent = Instant::now();
        let mut first = None;
        let mut seen = |_: &[u8]| {
            first.get_or_insert_with(|| sent.elapsed());
        };
        connection.call(&request, &mut seen).await?;
        times.extend(first);
    }
    Ok(Times::of(times))
}

/// From the simulator's sending an event to its arrival, for events that come one by one.
pub(crate) async fn each_event(row: &Running, events: usize) -> Result<Times, Failed> {
    let request = row.endpoint.request(&format!("[[sim:stamped:{events}:{PACE_MS}]]"));
    let mut connection = warm(&row.endpoint).await?;
    let (mut times, mut stamps) = (Vec::with_capacity(events), Stamps::default());
    let mut chunks = connection.begin(&request, &mut |part: &[u8]| stamps.read(part, &mut times)).await?;
    while !chunks.is_over() {
        connection.more(&mut chunks, &mut |part: &[u8]| stamps.read(part, &mut times)).await?;
    }
    if times.len() < events {
        return Err(format!("{} of {events} events came with the time of their making", times.len()).into());
    }
    Ok(Times::of(times))
}

/// A connection that has made calls.
async fn warm(endpoint: &Endpoint) -> Result<Connection, Failed> {
    let request = endpoint.request(SHORT);
    let mut connection = Connection::open(endpoint.address).await?;
    for _ in 0..WARM_UP {
        connection.call(&request, |_: &[u8]| ()).await?;
    }
    Ok(connection)
}

/// Looks for the times that events hold. An event comes whole, or in a part and the next.
#[derive(Default)]
struct Stamps {
    rest: Vec<u8>,
}

impl Stamps {
    fn read(&mut self, part: &[u8], times: &mut Vec<Duration>) {
        let now = SystemTime::now();
        self.rest.extend_from_slice(part);
        while let Some(end) = self.rest.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = self.rest.drain(..end + 2).collect();
            times.extend(stamp(&event).and_then(|at| now.duration_since(SystemTime::UNIX_EPOCH + at).ok()));
        }
    }
}

/// The time that an event's text is, if it is one.
fn stamp(event: &[u8]) -> Option<Duration> {
    let at = event.windows(DELTA.len()).position(|part| part == DELTA)? + DELTA.len();
    let digits: String =
        event.get(at..)?.iter().map(|byte| char::from(*byte)).take_while(char::is_ascii_digit).collect();
    Some(Duration::from_nanos(digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_of_events_however_they_are_cut() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_nanos();
        let text = format!(
            "data: {{\"delta\":\"{now}\"}}\n\ndata: {{\"delta\":\"word\"}}\n\ndata: {{\"delta\":\"{now}\"}}\n\n"
        );
        for step in [1, 7, 1000] {
            let (mut stamps, mut times) = (Stamps::default(), Vec::new());
            text.as_bytes().chunks(step).for_each(|part| stamps.read(part, &mut times));
            assert_eq!(times.len(), 2, "{step}");
        }
    }
}
