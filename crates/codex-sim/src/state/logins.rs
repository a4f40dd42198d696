//! Accounts, logins and their tokens.
//!
//! A login is one family of tokens: what one sign-in brought and all that its refreshes brought since. An
//! account may have several, as one with two hosts that each signed in. A refresh token is good once; a
//! second use ends the whole family, which is how the real provider answers a stolen token.

use std::{collections::HashMap, time::Duration};

use crate::{
    config::AccountSpec,
    state::quota::Meter,
    state::types::{AdoptTokens, LoginStats, SeedLogin, SeededLogin, StateError},
    tokens,
};

/// Why a login gives no more tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A spent refresh token was used again.
    Reused,
    /// Logged out, by a client or by the test.
    Revoked,
}

impl Ended {
    fn label(self) -> &'static str {
        match self {
            Self::Reused => "reused",
            Self::Revoked => "revoked",
        }
    }
}

/// Why a refresh is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefreshRefusal {
    Unknown,
    Expired,
    Reused,
    Invalidated,
}

/// What an access token is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AccessCheck {
    Unknown,
    Expired,
    /// The login it belongs to has ended.
    Ended,
    Good {
        login: usize,
        version: u32,
    },
}

/// An account's routing and how much of its limits it has used.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) spec: AccountSpec,
    /// `workspace_backend_origin` of the accounts check.
    pub(crate) origin: String,
    /// `account_routing_override` of the accounts check.
    pub(crate) routing_override: String,
    /// How much of its limits it has used.
    pub(crate) meter: Meter,
}

struct Login {
    account_id: String,
    /// Access tokens issued so far; the version of the newest.
    version: u32,
    refreshes: u32,
    ended: Option<Ended>,
    /// Access tokens up to this version are refused (`unauthorized_once`).
    rejected_up_to: Option<u32>,
}

struct Access {
    login: usize,
    version: u32,
    expires_at: i64,
}

struct Refresh {
    login: usize,
    spent: bool,
    expired: bool,
}

/// All of it. Logins are never removed: their index is their id.
#[derive(Default)]
pub(crate) struct Logins {
    accounts: HashMap<String, Account>,
    logins: Vec<Login>,
    access: HashMap<String, Access>,
    refresh: HashMap<String, Refresh>,
    id_tokens: Vec<String>,
}

impl Logins {
    /// Every token that was issued or adopted, with its kind.
    pub(crate) fn issued(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        let of = |kind: &'static str| move |token: &String| (kind, token.clone());
        let access = self.access.keys().map(of("an access token"));
        let refresh = self.refresh.keys().map(of("a refresh token"));
        access.chain(refresh).chain(self.id_tokens.iter().map(of("an id token")))
    }

    pub(crate) fn account(&self, account_id: &str) -> Option<&Account> {
        self.accounts.get(account_id)
    }

    pub(crate) fn account_mut(&mut self, account_id: &str) -> Result<&mut Account, StateError> {
        self.accounts.get_mut(account_id).ok_or_else(|| StateError::UnknownAccount(account_id.to_owned()))
    }

    /// A new login of the account, with tokens.
    pub(crate) fn seed(&mut self, seed: &SeedLogin, default_ttl: Duration) -> SeededLogin {
        let spec =
            AccountSpec { account_id: seed.account_id.clone(), email: seed.email.clone(), plan: seed.plan.clone() };
        let login = self.open(spec);
        self.issue(login, seed.access_ttl.unwrap_or(default_ttl), true)
    }

    /// Takes tokens from elsewhere as those of a login.
    pub(crate) fn adopt(&mut self, tokens: AdoptTokens, default_ttl: Duration) -> Result<usize, StateError> {
        let claims =
            [&tokens.access_token, &tokens.id_token].into_iter().flatten().find_map(|t| tokens::read_claims(t));
        let known = claims.as_ref().map(|claims| &claims.account);
        let account_id = tokens.account_id.or_else(|| known.map(|spec| spec.account_id.clone()));
        let spec = AccountSpec {
            account_id: account_id.ok_or(StateError::NoAccount)?,
            email: tokens
                .email
                .or_else(|| known.map(|spec| spec.email.clone()))
                .unwrap_or_else(|| "adopted@example.com".into()),
            plan: tokens.plan.or_else(|| known.map(|spec| spec.plan.clone())).unwrap_or_else(|| "plus".into()),
        };
        let login = self.open(spec);
        if let Some(token) = tokens.access_token {
            let stated =
                tokens.expires_in.map(expiry).or_else(|| tokens::read_claims(&token).map(|claims| claims.expires_at));
            self.add_access(login, token, stated.unwrap_or_else(|| expiry(default_ttl)));
        }
        if let Some(token) = tokens.refresh_token {
            self.refresh.insert(token, Refresh { login, spent: false, expired: false });
        }
        Ok(login)
    }

