//! What real clients do with each reason: how many requests they make, how they end, what they show.
//!
//! `cargo test -p e2e --test clients -- --ignored matrix --nocapture` prints the table of docs/clients.md, and fails if a
//! client asked another number of times than that table says. The SDKs run with their own defaults, Codex CLI with
//! `request_max_retries` and `stream_max_retries` at 1, since its waits grow to minutes.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::Reason;
use e2e::{Output, Provoked, Topology, beyond_reach, provoke};
use futures_util::{StreamExt, stream};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::codex;
use crate::sdk::Sdk;

/// Deployments at a time.
const AT_ONCE: usize = 4;

/// What a client did.
#[derive(Clone, Debug, Default, PartialEq)]
struct Did {
    /// Requests that reached the gateway.
    requests: usize,
    /// How it ended: exit code, or the exception's class.
    ended: String,
    /// What it showed.
    said: String,
}

/// A row of the table.
#[derive(Debug)]
struct Row {
    reason: Reason,
    codex: Did,
    python: Did,
    node: Did,
}

/// Forwards to the gateway and counts: not every refusal is a call in the gateway's records.
struct Counted {
    address: String,
    count: Arc<AtomicUsize>,
    tasks: TaskTracker,
    over: CancellationToken,
}

impl Counted {
    async fn start(provoked: &Provoked) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (count, target) = (Arc::new(AtomicUsize::new(0)), provoked.switchboard.address().to_owned());
        let (tasks, over) = (TaskTracker::new(), CancellationToken::new());
        let (counted, spawner, end) = (Arc::clone(&count), tasks.clone(), over.clone());
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let extra = provoked.headers.clone();
        let app = axum::Router::new().fallback(move |request: axum::extract::Request| {
            counted.fetch_add(1, Ordering::Relaxed);
            forward(client.clone(), target.clone(), extra.clone(), request)
        });
        spawner.spawn(async move {
            let served = axum::serve(listener, app).with_graceful_shutdown(async move { end.cancelled().await });
            served.await
        });
        Self { address, count, tasks, over }
    }

    async fn stop(self) {
        self.over.cancel();
        self.tasks.close();
        // Clients keep connections open: the tasks go with the test's runtime.
        let _ = tokio::time::timeout(Duration::from_millis(100), self.tasks.wait()).await;
    }
}

