//! Files that are read again while a process runs: a renewed certificate is taken up without a restart.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use domain::Clock;
use telemetry::metrics::{Sample, names};
use tokio_util::sync::CancellationToken;

use super::TlsError;
use super::term::{Standing, Term};
use crate::admin::{Gauges, Warnings};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How often an end that comes near is told of.
const TELL_EVERY_S: i64 = 86_400;

/// What is made of some files.
pub(super) trait Source: Send + Sync + 'static {
    /// What is made of them.
    type Made: Send + Sync + 'static;
    /// The setting that names the certificate.
    const SETTING: &'static str;
    /// What to do when it ends.
    const RENEW: &'static str;

    fn files(&self) -> Vec<&Path>;
    fn read(&self) -> Result<Self::Made, TlsError>;
    /// How long the certificate in it is good.
    fn term(made: &Self::Made) -> Term;
}

/// What was made of them last.
pub(super) struct Kept<S: Source> {
    source: S,
    current: ArcSwap<S::Made>,
    looked: Mutex<Looked>,
    clock: Clock,
}

/// What files look like: when they were changed, and which they are.
type Seen = Vec<Option<(i64, i64, u64, u64)>>;

#[derive(Default)]
struct Looked {
    /// What the files looked like that are in use.
    used: Seen,
    /// What those looked like that could not be used: they are told of once.
    refused: Option<Seen>,
    /// What was last told of the certificate's end, and when.
    told: Option<(Standing, i64)>,
}

/// What came of a look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    Same,
    TakenUp,
    Refused,
}

impl<S: Source> Kept<S> {
    pub(super) fn open(source: S, clock: Clock) -> Result<Self, TlsError> {
        let used = seen(&source);
        let made = source.read()?;
        let looked = Mutex::new(Looked { used, ..Looked::default() });
        Ok(Self { source, current: ArcSwap::from_pointee(made), looked, clock })
    }

    pub(super) fn current(&self) -> Guard<Arc<S::Made>> {
        self.current.load()
    }

    pub(super) fn source(&self) -> &S {
        &self.source
    }

    pub(super) fn term(&self) -> Term {
        S::term(&self.current())
    }

    /// Takes up files that have changed, until `shutdown`. Files that cannot be used are told of, and the last good ones
    /// stay. Tells of an end that comes near.
    pub(super) async fn follow(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            let this = Arc::clone(&self);
            // A look that panicked is one that saw nothing; the next one comes.
            let _ = tokio::task::spawn_blocking(move || {
                let _ = this.look();
                this.tell();
            })
            .await;
            if tokio::time::timeout(LOOK, shutdown.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    pub(super) fn look(&self) -> Look {
        let now = seen(&self.source);
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if now == looked.used || looked.refused.as_ref() == Some(&now) {
            return Look::Same;
        }
        match self.source.read().and_then(|made| self.better(made)) {
            Ok(made) => {
                tracing::info!(setting = S::SETTING, "certificates read again");
                self.current.store(Arc::new(made));
                *looked = Looked { used: now, ..Looked::default() };
                Look::TakenUp
            }
            Err(error) => {
                tracing::warn!(%error, "changed certificates cannot be used; the last good ones stay in use");
                looked.refused = Some(now);
                Look::Refused
            }
        }
    }

    /// One that has ended does not take the place of one that is good.
    fn better(&self, made: S::Made) -> Result<S::Made, TlsError> {
        let (now_s, term) = (self.clock.now_s(), S::term(&made));
        let ended = |term: Term| term.standing(now_s) == Standing::Ended;
        if ended(term) && !ended(self.term()) {
            let file = self.source.files().first().map(|file| (*file).to_owned()).unwrap_or_default();
            return Err(TlsError::new(S::SETTING, &file, &term.told(now_s)));
        }
        Ok(made)
    }

    /// Says once a day, and when it changes, that the certificate in use ends soon, or does not do any more.
    fn tell(&self) {
        let (now_s, term) = (self.clock.now_s(), self.term());
        let standing = term.standing(now_s);
        {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.told.is_some_and(|(told, at_s)| told == standing && now_s - at_s < TELL_EVERY_S) {
                return;
            }
            looked.told = Some((standing, now_s));
        }
        let (setting, file) = (S::SETTING, self.source.files().first().map(|file| file.display().to_string()));
        let file = file.unwrap_or_default();
        match standing {
            Standing::Good => {}
            Standing::EndsSoon => tracing::warn!(setting, file, "our certificate: {}; renew it", term.told(now_s)),
            Standing::NotYet | Standing::Ended => {
                tracing::error!(setting, file, "our certificate: {}; nobody takes it", term.told(now_s));
            }
        }
    }

    /// Seconds until the certificate ends.
    pub(super) fn gauges(self: Arc<Self>) -> Gauges {
        Arc::new(move || {
            let left = self.term().ends_s - self.clock.now_s();
            let sample = Sample::new(names::CERTIFICATE_EXPIRES, left as f64).label("setting", S::SETTING);
            Box::pin(async move { vec![sample] })
        })
    }
}

impl<S: Source> Kept<S> {
    /// That the certificate ends soon, or has ended, and what to do.
    pub(super) fn warnings(self: Arc<Self>) -> Warnings {
        Arc::new(move || {
            let subject = format!("certificate {}", S::SETTING);
            let found = self.term().finding(&subject, "this process's own", S::RENEW, self.clock.now_s());
            Box::pin(async move { vec![found] })
        })
    }
}

fn seen<S: Source>(source: &S) -> Seen {
    let of = |file: &Path| {
        let meta = std::fs::metadata(file).ok()?;
        Some((meta.mtime(), meta.mtime_nsec(), meta.len(), meta.ino()))
    };
    source.files().into_iter().map(of).collect()
}
