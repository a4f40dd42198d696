//! What a refresh on record is.

use secrecy::{ExposeSecret, SecretString};
use sqlx::FromRow;

/// A deadline that is further away was set by a clock that has been put back since, and holds nobody up.
pub(super) const MOST_LEASE_MS: i64 = 3_600_000;
/// Longest wait after a failed refresh, in milliseconds. One that is longer was noted by a clock that was ahead.
pub(crate) const MOST_WAIT_MS: i64 = 300_000;

/// Names a refresh token without telling it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    /// The name of this token.
    pub(crate) fn of(token: &SecretString) -> Self {
        Self::of_plain(token.expose_secret().as_bytes())
    }

    /// The name of the token with these bytes.
    pub(super) fn of_plain(token: &[u8]) -> Self {
        Self(blake3::hash(token).into())
    }

    /// From the database; `None` for what is no name.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// As it stands in the database.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A request whose answer was lost: its token may be spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// When the request was sent, Unix milliseconds.
    pub(crate) at_ms: i64,
    /// What happened to it; `None`: its process was stopped.
    pub(crate) cause: Option<String>,
}

/// A refresh that fails, once or for days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failing {
    /// Unix milliseconds of the first failure in a row.
    pub(crate) since_ms: i64,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// Of the last one.
    pub(crate) cause: String,
    /// Unix milliseconds before which it is not tried again unasked.
    pub(crate) next_ms: i64,
}

/// A refresh that has begun and not ended, and that nobody takes over yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnderWay {
    /// Who is at it.
    pub(crate) owner: String,
    /// Unix milliseconds at which it began.
    pub(crate) since_ms: i64,
    /// Unix milliseconds until which it is waited for.
    pub(crate) until_ms: i64,
}

/// What is on record about the refreshing of a credential's current token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RefreshRecord {
    /// Present while somebody refreshes it, or was killed at it a moment ago.
    pub(crate) under_way: Option<UnderWay>,
    /// Present while its refresh fails.
    pub(crate) failing: Option<Failing>,
    /// Present if its refresh token may be spent.
    pub(crate) doubt: Option<Doubt>,
    /// The latest time of these that was recorded by a clock ahead of this one, Unix milliseconds. They read as now.
    pub(crate) ahead_ms: Option<i64>,
}

impl RefreshRecord {
    /// What a clock that was ahead has recorded is over, as far as this one knows: what began in the future began now, and
    /// nobody waits for longer than the longest wait there is. So a mend of the clock heals the record.
    pub(super) fn read_at(mut self, now_ms: i64) -> Self {
        let mut ahead_ms = None;
        let mut past = |at_ms: &mut i64, most_ms: i64| {
            if at_ms.saturating_sub(now_ms) > most_ms {
                ahead_ms = ahead_ms.max(Some(*at_ms));
                *at_ms = now_ms;
            }
        };
        if let Some(failing) = &mut self.failing {
            past(&mut failing.since_ms, 0);
            past(&mut failing.next_ms, MOST_WAIT_MS);
        }
        if let Some(doubt) = &mut self.doubt {
            past(&mut doubt.at_ms, 0);
        }
        self.ahead_ms = ahead_ms;
        self
    }
}

/// One more failure.
#[derive(Clone, Debug)]
pub(crate) struct RefreshFailure {
    /// Why.
    pub(crate) cause: String,
    /// Unix milliseconds before which it is not tried again unasked.
    pub(crate) next_ms: i64,
}

/// A refresh that may send its request.
#[derive(Clone, Debug)]
pub(crate) struct Intent {
    /// Id of the credential.
    pub(crate) id: String,
    /// The version that is refreshed.
    pub(crate) version: i32,
    /// The token that is spent.
    pub(crate) spent: TokenHash,
    /// OAuth client.
    pub(crate) client_id: String,
    /// Who sends the request.
    pub(crate) owner: String,
    /// Unix milliseconds.
    pub(crate) started_ms: i64,
    /// An earlier request with the same token whose answer was lost.
    pub(crate) doubt: Option<Doubt>,
}

/// What came of the wish to refresh.
#[derive(Clone, Debug)]
pub(crate) enum Begun {
    /// The intent is durable: the request may be sent.
    Taken(Intent),
    /// The credential has another version by now, is latched, is somebody else's, or is gone.
    Moved,
    /// A request with this token has lost its answer, and whoever asks did not know of it.
    Doubted,
    /// Somebody else is at it.
    Held {
        /// True if it is this credential that is refreshed, false if it is another one of the same OAuth client.
        same: bool,
        /// Who.
        owner: String,
        /// Unix milliseconds at which it is taken over.
        until_ms: i64,
    },
}

/// A row of `refresh_intents`.
#[derive(FromRow)]
pub(super) struct IntentRow {
    spent_hash: Vec<u8>,
    pub(super) owner: String,
    state: String,
    started_ms: i64,
    pub(super) deadline_ms: i64,
    doubt_ms: Option<i64>,
    doubt_cause: Option<String>,
}

impl IntentRow {
    /// A row as [`super::rows::select_credentials`] brings it along.
    pub(super) fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        type Fields = (String, String, String, i64, i64, Option<i64>, Option<String>);
        let (hex, owner, state, started_ms, deadline_ms, doubt_ms, doubt_cause): Fields = serde_json::from_str(json)?;
        let spent_hash = blake3::Hash::from_hex(hex.to_ascii_lowercase()).map(|hash| hash.as_bytes().to_vec());
        Ok(Self {
            // What is no hash is no token's.
            spent_hash: spent_hash.unwrap_or_default(),
            owner,
            state,
            started_ms,
            deadline_ms,
            doubt_ms,
            doubt_cause,
        })
    }

    pub(super) fn is_of(&self, token: TokenHash) -> bool {
        self.spent_hash == token.as_bytes()
    }

    /// True while its owner may still store an answer.
    pub(super) fn is_held(&self, now_ms: i64) -> bool {
        self.state == "sending" && held(self.deadline_ms, now_ms)
    }

    /// The refresh of `token` that it is the record of.
    pub(super) fn under_way(&self, token: TokenHash, now_ms: i64) -> Option<UnderWay> {
        (self.is_of(token) && self.is_held(now_ms)).then(|| UnderWay {
            owner: self.owner.clone(),
            since_ms: self.started_ms,
            until_ms: self.deadline_ms,
        })
    }

    /// The doubt about `token` that it is the record of.
    pub(super) fn doubt(self, token: TokenHash, now_ms: i64) -> Option<Doubt> {
        if !self.is_of(token) {
            return None;
        }
        match self.doubt_ms {
            Some(at_ms) => Some(Doubt { at_ms, cause: self.doubt_cause }),
            None if self.is_held(now_ms) => None,
            None => Some(Doubt { at_ms: self.started_ms, cause: None }),
        }
    }
}

/// True while nobody may take over what is held until this deadline.
pub(super) fn held(deadline_ms: i64, now_ms: i64) -> bool {
    deadline_ms > now_ms && deadline_ms.saturating_sub(now_ms) <= MOST_LEASE_MS
}
