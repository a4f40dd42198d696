//! Which credential a session keeps to, what limits do to it, and what usage requests undo.

use codex_sim::SeedLogin;
use domain::Reason;
use proto::auth::v1 as pb;
use proto::common::v1::QuotaWindow;
use service_kit::{UpstreamUrl, failure_from_proto, failure_from_status};

use crate::support::{Peer, Rig, codex};

const PROVIDER: &str = "openai-codex";
const HOUR: i64 = 3600;

async fn with(rig: &Rig, labels: &[&str]) -> Peer {
    let peer = rig.start().await;
    for label in labels {
        rig.import(&peer, SeedLogin::account(*label), label).await;
    }
    peer
}

/// What a call of `session` with `model` is bound to, or the reason why not.
async fn bound(peer: &Peer, session: &str, model: &str) -> String {
    let wanted = pb::Wanted { session: session.into(), upstream_model: model.into(), ..codex() };
    let request = pb::CheckBindingRequest { wanted: Some(wanted), ..Default::default() };
    let answer = peer.binding().check_binding(request).await.expect("answered").into_inner();
    answer.bound.map(|b| b.credential).unwrap_or_else(|| answer.failure.expect("a failure").reason)
}

async fn order(peer: &Peer, labels: &[&str], by_session: bool) -> Result<(), domain::Failure> {
    let credentials = labels.iter().map(|label| (*label).to_owned()).collect();
    let request = pb::OrderCredentialsRequest { provider: PROVIDER.into(), credentials, by_session };
    let answer = peer.credentials().order_credentials(request).await;
    answer.map(|_| ()).map_err(|status| failure_from_status(&status, "auth-svc"))
}

async fn selections(peer: &Peer) -> Vec<(String, String)> {
    let answer = peer.credentials().list_credentials(pb::ListCredentialsRequest::default()).await;
    let selections = answer.expect("listed").into_inner().selections;
    selections.into_iter().map(|selection| (selection.provider, selection.mode)).collect()
}

/// A usage limit of one window, met with `gpt-5.5`.
async fn limit(peer: &Peer, bound: &pb::Bound, window_seconds: i32, resets_at: i64) {
    let request = pb::ReportOutcomeRequest {
        credential_id: bound.credential_id.clone(),
        version: bound.version,
        reason: "USAGE_LIMIT".into(),
        upstream_model: "gpt-5.5".into(),
        resets_at: Some(resets_at as f64),
        limit: Some("codex".into()),
        window_seconds: Some(window_seconds),
        ..Default::default()
    };
    peer.binding().report_outcome(request).await.expect("taken");
}

fn window(window_seconds: i32, used_percent: f64, resets_at: i64) -> QuotaWindow {
    let resets_at = Some(resets_at as f64);
    QuotaWindow { limit: "codex".into(), window_seconds, used_percent, resets_at, limit_name: None }
}

async fn report(peer: &Peer, batch_id: &str, usage: pb::CredentialUsage) {
    let request = pb::ReportUsageRequest { batch_id: batch_id.into(), credentials: vec![usage], keys: Vec::new() };
    peer.binding().report_usage(request).await.expect("taken");
}

async fn claim(peer: &Peer) -> (Vec<String>, f64) {
    let answer = peer.binding().claim_probes(pb::ClaimProbesRequest {}).await.expect("answered").into_inner();
    (answer.probes.into_iter().map(|probe| probe.credential).collect(), answer.next_in_seconds)
}

#[tokio::test]
async fn a_session_keeps_to_its_credential_until_an_operator_orders() {
    let rig = Rig::new().await;
    let peer = with(&rig, &["a", "b", "c"]).await;
    assert_eq!(selections(&peer).await, [(PROVIDER.to_owned(), "session".to_owned())]);
    let sessions: Vec<String> = (0..24).map(|i| format!("session-{i}")).collect();
    let mut homes = Vec::new();
    for session in &sessions {
        homes.push(bound(&peer, session, "gpt-5.5").await);
    }
    for label in ["a", "b", "c"] {
        assert!(homes.iter().any(|home| home == label), "{homes:?}");
    }
    assert_eq!(bound(&peer, "", "gpt-5.5").await, "a", "without a session the order counts");
    // Also over a restart, and whatever the order.
    drop(peer);
    let peer = rig.start().await;
    order(&peer, &["c", "b", "a"], false).await.expect("ordered");
    assert_eq!(bound(&peer, &sessions[0], "gpt-5.5").await, "c");
    assert_eq!(selections(&peer).await, [(PROVIDER.to_owned(), "order".to_owned())]);
    order(&peer, &[], true).await.expect("spread again");
    for (session, home) in sessions.iter().zip(&homes) {
        assert_eq!(&bound(&peer, session, "gpt-5.5").await, home);
    }
    // Without `b` only its own sessions move.
    let request = pb::RemoveCredentialRequest { credential: "b".into() };
    peer.credentials().remove_credential(request).await.expect("removed");
    for (session, home) in sessions.iter().zip(&homes) {
        let now = bound(&peer, session, "gpt-5.5").await;
        assert!(if home == "b" { now != "b" } else { now == *home }, "{session}: {home} -> {now}");
    }
    for (labels, by_session) in [([].as_slice(), false), (&["a"], true)] {
        let refused = order(&peer, labels, by_session).await.expect_err("refused");
        assert_eq!((refused.reason, refused.param.as_deref()), (Reason::RequestInvalid, Some("credentials")));
    }
}

