//! The rules as a table.

use proto::auth::v1 as pb;
use proto::common::v1::QuotaWindow;
use service_kit::Severity::{Error, Ok, Warning};
use service_kit::{Finding, Severity};

use super::credential::{Facts, findings};
use super::*;
use crate::store::{Doubt, Kind, Latch, LatchKind};

const NOW: i64 = 1_900_000_000;
const HOUR: i64 = 3600;

fn facts() -> Facts {
    Facts {
        kind: Kind::OAuth,
        expires_at: Some(NOW + 100 * HOUR),
        made_at: Some(NOW - HOUR),
        ahead_at: None,
        latch: None,
        doubt: None,
        under_way: None,
    }
}

fn shown() -> pb::Credential {
    pb::Credential {
        label: "main".into(),
        kind: "oauth".into(),
        state: "ready".into(),
        issuer: Some("https://auth.openai.com".into()),
        account_id: Some("acct-1".into()),
        email: Some("person@example.com".into()),
        expires_at: Some((NOW + 100 * HOUR) as f64),
        ..pb::Credential::default()
    }
}

/// The one finding about a credential; every text is checked for what it must not hold.
#[track_caller]
fn only(facts: &Facts, shown: &pb::Credential, severity: Severity, part: &str) -> Finding {
    let found = findings(facts, shown, NOW);
    let [one] = found.as_slice() else { panic!("{found:?}") };
    let text = one.to_string();
    assert_eq!(one.severity, severity, "{text}");
    assert!(text.contains(part), "{part:?} is not in {text}");
    assert!(!text.contains("acct-1") && !text.contains("person@example.com"), "{text}");
    assert_eq!(one.next_step.is_empty(), severity == Ok, "{text}");
    one.clone()
}

#[test]
fn one_that_is_well_says_until_when() {
    only(&facts(), &shown(), Ok, "credential main: ready; access token good until 2030-03-21T21:46:40Z (in 4 d)");
    let next = pb::Credential { next_refresh: Some((NOW + 50 * HOUR) as f64), ..shown() };
    only(&facts(), &next, Ok, "refreshed next at 2030-03-19T19:46:40Z (in 2 d)");
    let key = Facts { kind: Kind::ApiKey, expires_at: None, made_at: None, ..facts() };
    only(&key, &pb::Credential { kind: "api-key".into(), expires_at: None, ..shown() }, Ok, "credential main: ready");
}

#[test]
fn what_fails_now_is_an_error_with_its_reason() {
    let latched = |kind| {
        let latch = Some(Latch { kind, detail: "the refresh token was used twice".into() });
        let shown = pb::Credential { state: "needs_login".into(), detail: Some("longer".into()), ..shown() };
        only(&Facts { latch, ..facts() }, &shown, Error, "the refresh token was used twice")
    };
    let login = latched(LatchKind::NeedsLogin);
    assert_eq!(login.reason.as_deref(), Some("CREDENTIAL_NEEDS_LOGIN"));
    assert!(login.next_step.contains("switchboard login codex"), "{login}");
    assert_eq!(latched(LatchKind::Ended).reason, login.reason);
    let latch = Some(Latch { kind: LatchKind::Rejected, detail: "401".into() });
    let rejected = pb::Credential {
        state: "needs_login".into(),
        detail: Some("longer".into()),
        next_refresh: Some((NOW + HOUR) as f64),
        ..shown()
    };
    let found = only(
        &Facts { latch, ..facts() },
        &rejected,
        Error,
        "main: 401; it is refreshed once more at 2030-03-17T18:46:40Z (in 60 min)",
    );
    assert_eq!(found.reason.as_deref(), Some("CREDENTIAL_REJECTED"));
    assert!(found.next_step.starts_with("refresh it now: `switchboard credentials refresh main`"), "{found}");

    let state = |state: &str| pb::Credential { state: state.into(), detail: Some("why".into()), ..shown() };
    only(&facts(), &state("undecryptable"), Error, "cannot be opened: why");
    only(&facts(), &state("expired"), Error, "main: why");
    let failing = pb::Credential { refresh_failing_since: Some(NOW as f64), ..state("expired") };
    let found = only(&facts(), &failing, Error, "credentials refresh main");
    assert_eq!(found.reason.as_deref(), Some("IDENTITY_UNAVAILABLE"));
    let key = Facts { kind: Kind::ApiKey, ..facts() };
    only(&key, &state("needs_login"), Error, "switchboard login api-key");
}

