//! docs/reasons/: a page per reason, written by hand but for what the table says, and an index. `UPDATE_GENERATED=1`
//! writes what is generated anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use domain::{After, GrpcCode, Reason};

const BEGIN: &str = "<!-- made from the table of reasons: begin -->\n";
const END: &str = "<!-- made from the table of reasons: end -->\n";
/// What every page must have: a person at three in the morning looks for these words.
const PARTS: [&str; 4] = ["## What happened", "## How to confirm it", "## What to do", "## What clients see"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reasons")
}

/// The code's name in the gRPC specification.
fn grpc_name(code: GrpcCode) -> &'static str {
    match code {
        GrpcCode::Cancelled => "CANCELLED",
        GrpcCode::InvalidArgument => "INVALID_ARGUMENT",
        GrpcCode::DeadlineExceeded => "DEADLINE_EXCEEDED",
        GrpcCode::NotFound => "NOT_FOUND",
        GrpcCode::PermissionDenied => "PERMISSION_DENIED",
        GrpcCode::ResourceExhausted => "RESOURCE_EXHAUSTED",
        GrpcCode::FailedPrecondition => "FAILED_PRECONDITION",
        GrpcCode::Unimplemented => "UNIMPLEMENTED",
        GrpcCode::Internal => "INTERNAL",
        GrpcCode::Unavailable => "UNAVAILABLE",
        GrpcCode::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn index() -> String {
    let mut page = String::from(
        "# Reasons\n\nWhy a call failed: one closed list, from one table in the code (`crates/domain/src/reason_table.rs`), from which\n\
         this page is made. gRPC status, HTTP status, error body and retry advice follow from the same row. HTTP statuses are\n\
         chosen for how real clients react: they hammer 5xx, 403 and 404, stop on 400 and on 429 `usage_limit_reached`, and\n\
         cool their key down on 401 and 403; [what each of them did](../clients.md#what-real-clients-do-with-each-reason).\n\
         Each reason has a page, which `switchboard explain REASON` prints.\n\n\
         | reason | when | HTTP | gRPC | a retry |\n|---|---|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let row = reason.row();
        let retry = if row.retryable { "can help" } else { "is useless" };
        let grpc = grpc_name(row.grpc);
        let _ = writeln!(
            page,
            "| [{reason}]({reason}.md) | {} | {} `{}` | {grpc} | {retry} |",
            row.when, row.http, row.error_code
        );
    }
    page
}

/// What follows from the row, for the page of one reason.
fn generated(reason: Reason) -> String {
    let row = reason.row();
    let tried = match row.after {
        After::Stop => "nothing else is tried",
        After::NextFallback => "the next named fallback is tried, where nothing can be done twice",
        After::Repeat => "the same is tried once more, then the next named fallback, where nothing can be done twice",
        After::NextEgress => {
            "another egress is tried where there is one, then the next named fallback, where nothing can be done twice"
        }
        After::NextCredential => {
            "the next credential, then the next named fallback is tried, where nothing can be done twice"
        }
    };
    let after = row.retry_after_seconds;
    let mut headers = Vec::new();
    if !row.retryable {
        headers.push("`x-should-retry: false`".to_owned());
    }
    if let Some(seconds) = after {
        headers.push(format!("`retry-after: {seconds:.0}` (or what is known better)"));
    }
    let headers = if headers.is_empty() { "no header about retries".to_owned() } else { headers.join(", ") };
    let retry_info = if after.is_some() { ", `RetryInfo`" } else { "" };
    let limit = "\n             \"plan_type\": \"plus\", \"resets_at\": 1795442760, \"resets_in_seconds\": 7200,";
    let limit = if reason == Reason::UsageLimit { limit } else { "" };
    let body = format!(
        "{{ \"error\": {{ \"message\": \"…\", \"type\": \"{}\", \"code\": \"{}\", \"param\": null,{limit}\n             \
         \"reason\": \"{reason}\", \"service\": \"…\", \"next_step\": \"…\", \"call_id\": \"…\" }} }}",
        row.error_type, row.error_code
    );
    format!(
        "## What clients see\n\nIt means: {}. Next step, as the answer says it: {}.\n\n\
         * HTTP {}, {headers}, and OpenAI's error body:\n\n```json\n{body}\n```\n\n\
         * gRPC `{}` ({}), with `ErrorInfo` (reason `{reason}`){retry_info}, `Help` and the `Failure` itself among its details.\n\
         * {}\n\
         * Before the client hears of it: {tried}.\n\n{}\n",
        row.when,
        row.next_step,
        row.http,
        grpc_name(row.grpc),
        row.grpc as i32,
        in_a_stream(reason),
        clients(reason)
    )
}

/// What it is in a stream that has begun.
fn in_a_stream(reason: Reason) -> String {
    use Reason as R;
    match reason {
        R::StreamCut | R::StreamIdle | R::Deadline | R::PeerUnavailable | R::UpstreamError | R::Internal => {
            format!("In a stream that has begun: one `response.failed` whose `error.code` is `{reason}`.")
        }
        R::UsageLimit
        | R::RateLimited
        | R::UpstreamOverloaded
        | R::PolicyRefused
        | R::ContextTooLong
        | R::RequestRejected => {
            "In a stream that has begun: the upstream's own `response.failed`, as it came.".to_owned()
        }
        _ => "It does not happen in a stream that has begun.".to_owned(),
    }
}

/// Whether clients ask again: measured by `tests/tests/clients/matrix.rs`, the numbers are in docs/clients.md.
fn clients(reason: Reason) -> String {
    let row = reason.row();
    let codex = match row.http {
        400 => "stops at once and shows the answer",
        429 if row.error_type == "usage_limit_reached" => "stops at once and shows when the limit ends",
        499 => "is gone",
        500 => "asks (`request_max_retries` + 1) × (`stream_max_retries` + 1) times, and shows a text of its own",
        503 if row.error_code == "server_is_overloaded" => {
            "asks `request_max_retries` + 1 times, and says that the model is at capacity"
        }
        501..=599 => "asks (`request_max_retries` + 1) × (`stream_max_retries` + 1) times, and shows the message",
        _ => "asks `stream_max_retries` + 1 times",
    };
    let sdks = match (row.http, row.retryable) {
        (499, _) => "are gone",
        (_, true) => "ask twice more, by default",
        (_, false) => "ask once: `x-should-retry` tells them",
    };
    format!("Codex CLI {codex}. OpenAI's SDKs {sdks}. [Measured](../clients.md#what-real-clients-do-with-each-reason).")
}

/// The page with what is generated in its place.
fn fresh(reason: Reason, page: &str) -> String {
    let (from, to) = (page.find(BEGIN).unwrap_or_default(), page.find(END).unwrap_or_default());
    assert!(0 < from && from < to, "{reason}'s page has no place for what is made from the table: {BEGIN}{END}");
    format!("{}{BEGIN}\n{}\n{}", &page[..from], generated(reason), &page[to..])
}

#[test]
fn the_pages_are_fresh() {
    let update = std::env::var_os("UPDATE_GENERATED").is_some();
    let mut wanted = vec![(folder().join("README.md"), index())];
    for reason in Reason::ALL {
        let path = folder().join(format!("{reason}.md"));
        let page = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{reason} has no page: {error}"));
        wanted.push((path, fresh(*reason, &page)));
    }
    for (path, text) in wanted {
        if update {
            std::fs::write(&path, &text).expect("docs/ is writable");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == text, "{} is stale; run UPDATE_GENERATED=1 cargo test -p domain", path.display());
    }
}

#[test]
fn every_page_has_its_parts_and_no_page_is_left_over() {
    for reason in Reason::ALL {
        let page = reason.page();
        assert!(page.starts_with(&format!("# {reason}\n")), "{reason}");
        let at: Vec<_> = PARTS.iter().map(|part| page.find(part)).collect();
        assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{reason}: {at:?}");
        let confirm = &page[at[1].unwrap_or(0)..at[2].unwrap_or(0)];
        assert!(confirm.contains("```console\n") && confirm.contains("It prints"), "{reason} confirms nothing");
        assert!(page[at[2].unwrap_or(0)..].contains("| cause | do |"), "{reason} says nothing to do");
        assert!(page.lines().all(|line| line.len() <= 400), "{reason} has an endless line");
    }
    for entry in std::fs::read_dir(folder()).expect("docs/reasons") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        let reason = name.strip_suffix(".md").unwrap_or_default();
        assert!(reason == "README" || reason.parse::<Reason>().is_ok(), "{name} is about no reason");
    }
}

#[test]
fn every_row_is_consistent() {
    for reason in Reason::ALL {
        let row = reason.row();
        assert_eq!(reason.as_str().parse::<Reason>(), Ok(*reason));
        assert!((400..600).contains(&row.http), "{reason}: HTTP {}", row.http);
        // What clients hammer must be worth a retry; a defect is what it is.
        if row.http >= 500 && *reason != Reason::Internal {
            assert!(row.retryable, "{reason} answers {} and is not retryable", row.http);
        }
        assert!(!row.next_step.is_empty() && !row.when.is_empty());
    }
    for edge in [Reason::EdgeChallenge, Reason::EdgeBlocked, Reason::WrongEndpoint] {
        let text = edge.row().next_step.to_lowercase();
        assert!(!text.contains("log in") && !text.contains("re-authenticate"), "{edge}: {text}");
    }
}
