//! Device logins that wait for their owner, and authorization codes that wait for their exchange.

use std::{collections::HashMap, time::Duration};

use crate::{
    config::{AccountSpec, SimConfig},
    state::types::StateError,
    tokens,
};

/// Authorization codes live ten minutes at most (RFC 6749, 4.1.2).
const CODE_TTL_MS: u64 = 10 * 60 * 1000;
/// Letters and digits that are not mistaken for each other.
const CODE_ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Where the exchange of a code must say that it was redirected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RedirectRule {
    /// Exactly this (browser login).
    Exactly(String),
    /// `…/deviceauth/callback` of an accepted origin (device login).
    Device,
}

/// An authorization code's other half.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) account: AccountSpec,
    /// PKCE, S256.
    pub(crate) challenge: String,
    pub(crate) redirect: RedirectRule,
    created_ms: u64,
}

/// What an approved device login is handed.
#[derive(Clone, Debug)]
pub(crate) struct DeviceAnswer {
    pub(crate) code: String,
    pub(crate) challenge: String,
    pub(crate) verifier: String,
}

struct Device {
    user_code: String,
    created_ms: u64,
    polls: u32,
    denied: bool,
    approved: Option<AccountSpec>,
    answer: Option<DeviceAnswer>,
}

/// All that is pending.
#[derive(Default)]
pub(crate) struct Grants {
    devices: HashMap<String, Device>,
    codes: HashMap<String, Grant>,
    /// Every code that was ever granted, spent ones included.
    granted: Vec<String>,
}

impl Grants {
    /// Every secret that a pending or finished grant hangs by, with its kind.
    pub(crate) fn issued(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        let answers = self.devices.values().filter_map(|device| device.answer.as_ref());
        let verifiers = answers.map(|answer| ("a code verifier", answer.verifier.clone()));
        let devices = self.devices.keys().map(|id| ("a device id", id.clone()));
        self.granted.iter().map(|code| ("an authorization code", code.clone())).chain(verifiers).chain(devices)
    }

    /// Starts a device login: its id and the code to type.
    pub(crate) fn start_device(&mut self) -> (String, String) {
        let id = format!("deviceauth_{}", tokens::random(18));
        let user_code = user_code();
        let device = Device {
            user_code: user_code.clone(),
            created_ms: tokens::now_ms(),
            polls: 0,
            denied: false,
            approved: None,
            answer: None,
        };
        self.devices.insert(id.clone(), device);
        (id, user_code)
    }

    /// One poll: `None` while pending, and for all that is unknown, expired or denied, for the real
    /// provider does not tell these apart.
    pub(crate) fn poll_device(&mut self, id: &str, user_code: &str, config: &SimConfig) -> Option<DeviceAnswer> {
        let device = self.devices.get_mut(id)?;
        if device.user_code != user_code || device.denied || too_old(device.created_ms, config.device_ttl) {
            return None;
        }
        device.polls += 1;
        if device.approved.is_none() && config.device_auto_approve_after.is_some_and(|polls| device.polls >= polls) {
            device.approved = Some(config.default_account.clone());
        }
        let account = device.approved.clone()?;
        if let Some(answer) = &device.answer {
            return Some(answer.clone());
        }
        let verifier = tokens::random(48);
        let challenge = tokens::s256(&verifier);
        let code = self.grant(account, challenge.clone(), RedirectRule::Device);
        let answer = DeviceAnswer { code, challenge, verifier };
        if let Some(device) = self.devices.get_mut(id) {
            device.answer = Some(answer.clone());
        }
        Some(answer)
    }

    pub(crate) fn approve(&mut self, user_code: &str, account: AccountSpec, ttl: Duration) -> Result<(), StateError> {
        self.waiting(user_code, ttl)?.approved = Some(account);
        Ok(())
    }

    pub(crate) fn deny(&mut self, user_code: &str, ttl: Duration) -> Result<(), StateError> {
        self.waiting(user_code, ttl)?.denied = true;
        Ok(())
    }

    /// The user codes that wait for approval.
    pub(crate) fn pending(&self, ttl: Duration) -> Vec<String> {
        self.devices.values().filter(|device| device.waits(ttl)).map(|device| device.user_code.clone()).collect()
    }

    fn waiting(&mut self, user_code: &str, ttl: Duration) -> Result<&mut Device, StateError> {
        // People type codes in lower case and without the dash.
        let plain = |code: &str| code.replace(['-', ' '], "").to_ascii_uppercase();
        let wanted = plain(user_code);
        let mut waiting = self.devices.values_mut().filter(|device| device.waits(ttl));
        waiting
            .find(|device| plain(&device.user_code) == wanted)
            .ok_or_else(|| StateError::UnknownUserCode(user_code.to_owned()))
    }

    /// A new authorization code.
    pub(crate) fn grant(&mut self, account: AccountSpec, challenge: String, redirect: RedirectRule) -> String {
        let code = format!("ac_{}", tokens::random(24));
        let grant = Grant { account, challenge, redirect, created_ms: tokens::now_ms() };
        self.codes.insert(code.clone(), grant);
        self.granted.push(code.clone());
        code
    }

    /// Whose code it is.
    pub(crate) fn account_of_code(&self, code: &str) -> Option<&str> {
        self.codes.get(code).map(|grant| grant.account.account_id.as_str())
    }

    /// Takes a code: whatever comes of the exchange, it is spent.
    pub(crate) fn take_code(&mut self, code: &str) -> Option<Grant> {
        let grant = self.codes.remove(code)?;
        (!too_old(grant.created_ms, Duration::from_millis(CODE_TTL_MS))).then_some(grant)
    }
}

impl Device {
    fn waits(&self, ttl: Duration) -> bool {
        self.approved.is_none() && !self.denied && !too_old(self.created_ms, ttl)
    }
}

fn too_old(created_ms: u64, ttl: Duration) -> bool {
    u128::from(tokens::now_ms().saturating_sub(created_ms)) >= ttl.as_millis()
}

/// `ABCD-1234`-like.
fn user_code() -> String {
    let random = uuid::Uuid::new_v4().into_bytes();
    let letter = |byte: &u8| char::from(CODE_ALPHABET[usize::from(*byte) % CODE_ALPHABET.len()]);
    format!(
        "{}-{}",
        random[..4].iter().map(letter).collect::<String>(),
        random[10..14].iter().map(letter).collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_login_is_pending_until_approved_and_its_code_is_good_once() {
        let config = SimConfig::default();
        let mut grants = Grants::default();
        let (id, user_code) = grants.start_device();
        assert!(grants.poll_device(&id, &user_code, &config).is_none());
        assert_eq!(grants.pending(config.device_ttl), std::slice::from_ref(&user_code));
        let typed = user_code.to_ascii_lowercase().replace('-', "");
        grants.approve(&typed, AccountSpec::default(), config.device_ttl).unwrap();
        assert!(grants.poll_device(&id, "WRONG", &config).is_none());
        let answer = grants.poll_device(&id, &user_code, &config).unwrap();
        assert_eq!(tokens::s256(&answer.verifier), answer.challenge);
        assert!(grants.take_code(&answer.code).is_some());
        assert!(grants.take_code(&answer.code).is_none());
    }

    #[test]
    fn a_user_code_that_is_too_old_cannot_be_approved() {
        let mut grants = Grants::default();
        let (_, user_code) = grants.start_device();
        assert!(grants.approve(&user_code, AccountSpec::default(), Duration::ZERO).is_err());
    }
}
