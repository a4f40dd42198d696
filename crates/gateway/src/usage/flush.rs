//! Telling auth-svc what was gathered: every two seconds if there is something, and once more at the end.

use std::sync::Arc;
use std::time::Duration;

use domain::Failure;
use proto::auth::v1::ReportUsageRequest;
use tokio::time::Instant;

use crate::core::Core;
use crate::usage::{Batch, OLD_PEER_PAUSE};

/// Time between two batches.
const EVERY: Duration = Duration::from_secs(2);
/// How long one batch is tried. auth-svc forgets the ids of batches some time after this, so that an older one might be
/// counted twice.
const KEPT_FOR: Duration = Duration::from_secs(300);

/// Runs until the gateway closes.
pub(super) async fn run(core: Arc<Core>) {
    let mut delivery = Delivery::default();
    let mut pause = EVERY;
    loop {
        let closing = tokio::select! {
            () = tokio::time::sleep(pause) => false,
            () = core.closing.cancelled() => true,
        };
        pause = delivery.step(&core).await;
        if closing {
            // The calls are over: what came after the batch that was waiting is the last there is.
            if delivery.waiting.is_none() {
                delivery.step(&core).await;
            }
            delivery.give_up(&core);
            return;
        }
    }
}

/// A batch under way. It keeps its id until it is delivered, for auth-svc counts each id once.
struct Waiting {
    request: ReportUsageRequest,
    since: Instant,
}

#[derive(Default)]
struct Delivery {
    waiting: Option<Waiting>,
    /// True while auth-svc does not hear us; said once.
    unheard: bool,
    /// True once it was said that auth-svc is older than we are.
    old: bool,
}

impl Delivery {
    /// Delivers the batch that waits, or a new one, and says when to come back.
    async fn step(&mut self, core: &Core) -> Duration {
        if self.waiting.as_ref().is_some_and(|waiting| waiting.since.elapsed() >= KEPT_FOR) {
            self.drop_waiting("it is five minutes old");
        }
        if self.waiting.is_none() {
            self.waiting = core.usage.take().map(Waiting::new);
        }
        let Some(waiting) = &self.waiting else { return EVERY };
        match core.links.report_usage(waiting.request.clone()).await {
            Ok(Some(_)) => {
                self.waiting = None;
                if std::mem::take(&mut self.unheard) {
                    tracing::info!("auth-svc hears of usage again");
                }
                EVERY
            }
            Ok(None) => {
                self.waiting = None;
                if !std::mem::replace(&mut self.old, true) {
                    tracing::info!(
                        "this auth-svc takes no reports of usage, it is of an earlier version: quotas are not shown, and \
                         the daily tokens of keys do not count"
                    );
                }
                OLD_PEER_PAUSE
            }
            Err(failure) => {
                self.unheard(&failure);
                EVERY
            }
        }
    }

    fn unheard(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.unheard, true) {
            tracing::warn!(reason = %failure.reason, "auth-svc could not be told of usage; trying again: {}",
                failure.message);
        }
    }

    /// At the end: what could not be told is counted.
    fn give_up(&mut self, core: &Core) {
        self.drop_waiting("the gateway stops");
        self.waiting = core.usage.take().map(Waiting::new);
        self.drop_waiting("the gateway stops");
    }

    fn drop_waiting(&mut self, why: &str) {
        let Some(Waiting { request, .. }) = self.waiting.take() else { return };
        let tokens: f64 = request.keys.iter().map(|key| key.tokens).sum();
        tracing::warn!(
            credentials = request.credentials.len(),
            keys = request.keys.len(),
            tokens,
            "a report of usage was not delivered and is dropped: {why}"
        );
    }
}

impl Waiting {
    fn new(batch: Batch) -> Self {
        let Batch { credentials, keys, lost } = batch;
        if lost > 0 {
            tracing::warn!(lost, "there was no room for all usage since the last report; some is not counted");
        }
        let batch_id = uuid::Uuid::new_v4().to_string();
        Self { request: ReportUsageRequest { batch_id, credentials, keys }, since: Instant::now() }
    }
}