    fn open(&mut self, spec: AccountSpec) -> usize {
        let account_id = spec.account_id.clone();
        match self.accounts.get_mut(&account_id) {
            Some(account) => account.spec = spec,
            None => {
                let unconstrained = || "NO_CONSTRAINT".to_owned();
                let account =
                    Account { spec, origin: unconstrained(), routing_override: unconstrained(), meter: Meter::fresh() };
                self.accounts.insert(account_id.clone(), account);
            }
        }
        self.logins.push(Login { account_id, version: 0, refreshes: 0, ended: None, rejected_up_to: None });
        self.logins.len() - 1
    }

    fn add_access(&mut self, login: usize, token: String, expires_at: i64) {
        self.logins[login].version += 1;
        let version = self.logins[login].version;
        self.access.insert(token, Access { login, version, expires_at });
    }

    /// New tokens for a login; without `rotate` the refresh token of the answer is empty.
    fn issue(&mut self, login: usize, ttl: Duration, rotate: bool) -> SeededLogin {
        let spec = self.spec_of(login);
        let (access_token, expires_at) = tokens::access_token(&spec, ttl);
        self.add_access(login, access_token.clone(), expires_at);
        let refresh_token = if rotate { tokens::refresh_token(&spec) } else { String::new() };
        if rotate {
            self.refresh.insert(refresh_token.clone(), Refresh { login, spent: false, expired: false });
        }
        let id_token = tokens::id_token(&spec);
        self.id_tokens.push(id_token.clone());
        let AccountSpec { account_id, email, plan } = spec;
        SeededLogin { login_id: login, account_id, email, plan, access_token, refresh_token, id_token, expires_at }
    }

    fn spec_of(&self, login: usize) -> AccountSpec {
        let account = self.accounts.get(&self.logins[login].account_id);
        account.map(|account| account.spec.clone()).unwrap_or_default()
    }

    /// Whose refresh token it is, spent or not.
    pub(crate) fn account_of_refresh(&self, token: &str) -> Option<&str> {
        let refresh = self.refresh.get(token)?;
        Some(&self.logins[refresh.login].account_id)
    }

    /// Spends a refresh token. With `rotate` false the token stays good, as with a provider whose answer
    /// carries no new one.
    pub(crate) fn refresh(&mut self, token: &str, ttl: Duration, rotate: bool) -> Result<SeededLogin, RefreshRefusal> {
        let refresh = self.refresh.get_mut(token).ok_or(RefreshRefusal::Unknown)?;
        let login = &mut self.logins[refresh.login];
        if login.ended.is_some() {
            return Err(RefreshRefusal::Invalidated);
        }
        if refresh.spent {
            login.ended = Some(Ended::Reused);
            return Err(RefreshRefusal::Reused);
        }
        if refresh.expired {
            return Err(RefreshRefusal::Expired);
        }
        refresh.spent = rotate;
        login.refreshes += 1;
        let login = refresh.login;
        Ok(self.issue(login, ttl, rotate))
    }

    /// The account of an access token, whatever it is worth, and what it is worth.
    pub(crate) fn check_access(&self, token: &str) -> (Option<&str>, AccessCheck) {
        let Some(access) = self.access.get(token) else { return (None, AccessCheck::Unknown) };
        let login = &self.logins[access.login];
        let check = if login.ended.is_some() {
            AccessCheck::Ended
        } else if access.expires_at <= tokens::now() {
            AccessCheck::Expired
        } else {
            AccessCheck::Good { login: access.login, version: access.version }
        };
        (Some(&login.account_id), check)
    }

    /// `unauthorized_once`: whether this version is refused. The first call draws the line.
    pub(crate) fn rejected_once(&mut self, login: usize, version: u32) -> bool {
        let login = &mut self.logins[login];
        version <= *login.rejected_up_to.get_or_insert(login.version)
    }

