//! Finding secrets in bytes, in every form in which they are likely to get out.

use std::collections::{BTreeSet, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Bytes by which a needle is looked up.
const HEAD: usize = 8;
/// What is shorter is no secret, and would be found by chance.
const SHORTEST: usize = 12;
/// Characters of an agent key that may be shown.
pub(super) const SHOWN: usize = 12;

struct Needle {
    what: String,
    bytes: Vec<u8>,
}

/// Looks for many secrets at once, in one pass.
pub(crate) struct Finder {
    needles: Vec<Needle>,
    /// One bit for each hash of a head: most positions end here.
    filter: Vec<bool>,
    heads: HashMap<u64, Vec<usize>>,
}

fn slot(head: u64) -> usize {
    (head.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize
}

impl Finder {
    /// For these secrets, each with its kind.
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut this = Self { needles: Vec::new(), filter: vec![false; 1 << 16], heads: HashMap::new() };
        let mut known = BTreeSet::new();
        for (kind, secret) in secrets {
            if secret.len() < SHORTEST {
                continue;
            }
            for (form, bytes) in forms(secret) {
                if bytes.len() >= HEAD && known.insert(bytes.clone()) {
                    this.add(format!("{kind}{form}"), bytes);
                }
            }
        }
        this
    }

    fn add(&mut self, what: String, bytes: Vec<u8>) {
        let head = bytes.iter().take(HEAD).fold(0, |head: u64, byte| head << 8 | u64::from(*byte));
        self.filter[slot(head)] = true;
        self.heads.entry(head).or_default().push(self.needles.len());
        self.needles.push(Needle { what, bytes });
    }

    /// What is in `text`: each needle once, with the offset of where it begins first.
    pub(crate) fn find(&self, text: &[u8]) -> Vec<(&str, usize)> {
        let mut found: Vec<(usize, usize)> = Vec::new();
        let mut window: u64 = 0;
        for (at, byte) in text.iter().enumerate() {
            window = window << 8 | u64::from(*byte);
            if !self.filter[slot(window)] || at + 1 < HEAD {
                continue;
            }
            let begin = at + 1 - HEAD;
            for needle in self.heads.get(&window).into_iter().flatten() {
                let whole = text[begin..].starts_with(&self.needles[*needle].bytes);
                if whole && !found.iter().any(|(known, _)| known == needle) {
                    found.push((*needle, begin));
                }
            }
        }
        found.into_iter().map(|(needle, at)| (self.needles[needle].what.as_str(), at)).collect()
    }
}

/// A secret as it is, its part that tells most, and as programs print bytes.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = vec![("", secret.to_vec())];
    // The signature of a token: a text that was cut short still leaks, if this much of it is there.
    if let Some(dot) = secret.iter().rposition(|byte| *byte == b'.') {
        forms.push((" (its signature)", secret[dot + 1..].iter().copied().take(32).collect()));
    }
    if secret.starts_with(b"sbk_") {
        forms.push((" (its part that is not shown)", secret[SHOWN..].to_vec()));
    }
    let first = &secret[..SHORTEST.min(secret.len())];
    let list: Vec<String> = first.iter().map(u8::to_string).collect();
    forms.push((" (as a list of bytes)", list.join(", ").into_bytes()));
    let hex = |upper: bool| -> String {
        secret.iter().take(32).map(|b| if upper { format!("{b:02X}") } else { format!("{b:02x}") }).collect()
    };
    forms.push((" (in hexadecimal)", hex(false).into_bytes()));
    forms.push((" (in hexadecimal)", hex(true).into_bytes()));
    // Inside a longer text it may begin at any of three places of a group.
    for shift in 0..3 {
        let mut padded = vec![0; shift];
        padded.extend_from_slice(secret);
        for text in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            let from = if shift == 0 { 0 } else { 4 };
            let to = text.len() - 4;
            forms.push((" (in base64)", text.as_bytes()[from..to].to_vec()));
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJlLW9mLXRoZS10b2tlbi1pcy1sb25n";
    const KEY: &str = "sbk_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789";

    #[track_caller]
    fn finds(text: &[u8], what: &str) {
        let raw = [7u8; 32];
        let secrets: [(&str, &[u8]); 4] =
            [("a token", JWT.as_bytes()), ("a key", KEY.as_bytes()), ("raw", &raw), ("short", b"x")];
        let finder = Finder::new(secrets);
        let found: Vec<&str> = finder.find(text).into_iter().map(|(what, _)| what).collect();
        if what.is_empty() {
            assert!(found.is_empty(), "{found:?}");
        } else {
            assert!(found.contains(&what), "{what} is not in {found:?}");
        }
    }

    #[test]
    fn each_form_is_found_wherever_it_stands() {
        finds(JWT.as_bytes(), "a token");
        finds(format!("x{JWT}").as_bytes(), "a token");
        finds(b"...c2lnbmF0dXJlLW9mLXRoZS10b2tlbi1pcy...", "a token (its signature)");
        finds(b"EfGhIjKlMnOpQrStUvWxYz0123456789", "a key (its part that is not shown)");
        finds(format!("{:?}", KEY.as_bytes()).as_bytes(), "a key (as a list of bytes)");
        finds(&[b"\0\0", [7u8; 32].as_slice(), b"\0"].concat(), "raw");
        finds("07".repeat(32).as_bytes(), "raw (in hexadecimal)");
        finds(KEY.bytes().map(|b| format!("{b:02X}")).collect::<String>().as_bytes(), "a key (in hexadecimal)");
        for before in ["", "a", "ab", "abc"] {
            let text = STANDARD_NO_PAD.encode(format!("{before}{KEY} and more"));
            finds(text.as_bytes(), "a key (in base64)");
        }
    }

    #[test]
    fn what_is_no_secret_is_not_found() {
        finds(b"", "");
        finds(b"x", "");
        finds(b"eyJhbGciOiJSUzI1NiJ9 and sbk_AbCdEfGh are shown", "");
        finds(&[0; 4096], "");
        assert_eq!(Finder::new([]).find(JWT.as_bytes()).len(), 0);
    }
}