#[tokio::test]
async fn an_agents_own_list_stands_above_the_session() {
    let rig = Rig::new().await;
    let peer = with(&rig, &["a", "b"]).await;
    for i in 0..16 {
        let credentials = vec!["b".to_owned(), "a".to_owned()];
        let wanted = pb::Wanted { session: format!("s{i}"), credentials, ..codex() };
        let request = pb::CheckBindingRequest { wanted: Some(wanted), ..Default::default() };
        let answer = peer.binding().check_binding(request).await.expect("answered").into_inner();
        assert_eq!(answer.bound.map(|b| b.credential).as_deref(), Some("b"));
    }
}

#[tokio::test]
async fn a_usage_limit_rests_one_model_and_says_which_window() {
    let rig = Rig::new().await;
    let peer = with(&rig, &["main"]).await;
    let main = peer.bound().await;
    let now = rig.clock.now_s();
    limit(&peer, &main, 18_000, now + HOUR).await;
    limit(&peer, &main, 604_800, now + 50 * HOUR).await;
    let failure = peer.refused().await;
    assert_eq!((failure.reason, failure.resets_at), (Reason::UsageLimit, Some(now + 50 * HOUR)));
    assert_eq!(failure.plan_type.as_deref(), Some("plus"));
    assert!(failure.message.contains("the 7 d window"), "{failure}");
    assert_eq!(bound(&peer, "", "gpt-5.4-mini").await, "main", "other models try for themselves");
    let shown = peer.list().await.remove(0);
    assert_eq!((shown.state.as_str(), shown.rest_until), ("resting", Some((now + 50 * HOUR) as f64)));
    assert!(shown.detail.is_some_and(|detail| detail.contains("for gpt-5.5") && detail.contains("the 5 h window")));
    rig.clock.advance_ms(50 * HOUR * 1000);
    assert_eq!(bound(&peer, "", "gpt-5.5").await, "main");
}

#[tokio::test]
async fn a_quota_is_kept_by_window_and_shown_after_its_reset_as_unused() {
    let rig = Rig::new().await;
    let peer = with(&rig, &["main"]).await;
    let id = peer.bound().await.credential_id;
    let now = rig.clock.now_s();
    let usage = |windows, at: i64| pb::CredentialUsage {
        credential_id: id.clone(),
        observed_at: at as f64,
        windows,
        plan: Some("pro".into()),
        ..Default::default()
    };
    let weekly = window(604_800, 92.0, now + 72 * HOUR);
    report(&peer, "1", usage(vec![weekly.clone(), window(18_000, 31.0, now + HOUR)], now)).await;
    let shown = peer.list().await.remove(0);
    assert_eq!(shown.quota, [window(18_000, 31.0, now + HOUR), weekly.clone()], "the shortest first");
    assert_eq!((shown.quota_observed_at, shown.plan.as_deref()), (Some(now as f64), Some("pro")));
    // What comes again, or comes late, changes nothing; what is not told is kept.
    report(&peer, "1", usage(vec![weekly.clone(), window(18_000, 31.0, now + HOUR)], now)).await;
    report(&peer, "2", usage(vec![window(18_000, 20.0, now + HOUR)], now - 5)).await;
    rig.clock.advance_ms(30_000);
    report(&peer, "3", usage(vec![window(18_000, 31.0, now + HOUR + 9)], now + 30)).await;
    assert_eq!(peer.list().await.remove(0).quota, shown.quota, "and a reset that moves a little is no news");
    rig.clock.advance_ms(40_000);
    report(&peer, "4", usage(vec![window(18_000, 31.0, now + HOUR)], now + 70)).await;
    assert_eq!(peer.list().await.remove(0).quota_observed_at, Some((now + 70) as f64), "but heard of it was");
    rig.clock.advance_ms(HOUR * 1000);
    assert_eq!(peer.list().await.remove(0).quota, [window(18_000, 0.0, now + HOUR), weekly.clone()]);
    rig.clock.advance_ms(5 * HOUR * 1000);
    assert_eq!(peer.list().await.remove(0).quota, [weekly]);

    let broken = QuotaWindow { used_percent: f64::NAN, ..window(18_000, 0.0, now) };
    let nameless = QuotaWindow { limit: String::new(), ..window(18_000, 1.0, now) };
    let at = rig.clock.now_s();
    report(&peer, "5", usage(vec![broken, nameless, window(-1, 1.0, at), window(60, 1e9, at + 60)], at)).await;
    assert_eq!(peer.list().await.remove(0).quota[0], window(60, 1000.0, at + 60), "what is none is not taken");
    let gone = pb::CredentialUsage { credential_id: "gone".into(), ..usage(vec![window(60, 1.0, at)], at) };
    report(&peer, "6", gone).await;
    let nameless = pb::ReportUsageRequest::default();
    let refused = peer.binding().report_usage(nameless).await.expect_err("no id");
    assert_eq!(failure_from_status(&refused, "auth-svc").param.as_deref(), Some("batch_id"));
}

