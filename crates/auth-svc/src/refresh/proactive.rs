//! Refreshing unasked, so that a login which cannot be refreshed is known days before a call needs it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use domain::Failure;

use super::schedule::spread_ms;
use super::{Refresher, Why};
use crate::store::Credential;

/// How often the clock is looked at. By the clock and not by a timer: a host may sleep, or have its clock set.
const TICK: Duration = Duration::from_secs(1);
/// How often the database is read for what another process has changed.
const REREAD: Duration = Duration::from_secs(60);

/// Since when this process knows a credential's version, Unix milliseconds.
type Seen = HashMap<String, (i32, i64)>;
/// Which cut-off refresh of a credential was logged last: when it began, and whether it was waited for then.
type Told = HashMap<String, (i64, bool)>;

impl Refresher {
    /// Refreshes whatever is due, until the service closes. For a process that serves: one that runs a single command
    /// has nothing to gain by it.
    pub(crate) fn keep_fresh(&self) {
        if self.inner.rules.proactive {
            let this = self.clone();
            self.inner.tracker.spawn(async move { this.watch().await });
        }
    }

    async fn watch(&self) {
        let mut seen = Seen::new();
        let mut told = Told::new();
        while !self.inner.closing.is_cancelled() {
            let next = match self.refresh_due(&mut seen, &mut told).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "no credential can be refreshed unasked");
                    None
                }
            };
            self.wait_until(next).await;
        }
    }

    async fn wait_until(&self, next_ms: Option<i64>) {
        let began = Instant::now();
        loop {
            tokio::select! {
                () = self.inner.closing.cancelled() => return,
                () = self.inner.store.changed().notified() => return,
                () = tokio::time::sleep(TICK) => {}
            }
            if next_ms.is_some_and(|at| at <= self.inner.clock.now_ms()) || began.elapsed() >= REREAD {
                return;
            }
        }
    }

    /// Refreshes what is due, one after the other. Gives the time at which something is due next, Unix milliseconds.
    async fn refresh_due(&self, seen: &mut Seen, told: &mut Told) -> Result<Option<i64>, Failure> {
        let credentials = self.inner.store.list_credentials(None).await?;
        let is_there = |id: &str| credentials.iter().any(|credential| credential.id == id);
        seen.retain(|id, _| is_there(id));
        told.retain(|id, _| is_there(id));
        // The end of somebody else's lease is a time to look, too.
        let mut next = credentials.iter().filter_map(|credential| self.tell(credential, told)).min();
        for credential in &credentials {
            let Some(at) = self.next_refresh_ms(credential) else { continue };
            let now = self.inner.clock.now_ms();
            let first = seen.entry(credential.id.clone()).or_insert((credential.version, now));
            if first.0 != credential.version {
                *first = (credential.version, now);
            }
            // What is overdue already, at a start or an import, is spread: no storm.
            let at = if at <= first.1 { first.1.saturating_add(spread_ms(&credential.id)) } else { at };
            if at > now {
                next = Some(next.map_or(at, |next: i64| next.min(at)));
                continue;
            }
            if self.inner.closing.is_cancelled() {
                break;
            }
            if let Err(failure) = self.refresh(&credential.id, credential.version, Why::Proactive).await {
                tracing::warn!(credential = %credential.label, %failure, "a refresh could not be recorded");
                *first = (credential.version, self.inner.clock.now_ms());
            }
            // Whatever came of it, there is another time for it now, which the next look tells.
            next = Some(now);
        }
        Ok(next)
    }

    /// Logs, once each, a refresh that somebody else has begun and not ended, and that it was given up. Gives the time at
    /// which it will be, Unix milliseconds.
    fn tell(&self, credential: &Credential, told: &mut Told) -> Option<i64> {
        let under_way = self.of_another(credential);
        let at_ms = match (under_way, &credential.refresh.doubt) {
            (Some(under_way), _) => under_way.since_ms,
            (None, Some(doubt)) => doubt.at_ms,
            (None, None) => return None,
        };
        let news = (at_ms, under_way.is_some());
        if told.insert(credential.id.clone(), news) != Some(news) {
            let outlook = self.outlook(credential);
            let what = outlook.under_way.or(outlook.problem).unwrap_or_default();
            tracing::warn!(credential = %credential.label, "{what}");
        }
        under_way.map(|under_way| under_way.until_ms.saturating_add(1))
    }

    /// When `credential` is refreshed next without being rejected or asked for, Unix milliseconds; `None`: never.
    pub(super) fn next_refresh_ms(&self, credential: &Credential) -> Option<i64> {
        self.inner.rules.next_ms(credential)
    }

    /// Is this refresh, which nobody asked for, due still?
    pub(super) fn is_due(&self, credential: &Credential) -> bool {
        self.next_refresh_ms(credential).is_some_and(|at| at <= self.inner.clock.now_ms())
    }
}
