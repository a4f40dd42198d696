//! What every call of this gateway shares.

use std::sync::Arc;
use std::time::Duration;

use domain::{Clock, Failure};
use http::HeaderMap;
use service_kit::Peer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::budget::Budget;
use crate::caller::{Caller, Introduced};
use crate::catalogue::Catalogues;
use crate::egress::Health;
use crate::keys::Keys;
use crate::limits::Limits;
use crate::links::Links;
use crate::models::Recent;
use crate::pipeline::Reports;
use crate::records::Records;
use crate::retry::RetryBudget;
use crate::room::Room;
use crate::usage::Collector;
use crate::workspaces::Workspaces;

/// Shared by all faces and calls.
pub(crate) struct Core {
    /// The peers.
    pub(crate) links: Arc<Links>,
    /// Verified agent keys.
    pub(crate) keys: Keys,
    /// What agent keys use.
    pub(crate) limits: Limits,
    /// The last calls.
    pub(crate) records: Records,
    /// Quotas and tokens for the next report to auth-svc.
    pub(crate) usage: Collector,
    /// What upstreams list.
    pub(crate) catalogues: Catalogues,
    /// Accounts of which it is being asked where their requests must go.
    pub(crate) workspaces: Workspaces,
    /// Lists of models of a moment ago.
    pub(crate) recent_models: Recent,
    /// Wall-clock time.
    pub(crate) clock: Clock,
    /// What outlives a call: reports to auth-svc, and the usage requests it wants made.
    pub(crate) tasks: TaskTracker,
    /// Cancelled at shutdown: reports stop waiting between tries.
    pub(crate) closing: CancellationToken,
    /// Largest request body in bytes, after decompression.
    pub(crate) max_body_bytes: usize,
    /// What there is room for.
    pub(crate) room: Room,
    /// How long a body may take beyond what its size allows.
    pub(crate) body_timeout: Duration,
    /// After how long a silence a stream over HTTP gets a comment line; zero is never.
    pub(crate) keep_alive: Duration,
    /// Most upstream attempts of one call.
    pub(crate) max_attempts: u32,
    /// Which egresses and targets work.
    pub(crate) health: Arc<Health>,
    /// How many attempts may follow failed ones.
    pub(crate) retries: RetryBudget,
    /// What auth-svc has to hear of credentials.
    pub(crate) reports: Reports,
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
        Introduced::of(&self.keys, headers, peer, budget).await.speaking_for(agent).result
    }
}