#[tokio::test]
async fn a_limit_is_asked_after_and_ends_early() {
    let rig = Rig::new().await;
    let peer = with(&rig, &["main"]).await;
    let main = peer.bound().await;
    assert_eq!(claim(&peer).await, (Vec::new(), 60.0), "calls will tell of the quota, if there are any");
    let now = rig.clock.now_s();
    limit(&peer, &main, 18_000, now + 3 * HOUR).await;
    assert_eq!(claim(&peer).await, (Vec::new(), 60.0));
    let mut waits = Vec::new();
    for _ in 0..8 {
        let before = rig.clock.now_ms();
        let (mut claimed, mut next) = claim(&peer).await;
        while claimed.is_empty() {
            assert!((1.0..=60.0).contains(&next), "{next}");
            rig.clock.advance_ms((next * 1000.0) as i64);
            (claimed, next) = claim(&peer).await;
        }
        assert_eq!(claim(&peer).await.0, Vec::<String>::new(), "each is handed out once");
        waits.push((rig.clock.now_ms() - before) / 60_000);
    }
    assert_eq!(waits, [1, 2, 4, 8, 15, 15, 15, 15]);
    assert_eq!(peer.refused().await.reason, Reason::UsageLimit);

    let at = rig.clock.now_s();
    let found = |batch: &'static str, used, allowed| {
        let windows = vec![window(18_000, used, at + HOUR), window(604_800, 50.0, at + 90 * HOUR)];
        let (credential_id, observed_at) = (main.credential_id.clone(), at as f64);
        let usage = pb::CredentialUsage { credential_id, observed_at, windows, allowed, ..Default::default() };
        (batch, pb::CredentialUsage { probe: true, ..usage })
    };
    let (batch, full) = found("1", 100.0, Some(false));
    report(&peer, batch, full).await;
    assert_eq!(peer.refused().await.resets_at, Some(at + HOUR), "the provider has another reset now");
    let (batch, headers) = found("2", 1.0, None);
    report(&peer, batch, pb::CredentialUsage { probe: false, ..headers }).await;
    assert_eq!(peer.refused().await.reason, Reason::UsageLimit, "the headers of a call end nothing");
    let (batch, free) = found("3", 1.0, Some(true));
    let early = pb::CredentialUsage { observed_at: (now - 1) as f64, ..free.clone() };
    report(&peer, "early", early).await;
    assert_eq!(peer.refused().await.reason, Reason::UsageLimit, "it was said before the limit was met");
    report(&peer, batch, free).await;
    assert_eq!(peer.bound().await.credential, "main");
    assert_eq!(claim(&peer).await.0, Vec::<String>::new());
}

#[tokio::test]
async fn at_the_reset_it_is_asked_once_and_a_failure_waits() {
    let rig = Rig::new().await;
    let peer = with(&rig, &["main"]).await;
    let main = peer.bound().await;
    limit(&peer, &main, 18_000, rig.clock.now_s() + 90).await;
    rig.clock.advance_ms(60_000);
    let (claimed, next) = claim(&peer).await;
    assert_eq!(claimed, ["main"]);
    assert!(next > 28.0 && next <= 30.0, "right at the reset: {next}");
    rig.clock.advance_ms(30_000);
    assert_eq!(bound(&peer, "", "gpt-5.5").await, "main", "the rest is over by itself");
    assert_eq!(claim(&peer).await.0, ["main"]);
    let failure = proto::common::v1::Failure { retry_after_seconds: Some(600.0), ..Default::default() };
    let failed = pb::CredentialUsage {
        credential_id: main.credential_id.clone(),
        observed_at: rig.clock.now_s() as f64,
        windows: vec![window(604_800, 12.0, rig.clock.now_s() + HOUR)],
        probe: true,
        failure: Some(failure),
        ..Default::default()
    };
    report(&peer, "1", failed).await;
    assert_eq!(peer.list().await.remove(0).quota.len(), 1, "what a refusal's headers say is taken");
    for _ in 0..9 {
        rig.clock.advance_ms(60_000);
        assert_eq!(claim(&peer).await.0, Vec::<String>::new());
    }
    rig.clock.advance_ms(21 * 60_000);
    assert_eq!(claim(&peer).await.0, ["main"], "nothing was heard for half an hour");
}

