//! The rules as a table, and the promise that status and calls agree, over random states of the store.

mod limits;
mod living;
mod selection;

use domain::CandidateReason as Why;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use service_kit::SecretKey;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::judge::{Route, Verdict, judge};
use super::*;
use crate::identity::Identity;
use crate::refresh::Notes;
use crate::store::{Latch, NewCredential, Rest, RestKind, Secrets, Source, create};

const NOW_S: i64 = 1_900_000_000;
const NOW_MS: i64 = NOW_S * 1000;
/// Nothing listens there: a refresh fails at once, for now.
const IDENTITY: &str = "http://127.0.0.1:9";
const DAY: i64 = 24 * 3600;

fn secret(text: &str) -> Option<SecretString> {
    Some(SecretString::from(text))
}

pub(crate) fn oauth() -> Credential {
    Credential {
        id: "id".into(),
        label: "main".into(),
        provider: "openai-codex".into(),
        kind: Kind::OAuth,
        issuer: Some(IDENTITY.into()),
        client_id: None,
        account_id: Some("acct".into()),
        email: None,
        plan: None,
        user_id: None,
        fedramp: false,
        source: Source::Login,
        profile: None,
        borrowed: false,
        version: 1,
        access_expires_at: Some(NOW_S + 5 * DAY),
        last_refresh: Some(NOW_S - DAY),
        recovery_version: None,
        unconfirmed: false,
        egress: crate::store::EgressRule::default(),
        workspace: None,
        latch: None,
        rests: Vec::new(),
        refresh: Default::default(),
        secrets: Secrets::Present { access: secret("a"), refresh: secret("r"), id_token: None, api_key: None },
        exported_at: None,
    }
}

fn api_key() -> Credential {
    let secrets = Secrets::Present { access: None, refresh: None, id_token: None, api_key: secret("sk") };
    Credential { kind: Kind::ApiKey, issuer: None, access_expires_at: None, last_refresh: None, secrets, ..oauth() }
}

fn rest(kind: RestKind, model: Option<&str>, until_ms: i64) -> Rest {
    Rest { model: model.map(str::to_owned), kind, window_s: 0, limit: String::new(), began_ms: NOW_MS, until_ms }
}

fn subscription() -> Route<'static> {
    Route {
        provider: "openai-codex",
        model: "gpt-5.5",
        realm: "subscription",
        kind: Kind::OAuth,
        target: "chatgpt-codex",
        codex: true,
        identity: IDENTITY,
        margin_s: 300,
    }
}

fn platform() -> Route<'static> {
    Route {
        provider: "openai",
        realm: "api-key",
        kind: Kind::ApiKey,
        target: "openai-api",
        codex: false,
        ..subscription()
    }
}

fn reason(credential: &Credential, route: &Route<'_>) -> Option<Why> {
    match judge(credential, None, route, NOW_MS) {
        Verdict::No(refusal) => Some(refusal.reason),
        Verdict::Usable | Verdict::Refresh { .. } => None,
    }
}

#[test]
fn what_never_fits() {
    assert_eq!(reason(&oauth(), &subscription()), None);
    assert_eq!(reason(&api_key(), &platform()), None);
    assert_eq!(reason(&api_key(), &subscription()), Some(Why::WrongRealm));
    assert_eq!(reason(&oauth(), &platform()), Some(Why::WrongRealm));
    let elsewhere = Route { codex: false, target: "local", ..subscription() };
    assert_eq!(reason(&oauth(), &elsewhere), Some(Why::WrongRealm), "a login goes to the Codex backend only");
    let codex_key = Route { codex: true, ..platform() };
    assert_eq!(reason(&api_key(), &codex_key), Some(Why::WrongRealm), "a key does not go to the Codex backend");
    for issuer in [None, Some("https://evil.example".to_owned()), Some("http://127.0.0.1:10".to_owned())] {
        assert_eq!(reason(&Credential { issuer, ..oauth() }, &subscription()), Some(Why::WrongIssuer));
    }
    let same = Some(format!("{IDENTITY}/"));
    assert_eq!(reason(&Credential { issuer: same, ..oauth() }, &subscription()), None);
}

