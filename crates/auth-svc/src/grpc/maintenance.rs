//! `MaintenanceService`: the care of the store, for operators.

use std::pin::Pin;

use bytes::Bytes;
use domain::{Clock, Failure, Reason, service};
use futures_util::Stream;
use proto::auth::v1 as pb;
use proto::auth::v1::maintenance_service_server::MaintenanceService;
use secrecy::SecretString;
use service_kit::Finding;
use tonic::{Request, Response, Status};

use super::status;
use crate::audit::{About, Actor, Audit};
use crate::backup;
use crate::database_key::{Changed, KeySource};
use crate::diagnose::Diagnosis;
use crate::refresh::Refresher;
use crate::store::Store;

/// Bytes of one message of a backup.
const PART: usize = 256 * 1024;

/// The face.
#[derive(Clone)]
pub(crate) struct Maintenance {
    store: Store,
    refresher: Refresher,
    keys: KeySource,
    audit: Audit,
    clock: Clock,
    /// One change of the key at a time.
    changing: std::sync::Arc<tokio::sync::Mutex<()>>,
    diagnosis: Diagnosis,
}

impl Maintenance {
    pub(crate) fn new(
        store: Store,
        refresher: Refresher,
        keys: KeySource,
        audit: Audit,
        clock: Clock,
        diagnosis: Diagnosis,
    ) -> Self {
        Self { store, refresher, keys, audit, clock, changing: std::sync::Arc::default(), diagnosis }
    }

    async fn make_backup(&self, passphrase: SecretString) -> Result<Bytes, Failure> {
        let waiting = self.refresher.pending();
        if !waiting.is_empty() {
            let message = format!(
                "refreshed tokens wait to be written: {}; a backup made now would hold their spent predecessors",
                waiting.join(", ")
            );
            return Err(Failure::new(Reason::StoreUnavailable, service::AUTH, message)
                .next_step("mend the database (`switchboard doctor` says what is wrong), then make the backup"));
        }
        backup::make(&self.store, &self.clock, passphrase).await.map(Bytes::from)
    }

    async fn restore_backup(&self, data: Bytes, passphrase: SecretString, dry_run: bool) -> Restoring {
        let busy = |id: &str| self.refresher.is_at(id);
        let report = backup::restore(&self.store, data, passphrase, &busy, dry_run).await?;
        Ok(pb::RestoreResponse {
            made_at: report.made_at as f64,
            notes: report.notes,
            items: report
                .items
                .into_iter()
                .map(|one| pb::RestoredItem {
                    kind: one.kind.to_owned(),
                    name: one.name,
                    action: one.decided.as_str().to_owned(),
                    detail: one.detail,
                })
                .collect(),
        })
    }

    async fn change_key(&self) -> Result<Changed, Failure> {
        let _one = self.changing.lock().await;
        self.keys.change(&self.store, self.refresher.lease()).await
    }
}

type Restoring = Result<pb::RestoreResponse, Failure>;

#[tonic::async_trait]
impl MaintenanceService for Maintenance {
    type BackupStream = Pin<Box<dyn Stream<Item = Result<pb::BackupResponse, Status>> + Send>>;

    async fn backup(&self, request: Request<pb::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let actor = Actor::of(&request);
        let (this, passphrase) = (self.clone(), request.into_inner().passphrase.into());
        let made = async move { this.make_backup(passphrase).await };
        let made = self.audit.act(actor, "store.backup", |_| About::default(), made).await;
        let mut file = made.map_err(status)?;
        let parts = std::iter::from_fn(move || {
            let part = file.split_to(file.len().min(PART));
            (!part.is_empty()).then_some(Ok(pb::BackupResponse { data: part }))
        });
        Ok(Response::new(Box::pin(futures_util::stream::iter(parts))))
    }

    async fn restore(&self, request: Request<pb::RestoreRequest>) -> Result<Response<pb::RestoreResponse>, Status> {
        let actor = Actor::of(&request);
        let pb::RestoreRequest { passphrase, data, dry_run } = request.into_inner();
        let this = self.clone();
        let restored = async move { this.restore_backup(data, passphrase.into(), dry_run).await };
        if dry_run {
            return Ok(Response::new(restored.await.map_err(status)?));
        }
        let about = |restored: &Restoring| {
            let items = restored.as_ref().map_or(&[][..], |answer| &answer.items);
            let came_in = items.iter().filter(|one| matches!(one.action.as_str(), "created" | "updated"));
            About::new(came_in.map(|one| format!("{} {}", one.kind, one.name)).collect::<Vec<_>>().join(", "), "")
        };
        let restored = self.audit.act(actor, "store.restore", about, restored).await;
        Ok(Response::new(restored.map_err(status)?))
    }

    async fn rekey_database(
        &self,
        request: Request<pb::RekeyDatabaseRequest>,
    ) -> Result<Response<pb::RekeyDatabaseResponse>, Status> {
        let actor = Actor::of(&request);
        let this = self.clone();
        let about = |changed: &Result<Changed, Failure>| {
            let detail = changed.as_ref().map(|done| format!("from key {} to {}", done.old, done.new));
            About::new("", detail.unwrap_or_default())
        };
        let changed = async move { this.change_key().await };
        let changed = self.audit.act(actor, "store.rekey", about, changed).await.map_err(status)?;
        Ok(Response::new(pb::RekeyDatabaseResponse {
            old_key_id: changed.old,
            new_key_id: changed.new,
            key_file: changed.place,
            values: changed.values,
        }))
    }

    async fn diagnose(&self, _request: Request<pb::DiagnoseRequest>) -> Result<Response<pb::DiagnoseResponse>, Status> {
        let findings = self.diagnosis.findings().await.iter().map(Finding::to_proto).collect();
        Ok(Response::new(pb::DiagnoseResponse { findings }))
    }
}
