//! A login that waits for a paste: who watches it, who has pasted, and how it ended.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::{Failure, Reason, service};
use futures_util::Stream;
use proto::auth::v1::WatchLoginResponse;
use tokio::sync::watch;

use super::{
    LoggedIn, Login, Logins, Notices, Pkce, Waiting, expired, joined, last_step, next_notice, no_such_login, noticed,
    pending,
};
use crate::audit::Actor;

/// How often a watcher is told that nothing has come yet.
pub(super) const LOOK: Duration = Duration::from_secs(5);

/// A login that waits for a paste.
pub(super) struct Pasting {
    pub(super) login: Login,
    pkce: Pkce,
    taken: Mutex<Taken>,
    /// The last step, once there is one.
    outcome: watch::Sender<Option<WatchLoginResponse>>,
    notices: Notices,
}

/// What only one caller can do at a time.
#[derive(Default)]
struct Taken {
    watched: bool,
    exchanging: bool,
}

/// Forgets a login when its watcher goes, and notes that it was given up if nothing else has ended it.
struct Forget {
    logins: Logins,
    actor: Actor,
    pasting: Arc<Pasting>,
    id: String,
    expired: bool,
}

impl Forget {
    /// Its end is recorded by whoever found that its time is up.
    fn has_expired(&mut self) {
        self.expired = true;
    }
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.logins.waiting().remove(&self.id);
        // A paste that is exchanged just now is recorded by itself.
        let ended = self.expired || self.pasting.outcome.borrow().is_some() || self.pasting.taken().exchanging;
        if !ended {
            self.logins.note_end(self.actor.clone(), &self.pasting.login, "cancelled");
        }
    }
}

impl Pasting {
    pub(super) fn new(login: Login, pkce: Pkce) -> Self {
        Self { login, pkce, taken: Mutex::default(), outcome: watch::Sender::new(None), notices: Notices::default() }
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if somebody follows it.
    pub(super) fn is_watched(&self) -> bool {
        self.taken().watched
    }

    /// For the one who watches.
    pub(super) fn claim_watch(&self) -> Result<(), Failure> {
        if std::mem::replace(&mut self.taken().watched, true) { Err(no_such_login()) } else { Ok(()) }
    }

    /// For the one whose paste is exchanged.
    fn claim_exchange(&self) -> Result<(), Failure> {
        if std::mem::replace(&mut self.taken().exchanging, true) {
            let message = "another paste of this login is being exchanged just now";
            return Err(Failure::new(Reason::RequestInvalid, service::AUTH, message).param("pasted"));
        }
        Ok(())
    }
}

impl Logins {
    /// Waits for the outcome of the paste. The login ends when the stream does.
    pub(super) fn await_paste(
        self,
        actor: Actor,
        id: String,
        pasting: Arc<Pasting>,
    ) -> impl Stream<Item = WatchLoginResponse> + Send {
        // Made at once, not at the first step: a stream that is never polled ends the login too.
        let pasted = Arc::clone(&pasting);
        let mut forget = Forget { logins: self.clone(), actor: actor.clone(), pasting: pasted, id, expired: false };
        async_stream::stream! {
            let mut outcome = pasting.outcome.subscribe();
            let mut told = pasting.notices.subscribe();
            loop {
                let last = outcome.borrow_and_update().clone();
                if let Some(last) = last {
                    yield last;
                    return;
                }
                if self.clock.now_ms() >= pasting.login.expires_at_ms {
                    forget.has_expired();
                    yield self.failed(&actor, &pasting.login, expired(None)).await;
                    return;
                }
                yield pending();
                tokio::select! {
                    Some(why) = next_notice(&mut told) => yield noticed(&why),
                    // Either way there is something to look at: the outcome, or the clock.
                    _ = tokio::time::timeout(LOOK, outcome.changed()) => {}
                }
            }
        }
    }

    /// Takes a paste. After an error the login goes on waiting for a better one.
    pub(crate) async fn complete(&self, actor: &Actor, login_id: &str, pasted: &str) -> Result<LoggedIn, Failure> {
        let pasting = self.pasting(login_id)?;
        let grant = pasting.pkce.grant(pasted).and_then(|grant| pasting.claim_exchange().map(|()| grant));
        let grant = match grant {
            Ok(grant) => grant,
            Err(failure) => {
                let done = Err(failure);
                self.record(actor, &pasting.login, &done).await;
                return done;
            }
        };
        let (this, actor, id) = (self.clone(), actor.clone(), login_id.to_owned());
        let task = self.tracker.spawn(async move {
            let notices = pasting.notices.clone();
            let done = this.clone().redeem(actor, pasting.login.clone(), grant, notices).await;
            if done.is_ok() {
                this.waiting().remove(&id);
                pasting.outcome.send_replace(Some(last_step(&done)));
            } else {
                pasting.taken().exchanging = false;
            }
            done
        });
        joined(task.await)
    }

    fn pasting(&self, login_id: &str) -> Result<Arc<Pasting>, Failure> {
        let now = self.clock.now_ms();
        match self.waiting().get(login_id) {
            Some(Waiting::Paste(pasting)) if pasting.login.expires_at_ms <= now => Err(expired(None)),
            Some(Waiting::Paste(pasting)) => Ok(Arc::clone(pasting)),
            Some(Waiting::Device(..)) => {
                let message = "this login waits for its code to be entered, not for a paste";
                Err(Failure::new(Reason::RequestInvalid, service::AUTH, message).param("login_id"))
            }
            None => Err(no_such_login()),
        }
    }
}
