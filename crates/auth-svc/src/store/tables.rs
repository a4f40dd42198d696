//! What the tables hold, in one place: which values are sealed, so that a change of the database key forgets none, and
//! what a backup carries. `tests` walk the schema and fail for a table or column that is in none of these lists: whoever
//! adds one decides here.

/// A column of sealed values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed {
    /// Table.
    pub(crate) table: &'static str,
    /// The row's id as the vault knows it (`Place::row`): an SQL expression over the table's columns that gives a text.
    pub(crate) row: &'static str,
    /// Column.
    pub(crate) column: &'static str,
}

const fn credential(column: &'static str) -> Sealed {
    Sealed { table: "credentials", row: "id", column }
}

/// Every column of sealed values. The canary is the last: its key is the database's.
pub(crate) const SEALED: &[Sealed] = &[
    credential("access_token"),
    credential("refresh_token"),
    credential("id_token"),
    credential("api_key"),
    credential("extra"),
    Sealed { table: "vault_canary", row: "CAST(id AS TEXT)", column: "sealed" },
];

/// BLOB columns that hold no secret and are stored as they are.
#[cfg(test)]
pub(crate) const PLAIN_BLOBS: &[(&str, &str)] = &[
    ("agent_keys", "hash"),
    ("agent_keys", "previous_hash"),
    ("refresh_intents", "spent_hash"),
    ("spent_tokens", "hash"),
    ("_sqlx_migrations", "checksum"),
];

/// A table whose rows a backup carries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carried {
    /// Table.
    pub(crate) name: &'static str,
    /// The order in which the rows stand in the backup.
    pub(crate) order: &'static str,
    /// Columns that a backup carries. Sealed ones are carried open, under the backup's own encryption.
    pub(crate) columns: &'static [&'static str],
    /// Columns that it does not, each with a reason.
    #[cfg(test)]
    pub(crate) left_out: &'static [(&'static str, &'static str)],
}

/// Credentials.
pub(crate) const CREDENTIALS: Carried = Carried {
    name: "credentials",
    order: "provider, position, id",
    columns: &[
        "id",
        "label",
        "provider",
        "kind",
        "issuer",
        "client_id",
        "account_id",
        "email",
        "plan",
        "user_id",
        "fedramp",
        "source",
        "profile",
        "borrowed",
        "version",
        "access_token",
        "refresh_token",
        "id_token",
        "api_key",
        "extra",
        "undecryptable",
        "access_expires_at",
        "last_refresh",
        "latch",
        "latch_version",
        "latch_detail",
        "created_at",
        "unconfirmed",
        "exported_at",
        "egress_require",
        "egress_prefer",
    ],
    #[cfg(test)]
    left_out: &[
        ("position", "the rows stand in this order; those that come in follow those that are here"),
        ("recovery_version", "it is about a rejection of a moment ago"),
    ],
};

/// Agent keys.
pub(crate) const AGENT_KEYS: Carried = Carried {
    name: "agent_keys",
    order: "created_at, id",
    columns: &[
        "id",
        "name",
        "agent",
        "prefix",
        "hash",
        "models",
        "credentials",
        "created_at",
        "expires_at",
        "revoked_at",
        "last_used_at",
        "requests_per_minute",
        "concurrent_calls",
        "tokens_per_day",
        "previous_hash",
        "previous_until",
        "rotated_at",
    ],
    #[cfg(test)]
    left_out: &[],
};

/// Spent refresh tokens: an older file of a login is to be known as such on another host, too.
pub(crate) const SPENT_TOKENS: Carried = Carried {
    name: "spent_tokens",
    order: "credential_id, id",
    columns: &["credential_id", "hash"],
    #[cfg(test)]
    left_out: &[
        ("id", "it is the order of arrival"),
        ("spent_at", "nothing is decided by it; it counts from the restore"),
    ],
};

/// How providers' credentials are chosen.
pub(crate) const SELECTIONS: Carried = Carried {
    name: "selections",
    order: "provider",
    columns: &["provider", "mode"],
    #[cfg(test)]
    left_out: &[],
};

/// Tables that no backup carries, each with a reason.
#[cfg(test)]
pub(crate) const NOT_CARRIED: &[(&str, &str)] = &[
    ("vault_canary", "it belongs to the database key"),
    ("rests", "they are over, or are found out anew, by the time a backup is restored"),
    ("quota_windows", "what the provider told is old by then, and it is told again with the first answer"),
    ("refresh_intents", "they name requests of processes of this host; a restored login is unconfirmed anyway"),
    ("token_turns", "they are held for seconds"),
    ("refresh_state", "it is about the failures of one version on one host"),
    ("key_usage", "it is counted where it was used: a restore of a key that is here leaves it its day as it is"),
    ("workspaces", "they are asked anew with the first call, and by then may be others"),
    ("usage_batches", "they name reports of the last hour, and only where those came"),
    ("audit", "it is the story of one host: elsewhere its users mean others"),
    ("meta", "its database id travels in the backup's head"),
    ("_sqlx_migrations", "a new database has its own"),
    ("sqlite_sequence", "SQLite's own"),
];

#[cfg(test)]
mod tests {
    use domain::Clock;
    use service_kit::SecretKey;
    use sqlx::Row;

    use super::*;
    use crate::store::create;

    /// Every `(table, column, type)` of a new database.
    async fn columns() -> Vec<(String, String, String)> {
        let dir = tempfile::tempdir().expect("tempdir");
        let key = SecretKey::generate().expect("random");
        let store =
            create(&dir.path().join("t.db"), key, Clock::manual(0), async |_| Ok(())).await.expect("a database");
        let sql = "SELECT tables.name AS t, columns.name AS c, columns.type AS k FROM sqlite_schema AS tables
                   JOIN pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'";
        let rows = sqlx::query(sql).fetch_all(store.readers()).await.expect("read");
        rows.iter().map(|row| (row.get("t"), row.get("c"), row.get("k"))).collect()
    }

    #[tokio::test]
    async fn every_blob_is_sealed_or_known_to_be_no_secret() {
        for (table, column, kind) in columns().await {
            if kind != "BLOB" {
                continue;
            }
            let sealed = SEALED.iter().any(|one| one.table == table && one.column == column);
            let plain = PLAIN_BLOBS.contains(&(table.as_str(), column.as_str()));
            assert!(
                sealed != plain,
                "{table}.{column}: put it into SEALED if the vault has made its values (or a change of the key loses \
                 them), else into PLAIN_BLOBS"
            );
        }
    }

    const CARRIED: [Carried; 4] = [CREDENTIALS, AGENT_KEYS, SPENT_TOKENS, SELECTIONS];

    #[tokio::test]
    async fn every_column_is_in_a_backup_or_left_out_for_a_reason() {
        for (table, column, _) in columns().await {
            let Some(carried) = CARRIED.into_iter().find(|one| one.name == table) else {
                let known = NOT_CARRIED.iter().any(|(name, _)| *name == table);
                assert!(known, "{table}: does a backup carry it? If not, say why in NOT_CARRIED");
                continue;
            };
            let left_out = carried.left_out.iter().any(|(name, _)| *name == column);
            assert!(
                carried.columns.contains(&column.as_str()) != left_out,
                "{table}.{column}: put it into the columns that a backup carries, or into left_out with a reason. What \
                 restricts a key or gives a credential up must be carried"
            );
        }
        let known = columns().await;
        for carried in CARRIED {
            for column in carried.columns {
                let there = known.iter().any(|(table, name, _)| table == carried.name && name == column);
                assert!(there, "{}.{column} does not exist", carried.name);
            }
        }
    }
}