#[test]
fn what_passes_or_can_be_mended() {
    let undecryptable = Secrets::Undecryptable { detail: "no key".into() };
    assert_eq!(reason(&Credential { secrets: undecryptable, ..oauth() }, &subscription()), Some(Why::Undecryptable));
    let latch = |kind| Some(Latch { kind, detail: "dead".into() });
    let fresh = Credential { last_refresh: Some(NOW_S - 3599), ..oauth() };
    for (kind, expected) in [
        (LatchKind::NeedsLogin, None),
        (LatchKind::Rejected, Some(Why::NeedsLogin)),
        (LatchKind::Ended, Some(Why::NeedsLogin)),
    ] {
        let credential = Credential { latch: latch(kind), ..fresh.clone() };
        assert_eq!(reason(&credential, &subscription()), expected, "{kind}");
    }
    assert_eq!(
        reason(&Credential { latch: latch(LatchKind::Rejected), ..api_key() }, &platform()),
        Some(Why::NeedsLogin)
    );
    let resting = |kind, model: Option<&str>, ms| Credential { rests: vec![rest(kind, model, NOW_MS + ms)], ..oauth() };
    let table = [
        (resting(RestKind::UsageLimit, None, 1), Some(Why::Resting)),
        (resting(RestKind::UsageLimit, None, 0), None),
        (resting(RestKind::RateLimited, Some("gpt-5.5"), 1), Some(Why::Resting)),
        (resting(RestKind::RateLimited, Some("gpt-5.4-mini"), 1), None),
        (resting(RestKind::NotEntitled, Some("gpt-5.5"), 1), Some(Why::NotEntitled)),
        (resting(RestKind::NotEntitled, Some("gpt-5.4-mini"), 1), None),
    ];
    for (credential, expected) in table {
        assert_eq!(reason(&credential, &subscription()), expected, "{:?}", credential.rests);
    }
}

#[test]
fn when_a_token_is_refreshed() {
    let at = |exp: Option<i64>, last: Option<i64>| Credential { access_expires_at: exp, last_refresh: last, ..oauth() };
    let verdict = |credential: &Credential| judge(credential, None, &subscription(), NOW_MS);
    let last = Some(NOW_S - DAY);
    assert_eq!(verdict(&at(Some(NOW_S + 301), last)), Verdict::Usable);
    assert_eq!(verdict(&at(Some(NOW_S + 300), last)), Verdict::Refresh { alive: true });
    assert_eq!(verdict(&at(Some(NOW_S + 1), last)), Verdict::Refresh { alive: true });
    assert_eq!(verdict(&at(Some(NOW_S), last)), Verdict::Refresh { alive: false });
    // A token of one minute is not refreshed at every call.
    assert_eq!(verdict(&at(Some(NOW_S + 60), Some(NOW_S))), Verdict::Usable);
    // Dates that a file may hold, whatever they mean.
    assert_eq!(verdict(&at(Some(i64::MAX), Some(i64::MIN))), Verdict::Usable);
    // Without an expiry: eight days from the last refresh, and for ever where nothing is known.
    assert_eq!(verdict(&at(None, Some(NOW_S - 8 * DAY))), Verdict::Refresh { alive: false });
    assert_eq!(verdict(&at(None, last)), Verdict::Usable);
    assert_eq!(verdict(&at(None, None)), Verdict::Usable);

    let borrowed = Credential { borrowed: true, ..at(Some(NOW_S + 1), last) };
    assert_eq!(verdict(&borrowed), Verdict::Usable, "good while it lives");
    let borrowed = Credential { borrowed: true, ..at(Some(NOW_S), last) };
    assert_eq!(reason(&borrowed, &subscription()), Some(Why::Expired));
    let exported = Credential { exported_at: Some(NOW_S), ..at(Some(NOW_S + 1), last) };
    assert_eq!(verdict(&exported), Verdict::Usable, "good while it lives");
    let exported = Credential { exported_at: Some(NOW_S), ..at(Some(NOW_S), last) };
    assert_eq!(reason(&exported, &subscription()), Some(Why::Expired));
}

#[test]
fn a_failed_refresh_counts_only_once_the_token_is_dead() {
    let notes = Notes::default();
    notes.failed("id", 1, "down", None, NOW_MS, 0);
    let note = notes.get("id", 1);
    let with =
        |exp, now| judge(&Credential { access_expires_at: Some(exp), ..oauth() }, note.as_ref(), &subscription(), now);
    assert_eq!(with(NOW_S + 1, NOW_MS), Verdict::Usable);
    assert!(matches!(with(NOW_S, NOW_MS), Verdict::No(refusal) if refusal.reason == Why::RefreshFailed));
    assert_eq!(with(NOW_S, NOW_MS + 1000), Verdict::Refresh { alive: false }, "the wait is over");
    notes.rejected("id", 1);
    let note = notes.get("id", 1);
    let verdict = judge(&oauth(), note.as_ref(), &subscription(), NOW_MS);
    assert!(matches!(verdict, Verdict::No(refusal) if refusal.reason == Why::RefreshFailed), "rejected is not alive");
}