    /// Forgets the line that [`Self::rejected_once`] drew.
    pub(crate) fn forget_rejections(&mut self, account_id: &str) {
        for login in self.logins.iter_mut().filter(|login| login.account_id == account_id) {
            login.rejected_up_to = None;
        }
    }

    /// Expires all access tokens of the account, although their `exp` says otherwise.
    pub(crate) fn expire_access(&mut self, account_id: &str) -> usize {
        let mut expired = 0;
        for access in self.access.values_mut().filter(|access| self.logins[access.login].account_id == account_id) {
            access.expires_at = 0;
            expired += 1;
        }
        expired
    }

    /// Expires all refresh tokens of the account.
    pub(crate) fn expire_refresh(&mut self, account_id: &str) -> usize {
        let mut expired = 0;
        for refresh in self.refresh.values_mut().filter(|refresh| self.logins[refresh.login].account_id == account_id) {
            refresh.expired = true;
            expired += 1;
        }
        expired
    }

    /// Ends all logins of the account.
    pub(crate) fn revoke_account(&mut self, account_id: &str) -> usize {
        let mut revoked = 0;
        for login in self.logins.iter_mut().filter(|login| login.account_id == account_id && login.ended.is_none()) {
            login.ended = Some(Ended::Revoked);
            revoked += 1;
        }
        revoked
    }

    /// Ends the login that the token, of either kind, belongs to.
    pub(crate) fn revoke_token(&mut self, token: &str) -> bool {
        let refresh = self.refresh.get(token).map(|refresh| refresh.login);
        let Some(login) = refresh.or_else(|| self.access.get(token).map(|access| access.login)) else { return false };
        self.logins[login].ended.get_or_insert(Ended::Revoked);
        true
    }

    pub(crate) fn stats(&self) -> Vec<LoginStats> {
        let stats = |(login_id, login): (usize, &Login)| LoginStats {
            login_id,
            account_id: login.account_id.clone(),
            alive: login.ended.is_none(),
            ended: login.ended.map(|ended| ended.label().to_owned()),
            refreshes: login.refreshes,
            access_tokens: login.version,
        };
        self.logins.iter().enumerate().map(stats).collect()
    }
}

fn expiry(ttl: Duration) -> i64 {
    tokens::now().saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_refresh_token_is_good_once_and_its_reuse_ends_the_login() {
        let mut logins = Logins::default();
        let seeded = logins.seed(&SeedLogin::account("a"), HOUR);
        let second = logins.refresh(&seeded.refresh_token, HOUR, true).unwrap();
        assert!(matches!(logins.check_access(&seeded.access_token).1, AccessCheck::Good { version: 1, .. }));
        assert_eq!(logins.refresh(&seeded.refresh_token, HOUR, true).unwrap_err(), RefreshRefusal::Reused);
        assert_eq!(logins.check_access(&second.access_token), (Some("a"), AccessCheck::Ended));
        assert_eq!(logins.refresh(&second.refresh_token, HOUR, true).unwrap_err(), RefreshRefusal::Invalidated);
        assert_eq!(logins.stats()[0].ended.as_deref(), Some("reused"));
    }

    #[test]
    fn two_logins_of_one_account_do_not_touch_each_other() {
        let mut logins = Logins::default();
        let one = logins.seed(&SeedLogin::account("a"), HOUR);
        let two = logins.seed(&SeedLogin::account("a"), HOUR);
        assert!(logins.revoke_token(&one.refresh_token));
        assert!(logins.refresh(&two.refresh_token, HOUR, true).is_ok());
        assert_eq!(logins.refresh("other", HOUR, true).unwrap_err(), RefreshRefusal::Unknown);
    }

    #[test]
    fn adopted_tokens_are_taken_by_their_claims() {
        let mut elsewhere = Logins::default();
        let seeded = elsewhere.seed(&SeedLogin::account("a"), HOUR);
        let mut logins = Logins::default();
        let tokens = AdoptTokens { access_token: Some(seeded.access_token.clone()), ..AdoptTokens::default() };
        logins.adopt(tokens, HOUR).unwrap();
        assert_eq!(logins.check_access(&seeded.access_token).0, Some("a"));
        assert_eq!(logins.adopt(AdoptTokens::default(), HOUR).unwrap_err(), StateError::NoAccount);
    }
}
