//! How a provider's credentials are chosen, and in which order.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sqlx::{Sqlite, Transaction};

use super::{Store, StoreError};

/// How a provider's credentials are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The first that can be used, by position.
    Order,
    /// Each session keeps to one of them; calls without a session take the order.
    #[default]
    Session,
}

impl Mode {
    /// As it stands in the database and in answers.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Session => "session",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "order" => Ok(Self::Order),
            "session" => Ok(Self::Session),
            other => Err(format!("{other:?} is no way to choose credentials")),
        }
    }
}

impl Store {
    /// How the credentials of `provider` are chosen.
    pub(crate) async fn selection(&self, provider: &str) -> Result<Mode, StoreError> {
        let mode: Option<String> = sqlx::query_scalar("SELECT mode FROM selections WHERE provider = ?")
            .bind(provider)
            .fetch_optional(self.readers())
            .await
            .map_err(self.failed())?;
        mode.map_or(Ok(Mode::default()), |mode| self.mode(&mode))
    }

    /// The providers for which somebody has said how, each with its mode; all others have the default.
    pub(crate) async fn selections(&self) -> Result<BTreeMap<String, Mode>, StoreError> {
        let rows: Vec<(String, String)> = sqlx::query_as("SELECT provider, mode FROM selections")
            .fetch_all(self.readers())
            .await
            .map_err(self.failed())?;
        rows.into_iter().map(|(provider, mode)| Ok((provider, self.mode(&mode)?))).collect()
    }

    fn mode(&self, name: &str) -> Result<Mode, StoreError> {
        let broken = |cause| StoreError::Database { path: self.path().display().to_string(), cause };
        name.parse().map_err(broken)
    }

    /// An operator's order of a provider's credentials, in force from now on; those not named follow in their old one.
    pub(crate) async fn set_order(&self, provider: &str, labels: &[String]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        self.position(&mut tx, provider, labels).await?;
        self.choose(&mut tx, provider, Mode::Order).await?;
        tx.commit().await.map_err(self.failed())
    }

    /// The order that an import has brought. `given`: somebody has given it to the other program, and it is in force
    /// unless an operator has said how credentials are chosen here.
    pub(super) async fn import_order(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        provider: &str,
        labels: &[String],
        given: bool,
    ) -> Result<(), StoreError> {
        self.position(tx, provider, labels).await?;
        if given {
            sqlx::query("INSERT INTO selections (provider, mode) VALUES (?, ?) ON CONFLICT (provider) DO NOTHING")
                .bind(provider)
                .bind(Mode::Order.as_str())
                .execute(&mut **tx)
                .await
                .map_err(self.failed())?;
        }
        Ok(())
    }

    /// An operator wants each session to keep to one credential of the provider.
    pub(crate) async fn select_by_session(&self, provider: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let known: i64 = sqlx::query_scalar("SELECT count(*) FROM credentials WHERE provider = ?")
            .bind(provider)
            .fetch_one(&mut *tx)
            .await
            .map_err(self.failed())?;
        if known == 0 {
            return Err(StoreError::NotFound(format!("there is no credential of provider {provider:?}")));
        }
        self.choose(&mut tx, provider, Mode::Session).await?;
        tx.commit().await.map_err(self.failed())
    }

    pub(super) async fn choose(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        provider: &str,
        mode: Mode,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO selections (provider, mode) VALUES (?, ?)
             ON CONFLICT (provider) DO UPDATE SET mode = excluded.mode",
        )
        .bind(provider)
        .bind(mode.as_str())
        .execute(&mut **tx)
        .await
        .map_err(self.failed())?;
        Ok(())
    }

    async fn position(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        provider: &str,
        labels: &[String],
    ) -> Result<(), StoreError> {
        let current: Vec<String> =
            sqlx::query_scalar("SELECT label FROM credentials WHERE provider = ? ORDER BY position, id")
                .bind(provider)
                .fetch_all(&mut **tx)
                .await
                .map_err(self.failed())?;
        if let Some(unknown) = labels.iter().find(|label| !current.contains(label)) {
            let message = match current.as_slice() {
                [] => format!("there is no credential of provider {provider:?}"),
                all => format!("provider {provider} has no credential {unknown:?}; it has {}", all.join(", ")),
            };
            return Err(StoreError::NotFound(message));
        }
        let rest = current.iter().filter(|label| !labels.contains(label));
        for (position, label) in (0i64..).zip(labels.iter().chain(rest)) {
            sqlx::query("UPDATE credentials SET position = ? WHERE label = ?")
                .bind(position)
                .bind(label)
                .execute(&mut **tx)
                .await
                .map_err(self.failed())?;
        }
        Ok(())
    }
}
