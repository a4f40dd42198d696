//! Calls through proxies: real ones, as small as they can be.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use codex_sim::{SimConfig, TlsMode};
use config::Way;
use domain::Reason;
use proto::transport::v1::Sent;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Answer, Bench, HELLO, Service, custom};

/// The user and password that the proxies want.
const USER: (&str, &str) = ("me", "hunter2");
/// A name that only the proxies know.
const HOST: &str = "sim.invalid";

/// A proxy, and the hosts that it was asked for.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone, Copy)]
enum Kind {
    Connect,
    Socks5,
}

impl Proxy {
    /// A proxy that leads to `upstream` whatever host it is asked for; `None` refuses every host.
    async fn start(kind: Kind, upstream: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let hosts = Arc::clone(&asked);
        let serve = async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let host = match kind {
                    Kind::Connect => connect(&mut client, upstream).await,
                    Kind::Socks5 => socks5(&mut client, upstream).await,
                };
                let (Some(host), Some(upstream)) = (host, upstream) else { continue };
                hosts.lock().expect("lock").push(host);
                let mut server = TcpStream::connect(upstream).await.expect("connected");
                #[expect(clippy::disallowed_methods, reason = "it ends with its connection")]
                drop(tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await }));
            }
        };
        #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
        drop(tokio::spawn(serve));
        Self { address, asked }
    }
}

/// HTTP's CONNECT: the host that is asked for, once its user is known.
async fn connect(client: &mut TcpStream, upstream: Option<SocketAddr>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    // me:hunter2
    let known = head.to_ascii_lowercase().contains("proxy-authorization: basic") && head.contains("bWU6aHVudGVyMg==");
    let answer = match (known, upstream) {
        (false, _) => "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        (true, None) => "HTTP/1.1 403 Forbidden\r\n\r\n",
        (true, Some(_)) => "HTTP/1.1 200 OK\r\n\r\n",
    };
    client.write_all(answer.as_bytes()).await.ok()?;
    let host = head.strip_prefix("CONNECT ")?.split(':').next()?.to_owned();
    known.then_some(host)
}

/// SOCKS 5 (RFC 1928, 1929): the host that is asked for, once its user is known.
async fn socks5(client: &mut TcpStream, upstream: Option<SocketAddr>) -> Option<String> {
    client.read_u8().await.ok()?;
    text(client).await?; // the methods it offers
    client.write_all(&[5, 2]).await.ok()?; // user and password it is
    client.read_u8().await.ok()?;
    let known = (text(client).await?, text(client).await?) == (USER.0.to_owned(), USER.1.to_owned());
    client.write_all(&[1, u8::from(!known)]).await.ok()?;
    if !known {
        return None;
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await.ok()?;
    assert_eq!(request, [5, 1, 0, 3], "a connection to a name, which is for the proxy to resolve");
    let host = text(client).await?;
    client.read_u16().await.ok()?;
    let answer = if upstream.is_some() { 0 } else { 4 };
    client.write_all(&[5, answer, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?;
    Some(host)
}

/// A text after its length.
async fn text(client: &mut TcpStream) -> Option<String> {
    let mut bytes = vec![0; usize::from(client.read_u8().await.ok()?)];
    client.read_exact(&mut bytes).await.ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A call by way of `proxy`, which has `{}` where the proxy's address belongs.
async fn call(kind: Kind, url: &str, reachable: bool) -> (Answer, Vec<String>) {
    let upstream = Bench::new(
        SimConfig { tls: Some(TlsMode::Only), tls_names: vec![HOST.to_owned()], ..SimConfig::default() },
        |_, _| {},
    );
    let upstream = upstream.await;
    let address: SocketAddr = upstream.sim.base_url().trim_start_matches("https://").parse().expect("an address");
    let proxy = Proxy::start(kind, reachable.then_some(address)).await;
    let pem = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(pem.path(), upstream.sim.ca_pem().expect("a certificate")).expect("written");
    let url = url.replace("{}", &proxy.address.to_string());
    let mut service = Service::new(|config| {
        custom(config, "far", &format!("https://{HOST}:{}/v1", address.port()));
        config.transport.ca_file = Some(pem.path().to_owned());
        config.transport.name = "vps".into();
        config.transport.proxy = Some("http://127.0.0.1:9".into());
        config.egresses.insert("vps".into(), Way { proxy: Some(url) });
    });
    service.token = "sk-far-0123456789".into();
    upstream.sim.state().add_api_key(&service.token);
    let answer = service.call("far", HELLO).await;
    let asked = proxy.asked.lock().expect("lock").clone();
    (answer, asked)
}

#[tokio::test]
async fn calls_go_through_the_proxy_of_their_egress() {
    for (kind, url) in [(Kind::Connect, "http://me:hunter2@{}"), (Kind::Socks5, "socks5h://me:hunter2@{}")] {
        let (answer, asked) = call(kind, url, true).await;
        assert_eq!(answer.reason(), None, "{url}: {:?}", answer.outcome);
        assert!(answer.text().contains("response.completed"), "{}", answer.text());
        assert_eq!(asked, [HOST], "{url}");
    }
}

#[tokio::test]
async fn what_a_proxy_does_not_do_is_told_apart() {
    for (kind, url, reachable, words) in [
        (Kind::Connect, "http://me:wrong@{}", true, "the proxy refuses us"),
        (Kind::Socks5, "socks5h://me:wrong@{}", true, "the proxy refuses us"),
        (Kind::Connect, "http://me:hunter2@{}", false, "the proxy does not connect us"),
        (
            Kind::Socks5,
            "socks5h://me:hunter2@{}",
            false,
            "the proxy does not connect us: SOCKS error: host unreachable",
        ),
        (Kind::Socks5, "socks5://me:hunter2@{}", true, "its name cannot be resolved"),
        (Kind::Connect, "http://me:hunter2@127.0.0.1:9", true, "the proxy cannot be reached"),
        (Kind::Socks5, "socks5h://me:hunter2@127.0.0.1:9", true, "the proxy cannot be reached"),
        (Kind::Connect, "http://me:hunter2@no-such-proxy.invalid:3128", true, "the proxy's name cannot be resolved"),
    ] {
        let (answer, asked) = call(kind, url, reachable).await;
        let failure = answer.failure();
        assert_eq!((failure.reason, answer.outcome.sent()), (Reason::EgressUnreachable, Sent::NotSent), "{url}");
        assert!(failure.message.contains(words), "{url}: {}", failure.message);
        assert!(!format!("{failure:?}").contains("hunter2") && asked.is_empty(), "{failure:?}");
    }
}
