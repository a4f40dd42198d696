//! Pages: what a proxy, an edge or a wrong server answers in place of JSON.

use http::{HeaderMap, header};

use super::detail;
use crate::headers;

const CHALLENGE_MARKS: &[&str] =
    &["just a moment", "challenge-platform", "cf-chl-", "enable javascript and cookies to continue"];
const BLOCK_MARKS: &[&str] = &["you have been blocked", "attention required! | cloudflare"];

/// What a body is, when it is no JSON.
#[derive(Debug)]
pub(super) struct Page {
    html: bool,
    title: Option<String>,
    /// The edge says so itself.
    mitigated: bool,
    challenge_marks: bool,
    block_marks: bool,
}

impl Page {
    pub(super) fn of(headers: &HeaderMap, body: &[u8]) -> Self {
        let mitigated = headers::text(headers, "cf-mitigated").is_some_and(|v| v.eq_ignore_ascii_case("challenge"));
        let text = String::from_utf8_lossy(body);
        let typed = headers::text(headers, header::CONTENT_TYPE.as_str()).is_some_and(|kind| {
            let kind = kind.to_ascii_lowercase();
            kind.starts_with("text/html") || kind.starts_with("application/xhtml")
        });
        let html = typed || text.trim_start_matches('\u{feff}').trim_start().starts_with('<');
        if !html {
            return Self { html, title: None, mitigated, challenge_marks: false, block_marks: false };
        }
        let lower = text.to_ascii_lowercase();
        let has = |marks: &[&str]| marks.iter().any(|mark| lower.contains(mark));
        Self {
            html,
            title: title(&text, &lower),
            mitigated,
            challenge_marks: has(CHALLENGE_MARKS),
            block_marks: has(BLOCK_MARKS),
        }
    }

    pub(super) fn is_html(&self) -> bool {
        self.html
    }

    /// A challenge. The edge puts its script into ordinary pages too, and 520 to 526 are its words about an origin that
    /// failed: the marks alone count only where challenges are served.
    pub(super) fn is_challenge(&self, status: u16) -> bool {
        self.mitigated || (self.challenge_marks && !self.block_marks && matches!(status, 403 | 429 | 503))
    }

    /// A block page; a 403 page that is neither is one too.
    pub(super) fn is_block(&self, status: u16) -> bool {
        self.html && (status == 403 || (self.block_marks && matches!(status, 429 | 503)))
    }

    /// ` titled "…"`, or nothing.
    pub(super) fn titled(&self) -> String {
        self.title.as_ref().map(|title| format!(" titled {title:?}")).unwrap_or_default()
    }
}

/// `lower` is `text` in ASCII lower case, so that positions agree.
fn title(text: &str, lower: &str) -> Option<String> {
    let start = lower.find("<title")?;
    let from = start + lower.get(start..)?.find('>')? + 1;
    let to = from + lower.get(from..)?.find("</title")?;
    let title = detail::shorten(text.get(from..to)?.trim(), 100);
    (!title.is_empty()).then_some(title)
}
