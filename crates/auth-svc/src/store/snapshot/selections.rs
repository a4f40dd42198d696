//! Taking the choice of how a provider's credentials are chosen in. One that was made here stays.

use sqlx::{Sqlite, Transaction};

use super::{Decided, Restored, Row};
use crate::store::tables::SELECTIONS;
use crate::store::{Mode, Store, StoreError};

impl Store {
    pub(super) async fn restore_selection(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        row: &Row,
    ) -> Result<Restored, StoreError> {
        let provider = row.text("provider").unwrap_or_default();
        let one = |decided, detail: String| Restored {
            kind: "selection",
            name: provider.to_owned(),
            decided,
            detail,
            unconfirmed: false,
            here: decided != Decided::Skipped,
        };
        let mode: Option<Mode> = row.text("mode").and_then(|mode| mode.parse().ok());
        let Some(mode) = mode.filter(|_| !provider.is_empty() && row.unknown(SELECTIONS.columns).is_empty()) else {
            return Ok(one(Decided::Skipped, "this version knows no such way to choose credentials".to_owned()));
        };
        let here: Option<String> = sqlx::query_scalar("SELECT mode FROM selections WHERE provider = ?")
            .bind(provider)
            .fetch_optional(&mut **tx)
            .await
            .map_err(self.failed())?;
        match here.as_deref() {
            None => {
                self.choose(tx, provider, mode).await?;
                Ok(one(Decided::Created, String::new()))
            }
            Some(here) if here == mode.as_str() => Ok(one(Decided::Unchanged, String::new())),
            Some(here) => {
                Ok(one(Decided::Kept, format!("an operator has chosen {here:?} here; the backup has \"{mode}\"")))
            }
        }
    }
}
