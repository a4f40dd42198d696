//! A proxy that counts: what goes through it leads to one place, whatever host is asked for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP's CONNECT.
    Http,
    /// SOCKS 5 (RFC 1928), with user and password (RFC 1929).
    Socks5,
}

/// The user that a proxy wants.
const USER: &str = "switch";
/// The user's password.
const PASSWORD: &str = "proxy-s3cret-word";
/// `switch:proxy-s3cret-word` in Base64.
const BASIC: &str = "c3dpdGNoOnByb3h5LXMzY3JldC13b3Jk";

/// A proxy, as small as it can be. It ends when this goes.
#[derive(Debug)]
pub struct Proxy {
    kind: ProxyKind,
    address: SocketAddr,
    passed: Arc<Mutex<Vec<String>>>,
    serving: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Proxy {
    /// A proxy that leads to `upstream`.
    ///
    /// # Panics
    ///
    /// If no port can be bound.
    pub async fn start(kind: ProxyKind, upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let passed = Arc::<Mutex<Vec<String>>>::default();
        let hosts = Arc::clone(&passed);
        let serve = async move {
            while let Ok((client, _)) = listener.accept().await {
                let hosts = Arc::clone(&hosts);
                #[expect(clippy::disallowed_methods, reason = "it ends with its connection")]
                drop(tokio::spawn(pass(kind, client, upstream, hosts)));
            }
        };
        #[expect(clippy::disallowed_methods, reason = "it ends with the proxy")]
        let serving = tokio::spawn(serve).abort_handle();
        Self { kind, address, passed, serving }
    }

    /// Its URL, with user and password.
    pub fn url(&self) -> String {
        let scheme = match self.kind {
            ProxyKind::Http => "http",
            ProxyKind::Socks5 => "socks5",
        };
        format!("{scheme}://{USER}:{PASSWORD}@{}", self.address)
    }

    /// The password in its URL: nothing may show it.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// `host:port` of every connection that it let through.
    pub fn passed(&self) -> Vec<String> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn pass(kind: ProxyKind, mut client: TcpStream, upstream: SocketAddr, passed: Arc<Mutex<Vec<String>>>) {
    let host = match kind {
        ProxyKind::Http => connect(&mut client).await,
        ProxyKind::Socks5 => socks5(&mut client).await,
    };
    let (Some(host), Ok(mut server)) = (host, TcpStream::connect(upstream).await) else { return };
    passed.lock().unwrap_or_else(PoisonError::into_inner).push(host);
    // Either end may go away at any time.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

async fn connect(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let known = head.lines().any(|line| line.eq_ignore_ascii_case(&format!("proxy-authorization: basic {BASIC}")));
    let answer = if known { "200 OK" } else { "407 Proxy Authentication Required" };
    client.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await.ok()?;
    let host = head.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    known.then_some(host)
}

async fn socks5(client: &mut TcpStream) -> Option<String> {
    client.read_u8().await.ok()?;
    text(client).await?; // the methods it offers
    client.write_all(&[5, 2]).await.ok()?; // user and password it is
    client.read_u8().await.ok()?;
    let known = (text(client).await?, text(client).await?) == (USER.to_owned(), PASSWORD.to_owned());
    client.write_all(&[1, u8::from(!known)]).await.ok()?;
    let mut request = [0; 4];
    client.read_exact(&mut request).await.ok()?;
    let host = match request[3] {
        1 => std::net::Ipv4Addr::from(client.read_u32().await.ok()?).to_string(),
        3 => text(client).await?,
        _ => return None,
    };
    let port = client.read_u16().await.ok()?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?;
    known.then(|| format!("{host}:{port}"))
}

/// A text after its length.
async fn text(client: &mut TcpStream) -> Option<String> {
    let mut bytes = vec![0; usize::from(client.read_u8().await.ok()?)];
    client.read_exact(&mut bytes).await.ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
