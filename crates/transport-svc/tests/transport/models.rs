//! The models that an upstream lists.

use codex_sim::SimConfig;
use domain::Reason;
use service_kit::failure_from_proto;

use crate::harness::{ACCOUNT, Bench, CODEX};

#[tokio::test]
async fn the_list_is_read_once_and_then_by_its_etag() {
    let bench = Bench::plain().await;
    let first = bench.bench.models(CODEX, None).await.expect("an answer");
    assert!(first.outcome.as_ref().is_some_and(|outcome| outcome.failure.is_none()), "{first:?}");
    let names: Vec<_> = first.models.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(names, ["gpt-5.5", "gpt-5.4-mini"]);
    assert_eq!(first.models[0].context_window, Some(272_000));
    let again = bench.bench.models(CODEX, first.etag.clone()).await.expect("an answer");
    assert!(
        again.unchanged && again.models.is_empty() && again.etag == first.etag && first.etag.is_some(),
        "{again:?}"
    );
    assert_eq!(bench.last().header("if-none-match"), first.etag.as_deref());
}

#[tokio::test]
async fn a_list_that_cannot_be_read_says_why() {
    let bench = Bench::new(SimConfig::default(), |sim, config| {
        config.targets.get_mut("openai-api").expect("built in").base_url = sim.openai_base_url();
    });
    let bench = bench.await;
    bench.sim.state().set_scenario(ACCOUNT, Some("challenge".parse().expect("a scenario")));
    let outcome = bench.bench.models(CODEX, None).await.expect("an answer").outcome.unwrap_or_default();
    assert_eq!(outcome.failure.as_ref().map(|f| failure_from_proto(f).reason), Some(Reason::EdgeChallenge));
    let platform = bench.bench.models("openai-api", None).await.expect_err("no list of models");
    assert_eq!(platform.reason, Reason::Unsupported);
}