#[tokio::test]
async fn a_quota_that_was_not_heard_of_is_asked_for_under_a_seal_for_the_account() {
    let rig = Rig::new().await;
    let peer = with(&rig, &["main", "idle"]).await;
    rig.import(&peer, crate::support::expired("late"), "late").await;
    let main = peer.bound().await;
    let heard = |at: i64, used| pb::CredentialUsage {
        credential_id: main.credential_id.clone(),
        observed_at: at as f64,
        windows: vec![window(18_000, used, at + HOUR)],
        ..Default::default()
    };
    report(&peer, "1", heard(rig.clock.now_s(), 1.0)).await;
    claim(&peer).await;
    rig.clock.advance_ms(60_000);
    let request = || pb::ClaimProbesRequest {};
    let answer = peer.binding().claim_probes(request()).await.expect("answered").into_inner();
    let [probe] = answer.probes.as_slice() else { panic!("{answer:?}") };
    assert_eq!((probe.credential.as_str(), probe.target.as_str()), ("idle", "chatgpt-codex"), "not an expired one");
    let sealed = probe.sealed.as_ref().expect("sealed");
    let base = UpstreamUrl::parse(&rig.sim.codex_base_url()).expect("a URL");
    let backend = UpstreamUrl::parse(rig.sim.codex_base_url().trim_end_matches("/codex")).expect("a URL");
    let now = rig.clock.now_ms();
    assert!(rig.seal_key.open(sealed, &probe.call_id, &base, now).is_err(), "it makes no calls");
    rig.seal_key.open(sealed, &probe.call_id, &backend, now).expect("opens");
    assert_eq!(rig.sim.state().token_requests().len(), 0, "no refresh for it");

    rig.clock.advance_ms(30 * 60_000);
    claim(&peer).await;
    rig.clock.advance_ms(60_000);
    assert!(claim(&peer).await.0.contains(&"main".to_owned()), "half an hour is long");
    drop(peer);
    let mut config = rig.config.clone();
    config.auth.usage_refresh = config::Seconds::new(0);
    let rig = Rig { config, ..rig };
    let peer = rig.start().await;
    claim(&peer).await;
    rig.clock.advance_ms(HOUR * 1000);
    assert_eq!(claim(&peer).await, (Vec::new(), 60.0), "switched off");
}

#[tokio::test]
async fn the_earliest_reset_of_all_is_the_answer() {
    let rig = Rig::new().await;
    let peer = with(&rig, &["a", "b", "dead"]).await;
    let now = rig.clock.now_s();
    for (label, hours) in [("a", 9), ("b", 4)] {
        assert_eq!(bound(&peer, "", "gpt-5.5").await, label);
        limit(&peer, &peer.bound().await, 18_000, now + hours * HOUR).await;
    }
    // It is refreshed once, and what that brings is rejected, too.
    for version in [1, 2] {
        let bound = peer.bound().await;
        assert_eq!((bound.credential.as_str(), bound.version), ("dead", version));
        peer.report(&bound, "CREDENTIAL_REJECTED", None).await;
    }
    let failure = peer.refused().await;
    assert_eq!((failure.reason, failure.resets_at), (Reason::UsageLimit, Some(now + 4 * HOUR)));
    assert!(failure.next_step.contains("credential dead needs a refresh or a login"), "{}", failure.next_step);
    // Neither does a list that leaves most of them out change the reason, nor one that failed in this call.
    let wanted = pb::Wanted { key_credentials: vec!["a".into()], ..codex() };
    let request = pb::BindRequest { wanted: Some(wanted), ..pb::BindRequest::default() };
    let answer = peer.binding().bind(request).await.expect("answered").into_inner();
    let failure = failure_from_proto(&answer.failure.expect("refused"));
    assert_eq!((failure.reason, failure.resets_at), (Reason::UsageLimit, Some(now + 9 * HOUR)));
}
