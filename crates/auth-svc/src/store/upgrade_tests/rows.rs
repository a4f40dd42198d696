//! Every table of a database of every earlier version, full in every column: all of it is there after the upgrade.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, Row};

use super::*;

/// What fills a database, each from the version on that knows it. Whoever adds a table or a column adds a line.
const ROWS: &[(i64, &str)] = &[
    (
        1,
        "UPDATE credentials SET issuer = 'https://auth.openai.com', client_id = 'app', account_id = 'acct',
            email = 'a@example.com', plan = 'plus', user_id = 'u', fedramp = 1, profile = 'tokens', borrowed = 1,
            version = 3, access_expires_at = 4000000000, last_refresh = 7, recovery_version = 3, latch = 'rejected',
            latch_version = 3, latch_detail = 'status 401'",
    ),
    (
        1,
        "INSERT INTO credentials (id, label, provider, kind, position, source, created_at, undecryptable, id_token,
            api_key, extra) VALUES ('id-2', 'shut', 'openai', 'api-key', 1, 'openclaw', 2, 'no seed', x'01', x'02', x'03')",
    ),
    (1, "INSERT INTO rests (credential_id, model, kind, until_ms, strikes) VALUES ('id-1', 'm', 'RATE_LIMITED', 77, 4)"),
    (
        1,
        "INSERT INTO agent_keys (id, name, agent, prefix, hash, models, credentials, created_at, expires_at, revoked_at,
            last_used_at) VALUES ('key-1', 'ci', 'bot', 'sbk_x', x'0101', '[\"codex/*\"]', '[\"main\"]', 1, 2, 3, 4)",
    ),
    (
        2,
        "INSERT INTO audit (at_ms, actor, act, subject, outcome, detail)
            VALUES (5, 'uid 0', 'key.create', 'ci', 'ok', 'by hand')",
    ),
    (
        3,
        "INSERT INTO refresh_intents (credential_id, version, spent_hash, owner, state, started_ms, deadline_ms, doubt_ms,
            doubt_cause) VALUES ('id-1', 3, x'02', 'host/1', 'in_doubt', 1, 2, 3, 'cut')",
    ),
    (3, "INSERT INTO token_turns (client_id, owner, deadline_ms) VALUES ('app', 'host/1', 9)"),
    (
        3,
        "INSERT INTO refresh_state (credential_id, version, since_ms, failures, cause, next_ms)
            VALUES ('id-1', 3, 1, 2, 'status 500', 8)",
    ),
    (4, "UPDATE credentials SET exported_at = 6 WHERE id = 'id-1'"),
    (4, "INSERT INTO spent_tokens (hash, credential_id, spent_at) VALUES (x'03', 'id-1', 5)"),
    (5, "INSERT INTO selections (provider, mode) VALUES ('openai-codex', 'session')"),
    (5, "UPDATE rests SET window_s = 18000, limit_id = 'codex', began_ms = 70"),
    (
        5,
        "INSERT INTO quota_windows (credential_id, limit_id, window_s, used_percent, resets_at, limit_name, observed_ms)
            VALUES ('id-1', 'codex', 18000, 12.5, 9, 'Codex', 8)",
    ),
    (
        6,
        "UPDATE agent_keys SET requests_per_minute = 1, concurrent_calls = 2, tokens_per_day = 3, previous_hash = x'04',
            previous_until = 5, rotated_at = 6",
    ),
    (6, "INSERT INTO key_usage (key_id, day, tokens) VALUES ('key-1', 20000, 33)"),
    (7, "INSERT INTO meta (name, value) VALUES ('database_id', 'known')"),
    (7, "UPDATE credentials SET unconfirmed = 1 WHERE id = 'id-1'"),
    (8, "INSERT INTO usage_batches (id, taken_at) VALUES ('report-1', 4)"),
    (9, "INSERT INTO spent_tokens (hash, credential_id, spent_at) VALUES (x'05', 'gone', 6)"),
    (10, "UPDATE credentials SET egress_require = '[\"eu\"]', egress_prefer = '[\"vps\"]' WHERE id = 'id-1'"),
    (
        10,
        "INSERT INTO workspaces (account_id, origin, routing, learned_ms, problem, failures, next_ms)
            VALUES ('acct', 'https://eu.example', 'us_cr', 5, 'status 500', 2, 9)",
    ),
];

/// The columns of each table.
async fn columns(connection: &mut SqliteConnection) -> BTreeMap<String, Vec<String>> {
    let sql = "SELECT tables.name AS t, columns.name AS c FROM sqlite_schema AS tables
               JOIN pragma_table_info(tables.name) AS columns
               WHERE tables.type = 'table' AND tables.name NOT IN ('_sqlx_migrations', 'sqlite_sequence')";
    let mut columns: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in sqlx::query(sql).fetch_all(connection).await.expect("read") {
        columns.entry(row.get("t")).or_default().push(row.get("c"));
    }
    columns
}

/// The rows of a table, each value as SQL writes it.
async fn rows(connection: &mut SqliteConnection, table: &str, columns: &[String]) -> Vec<Vec<String>> {
    let quoted: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
    let sql = AssertSqlSafe(format!("SELECT {} FROM {table}", quoted.join(", ")));
    let rows = sqlx::query(sql).fetch_all(connection).await.expect("read");
    rows.iter().map(|row| (0..columns.len()).map(|at| row.get(at)).collect()).collect()
}

#[tokio::test]
async fn every_row_of_every_earlier_version_is_there_after_the_upgrade() {
    for version in MIGRATIONS.iter().map(|migration| migration.version) {
        let (_dir, path, key) = place();
        of_version(&path, &key, version).await;
        let mut connection = connect(&path).await;
        for (_, sql) in ROWS.iter().filter(|(since, _)| *since <= version) {
            sqlx::query(*sql).execute(&mut connection).await.expect(sql);
        }
        let mut before = Vec::new();
        for (table, columns) in columns(&mut connection).await {
            let rows = rows(&mut connection, &table, &columns).await;
            for (at, column) in columns.iter().enumerate() {
                let full = rows.iter().any(|row| row[at] != "NULL");
                assert!(full, "version {version}: no row fills {table}.{column}");
            }
            before.push((table, columns, rows));
        }
        connection.close().await.expect("closed");

        let store = start(&path, &key).await.expect("upgraded");
        let main = store.credential_by_label("main").await.expect("read").expect("there");
        assert_eq!(main.secrets.refresh().map(ExposeSecret::expose_secret), Some("r-one"), "version {version}");
        assert_eq!((main.version, main.latch.is_some(), main.borrowed), (3, true, true), "version {version}");
        assert_eq!(store.list_credentials(None).await.expect("listed").len(), 2);
        let known = store.agent_key_by_hash(&[1, 1]).await.expect("read").expect("there");
        assert_eq!((known.models, known.revoked_at), (vec!["codex/*".to_owned()], Some(3)));
        store.check().await.expect("it takes writes");
        store.close().await;

        let mut connection = connect(&path).await;
        for (table, columns, rows_before) in before {
            let after = rows(&mut connection, &table, &columns).await;
            for row in rows_before {
                assert!(after.contains(&row), "version {version}: {table} has lost or changed {row:?}: {after:?}");
            }
        }
        connection.close().await.expect("closed");
    }
}
