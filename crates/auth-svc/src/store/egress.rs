//! Which egresses may make requests with a credential, as an operator has said.

use proto::common::v1 as pb;
use sqlx::{Sqlite, Transaction};

use super::{Store, StoreError};

/// An operator's rule; each entry is an egress's name or label. An empty one allows all and prefers none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EgressRule {
    /// Only egresses with one of these; empty allows all.
    pub(crate) require: Vec<String>,
    /// Those with one of these first, in this order.
    pub(crate) prefer: Vec<String>,
}

impl EgressRule {
    /// True if it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.require.is_empty() && self.prefer.is_empty()
    }

    /// From its columns.
    pub(super) fn read(require: Option<&str>, prefer: Option<&str>) -> Result<Self, serde_json::Error> {
        let list = |json: Option<&str>| json.map_or_else(|| Ok(Vec::new()), serde_json::from_str);
        Ok(Self { require: list(require)?, prefer: list(prefer)? })
    }

    /// As callers are told; `None` for one that says nothing.
    pub(crate) fn to_proto(&self) -> Option<pb::EgressRule> {
        let told = || pb::EgressRule { require: self.require.clone(), prefer: self.prefer.clone() };
        (!self.is_empty()).then(told)
    }

    /// For a person: `requires a or b; prefers c, d`.
    pub(crate) fn describe(&self) -> String {
        let require = (!self.require.is_empty()).then(|| format!("requires {}", self.require.join(" or ")));
        let prefer = (!self.prefer.is_empty()).then(|| format!("prefers {}", self.prefer.join(", ")));
        let both: Vec<String> = require.into_iter().chain(prefer).collect();
        if both.is_empty() { "none".to_owned() } else { both.join("; ") }
    }
}

impl From<pb::EgressRule> for EgressRule {
    fn from(rule: pb::EgressRule) -> Self {
        Self { require: rule.require, prefer: rule.prefer }
    }
}

impl Store {
    /// An operator's rule for a credential, in force from now on; an empty one takes the old one away.
    pub(crate) async fn set_egress(&self, id: &str, rule: &EgressRule) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        self.write_egress(&mut tx, id, rule).await?;
        tx.commit().await.map_err(self.failed())
    }

    pub(super) async fn write_egress(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        id: &str,
        rule: &EgressRule,
    ) -> Result<(), StoreError> {
        let list = |words: &[String]| (!words.is_empty()).then(|| serde_json::json!(words).to_string());
        sqlx::query("UPDATE credentials SET egress_require = ?, egress_prefer = ? WHERE id = ?")
            .bind(list(&rule.require))
            .bind(list(&rule.prefer))
            .bind(id)
            .execute(&mut **tx)
            .await
            .map_err(self.failed())?;
        Ok(())
    }
}