#[test]
fn a_login_that_ends_is_a_warning_for_as_long_as_it_serves() {
    let latch = Some(Latch { kind: LatchKind::NeedsLogin, detail: "it was revoked elsewhere".into() });
    let due = pb::Credential {
        state: "login_due".into(),
        refresh_failing_since: Some((NOW - 2 * HOUR) as f64),
        refresh_problem: Some("longer".into()),
        ..shown()
    };
    let found =
        only(&Facts { latch, ..facts() }, &due, Warning, "(2 h ago): it was revoked elsewhere; calls work until");
    assert!(found.message.ends_with("2030-03-21T21:46:40Z (in 4 d)"), "{found}");
    assert!(found.next_step.contains("switchboard login codex"), "{found}");
    assert_eq!(found.reason.as_deref(), Some("CREDENTIAL_NEEDS_LOGIN"));
    let under_way = Some("a refresh was begun and has not ended".to_owned());
    only(&Facts { under_way, ..facts() }, &shown(), Warning, "a refresh was begun and has not ended");
}

#[test]
fn a_refresh_in_doubt_presses_when_its_access_token_is_about_to_end() {
    let doubt = Doubt { at_ms: (NOW - 3 * HOUR) * 1000, cause: Some("the connection was closed".into()) };
    let in_doubt = |ends_in_s| Facts { doubt: Some(doubt.clone()), expires_at: ends_in_s, ..facts() };
    let shown = |retry: i64| pb::Credential {
        refresh_failing_since: Some((NOW - 3 * HOUR) as f64),
        refresh_problem: Some("longer".into()),
        next_refresh: Some(retry as f64),
        ..shown()
    };
    let found =
        only(&in_doubt(Some(NOW + 100 * HOUR)), &shown(NOW + 99 * HOUR), Warning, "may be spent; calls work until");
    assert!(
        found.message.contains("sent at 2030-03-17T14:46:40Z brought no answer (the connection was closed)"),
        "{found}"
    );
    assert!(found.message.ends_with("2030-03-21T21:46:40Z (in 4 d)"), "{found}");
    for part in
        ["before 2030-03-21T20:46:40Z (in 4 d)", "switchboard login codex", "credentials refresh main`, which ends"]
    {
        assert!(found.next_step.contains(part), "{found}");
    }
    assert_eq!(found.reason.as_deref(), Some("CREDENTIAL_NEEDS_LOGIN"));

    only(&in_doubt(Some(NOW + 24 * HOUR + 1)), &shown(NOW + 23 * HOUR), Warning, "calls work until");
    only(&in_doubt(Some(NOW + 24 * HOUR)), &shown(NOW + 23 * HOUR), Error, "calls work until");
    let over = only(&in_doubt(Some(NOW)), &shown(NOW), Error, "its access token ended 2030-03-17T17:46:40Z");
    assert!(over.next_step.starts_with("log in again: `"), "{over}");
    only(&in_doubt(None), &shown(NOW), Error, "nothing tells how long its access token lives");
    let expired = pb::Credential { state: "expired".into(), detail: Some("why".into()), ..shown(NOW) };
    let expired = only(&in_doubt(Some(NOW)), &expired, Error, "main: why");
    assert!(expired.next_step.contains("which ends the login if its token is spent"), "{expired}");

    let stopped = Doubt { at_ms: NOW * 1000, cause: None };
    let stopped = Facts { doubt: Some(stopped), ..facts() };
    only(&stopped, &shown(NOW + HOUR), Warning, "auth-svc was stopped at 2030-03-17T17:46:40Z between");
    let borrowed = pb::Credential { borrowed: true, refresh_failing_since: None, ..shown(NOW + HOUR) };
    only(&in_doubt(Some(NOW + 100 * HOUR)), &borrowed, Ok, "ready");
}

