//! Making keys and giving them new secrets. A secret is shown once; its hash is what is stored.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{Failure, Reason, service};
use proto::auth::v1::KeyLimits;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::names;
use crate::store::{AgentKey, Limits, NewAgentKey, NewSecret, Store};

/// First characters of every key.
const PREFIX: &str = "sbk_";
/// Characters by which a key can be recognised.
const SHOWN: usize = 12;
/// Longest name, pattern or label, in bytes.
const LONGEST: usize = 200;
/// Most patterns or labels of one key: they travel with every verification.
const MOST_LISTED: usize = 100;
/// The highest rate and the most calls at a time that a gateway counts.
const MOST_COUNTED: i32 = 100_000;
/// The highest number of tokens that every JSON reader takes for a whole number.
const MOST_TOKENS: f64 = 9_007_199_254_740_991.0;

/// What a key may do.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyRequest {
    /// Name, unique among live keys.
    pub(crate) name: String,
    /// Agent it names.
    pub(crate) agent: String,
    /// Model patterns; empty allows all.
    pub(crate) models: Vec<String>,
    /// Credential labels; empty allows all.
    pub(crate) credentials: Vec<String>,
    /// Unix seconds; `None` never.
    pub(crate) expires_at: Option<i64>,
    /// What it may use; `None` does not limit.
    pub(crate) limits: Option<KeyLimits>,
}

/// Makes a key and stores its hash. Errors: REQUEST_INVALID by field; STORE_UNAVAILABLE.
pub(crate) async fn mint(store: &Store, request: KeyRequest) -> Result<(SecretString, AgentKey), Failure> {
    for (field, value) in [("name", &request.name), ("agent", &request.agent)] {
        if let Some(why) = names::problem(value) {
            return Err(refuse(field, format!("the key's {field} {why}")));
        }
    }
    for (field, list) in [("models", &request.models), ("credentials", &request.credentials)] {
        if list.len() > MOST_LISTED || !list.iter().all(|value| is_word(value)) {
            let message = format!(
                "the key's {field} are more than {MOST_LISTED}, or one of them is empty, too long, or holds control \
                 characters"
            );
            return Err(refuse(field, message));
        }
    }
    let limits = limits(request.limits.unwrap_or_default())?;
    let (key, secret) = fresh()?;
    let new = NewAgentKey {
        name: request.name,
        agent: request.agent,
        secret,
        models: request.models,
        credentials: request.credentials,
        expires_at: request.expires_at,
        limits,
    };
    Ok((key, store.insert_agent_key(&new).await?))
}

/// Gives a key another secret; the one it had is good for `grace_s` more seconds.
/// Errors: NOT_FOUND for a key that is not there, revoked or expired; STORE_UNAVAILABLE.
pub(crate) async fn rotate(store: &Store, key: &str, grace_s: i64) -> Result<(SecretString, AgentKey), Failure> {
    let (shown, secret) = fresh()?;
    Ok((shown, store.rotate_agent_key(key, &secret, grace_s).await?))
}

fn fresh() -> Result<(SecretString, NewSecret), Failure> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| {
        Failure::new(Reason::Internal, service::AUTH, format!("the system gives no random bytes: {error}"))
    })?;
    let key = Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice())));
    let secret =
        NewSecret { prefix: key.chars().take(SHOWN).collect(), hash: *blake3::hash(key.as_bytes()).as_bytes() };
    Ok((SecretString::from(key.as_str()), secret))
}

fn is_word(value: &str) -> bool {
    !value.trim().is_empty() && value.len() <= LONGEST && !value.chars().any(char::is_control)
}

fn limits(wanted: KeyLimits) -> Result<Limits, Failure> {
    for (field, limit) in
        [("requests_per_minute", wanted.requests_per_minute), ("concurrent_calls", wanted.concurrent_calls)]
    {
        if limit.is_some_and(|limit| !(1..=MOST_COUNTED).contains(&limit)) {
            let message = format!("a key's {field} is from 1 to {MOST_COUNTED}; leave it out for no limit");
            return Err(refuse(&format!("limits.{field}"), message));
        }
    }
    // What is not a number is in no range.
    if wanted.tokens_per_day.is_some_and(|limit| !(1.0..=MOST_TOKENS).contains(&limit)) {
        let message = format!("a key's tokens_per_day is from 1 to {MOST_TOKENS}; leave it out for no limit");
        return Err(refuse("limits.tokens_per_day", message));
    }
    Ok(Limits {
        requests_per_minute: wanted.requests_per_minute,
        concurrent_calls: wanted.concurrent_calls,
        tokens_per_day: wanted.tokens_per_day.map(|limit| limit as i64),
    })
}

fn refuse(field: &str, message: String) -> Failure {
    Failure::new(Reason::RequestInvalid, service::AUTH, message).param(field)
}
