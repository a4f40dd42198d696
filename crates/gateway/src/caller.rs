//! Who calls: an agent by its key, or the operator by the connection.

use std::net::IpAddr;
use std::sync::Arc;

use domain::{Failure, Reason, service};
use http::{HeaderMap, header};
use proto::auth::v1::VerifyKeyResponse;
use service_kit::Peer;

use crate::budget::Budget;
use crate::keys::{Keys, Verified};
use crate::links::Asked;

/// Agent that an operator speaks for unless another is named.
pub(crate) const DEFAULT_AGENT: &str = "main";
/// Somebody who may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Agent it speaks for.
    pub(crate) agent: String,
    /// True for the operator, who sees every agent and speaks for any.
    pub(crate) operator: bool,
    /// Model patterns that the key allows; empty allows all.
    pub(crate) models: Vec<String>,
    /// Credentials that the key allows; empty allows all.
    pub(crate) credentials: Vec<String>,
    /// Id of the key; the operator has none.
    pub(crate) key_id: Option<String>,
}

/// Somebody as the connection or a key introduces them, before it is known which agent they speak for.
#[derive(Clone)]
pub(crate) struct Introduced {
    asked: Option<Asked<()>>,
    who: Result<Who, Failure>,
}

#[derive(Clone)]
enum Who {
    Operator,
    Holder(Arc<Verified>),
}

/// What came of a caller's introduction.
pub(crate) struct Identified {
    /// The question to auth-svc, if one was needed.
    pub(crate) asked: Option<Asked<()>>,
    /// Who it is.
    pub(crate) result: Result<Caller, Failure>,
    /// Their key; the operator has none.
    pub(crate) holds: Option<Arc<Verified>>,
}

impl Introduced {
    /// Finds out who calls, by the connection or by the key.
    pub(crate) async fn of(keys: &Keys, headers: &HeaderMap, peer: Option<Peer>, budget: Budget) -> Self {
        if peer.as_ref().is_some_and(Peer::is_operator) {
            return Self { asked: None, who: Ok(Who::Operator) };
        }
        match bearer(headers) {
            Ok(key) => {
                let hash = *blake3::hash(key.as_bytes()).as_bytes();
                let (asked, who) = keys.verify(hash, address(peer.as_ref()), budget).await;
                Self { asked, who: who.map(Who::Holder) }
            }
            Err(failure) => Self::stranger(failure),
        }
    }

    /// Somebody who may not call, and why not.
    pub(crate) fn stranger(failure: Failure) -> Self {
        Self { asked: None, who: Err(failure) }
    }

    pub(crate) fn is_stranger(&self) -> bool {
        self.who.is_err()
    }

    /// Id of the key; the operator and a stranger have none.
    pub(crate) fn key_id(&self) -> Option<&str> {
        match &self.who {
            Ok(Who::Holder(verified)) => Some(verified.key.key_id.as_str()).filter(|id| !id.is_empty()),
            Ok(Who::Operator) | Err(_) => None,
        }
    }

    /// As the agent that the call names; empty is the key's own, or the operator's usual one.
    pub(crate) fn speaking_for(self, agent: &str) -> Identified {
        match self.who {
            Ok(Who::Operator) => {
                let agent = if agent.is_empty() { DEFAULT_AGENT } else { agent }.to_owned();
                let caller = Caller { agent, operator: true, models: vec![], credentials: vec![], key_id: None };
                Identified { asked: self.asked, result: Ok(caller), holds: None }
            }
            Ok(Who::Holder(verified)) => {
                Identified { asked: self.asked, result: caller(&verified.key, agent), holds: Some(verified) }
            }
            Err(failure) => Identified { asked: self.asked, result: Err(failure), holds: None },
        }
    }
}

/// Where somebody on the network is.
fn address(peer: Option<&Peer>) -> Option<IpAddr> {
    match peer? {
        Peer::Tcp { addr } | Peer::Certified { addr, .. } => Some(addr.ip()),
        Peer::InProcess | Peer::Unix { .. } => None,
    }
}

fn caller(key: &VerifyKeyResponse, named: &str) -> Result<Caller, Failure> {
    if !named.is_empty() && named != key.agent {
        let message = format!("this key names the agent {:?}; only an operator may name another one", key.agent);
        let failure = Failure::new(Reason::AgentNotAllowed, service::GATEWAY, message);
        return Err(failure.param("agent").next_step("leave `agent` out, or use a key of that agent"));
    }
    Ok(Caller {
        agent: key.agent.clone(),
        operator: false,
        models: key.models.clone(),
        credentials: key.credentials.clone(),
        key_id: Some(key.key_id.clone()).filter(|id| !id.is_empty()),
    })
}

/// The bearer key of a request. A foreign key is refused unseen: not even its hash goes anywhere.
fn bearer(headers: &HeaderMap) -> Result<&str, Failure> {
    let refuse = |message: &str| Err(Failure::new(Reason::AgentKeyInvalid, service::GATEWAY, message));
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return refuse("the call carries no agent key: the authorization header is missing");
    };
    let Some((scheme, key)) = value.to_str().ok().and_then(|text| text.trim().split_once(' ')) else {
        return refuse("the authorization header holds no `Bearer` key");
    };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return refuse("the authorization header is not of the scheme `Bearer`");
    }
    let key = key.trim();
    if !key.starts_with("sbk_") {
        return refuse("the bearer token is no agent key of Switchboard, which begin with `sbk_`");
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_a_bearer_key_of_ours_counts() {
        let read = |value: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            }
            bearer(&headers).map(str::to_owned).map_err(|f| f.reason)
        };
        assert_eq!(read(Some("Bearer sbk_abc")), Ok("sbk_abc".into()));
        assert_eq!(read(Some("bearer  sbk_abc ")), Ok("sbk_abc".into()));
        for bad in [None, Some(""), Some("sbk_abc"), Some("Basic sbk_abc"), Some("Bearer sk-other"), Some("Bearer ")] {
            assert_eq!(read(bad), Err(Reason::AgentKeyInvalid), "{bad:?}");
        }
    }

    #[test]
    fn an_agent_speaks_for_itself_only() {
        let key = || VerifyKeyResponse { agent: "a".into(), ..VerifyKeyResponse::default() };
        assert_eq!(caller(&key(), "").map(|c| c.agent), Ok("a".into()));
        assert_eq!(caller(&key(), "a").map(|c| c.agent), Ok("a".into()));
        assert_eq!(caller(&key(), "b").map_err(|f| f.reason), Err(Reason::AgentNotAllowed));
    }
}
