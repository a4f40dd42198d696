//! What every call of this gateway shares.

use domain::{Clock, Failure};
use http::HeaderMap;
use service_kit::Peer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::budget::Budget;
use crate::caller::{Caller, Keys};
use crate::links::Links;
use crate::records::Records;

/// Shared by all faces and calls.
pub(crate) struct Core {
    /// The peers.
    pub(crate) links: Links,
    /// Verified agent keys.
    pub(crate) keys: Keys,
    /// The last calls.
    pub(crate) records: Records,
    /// Wall-clock time.
    pub(crate) clock: Clock,
    /// What outlives a call: reports to auth-svc.
    pub(crate) tasks: TaskTracker,
    /// Cancelled at shutdown: reports stop waiting between tries.
    pub(crate) closing: CancellationToken,
    /// Largest request body in bytes, after decompression.
    pub(crate) max_body_bytes: usize,
}

impl Core {
    /// Who asks, for questions that are no calls.
    pub(crate) async fn identify(
        &self,
        headers: &HeaderMap,
        peer: Option<Peer>,
        agent: &str,
        budget: Budget,
    ) -> Result<Caller, Failure> {
        self.keys.identify(&self.links, headers, peer, agent, budget).await.result
    }
}
