//! Where a call goes after a failure, and what it says in the end.

use proto::transport::v1::Sent;

use super::*;

const WAY: Way<'static> = Way { egress: "local", others: false };

fn route(model: &str) -> Route {
    Route { model: model.into(), ..Route::default() }
}

fn bound(id: &str) -> Bound {
    Bound { credential_id: id.into(), credential: id.into(), version: 1, ..Bound::default() }
}

fn failure(reason: Reason) -> Failure {
    Failure::new(reason, service::UPSTREAM, "no")
}

fn fail(plan: &mut Plan, reason: Reason, status: u16, id: &str) -> NextStep {
    fail_with(plan, failure(reason), status, id)
}

fn fail_with(plan: &mut Plan, failure: Failure, status: u16, id: &str) -> NextStep {
    plan.begin();
    let failed = Failed {
        reason: failure.reason,
        status: Some(status),
        sent: Sent::Sent,
        relayed: false,
        failed_event: false,
        reasoning_refused: false,
        retry_after: None,
    };
    plan.attempt_failed(failed, failure, &bound(id), WAY, Refusal::default())
}

#[test]
fn without_fallbacks_the_failure_is_the_upstreams_own() {
    let mut plan = Plan::new(vec![route("a")], 4);
    assert_eq!(fail(&mut plan, Reason::UsageLimit, 429, "c1"), NextStep::NextCredential);
    assert_eq!(plan.excluded(), ["c1"]);
    plan.not_bound(failure(Reason::CredentialNotBound));
    assert!(plan.route().is_none());
    assert_eq!(plan.verdict().0.reason, Reason::UsageLimit);
}

fn limit(reason: Reason, seconds: f64) -> Failure {
    Failure::new(reason, service::UPSTREAM, format!("ends in {seconds} s")).retry_after(seconds)
}

fn met(plan: &mut Plan, reason: Reason, seconds: f64, credential: &str) {
    let _ = fail_with(plan, limit(reason, seconds), 429, credential);
}

#[tokio::test(start_paused = true)]
async fn of_several_limits_the_answer_is_the_one_that_ends_first() {
    for (first, second, untried, expected) in [
        (20.0, 3600.0, None, (Reason::UsageLimit, 15.0, service::UPSTREAM)),
        (3600.0, 20.0, None, (Reason::UsageLimit, 20.0, service::UPSTREAM)),
        (3600.0, 1800.0, Some((Reason::UsageLimit, 7.0)), (Reason::UsageLimit, 7.0, service::AUTH)),
        (3600.0, 1800.0, Some((Reason::RateLimited, 7.0)), (Reason::RateLimited, 7.0, service::AUTH)),
        (3600.0, 1800.0, Some((Reason::IdentityUnavailable, 7.0)), (Reason::IdentityUnavailable, 7.0, service::AUTH)),
        // auth-svc tells of the limit that was met just now.
        (3600.0, 1800.0, Some((Reason::UsageLimit, 1799.5)), (Reason::UsageLimit, 1800.0, service::UPSTREAM)),
        (20.0, 3600.0, Some((Reason::CredentialNotBound, 1.0)), (Reason::UsageLimit, 15.0, service::UPSTREAM)),
    ] {
        let mut plan = Plan::new(vec![route("a")], 4);
        met(&mut plan, Reason::UsageLimit, first, "c1");
        tokio::time::advance(std::time::Duration::from_secs(5)).await;
        met(&mut plan, Reason::UsageLimit, second, "c2");
        if let Some((reason, seconds)) = untried {
            plan.not_bound(Failure { service: service::AUTH.into(), ..limit(reason, seconds) });
        }
        let (told, _) = plan.verdict();
        let told = (told.reason, told.retry_after_seconds.unwrap_or_default(), told.service.as_str());
        assert_eq!(told, expected, "{first} {second} {untried:?}");
    }
}

#[test]
fn a_limit_before_another_failure_is_not_the_answer() {
    let mut plan = Plan::new(vec![route("a"), route("b")], 4);
    met(&mut plan, Reason::UsageLimit, 20.0, "c1");
    fail(&mut plan, Reason::UpstreamError, 500, "c2");
    assert_eq!(plan.verdict().0.reason, Reason::UpstreamError);
}

#[test]
fn a_rejected_token_is_refreshed_once_and_then_left_for_good() {
    let mut plan = Plan::new(vec![route("a"), route("b")], 4);
    assert_eq!(fail(&mut plan, Reason::CredentialRejected, 401, "c1"), NextStep::Refresh);
    assert_eq!(plan.rejected().map(|r| r.credential_id).as_deref(), Some("c1"));
    assert_eq!(fail(&mut plan, Reason::CredentialRejected, 401, "c1"), NextStep::NextCredential);
    assert!(plan.rejected().is_none() && plan.refreshed("c1"));
    assert_eq!(fail(&mut plan, Reason::RateLimited, 429, "c2"), NextStep::NextCredential);
    plan.not_bound(failure(Reason::CredentialNotBound));
    assert_eq!(plan.route().map(|r| r.model.as_str()), Some("b"));
    assert_eq!(plan.excluded(), ["c1"], "the limit of c2 may not hold for b");
}

#[test]
fn refused_reasoning_is_left_out_for_the_rest_of_the_call() {
    let mut plan = Plan::new(vec![route("a"), route("b")], 4);
    plan.begin();
    let failed = Failed {
        reason: Reason::RequestRejected,
        status: Some(400),
        sent: Sent::Sent,
        relayed: false,
        failed_event: false,
        reasoning_refused: true,
        retry_after: None,
    };
    let step = plan.attempt_failed(failed, failure(Reason::RequestRejected), &bound("c1"), WAY, Refusal::default());
    assert_eq!((step, plan.drops_reasoning(), plan.excluded()), (NextStep::DropReasoning, true, vec![]));
    assert_eq!(plan.route().map(|r| r.model.as_str()), Some("a"));
    assert_eq!(fail(&mut plan, Reason::EdgeBlocked, 403, "c1"), NextStep::NextRoute);
    assert!(plan.drops_reasoning(), "the fallback does not send it either");
}

#[test]
fn a_refused_refresh_explains_the_rejection() {
    let mut plan = Plan::new(vec![route("a")], 4);
    fail(&mut plan, Reason::CredentialRejected, 401, "c1");
    plan.not_bound(failure(Reason::CredentialNeedsLogin));
    assert_eq!(plan.verdict().0.reason, Reason::CredentialNeedsLogin);
}

#[test]
fn unbound_routes_are_told_by_the_first() {
    let mut plan = Plan::new(vec![route("a"), route("b")], 4);
    plan.not_bound(failure(Reason::UsageLimit));
    assert!(plan.route().is_some());
    plan.not_bound(failure(Reason::CredentialNotBound));
    assert_eq!(plan.verdict().0.reason, Reason::UsageLimit);
    let mut plan = Plan::new(vec![route("a"), route("b")], 4);
    plan.not_bound(failure(Reason::StoreUnavailable));
    assert!(plan.route().is_none(), "a failing store is not helped by a fallback");
}
