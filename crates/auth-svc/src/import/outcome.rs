//! What became of one profile, in words. All of it follows from what the store has decided and from the credential as it
//! stands now, never from the file alone: its tokens may be older than those that are here, or spent.

use domain::timestamp;

use super::Settings;
use super::plan::Context;
use crate::bind;
use crate::refresh::outlook::describe;
use crate::store::{Credential, LatchKind, NewCredential, Secrets, TokenHash, Upserted};

/// Why a login is not taken whose credential is gone.
pub(super) const SPENT: &str = "the refresh token of the file was used up here, replaced by a newer login or revoked; nothing \
     was taken: log in (`switchboard login codex`)";

/// What became of a profile's credential.
pub(super) struct Taken<'a> {
    /// What the profile held.
    pub(super) new: &'a NewCredential,
    /// The label under which it stands.
    pub(super) label: String,
    pub(super) upserted: Upserted,
    /// What stood there before.
    pub(super) old: Option<&'a Credential>,
    /// What stands there now.
    pub(super) now: Option<Credential>,
}

/// What another program still holds of a login that is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    /// The current refresh token: ours from now on.
    Current,
    /// One that is older than ours, or spent.
    Stale,
}

impl Taken<'_> {
    /// True if what is here already stays, and nothing of the file was taken.
    fn is_kept(&self) -> bool {
        matches!(self.upserted, Upserted::KeptNewer | Upserted::KeptSpent | Upserted::KeptOwned)
    }

    fn is_opened(&self) -> bool {
        matches!(self.new.secrets, Secrets::Present { .. })
    }

    /// Why the login that stands here is dead, if it is.
    fn dead(&self) -> Option<&str> {
        let latch = self.now.as_ref()?.latch.as_ref().filter(|latch| latch.kind == LatchKind::NeedsLogin)?;
        Some(&latch.detail)
    }

    /// True if it is borrowed now.
    pub(super) fn is_borrowed(&self) -> bool {
        self.now.as_ref().is_some_and(|now| now.borrowed)
    }

    /// True if a call could be made with it now, or after a refresh, by the rules of a call.
    pub(super) fn is_usable(&self, settings: &Settings) -> bool {
        let Some(now) = self.now.as_ref().filter(|_| self.is_opened()) else { return false };
        let state = bind::state(now, None, &settings.rules.origin, settings.now_s.saturating_mul(1000));
        // A limit ends.
        matches!(state.name, "ready" | "resting")
    }

    /// What the other program holds, where the login is ours to refresh and alive.
    pub(super) fn copy(&self, context: &Context<'_>) -> Option<Copy> {
        let now = self.now.as_ref()?;
        let is_ours = !now.borrowed && now.exported_at.is_none() && !now.unconfirmed;
        if !is_ours || self.dead().is_some() || context.is_foreign(self.new) {
            return None;
        }
        let theirs = TokenHash::of(self.new.secrets.refresh()?);
        match now.secrets.refresh().is_some_and(|ours| TokenHash::of(ours) == theirs) {
            // What was not looked at further may be newer than ours.
            false if self.upserted == Upserted::KeptOwned => None,
            // Who borrows knows that there is another owner.
            true if context.borrow => None,
            true => Some(Copy::Current),
            false => Some(Copy::Stale),
        }
    }

    /// One word for it.
    pub(super) fn action(&self) -> &'static str {
        match self.upserted {
            _ if !self.is_opened() => "undecryptable",
            Upserted::Created => "created",
            Upserted::Updated => "updated",
            Upserted::Spent => "skipped",
            Upserted::Unchanged | Upserted::KeptNewer | Upserted::KeptSpent | Upserted::KeptOwned => "unchanged",
        }
    }

    /// What is said of it, in order. `remarks` are of the file's tokens.
    pub(super) fn details(&self, context: &Context<'_>, remarks: &[String]) -> Vec<String> {
        let mut details = Vec::new();
        details.extend(self.kept(context));
        details.extend(self.ownership(context));
        details.extend(self.unsure());
        details.extend(self.name(context));
        // Of tokens that were not taken there is nothing to tell.
        if !self.is_kept() {
            details.extend(remarks.iter().cloned());
        }
        details
    }

    fn kept(&self, context: &Context<'_>) -> Option<String> {
        let text = match (&self.new.secrets, self.upserted) {
            (Secrets::Undecryptable { detail }, Upserted::KeptNewer) => {
                format!("{detail}; the credential that is here already stays as it is")
            }
            (Secrets::Undecryptable { detail }, _) => detail.clone(),
            (_, Upserted::KeptNewer) => "the tokens that are here already are newer and stay".to_owned(),
            (_, Upserted::KeptSpent) => {
                "the refresh token of the file is stale: it was used up, or replaced by a newer \
                 login. The newer tokens that are here stay"
                    .to_owned()
            }
            (_, Upserted::KeptOwned) => "owned here already; nothing was borrowed".to_owned(),
            _ => return None,
        };
        let ends = self.now.as_ref().filter(|_| self.is_opened()).and_then(|now| now.access_expires_at);
        let word = |at: i64| if at <= context.settings.now_s { "expired" } else { "expires" };
        Some(match ends {
            Some(at) if self.upserted != Upserted::KeptOwned => {
                format!("{text}; their access token {} at {}", word(at), timestamp(at))
            }
            _ => text,
        })
    }

    fn ownership(&self, context: &Context<'_>) -> Option<String> {
        self.old.filter(|old| old.exported_at.is_some())?;
        Some(match self.upserted {
            _ if self.is_kept() => "its ownership was given up by an export, and stays so".to_owned(),
            _ if context.borrow => "it had been exported, and is borrowed now".to_owned(),
            _ => "it had been exported; its ownership is taken back".to_owned(),
        })
    }

    /// What is not known, or known to be bad, of the login that stands here.
    fn unsure(&self) -> Option<String> {
        let now = self.now.as_ref()?;
        let label = &self.label;
        if now.unconfirmed {
            return Some(format!(
                "restored from a backup, it stays unconfirmed and is not refreshed: if nothing else has used it since, run \
                 `switchboard credentials confirm {label}`"
            ));
        }
        if let Some(why) = self.dead() {
            return Some(format!(
                "{label} still needs a new login ({why}), which this file does not bring: run `switchboard login codex`"
            ));
        }
        let doubt = now.refresh.doubt.as_ref()?;
        Some(format!("{}: the refresh token of {label}, and every copy of it, may be spent", describe(doubt)))
    }

    fn name(&self, context: &Context<'_>) -> Option<String> {
        let wanted = &self.new.label;
        match self.upserted {
            _ if self.label == *wanted => None,
            // Nobody has asked for the usual one.
            Upserted::Created => context.named.then(|| format!("the label {wanted} belongs to another credential")),
            _ => Some(format!("the same login is here as {}", self.label)),
        }
    }
}
