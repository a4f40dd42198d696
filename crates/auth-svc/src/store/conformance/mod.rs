//! What every engine of the store must do: the suite that a second engine is held to.
//!
//! A case is an async function over an [`Engine`], which is an empty database that can be opened, closed and opened
//! again. An engine provides that one trait and says `conformance!(cases, its::full::Path);`: each case is then a test of its own,
//! `store::conformance::<engine>::cases::<topic>::<case>`. Cases use what the rest of the crate uses, `Store`'s methods, and
//! nothing of an engine's own; what only SQLite can do (files, copies before migrations) is tested beside its code.
//!
//! A new case is a function in one of the topics here, and its name in the list below. A new table brings a topic, and a
//! new method a case: `coverage` holds that.

mod audits;
mod contradictions;
mod coverage;
mod egresses;
mod key_changes;
mod key_usage;
mod keys;
mod ownership;
mod quotas;
mod recent;
mod refreshing;
mod rekeying;
mod restoring;
mod rests;
mod selections;
mod snapshots;
mod sqlite;
mod tokens;
mod upserts;
mod workspaces;
mod writers;

use domain::Clock;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::{Begun, Credential, Intent, Kind, NewCredential, RefreshedTokens, Rest, RestKind, Secrets, Source, Store};

/// Unix seconds at which the clock of a case stands.
pub(super) const NOW_S: i64 = 1_900_000_000;

/// A database of an engine, made empty.
pub(super) trait Engine: Sync + Sized {
    /// A new database, and a clock that stands at [`NOW_S`].
    async fn new() -> Self;

    /// Opens the database; more than once means several processes at one database.
    async fn open(&self) -> Store;

    /// The clock of every store that this has opened.
    fn clock(&self) -> &Clock;
}

macro_rules! conformance {
    ($name:ident, $engine:ty) => {
        mod $name {
            use crate::store::conformance::conformance;

            conformance! { @ $engine;
                upserts: the_same_login_has_no_twin_and_keeps_its_newest_tokens,
                    one_refresh_token_is_one_login_whatever_its_files_say,
                    what_could_not_be_opened_is_healed_and_never_the_reverse, api_keys_are_the_same_by_the_key,
                    labels_and_ids_name_a_credential,
                    what_is_not_finished_did_not_happen;
                tokens: a_late_refresh_changes_nothing, what_a_refresh_leaves_out_is_kept,
                    a_latch_is_of_its_version, a_confirmation_lifts_what_only_a_refresh_can_end,
                    everything_survives_a_reopening, a_closed_database_takes_nothing_more_and_has_everything,
                    no_debug_output_shows_a_secret;
                refreshing: one_that_comes_too_late_changes_nothing, an_intent_is_held_until_its_deadline,
                    an_answer_is_stored_whoever_holds_the_lease_now, one_token_request_for_each_client,
                    every_end_frees_the_turn, doubt_lasts_until_an_answer,
                    failures_count_for_their_token_and_outlive_a_restart, a_clock_that_was_ahead_is_healed;
                ownership: a_spent_refresh_token_never_comes_back,
                    a_backup_brings_no_spent_token_of_what_was_removed,
                    a_login_of_our_own_always_counts_and_keeps_the_way_back, it_is_given_up_and_taken_back,
                    it_is_given_up_once_before_it_is_forgotten, nobody_begins_a_refresh_of_what_is_not_ours,
                    whoever_plans_refreshes_is_told_of_every_change;
                selections: an_order_is_kept_and_names_what_it_does_not_know, an_operators_choice_lasts,
                    an_import_chooses_where_nobody_has;
                egresses: a_rule_lasts_and_outlives_new_tokens, a_login_comes_in_with_its_rule,
                    a_backup_carries_it_and_replaces_none;
                workspaces: what_was_told_stays_when_it_cannot_be_asked, it_is_the_accounts_and_one_asks;
                quotas: windows_are_known_by_limit_and_length, what_was_told_later_stays,
                    a_window_is_unused_after_its_reset_and_then_forgotten;
                recent: another_processs_write_is_seen_at_once, an_operators_choice_is_seen_at_once;
                rests: backoff_doubles_and_starts_anew, a_rest_never_ends_early, rests_go_with_their_credential,
                    limits_of_several_windows_stand_beside_each_other;
                keys: a_key_is_found_by_its_hash_until_it_is_revoked, names_are_unique_among_live_keys,
                    uses_only_move_forward, limits_are_kept_and_a_rotation_keeps_the_key;
                key_usage: each_day_counts_for_itself, a_report_counts_once,
                    a_count_of_a_key_that_is_not_there_is_passed_over;
                audits: the_newest_come_first_and_filters_hold, what_is_old_is_forgotten_in_time;
                writers: two_writers_lose_nothing, one_of_two_refreshes_wins, readers_see_whole_changes,
                    a_dropped_transaction_leaves_nothing;
                rekeying: everything_opens_before_during_and_after, writers_go_on, a_change_can_be_repeated;
                key_changes: another_process_goes_on_under_the_new_key, several_processes_change_it_in_turns,
                    nothing_is_spent_under_a_key_that_cannot_be_learned, a_refresh_under_way_holds_a_change_up,
                    a_start_meanwhile_takes_no_key_away;
                contradictions: time_wins_over_versions, another_processs_refresh_is_left_alone,
                    what_no_list_could_show_stays_out;
                snapshots: an_empty_database_takes_everything, newer_tokens_stay, versions_tell_within_one_database,
                    a_dry_run_changes_nothing, keys_stay_as_they_are_here, labels_in_keys_follow,
                    what_an_older_version_does_not_know, api_keys_are_never_unconfirmed, a_refresh_under_way_is_left_alone;
                restoring: a_spent_token_never_comes_in, what_is_spent_there_is_spent_here,
                    what_was_given_up_stays_given_up, an_operators_choice_stays, limits_and_rotations_come_along,
                    a_rotated_key_stays_as_it_is_here, the_day_of_a_key_goes_on,
                    no_more_spent_tokens_are_kept_than_can_come_back;
            }
        }
    };
    (@ $engine:ty; $($topic:ident: $($case:ident),+;)+) => { $(
        mod $topic { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let engine = <$engine as crate::store::conformance::Engine>::new().await;
                Box::pin(crate::store::conformance::$topic::$case(&engine)).await;
            }
        )+ }
    )+ };
}
use conformance;

