//! The edge's cookies, one jar per credential.
//!
//! Only the names that Cloudflare uses for load balancing and rate limiting are kept (the list of Codex CLI,
//! http-client/src/chatgpt_cloudflare_cookies.rs), only for the host that set them, and in memory. A jar shared by
//! credentials would tie accounts to each other that have nothing in common.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use domain::Clock;
use http::{HeaderMap, HeaderValue, header};
use service_kit::UpstreamUrl;

const NAMES: &[&str] = &[
    "__cf_bm",
    "__cflb",
    "__cfruid",
    "__cfseq",
    "__cfwaitingroom",
    "_cfuvid",
    "cf_clearance",
    "cf_ob_info",
    "cf_use_ob",
];
const NAME_PREFIX: &str = "cf_chl_";
/// How long a cookie is kept that does not say: as long as `__cf_bm` lives by Cloudflare's documentation.
const LIFETIME_MS: i64 = 30 * 60 * 1000;
const MAX_JARS: usize = 1024;
const MAX_COOKIES: usize = 16;
const MAX_VALUE_BYTES: usize = 4096;

/// Whose jar it is: credential and origin.
type Owner = (String, String);

/// Every jar.
#[derive(Debug)]
pub(crate) struct Cookies {
    clock: Clock,
    jars: Mutex<Jars>,
}

#[derive(Default)]
struct Jars {
    jars: HashMap<Owner, BTreeMap<String, Cookie>>,
    /// Oldest first.
    order: VecDeque<Owner>,
}

struct Cookie {
    value: String,
    expires_ms: i64,
}

impl std::fmt::Debug for Jars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jars").field("jars", &self.jars.len()).finish_non_exhaustive()
    }
}

impl Cookies {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, jars: Mutex::default() }
    }

    /// The `cookie` header for a request with this credential, if there are any.
    pub(crate) fn header(&self, credential: &str, target: &UpstreamUrl) -> Option<HeaderValue> {
        let now = self.clock.now_ms();
        let jars = self.jars.lock().unwrap_or_else(PoisonError::into_inner);
        let jar = jars.jars.get(&(credential.to_owned(), target.origin.clone()))?;
        let live = jar.iter().filter(|(_, cookie)| cookie.expires_ms > now);
        let pairs: Vec<String> = live.map(|(name, cookie)| format!("{name}={}", cookie.value)).collect();
        let mut value = HeaderValue::from_str(&pairs.join("; ")).ok().filter(|v| !v.is_empty())?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Keeps what an answer sets.
    pub(crate) fn keep(&self, credential: &str, target: &UpstreamUrl, answer: &HeaderMap) {
        // Plain http reaches loopback only; nothing else is ever called without TLS.
        if credential.is_empty() || !answer.contains_key(header::SET_COOKIE) {
            return;
        }
        let now = self.clock.now_ms();
        let mut jars = self.jars.lock().unwrap_or_else(PoisonError::into_inner);
        let jar = jars.of((credential.to_owned(), target.origin.clone()));
        for line in answer.get_all(header::SET_COOKIE).iter().filter_map(|v| v.to_str().ok()) {
            let Some((name, value, lifetime_ms)) = parse(line) else { continue };
            if lifetime_ms <= 0 {
                jar.remove(name);
            } else if jar.len() < MAX_COOKIES || jar.contains_key(name) {
                jar.insert(name.to_owned(), Cookie { value: value.to_owned(), expires_ms: now + lifetime_ms });
            }
        }
    }
}

impl Jars {
    fn of(&mut self, owner: Owner) -> &mut BTreeMap<String, Cookie> {
        if !self.jars.contains_key(&owner) {
            self.order.push_back(owner.clone());
            if self.order.len() > MAX_JARS
                && let Some(oldest) = self.order.pop_front()
            {
                self.jars.remove(&oldest);
            }
        }
        self.jars.entry(owner).or_default()
    }
}

/// Name, value and lifetime of a cookie that may be kept.
fn parse(line: &str) -> Option<(&str, &str, i64)> {
    let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
    let (name, value) = pair.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let allowed = NAMES.contains(&name) || name.starts_with(NAME_PREFIX);
    if !allowed || value.len() > MAX_VALUE_BYTES {
        return None;
    }
    let attribute = |wanted: &str| {
        let mut pairs = attributes.split(';').filter_map(|a| a.split_once('='));
        pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
    };
    let lifetime_ms = match attribute("max-age").and_then(|age| age.parse::<i64>().ok()) {
        Some(seconds) => seconds.saturating_mul(1000).min(LIFETIME_MS),
        // A date in 1970 is how servers delete a cookie; any other is not worth a parser for three spellings.
        None if value.is_empty() || attribute("expires").is_some_and(|date| date.contains("1970")) => 0,
        None => LIFETIME_MS,
    };
    Some((name, value, lifetime_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (header::SET_COOKIE, HeaderValue::from_static(line))).collect()
    }

    #[test]
    fn the_edges_cookies_go_back_with_the_same_credential_only() {
        let clock = Clock::manual(0);
        let cookies = Cookies::new(clock.clone());
        let codex = UpstreamUrl::parse("https://chatgpt.com/backend-api/codex").expect("good");
        let other = UpstreamUrl::parse("https://relay.example/codex").expect("good");
        let lines = ["__cf_bm=1; Path=/; HttpOnly", "oai-session=2", "cf_chl_x=3; Max-Age=60", "_cfuvid=4"];
        cookies.keep("c1", &codex, &answer(&lines));
        let sent =
            |credential: &str, url| cookies.header(credential, url).map(|v| v.to_str().expect("text").to_owned());
        assert_eq!(sent("c1", &codex).as_deref(), Some("__cf_bm=1; _cfuvid=4; cf_chl_x=3"));
        assert_eq!(sent("c2", &codex), None);
        assert_eq!(sent("c1", &other), None);
        cookies.keep("c1", &codex, &answer(&["_cfuvid=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"]));
        clock.advance_ms(61_000);
        assert_eq!(sent("c1", &codex).as_deref(), Some("__cf_bm=1"));
        clock.advance_ms(LIFETIME_MS);
        assert_eq!(sent("c1", &codex), None);
    }

    #[test]
    fn memory_is_bounded() {
        let cookies = Cookies::new(Clock::manual(0));
        let url = UpstreamUrl::parse("https://chatgpt.com/x").expect("good");
        for i in 0..MAX_JARS + 10 {
            cookies.keep(&format!("c{i}"), &url, &answer(&["__cf_bm=1"]));
        }
        let jars = cookies.jars.lock().expect("lock");
        assert_eq!((jars.jars.len(), jars.order.len()), (MAX_JARS, MAX_JARS));
    }
}