/// One credential of a random store.
#[derive(Clone, Debug)]
struct Random {
    own_provider: bool,
    kind: Kind,
    issuer: Option<&'static str>,
    access: bool,
    refresh: bool,
    undecryptable: bool,
    expires_in: Option<i64>,
    borrowed: bool,
    latch: Option<LatchKind>,
    rests: Vec<(Option<&'static str>, RestKind, i64)>,
}

fn random() -> impl Strategy<Value = Random> {
    let kind = prop_oneof![4 => Just(Kind::OAuth), 1 => Just(Kind::ApiKey)];
    let issuer = prop_oneof![6 => Just(Some(IDENTITY)), 1 => Just(Some("https://evil.example")), 1 => Just(None)];
    let expires = prop::option::weighted(0.8, prop_oneof![Just(-10i64), Just(0), Just(60), Just(5 * DAY)]);
    let latch = prop_oneof![5 => Just(None), 1 => Just(Some(LatchKind::NeedsLogin)), 1 => Just(Some(LatchKind::Rejected)),
            1 => Just(Some(LatchKind::Ended))];
    let rest_kind = prop_oneof![Just(RestKind::UsageLimit), Just(RestKind::RateLimited), Just(RestKind::NotEntitled)];
    let model = prop_oneof![Just(None), Just(Some("gpt-5.5")), Just(Some("gpt-5.4-mini"))];
    let rests = prop::collection::vec((model, rest_kind, -5i64..120), 0..2);
    let flags =
        (prop::bool::weighted(0.8), prop::bool::weighted(0.9), prop::bool::weighted(0.7), prop::bool::weighted(0.1));
    (flags, kind, issuer, expires, prop::bool::weighted(0.1), latch, rests).prop_map(
        |((own_provider, access, refresh, undecryptable), kind, issuer, expires_in, borrowed, latch, rests)| Random {
            own_provider,
            kind,
            issuer,
            access,
            refresh,
            undecryptable,
            expires_in,
            borrowed,
            latch,
            rests,
        },
    )
}

fn wish() -> impl Strategy<Value = Wanted> {
    let labels = || prop::collection::vec(prop::sample::select(vec!["c0", "c1", "c2", "ghost"]), 0..3);
    let realm = prop_oneof![4 => Just(("subscription", "chatgpt-codex")), 1 => Just(("api-key", "openai-api")), 1 => Just(("api-key", "chatgpt-codex"))];
    let session = prop::sample::select(vec!["", "s1", "s2"]);
    let lists = (labels(), prop_oneof![3 => Just(Vec::new()), 1 => labels()]);
    (lists, realm, session).prop_map(|((agent, key), (realm, target), session)| {
        let owned = |labels: Vec<&str>| labels.into_iter().map(str::to_owned).collect();
        Wanted {
            agent: "main".into(),
            provider: "openai-codex".into(),
            target: target.into(),
            realm: realm.into(),
            upstream_model: "gpt-5.5".into(),
            credentials: owned(agent),
            key_credentials: owned(key),
            session: session.to_owned(),
        }
    })
}

async fn fill(store: &Store, randoms: &[Random]) {
    for known in store.list_credentials(None).await.expect("listed") {
        store.remove_credential(&known.id).await.expect("removed");
    }
    for (i, random) in randoms.iter().enumerate() {
        let is_key = random.kind == Kind::ApiKey;
        let secrets = if random.undecryptable {
            Secrets::Undecryptable { detail: "sealed elsewhere".into() }
        } else {
            let text = |kind: &str| secret(&format!("{kind}{i}"));
            Secrets::Present {
                access: text("a").filter(|_| random.access && !is_key),
                refresh: text("r").filter(|_| random.refresh && !is_key),
                id_token: None,
                api_key: text("k").filter(|_| random.access && is_key),
            }
        };
        let new = NewCredential {
            label: format!("c{i}"),
            provider: if random.own_provider { "openai-codex".into() } else { "openai".into() },
            kind: random.kind,
            issuer: random.issuer.map(str::to_owned),
            client_id: None,
            account_id: Some(format!("acct{i}")),
            email: None,
            plan: Some("plus".into()),
            user_id: None,
            fedramp: false,
            source: Source::Codex,
            secrets,
            extra: serde_json::Value::Null,
            access_expires_at: random.expires_in.map(|s| NOW_S + s),
            last_refresh: Some(NOW_S - DAY),
            borrowed: random.borrowed,
            profile: Some(format!("p{i}")),
        };
        store.upsert_credential(&new, false).await.expect("stored");
        let stored = store.credential_by_label(&format!("c{i}")).await.expect("read").expect("there");
        if let Some(kind) = random.latch {
            store.latch(&stored.id, stored.version, kind, "dead").await.expect("latched");
        }
        for (model, kind, seconds) in &random.rests {
            store.rest(&stored.id, &rest(*kind, *model, NOW_MS + seconds * 1000)).await.expect("rested");
        }
    }
}

/// What must be true of a bound credential, said once more and in other words than the rules.
fn assert_sound(winner: &Winner, wanted: &Wanted) {
    let c = &winner.credential;
    assert_eq!(c.provider, wanted.provider);
    assert_eq!(c.kind == Kind::OAuth, wanted.realm == "subscription");
    assert!(wanted.credentials.is_empty() || wanted.credentials.contains(&c.label));
    assert!(wanted.key_credentials.is_empty() || wanted.key_credentials.contains(&c.label));
    assert!(c.latch.as_ref().is_none_or(|latch| latch.kind == LatchKind::NeedsLogin));
    assert!(!c.rests.iter().any(|rest| rest.covers(&wanted.upstream_model, NOW_MS)));
    if c.kind == Kind::OAuth {
        assert_eq!(c.issuer.as_deref(), Some(IDENTITY));
        assert!(c.access_expires_at.is_none_or(|at| at > NOW_S));
    }
    assert_eq!(wanted.target == "chatgpt-codex", c.kind == Kind::OAuth);
}

#[test]
fn status_and_calls_agree_in_every_state() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    let dir = tempfile::tempdir().expect("tempdir");
    let clock = Clock::manual(NOW_MS);
    let path = dir.path().join("test.db");
    let key = SecretKey::generate().expect("random");
    let store = runtime.block_on(create(&path, key, clock.clone(), async |_| Ok(()))).expect("made");
    let mut config = Config::default();
    config.auth.identity_url = IDENTITY.into();
    let identity = Identity::new(&config).expect("a client");

