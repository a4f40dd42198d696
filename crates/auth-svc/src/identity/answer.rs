//! What the identity provider answered. Bodies hold tokens: nothing here has a `Debug` that shows one.

use reqwest::Response;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Most bytes of an answer that are read.
const MOST: usize = 256 * 1024;

/// An answer.
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// Seconds that `Retry-After` names.
    pub(crate) retry_after: Option<f64>,
    /// What it holds.
    pub(crate) body: Body,
}

/// What an answer holds.
pub(crate) enum Body {
    /// A JSON object.
    Json(Value),
    /// A browser challenge of the edge, with its ray id.
    Challenge(Option<String>),
    /// Some other HTML page.
    Page,
    /// A redirect, which is not followed.
    Redirect,
    /// Anything else.
    Other,
}

impl Answer {
    pub(super) async fn read(mut response: Response) -> Result<Self, reqwest::Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            let room = MOST.saturating_sub(bytes.len());
            if chunk.len() > room {
                // Nothing of ours is that long: it is read as what it is, not as JSON.
                return Ok(Self::new(response.status().as_u16(), response.headers(), b""));
            }
            bytes.extend_from_slice(&chunk);
        }
        let answer = Self::new(response.status().as_u16(), response.headers(), &bytes);
        zeroize::Zeroize::zeroize(&mut bytes);
        Ok(answer)
    }

    fn new(status: u16, headers: &HeaderMap, bytes: &[u8]) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let retry_after = header("retry-after").and_then(|text| text.trim().parse::<f64>().ok());
        Self {
            status,
            retry_after: retry_after.filter(|seconds| seconds.is_finite() && *seconds >= 0.0),
            body: body(status, header("cf-mitigated"), header("content-type"), header("cf-ray"), bytes),
        }
    }

    /// True if it is a page, or a redirect to one, and so from somebody in between.
    pub(crate) fn is_page(&self) -> bool {
        matches!(self.body, Body::Challenge(_) | Body::Page | Body::Redirect)
    }

    /// A text field of a JSON answer.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match &self.body {
            Body::Json(json) => json.get(name)?.as_str().filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    /// The code of a JSON error: `error.code`, `error` or `code`. Only what looks like a code is one, so that no text
    /// of the provider reaches a message.
    pub(crate) fn error_code(&self) -> Option<&str> {
        let Body::Json(json) = &self.body else { return None };
        let code = json["error"]["code"].as_str().or(json["error"].as_str()).or(json["code"].as_str())?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        (!code.is_empty() && code.len() <= 64 && code.bytes().all(plain)).then_some(code)
    }

    /// What it is, for a person.
    pub(crate) fn describe(&self) -> String {
        let status = self.status;
        match &self.body {
            Body::Json(_) => match self.error_code() {
                Some(code) => format!("status {status}, code {code}"),
                None => format!("status {status}"),
            },
            Body::Challenge(ray) => {
                let ray = ray.as_deref().map(|ray| format!(", ray id {ray}")).unwrap_or_default();
                format!(
                    "a browser challenge page of its edge (status {status}{ray}), which says nothing about the login: \
                     this host's network address is challenged"
                )
            }
            Body::Page => format!("an HTML page instead of JSON (status {status})"),
            Body::Redirect => format!("a redirect (status {status}), which is not followed"),
            Body::Other => format!("something that is not JSON (status {status})"),
        }
    }
}

fn body(status: u16, mitigated: Option<&str>, kind: Option<&str>, ray: Option<&str>, bytes: &[u8]) -> Body {
    if (300..400).contains(&status) {
        return Body::Redirect;
    }
    let html = kind.is_some_and(|kind| kind.contains("text/html")) || bytes.trim_ascii_start().starts_with(b"<");
    let holds = |mark: &str| bytes.windows(mark.len()).any(|window| window == mark.as_bytes());
    let marked = html && (holds("Just a moment") || holds("challenge-platform"));
    if mitigated.is_some_and(|value| value.eq_ignore_ascii_case("challenge")) || marked {
        let ray = ray.filter(|ray| ray.len() <= 64 && ray.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
        return Body::Challenge(ray.map(str::to_owned));
    }
    match serde_json::from_slice::<Value>(bytes) {
        Ok(json) if json.is_object() => Body::Json(json),
        _ if html => Body::Page,
        _ => Body::Other,
    }
}

#[cfg(any(test, fuzzing))]
impl Answer {
    /// An answer from its parts.
    pub(crate) fn raw(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        Self::new(status, headers, body)
    }
}

#[cfg(test)]
impl Answer {
    /// An answer as it would come over the wire.
    pub(crate) fn fake(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Self {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, reqwest::header::HeaderValue::from_static(value));
        }
        Self::new(status, &map, body.as_bytes())
    }
}
