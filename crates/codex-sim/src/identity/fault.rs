//! How the identity provider goes wrong, by name.
//!
//! The string form is a comma-separated list of at most one fault and one delay, e.g. `delay:300` or
//! `delay:300,omit_refresh_token`. The delay stands **after** the token has been spent and before the
//! answer: two holders that refresh at the same time then meet the reuse detection, as they would outside.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::scenario::UnknownScenario;

/// What goes wrong at `/oauth/token` (and, for `challenge`, `rate_limit` and `server_error` set for
/// everyone, at the device endpoints too).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// 403 challenge page. The token is not spent.
    Challenge,
    /// 429 with `retry-after` in seconds. The token is not spent.
    RateLimit(u64),
    /// 500. The token is not spent.
    ServerError,
    /// Never answers. The token is not spent.
    Stall,
    /// Spends the token and never answers.
    StallSpent,
    /// Spends the token and drops the connection: the answer is lost.
    DropAnswer,
    /// The answer has no `refresh_token`; the old one stays valid.
    OmitRefreshToken,
    /// The answer has no `id_token`.
    OmitIdToken,
    /// The answer has no `expires_in`.
    OmitExpiresIn,
    /// 401 `refresh_token_expired`.
    Expired,
    /// 401 `refresh_token_invalidated`.
    Invalidated,
    /// 400 `invalid_grant` in OAuth's own shape.
    InvalidGrant,
    /// 200 with an HTML page. The token is not spent.
    HtmlOk,
    /// A browser login ends with `access_denied`, for the workspace has no Codex. Changes nothing at `/oauth/token`.
    MissingEntitlement,
}

/// The behaviour of the identity provider towards one account, or everyone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenScenario {
    /// How long the answer is held back.
    pub delay: Duration,
    /// What goes wrong; `None` answers properly.
    pub fault: Option<TokenFault>,
}

static PLAIN: &[(&str, TokenFault)] = &[
    ("challenge", TokenFault::Challenge),
    ("server_error", TokenFault::ServerError),
    ("stall", TokenFault::Stall),
    ("stall_spent", TokenFault::StallSpent),
    ("drop_answer", TokenFault::DropAnswer),
    ("omit_refresh_token", TokenFault::OmitRefreshToken),
    ("omit_id_token", TokenFault::OmitIdToken),
    ("omit_expires_in", TokenFault::OmitExpiresIn),
    ("expired", TokenFault::Expired),
    ("invalidated", TokenFault::Invalidated),
    ("invalid_grant", TokenFault::InvalidGrant),
    ("html_ok", TokenFault::HtmlOk),
    ("missing_entitlement", TokenFault::MissingEntitlement),
];

impl FromStr for TokenScenario {
    type Err = UnknownScenario;

    fn from_str(text: &str) -> Result<Self, UnknownScenario> {
        let unknown = || UnknownScenario(text.to_owned());
        let mut scenario = Self::default();
        for part in text.split(',').map(str::trim) {
            let (name, argument) = part.split_once(':').unwrap_or((part, ""));
            if let Some((_, fault)) = PLAIN.iter().find(|(plain, _)| *plain == part) {
                scenario.fault = Some(fault.clone());
            } else if name == "delay" {
                scenario.delay = Duration::from_millis(argument.parse().map_err(|_| unknown())?);
            } else if name == "rate_limit" {
                let seconds = if argument.is_empty() { 1 } else { argument.parse().map_err(|_| unknown())? };
                scenario.fault = Some(TokenFault::RateLimit(seconds));
            } else if part != "ok" {
                return Err(unknown());
            }
        }
        Ok(scenario)
    }
}

impl fmt::Display for TokenScenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let delay = (!self.delay.is_zero()).then(|| format!("delay:{}", self.delay.as_millis()));
        let fault = self.fault.as_ref().map(|fault| match fault {
            TokenFault::RateLimit(seconds) => format!("rate_limit:{seconds}"),
            plain => PLAIN.iter().find(|(_, known)| known == plain).map_or("ok", |(name, _)| name).to_owned(),
        });
        let parts: Vec<String> = [delay, fault].into_iter().flatten().collect();
        f.write_str(if parts.is_empty() { "ok" } else { "" })?;
        f.write_str(&parts.join(","))
    }
}

impl Serialize for TokenScenario {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenScenario {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_parse_and_print_themselves() {
        for text in ["ok", "delay:300", "delay:300,omit_refresh_token", "rate_limit:7", "drop_answer", "html_ok"] {
            assert_eq!(text.parse::<TokenScenario>().unwrap().to_string(), text);
        }
        assert!("delay".parse::<TokenScenario>().is_err());
        assert!("sparkle".parse::<TokenScenario>().is_err());
    }
}
