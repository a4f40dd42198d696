//! A reverse proxy of hyper and nothing else: it changes the address of a request and passes everything on. It knows no
//! keys, credentials or routes, records nothing and logs nothing, and so is what a proxy of these parts costs at least.
//!
//! `thin-proxy ADDRESS UPSTREAM`, both `IP:PORT`; HTTP/1.1 on both sides, connections are kept.

use std::error::Error;
use std::net::SocketAddr;

use http_body_util::{Either, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::http::uri::{Authority, Scheme, Uri};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;

type Failed = Box<dyn Error + Send + Sync>;
type Upstream = Client<HttpConnector, Incoming>;
type Body = Either<Incoming, Empty<Bytes>>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, upstream] = arguments.as_slice() else { return Err("usage: thin-proxy ADDRESS UPSTREAM".into()) };
    let (address, upstream) = (address.parse::<SocketAddr>()?, upstream.parse::<Authority>()?);
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Upstream = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (client, upstream) = (client.clone(), upstream.clone());
        let service = service_fn(move |request| pass(client.clone(), upstream.clone(), request));
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with its connection, and the process with the bench that started it"
        )]
        drop(tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service)));
    }
}

async fn pass(client: Upstream, upstream: Authority, mut request: Request<Incoming>) -> Result<Response<Body>, Failed> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    request.headers_mut().insert(HOST, HeaderValue::from_str(upstream.as_str())?);
    request.headers_mut().remove(CONNECTION);
    parts.authority = Some(upstream);
    *request.uri_mut() = Uri::from_parts(parts)?;
    match client.request(request).await {
        Ok(response) => Ok(response.map(Either::Left)),
        Err(_) => {
            let mut refused = Response::new(Either::Right(Empty::new()));
            *refused.status_mut() = StatusCode::BAD_GATEWAY;
            Ok(refused)
        }
    }
}