    let mut runner = TestRunner::new(Cases { cases: 96, failure_persistence: None, ..Cases::default() });
    let states = (prop::collection::vec(random(), 0..4), wish());
    let outcome = runner.run(&states, |(randoms, wanted)| {
        runtime.block_on(async {
            fill(&store, &randoms).await;
            let closing = CancellationToken::new();
            let tracker = TaskTracker::new();
            let refresher = Refresher::new(store.clone(), identity.clone(), clock.clone(), tracker, closing, &config);
            let seal = SealKey::generate().expect("random");
            let binder = Binder::new(store.clone(), refresher, seal, &config, clock.clone());
            let status = binder.decide(&wanted, None, &[]).await.expect("decided");
            let call = binder.decide(&wanted, None, &[]).await.expect("decided");
            let label = |d: &Decision| d.winner.as_ref().map(|w| (w.credential.label.clone(), w.credential.version));
            assert_eq!(label(&status), label(&call));
            assert_eq!(status.failure, call.failure);
            assert_eq!(status.candidates, call.candidates);
            assert_eq!(call.winner.is_some(), call.failure.is_none());
            assert!(!call.candidates.is_empty(), "there is always something to say");
            for candidate in &call.candidates {
                assert_eq!(candidate.eligible, candidate.reason.is_none(), "{candidate:?}");
            }
            let first = call.candidates.iter().find(|c| c.eligible).map(|c| c.credential.clone());
            assert_eq!(first, call.winner.as_ref().map(|w| w.credential.label.clone()), "the first eligible one wins");
            if let Some(winner) = &call.winner {
                assert_sound(winner, &wanted);
                binder.seal(winner, &wanted.target, "call").expect("sealed");
            }
        });
        Ok(())
    });
    outcome.expect("status and calls agree");
}