/// A login of `account` with the tokens `a-<tokens>` and `r-<tokens>`.
fn login(account: &str, tokens: &str, expires_at: i64) -> NewCredential {
    let text = |kind: &str| Some(SecretString::from(format!("{kind}-{tokens}")));
    NewCredential {
        label: "main".into(),
        provider: "openai-codex".into(),
        kind: Kind::OAuth,
        issuer: Some("https://auth.openai.com".into()),
        client_id: None,
        account_id: Some(account.into()),
        email: Some("A@example.com".into()),
        plan: None,
        user_id: None,
        fedramp: false,
        source: Source::Codex,
        secrets: Secrets::Present { access: text("a"), refresh: text("r"), id_token: None, api_key: None },
        extra: json!({ "login_owner_id": "kept" }),
        access_expires_at: Some(expires_at),
        last_refresh: Some(NOW_S),
        borrowed: false,
        profile: Some("tokens".into()),
    }
}

/// An API key.
fn api_key(key: &str) -> NewCredential {
    NewCredential {
        kind: Kind::ApiKey,
        provider: "openai".into(),
        secrets: Secrets::Present { access: None, refresh: None, id_token: None, api_key: Some(key.into()) },
        ..login("acct", "-", 0)
    }
}

/// Stores a credential and gives it as stored.
async fn put(store: &Store, new: &NewCredential) -> Credential {
    let (label, _) = store.upsert_credential(new, false).await.expect("stored");
    named(store, &label).await
}

async fn named(store: &Store, label: &str) -> Credential {
    store.credential_by_label(label).await.expect("read").expect("there")
}

/// Asks to refresh `credential` with a lease of a second.
async fn begin(store: &Store, credential: &Credential, owner: &str) -> Begun {
    store.begin_refresh(credential, "client", owner, 1000).await.expect("asked")
}

/// The intent to refresh `credential`, which nobody else has.
async fn intent(store: &Store, credential: &Credential, owner: &str) -> Intent {
    match begin(store, credential, owner).await {
        Begun::Taken(intent) => intent,
        other => panic!("{other:?}"),
    }
}

/// Refreshes the credential with this label, and gives its new version.
async fn refresh(store: &Store, label: &str, tokens: &RefreshedTokens) -> i32 {
    let intent = intent(store, &named(store, label).await, "somebody").await;
    store.store_refreshed(&intent, tokens, None).await.expect("stored").expect("it spent the token that is here")
}

/// A usage limit for all models that was met at `now_ms`.
fn usage_limit(now_ms: i64, wait_ms: i64) -> Rest {
    Rest {
        model: None,
        kind: RestKind::UsageLimit,
        window_s: 18_000,
        limit: "codex".into(),
        began_ms: now_ms,
        until_ms: now_ms + wait_ms,
    }
}

/// Its access token, or API key, and its refresh token.
fn tokens_of(credential: &Credential) -> (Option<&str>, Option<&str>) {
    let secrets = &credential.secrets;
    (secrets.upstream().map(|secret| secret.expose_secret()), secrets.refresh().map(|secret| secret.expose_secret()))
}