/// One request, and its answer as it comes.
async fn forward(
    client: reqwest::Client,
    target: String,
    extra: Vec<(&'static str, &'static str)>,
    request: axum::extract::Request,
) -> axum::response::Response {
    let (mut parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    let url = format!("http://{target}{}", parts.uri);
    for name in ["host", "content-length", "connection", "transfer-encoding"] {
        parts.headers.remove(name);
    }
    let mut forwarded = client.request(parts.method, url).headers(parts.headers).body(body);
    for (name, value) in extra {
        forwarded = forwarded.header(name, value);
    }
    let answer = forwarded.send().await.expect("the gateway answers");
    let mut response = axum::response::Response::new(axum::body::Body::empty());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    for name in ["content-length", "connection", "transfer-encoding"] {
        response.headers_mut().remove(name);
    }
    *response.body_mut() = axum::body::Body::from_stream(answer.bytes_stream());
    response
}

/// All three clients against one deployment, at a time: what they do takes waiting more than work.
async fn row(reason: Reason, topology: Topology) -> Row {
    let provoked = provoke(reason, topology).await;
    let sdk = async |sdk: Sdk| {
        did(&provoked, async |base| raised(sdk.matrix(&provoked.home, &base, &ask(&provoked)).await)).await
    };
    let (python, node) = (sdk(Sdk::Python), sdk(Sdk::Node));
    let codex = did(&provoked, async |base| codex_cli(&provoked, &base).await);
    let (codex, python, node) = tokio::join!(codex, python, node);
    Row { reason, codex, python, node }
}

/// What a client did, which is given a base URL of its own.
async fn did(provoked: &Provoked, client: impl AsyncFnOnce(String) -> Did) -> Did {
    let counted = Counted::start(provoked).await;
    let did = client(format!("http://{}{}", counted.address, provoked.base)).await;
    let requests = counted.count.load(Ordering::Relaxed);
    counted.stop().await;
    Did { requests, ..did }
}

/// The call for an SDK: key and body.
fn ask(provoked: &Provoked) -> (String, Value) {
    (provoked.key.clone(), provoked.body.clone())
}

/// What `responses.py` or `responses.mjs` printed of one failed call.
fn raised(output: Output) -> Did {
    let seen = output.ok().json();
    let text = |name: &str| seen[name].as_str().unwrap_or_default().to_owned();
    Did { requests: 0, ended: text("class"), said: text("message") }
}

async fn codex_cli(provoked: &Provoked, base_url: &str) -> Did {
    let text = |name: &str| provoked.body[name].as_str().unwrap_or_default().to_owned();
    // Each retry waits for twice as long as the one before: one of each kind shows that there are such.
    let once = "model_providers.switchboard.stream_max_retries=1".to_owned();
    let mut more = vec![once, format!("model={:?}", text("model"))];
    if provoked.reason == Reason::Unsupported {
        // It sends no field that is not served: an encoding that is not stands for it.
        more.push("model_providers.switchboard.http_headers={\"content-encoding\"=\"br\"}".to_owned());
    }
    let output = codex::run(&provoked.home, base_url, &provoked.key, &[&text("input")], &more).await;
    let said = output.stderr.lines().rev().find(|line| line.starts_with("ERROR")).unwrap_or_default();
    Did { requests: 0, ended: format!("exit {}", output.code.unwrap_or(-1)), said: said.to_owned() }
}

/// The reasons that calls can be made to fail for.
fn reasons() -> Vec<Reason> {
    Reason::ALL.iter().copied().filter(|reason| beyond_reach(*reason).is_none()).collect()
}

async fn table(topology: Topology) -> Vec<Row> {
    stream::iter(reasons()).map(|reason| row(reason, topology)).buffered(AT_ONCE).collect().await
}

/// The table as docs/clients.md has it.
fn markdown(rows: &[Row]) -> String {
    let mut text = String::from("| reason | HTTP | Codex CLI | OpenAI Python | OpenAI Node |\n|---|---|---|---|---|\n");
    for Row { reason, codex, python, node } in rows {
        let cell = |did: &Did| format!("{} · {}", did.requests, did.ended);
        let _ = writeln!(
            text,
            "| [{reason}](reasons/{reason}.md) | {} | {} | {} | {} |",
            reason.row().http,
            cell(codex),
            cell(python),
            cell(node)
        );
    }
    text
}

#[expect(clippy::print_stdout, reason = "the table is what the test is run for")]
async fn the_table_is_as_documented(topology: Topology) {
    let rows = table(topology).await;
    let found = markdown(&rows);
    println!("{found}");
    for Row { reason, codex, python, node } in &rows {
        println!("{reason}\n  codex:  {}\n  python: {}\n  node:   {}", codex.said, python.said, node.said);
        for did in [codex, python, node] {
            assert!(did.requests > 0, "{reason}: nothing was asked: {did:?}");
        }
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/clients.md");
    let mut documented = std::fs::read_to_string(&page).expect("docs/clients.md");
    if std::env::var_os("UPDATE_GENERATED").is_some() && topology == Topology::OneProcess {
        documented = replaced(&documented, &found);
        std::fs::write(&page, &documented).expect("docs/ is writable");
    }
    for line in found.lines() {
        assert!(documented.contains(line), "docs/clients.md does not say so, run UPDATE_GENERATED=1: {line}");
    }
}

/// `page` with `table` in the place of the one that begins alike.
fn replaced(page: &str, table: &str) -> String {
    let head = table.lines().next().unwrap_or_default();
    let from = page.find(head).expect("docs/clients.md holds the table");
    let to = page[from..].find("\n\n").map_or(page.len(), |end| from + end + 1);
    format!("{}{table}{}", &page[..from], &page[to..])
}

in_each_topology! {
    async fn clients_do_as_documented(topology) {
        the_table_is_as_documented(topology).await;
    }
}
