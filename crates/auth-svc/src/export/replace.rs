//! May the tokens that stand in a file be written over? Those of another login must not be lost, nor newer ones.

use secrecy::{ExposeSecret, SecretString};

use super::Outgoing;
use crate::jwt::{Claims, unverified_claims};
use crate::store::TokenHash;

/// What stands where a login is to be written.
#[derive(Default)]
pub(super) struct Standing {
    pub(super) access: Option<SecretString>,
    pub(super) refresh: Option<SecretString>,
    /// Account id, as the file names it.
    pub(super) account_id: Option<String>,
}

impl Outgoing {
    /// True if `refresh` is this credential's refresh token, or was.
    pub(super) fn knows(&self, refresh: &SecretString) -> bool {
        self.spent.contains(&TokenHash::of(refresh)) || self.has(refresh)
    }

    /// True if `refresh` is this credential's refresh token.
    fn has(&self, refresh: &SecretString) -> bool {
        let hash = TokenHash::of(refresh);
        self.credential.secrets.refresh().is_some_and(|own| TokenHash::of(own) == hash)
    }

    /// May this credential's tokens be written over what stands there? If not, why.
    pub(super) fn may_replace(&self, standing: &Standing) -> Result<(), String> {
        if standing.access.is_none() && standing.refresh.is_none() {
            return self.may_leave_again();
        }
        match &standing.refresh {
            Some(refresh) if self.has(refresh) => return Ok(()),
            // One of its own that is spent.
            Some(refresh) if self.knows(refresh) => return self.may_leave_again(),
            _ => {}
        }
        let claims = standing.access.as_ref().map(|t| unverified_claims(t.expose_secret())).unwrap_or_default();
        if !self.is_same_user(standing, &claims) {
            return Err("another login stands there, which would be lost: move it away first".to_owned());
        }
        if standing.refresh.is_none() {
            return self.may_leave_again();
        }
        if self.handed_over {
            return Err(
                "other tokens stand there than were handed over: the other program has refreshed them, and they \
                 are the current ones. There is nothing to hand over; to take the login back, import them"
                    .to_owned(),
            );
        }
        match (claims.exp, self.credential.access_expires_at) {
            (Some(theirs), Some(ours)) if theirs < ours => Ok(()),
            _ => Err("tokens of the same login stand there that are as new or newer: import them first, or move them \
                 away"
                .to_owned()),
        }
    }

    /// One refresh token in two places is spent twice, and that ends the login.
    fn may_leave_again(&self) -> Result<(), String> {
        if !self.handed_over || self.again {
            return Ok(());
        }
        Err("it was handed over before, and does not stand here: where it went, the same refresh token is in use, and two \
             programs with one end the login. Take it back first (`switchboard login codex`, or import it from there); or, \
             if no other program has it, run this again with --again"
            .to_owned())
    }

    fn is_same_user(&self, standing: &Standing, claims: &Claims) -> bool {
        let own = &self.credential;
        let account = standing.account_id.as_ref().or(claims.account_id.as_ref());
        let same_account = account.is_some() && account == own.account_id.as_ref();
        let same_user = match (&claims.user_id, &own.user_id) {
            (Some(theirs), Some(ours)) => theirs == ours,
            _ => true,
        };
        same_account && same_user
    }
}
