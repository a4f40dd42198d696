//! What OpenAI's SDKs do when an answer does not come, by `patience.py` and `patience.mjs`: how often they ask, and what is
//! left of a call whose caller has gone.

use codex_sim::Scenario;
use e2e::{Topology, eventually, eventually_async};

use crate::sdk::Sdk;
use crate::{ACCOUNT, Place, outcome};

in_each_topology! {
    async fn python_asks_again_and_gets_its_answer(topology) {
        the_sdk_asks_again(Sdk::Python, topology).await;
    }

    async fn node_asks_again_and_gets_its_answer(topology) {
        the_sdk_asks_again(Sdk::Node, topology).await;
    }

    async fn nothing_is_left_of_what_python_gave_up(topology) {
        nothing_is_left(Sdk::Python, topology).await;
    }

    async fn nothing_is_left_of_what_node_gave_up(topology) {
        nothing_is_left(Sdk::Node, topology).await;
    }
}

/// The gateway's own second try fails like the first, so the SDK hears of it; by its next one the upstream is well.
async fn the_sdk_asks_again(sdk: Sdk, topology: Topology) {
    let place = Place::start(topology).await;
    for dialect in ["responses", "chat"] {
        let (calls, requests) = (place.calls().await.len(), place.upstream().len());
        place.sim.state().set_scenario(ACCOUNT, Some(Scenario::Overloaded));
        let recovers = async {
            let asked_twice = || place.upstream().len() >= requests + 2;
            eventually("the gateway has tried again", asked_twice).await;
            place.sim.state().set_scenario(ACCOUNT, None);
        };
        let arguments = ["retry", dialect];
        let (seen, ()) = tokio::join!(place.sdk(sdk, "patience", &arguments), recovers);
        assert_eq!(seen["text"], "OK", "{dialect}: {seen}");
        let expected = [outcome("http", "error", "UPSTREAM_OVERLOADED"), outcome("http", "ok", "")];
        assert_eq!(place.outcomes().await[calls..], expected, "{dialect}");
        // Two of the first call, one of the second: what two layers try again is not multiplied.
        assert_eq!(place.upstream().len(), requests + 3, "{dialect}");
    }
}

/// Two streams that were left, a call that was cancelled, and one that took too long, twice.
async fn nothing_is_left(sdk: Sdk, topology: Topology) {
    let place = Place::start(topology).await;
    let seen = place.sdk(sdk, "patience", &["leave"]).await;
    assert_eq!((&seen["responses"], &seen["chat"]), (&"response.output_text.delta".into(), &6.into()), "{seen}");
    let (cancelled, timed_out) = match sdk {
        Sdk::Python => ("cancelled", "APITimeoutError"),
        Sdk::Node => ("APIUserAbortError", "APIConnectionTimeoutError"),
    };
    assert_eq!((&seen["cancelled"], &seen["timed_out"]), (&cancelled.into(), &timed_out.into()), "{seen}");

    eventually("every request upstream is over", || {
        let requests = place.upstream();
        requests.len() == 5 && requests.iter().all(codex_sim::RecordedRequest::client_gone)
    })
    .await;
    let gone = vec![outcome("http", "error", "CANCELLED"); 5];
    eventually_async("every call is recorded as cancelled", async || place.outcomes().await == gone).await;
    assert_eq!(place.sim.state().stats().open_streams, 0);
}
