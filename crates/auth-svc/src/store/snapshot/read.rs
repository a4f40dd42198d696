//! Reading the rows of a backup, all from one moment.

use std::collections::BTreeMap;

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection, TypeInfo, ValueRef};
use zeroize::Zeroizing;

use super::{Cell, Row, Snapshot};
use crate::store::tables::{AGENT_KEYS, CREDENTIALS, Carried, SEALED, SELECTIONS, SPENT_TOKENS};
use crate::store::{Store, StoreError};
use crate::vault::Place;

impl Store {
    /// Everything that a backup carries, as it was at one moment, with the secrets in the clear. Writers go on.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let mut tx = self.readers().begin().await.map_err(self.failed())?;
        if !self.vault().knows(&self.key_in_force(&mut *tx).await?) {
            tx.rollback().await.map_err(self.failed())?;
            self.reread_key().await?;
            tx = self.readers().begin().await.map_err(self.failed())?;
        }
        let credentials = self.carried(&mut tx, &CREDENTIALS).await?;
        let agent_keys = self.carried(&mut tx, &AGENT_KEYS).await?;
        let spent_tokens = self.carried(&mut tx, &SPENT_TOKENS).await?;
        let selections = self.carried(&mut tx, &SELECTIONS).await?;
        tx.rollback().await.map_err(self.failed())?;
        Ok(Snapshot { credentials, agent_keys, spent_tokens, selections })
    }

    async fn carried(&self, connection: &mut SqliteConnection, table: &Carried) -> Result<Vec<Row>, StoreError> {
        let sql = format!("SELECT {} FROM {} ORDER BY {}", table.columns.join(", "), table.name, table.order);
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(connection).await.map_err(self.failed())?;
        rows.iter().map(|row| self.row(row, table)).collect()
    }

    fn row(&self, found: &SqliteRow, table: &Carried) -> Result<Row, StoreError> {
        let mut row = Row(BTreeMap::new());
        for column in table.columns {
            row.0.insert((*column).to_owned(), cell(found, column).map_err(self.failed())?);
        }
        let id = row.text("id").unwrap_or_default().to_owned();
        for sealed in SEALED.iter().filter(|sealed| sealed.table == table.name) {
            let Some(cell) = row.0.get_mut(sealed.column) else { continue };
            let Cell::Bytes(value) = &*cell else { continue };
            let place = Place { table: sealed.table, row: &id, column: sealed.column };
            match self.vault().open(place, value) {
                Ok(plain) => *cell = Cell::secret(plain),
                Err(cause) => {
                    *cell = Cell::Null;
                    let detail = format!("its {} could not be opened when the backup was made: {cause}", sealed.column);
                    // As it is shown today: a credential whose secrets cannot be had.
                    row.0.insert("undecryptable".to_owned(), Cell::Text(Zeroizing::new(detail)));
                }
            }
        }
        Ok(row)
    }
}

fn cell(row: &SqliteRow, column: &str) -> Result<Cell, sqlx::Error> {
    let (null, kind) = {
        let value = row.try_get_raw(column)?;
        (value.is_null(), value.type_info().name().to_owned())
    };
    if null {
        return Ok(Cell::Null);
    }
    Ok(match kind.as_str() {
        "INTEGER" | "BOOLEAN" => Cell::Integer(row.try_get(column)?),
        "REAL" => Cell::Real(row.try_get(column)?),
        "BLOB" => Cell::Bytes(Zeroizing::new(row.try_get(column)?)),
        _ => Cell::Text(Zeroizing::new(row.try_get(column)?)),
    })
}