#[test]
fn what_will_fail_is_a_warning() {
    let failing = pb::Credential {
        refresh_failing_since: Some((NOW - 3 * HOUR) as f64),
        refresh_problem: Some("https://auth.openai.com answered 503".into()),
        ..shown()
    };
    let found = only(&facts(), &failing, Warning, "(3 h ago): https://auth.openai.com answered 503; calls work until");
    assert!(found.message.ends_with("2030-03-21T21:46:40Z (in 4 d)"), "{found}");

    let borrowed = pb::Credential { borrowed: true, ..shown() };
    let ends = Facts { expires_at: Some(NOW + 23 * HOUR), ..facts() };
    only(&ends, &borrowed, Warning, "it is borrowed");
    only(&facts(), &borrowed, Ok, "ready");
    let exported = pb::Credential { exported_at: Some(NOW as f64), ..shown() };
    only(&ends, &exported, Warning, "handed back by an export");
    only(&facts(), &exported, Ok, "handed back by an export");
    only(&ends, &shown(), Ok, "ready");

    let unconfirmed = pb::Credential { unconfirmed: true, state: "unconfirmed".into(), ..shown() };
    only(&facts(), &unconfirmed, Warning, "switchboard credentials confirm main");
    let resting = pb::Credential { state: "resting".into(), detail: Some("it rests until noon".into()), ..shown() };
    only(&facts(), &resting, Warning, "it rests until noon");
    only(&Facts { made_at: Some(NOW + 301), ..facts() }, &shown(), Warning, "clock");
    only(&Facts { made_at: Some(NOW + 299), ..facts() }, &shown(), Ok, "ready");
    only(&Facts { ahead_at: Some(NOW + 20 * 24 * HOUR), ..facts() }, &shown(), Warning, "clock was ahead");
    only(&Facts { ahead_at: Some(NOW + 299), ..facts() }, &shown(), Ok, "ready");

    let window = |used_percent| QuotaWindow {
        limit: "codex".into(),
        window_seconds: 18_000,
        used_percent,
        resets_at: Some((NOW + HOUR) as f64),
        limit_name: None,
    };
    let used = |percent| pb::Credential { quota: vec![window(1.0), window(percent)], ..shown() };
    only(
        &facts(),
        &used(93.4),
        Warning,
        "93 % of limit codex over 5 h are used, resets 2030-03-17T18:46:40Z (in 60 min)",
    );
    only(&facts(), &used(89.9), Ok, "ready");
}

#[test]
fn the_gauges_name_credentials_by_their_label_alone() {
    let credential = pb::Credential {
        state: "needs_login".into(),
        refresh_failing_since: Some((NOW - 60) as f64),
        quota: vec![QuotaWindow {
            limit: "codex".into(),
            window_seconds: 604_800,
            used_percent: 50.0,
            ..Default::default()
        }],
        ..shown()
    };
    let page = telemetry::metrics::render(&gauges::samples(&[credential], 2, NOW));
    for line in [
        "switchboard_credential_state{credential=\"main\",state=\"needs_login\"} 1",
        "switchboard_credential_state{credential=\"main\",state=\"ready\"} 0",
        "switchboard_credential_expires_seconds{credential=\"main\"} 360000",
        "switchboard_refresh_failing_seconds{credential=\"main\"} 60",
        "switchboard_quota_used_ratio{credential=\"main\",limit=\"codex\",window=\"604800\"} 0.5",
        "switchboard_pending_writes 2",
    ] {
        assert!(page.lines().any(|have| have == line), "{line} is not in\n{page}");
    }
    assert!(!page.contains("acct-1") && !page.contains("person@example.com"), "{page}");
}

#[test]
fn the_default_model_and_its_fallbacks_need_their_providers() {
    let mut config = Config::default();
    config.defaults.model = "codex/gpt-5.5".into();
    config.defaults.fallbacks = vec!["openai-codex/gpt-5".into(), "openai/gpt-5.5".into(), "bare".into()];
    let needed: Vec<_> = needed(&config).into_iter().map(|n| (n.provider, n.model, n.first)).collect();
    assert_eq!(
        needed,
        [("openai-codex".into(), "codex/gpt-5.5".into(), true), ("openai".into(), "openai/gpt-5.5".into(), false)]
    );
}

#[test]
fn files_that_others_can_read_are_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("tempdir");
    let file = |name: &str, mode| {
        let path = dir.path().join(name);
        std::fs::write(&path, "x").expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        path
    };
    let database = file("switchboard.db", 0o600);
    let places = Places {
        database_key: Some(file("database.key", 0o640)),
        seal_key: Some(dir.path().join("gone.key")),
        agent_key: dir.path().join("agent.key"),
    };
    let found = places.findings(&database);
    let severities: Vec<_> = found.iter().map(|finding| finding.severity).collect();
    assert_eq!(severities, [Ok, Warning, Warning], "{found:?}");
    assert!(found[1].to_string().contains("database.key has mode 0640") && found[1].next_step.contains("chmod 600"));
    assert!(found[2].message.contains("gone.key"), "{}", found[2]);
    let open = file("open.db", 0o644);
    assert_eq!(places.findings(&open)[0].severity, Warning);
}
