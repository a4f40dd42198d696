//! Connecting to a name that may have several addresses: one that is out of reach does not keep the others from being tried
//! (RFC 8305, "happy eyeballs").

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;

/// How long an address is tried alone before the next one is tried beside it.
const ALONE: Duration = Duration::from_millis(250);

/// Connects to `address`, `host:port`. The first connection that is made is taken.
///
/// # Errors
///
/// A name that is not known, or the first address' failure where none can be reached.
pub(super) async fn dial(address: &str) -> io::Result<TcpStream> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
    first(&in_turn(addresses)).await
}

/// Both families in turn, in the order in which the resolver gave them: where one is out of reach, all of it is.
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let leading = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == leading);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut all = Vec::new();
    loop {
        let before = all.len();
        all.extend(one.next());
        all.extend(other.next());
        if all.len() == before {
            return all;
        }
    }
}

async fn first(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut left = addresses.iter();
    let (mut trying, mut failed) = (FuturesUnordered::new(), None);
    loop {
        match left.next() {
            Some(next) => trying.push(TcpStream::connect(*next)),
            None if trying.is_empty() => {
                return Err(failed.unwrap_or_else(|| io::Error::other("the name has no address")));
            }
            None => {}
        }
        let ended = match left.len() {
            0 => trying.next().await,
            // Another one is to be tried, too, if this takes its time.
            _ => tokio::time::timeout(ALONE, trying.next()).await.unwrap_or_default(),
        };
        match ended {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => failed = failed.or(Some(error)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_address_that_says_nothing_does_not_keep_the_next_one_waiting() {
        let good = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let good = good.local_addr().map(|address| (good, address)).expect("an address");
        // TEST-NET-1 (RFC 5737): it leads nowhere, whether packets vanish or are refused.
        let nowhere: SocketAddr = "192.0.2.1:7".parse().expect("an address");
        let refused: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        let guard = Duration::from_secs(20);
        let dialled = tokio::time::timeout(guard, first(&[nowhere, refused, nowhere, good.1])).await;
        assert_eq!(dialled.expect("in time").expect("connected").peer_addr().expect("a peer"), good.1);
        let error = first(&[refused]).await.expect_err("nobody is there");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(first(&[]).await.is_err());
    }

    #[test]
    fn families_are_tried_in_turn() {
        let of =
            |texts: &[&str]| texts.iter().map(|text| text.parse().expect("an address")).collect::<Vec<SocketAddr>>();
        let given = of(&["[2001:db8::1]:1", "[2001:db8::2]:1", "10.0.0.1:1"]);
        assert_eq!(in_turn(given), of(&["[2001:db8::1]:1", "10.0.0.1:1", "[2001:db8::2]:1"]));
        assert!(in_turn(Vec::new()).is_empty());
    }
}
