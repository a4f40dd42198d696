//! docs/reasons.md is what the table says. `UPDATE_GENERATED=1` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use domain::{After, Reason};

fn page() -> String {
    let mut page = String::from(
        "# Reasons\n\nWhy a call failed: one closed list, from one table in the code (`crates/domain/src/reason_table.rs`); this page\n\
         is made from it. gRPC status, HTTP status, error body and retry advice follow from the same row. HTTP statuses are\n\
         chosen for how real clients react: they hammer 5xx, 403 and 404, stop on 400 and on 429 `usage_limit_reached`, and\n\
         cool their key down on 401 and 403. `switchboard explain REASON` prints a row.\n",
    );
    for reason in Reason::ALL {
        let row = reason.row();
        let next = match row.after {
            After::Stop => "nothing else is tried",
            After::NextFallback => "the next named fallback is tried",
            After::NextCredential => "the next credential, then the next named fallback is tried",
        };
        let retry = if row.retryable { "can succeed later by itself" } else { "useless until something is changed" };
        let _ = write!(
            page,
            "\n## {reason}\n\nWhen {}.\n\n* Next step: {}.\n* Agents see: HTTP {} `{}` (`{}`); gRPC {:?}.\n* In the call: {next}. A retry by the agent: {retry}.\n",
            row.when, row.next_step, row.http, row.error_code, row.error_type, row.grpc
        );
    }
    page
}

#[test]
fn the_page_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reasons.md");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, page()).expect("docs/ is writable");
    }
    let found = std::fs::read_to_string(&path).expect("docs/reasons.md exists");
    assert!(found == page(), "docs/reasons.md is stale; run UPDATE_GENERATED=1 cargo test -p domain");
}

#[test]
fn every_row_is_consistent() {
    for reason in Reason::ALL {
        let row = reason.row();
        assert_eq!(reason.as_str().parse::<Reason>(), Ok(*reason));
        assert!((400..600).contains(&row.http), "{reason}: HTTP {}", row.http);
        // What clients hammer must be worth a retry; our own refusals between services are the exception.
        if row.http >= 500 && !matches!(reason, Reason::Internal | Reason::PeerRefused | Reason::SealRefused) {
            assert!(row.retryable, "{reason} answers {} and is not retryable", row.http);
        }
        assert!(!row.next_step.is_empty() && !row.when.is_empty());
    }
    for edge in [Reason::EdgeChallenge, Reason::EdgeBlocked, Reason::WrongEndpoint] {
        let text = edge.row().next_step.to_lowercase();
        assert!(!text.contains("log in") && !text.contains("re-authenticate"), "{edge}: {text}");
    }
}
