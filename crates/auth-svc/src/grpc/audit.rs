//! `AuditService`: what operators did, for operators.

use proto::auth::v1 as pb;
use proto::auth::v1::audit_service_server::AuditService;
use tonic::{Request, Response, Status};

use super::status;
use crate::store::Store;

/// Entries where the request names no number.
const USUAL: i32 = 100;
/// Most entries of one answer.
const MOST: i32 = 10_000;

/// The face.
#[derive(Clone)]
pub(crate) struct AuditFace {
    store: Store,
}

impl AuditFace {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl AuditService for AuditFace {
    async fn list_audit(
        &self,
        request: Request<pb::ListAuditRequest>,
    ) -> Result<Response<pb::ListAuditResponse>, Status> {
        let request = request.into_inner();
        let limit = if request.limit <= 0 { USUAL } else { request.limit.min(MOST) };
        // Casts saturate, and what is not a number becomes 0.
        let since_ms = request.since.map_or(0, |at| (at * 1000.0) as i64);
        let entries = self.store.list_audit(since_ms, &request.act, limit).await.map_err(status)?;
        let entries = entries
            .into_iter()
            .map(|entry| pb::AuditEntry {
                at: entry.at_ms as f64 / 1000.0,
                actor: entry.actor,
                act: entry.act,
                subject: entry.subject,
                outcome: entry.outcome,
                detail: entry.detail,
            })
            .collect();
        Ok(Response::new(pb::ListAuditResponse { entries }))
    }
}
