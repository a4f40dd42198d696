//! Writing rows of a backup, sealed with the key of this database.

use sqlx::{QueryBuilder, Sqlite, Transaction};

use super::{Cell, Row};
use crate::store::tables::{Carried, SEALED};
use crate::store::{Store, StoreError};
use crate::vault::Place;

/// A column with the value to be stored.
type Column = (&'static str, Cell);

impl Store {
    /// The columns of `row` that this table has, ready to be stored under `id` by the transaction that writes.
    pub(super) fn columns(
        &self,
        _writer: &Transaction<'_, Sqlite>,
        table: &Carried,
        row: &Row,
        id: &str,
    ) -> Result<Vec<Column>, StoreError> {
        let mut columns = Vec::new();
        for column in table.columns {
            // An older backup lacks newer columns: they keep their defaults.
            let Some(cell) = row.0.get(*column) else { continue };
            let sealed = SEALED.iter().find(|one| one.table == table.name && one.column == *column);
            let cell = match (sealed, cell.bytes()) {
                (Some(sealed), Some(plain)) => {
                    let place = Place { table: sealed.table, row: id, column: sealed.column };
                    let vault = |cause| StoreError::Vault {
                        path: self.path().display().to_string(),
                        table: sealed.table,
                        row: id.to_owned(),
                        column: sealed.column,
                        cause,
                    };
                    Cell::Bytes(self.vault().seal(place, plain).map_err(vault)?.into())
                }
                (Some(_), None) => Cell::Null,
                (None, _) => cell.clone(),
            };
            columns.push((*column, cell));
        }
        Ok(columns)
    }

    pub(super) async fn insert_row(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        table: &Carried,
        columns: Vec<Column>,
    ) -> Result<(), StoreError> {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let mut insert = QueryBuilder::new(format!("INSERT INTO {} ({}) VALUES (", table.name, names.join(", ")));
        let mut values = insert.separated(", ");
        for (_, cell) in columns {
            match cell {
                Cell::Null => values.push("NULL"),
                Cell::Integer(number) => values.push_bind(number),
                Cell::Real(number) => values.push_bind(number),
                Cell::Text(text) => values.push_bind(text.to_string()),
                Cell::Bytes(bytes) => values.push_bind(bytes.to_vec()),
            };
        }
        insert.push(")");
        insert.build().execute(&mut **tx).await.map_err(self.failed())?;
        Ok(())
    }

    pub(super) async fn update_row(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        table: &Carried,
        columns: Vec<Column>,
        id: &str,
    ) -> Result<(), StoreError> {
        let mut update = QueryBuilder::new(format!("UPDATE {} SET ", table.name));
        let mut set = update.separated(", ");
        for (name, cell) in columns {
            set.push(format!("{name} = "));
            match cell {
                Cell::Null => set.push_unseparated("NULL"),
                Cell::Integer(number) => set.push_bind_unseparated(number),
                Cell::Real(number) => set.push_bind_unseparated(number),
                Cell::Text(text) => set.push_bind_unseparated(text.to_string()),
                Cell::Bytes(bytes) => set.push_bind_unseparated(bytes.to_vec()),
            };
        }
        update.push(" WHERE id = ").push_bind(id.to_owned());
        update.build().execute(&mut **tx).await.map_err(self.failed())?;
        Ok(())
    }
}
