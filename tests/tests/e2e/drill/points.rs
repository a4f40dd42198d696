//! Killed at each step by name; answers that get lost on the way.

use e2e::eventually;

use super::hosts::{Host, Refreshed, bind, says_what_happened, simulator};

/// Where the process dies, and whether the login survives that.
const POINTS: [(&str, bool); 7] = [
    ("before_intent", true),
    ("after_intent", true),
    ("before_post", true),
    // The window: the provider has spent the token, and what comes after it is in this process alone.
    ("after_answer", false),
    ("before_commit", false),
    ("after_commit", true),
    ("before_hand_out", true),
];

/// At every step of a refresh. What the process leaves behind is used while it is good, and the login goes on, but for
/// the two steps between the provider's answer and the commit; after those the next refresh says what happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_survives_a_kill_at_every_step_outside_the_window() {
    let sim = simulator().await;
    let hosts = POINTS.map(|(point, survives)| {
        let sim = sim.clone();
        async move {
            let mut host = Host::new(&sim, &format!("acct-{point}")).await;
            die_at(&mut host, point).await;
            let stored = point == "after_commit" || point == "before_hand_out";
            assert_eq!(host.spent(), i32::from(stored || !survives), "{point}: what the provider has seen");
            host.start("").await;
            let left = host.shown().await;
            assert_eq!(left.version, 1 + i32::from(stored), "{point}");
            assert!(host.binds().await, "{point}: the access token lives and is used");
            if point != "before_intent" && !stored {
                // Once the deadline is over; until then it may be the refresh of somebody who lives.
                e2e::eventually_async("the doubt shows", async || {
                    host.shown()
                        .await
                        .refresh_problem
                        .is_some_and(|problem| problem.contains("auth-svc was stopped at 20"))
                })
                .await;
            }
            match host.refresh().await {
                Refreshed::Yes => assert!(survives, "{point}"),
                Refreshed::No(reason, message) => {
                    assert!(!survives, "{point}: {message}");
                    assert_eq!(reason, "CREDENTIAL_NEEDS_LOGIN", "{point}: {message}");
                    says_what_happened(&message);
                    assert!(host.binds().await, "{point}: the access token lives all the same");
                    host.log_in_again().await;
                    assert!(host.binds().await && matches!(host.refresh().await, Refreshed::Yes), "{point}");
                }
                Refreshed::Gone => panic!("{point}: {}", host.process().story()),
            }
        }
    });
    futures_util::future::join_all(hosts).await;
    let reused = sim.state().stats().logins.iter().filter(|login| !login.alive).count();
    assert_eq!(reused, 2, "the provider saw a token twice after the two kills inside the window, and never else");
}

/// Starts `host` and lets a refresh kill it at `point`.
async fn die_at(host: &mut Host, point: &str) {
    host.start(point).await;
    assert!(matches!(host.refresh().await, Refreshed::Gone), "{point}: it died");
    eventually("the process is gone", || !host.process().is_running()).await;
    assert!(host.kill().await, "{point}: by SIGKILL: {}", host.process().story());
}

/// The network is cut after the request, or the provider falls silent: the token is spent and nobody has the next one.
/// The access token is used for as long as it lives, over a restart too; a person sees what happened all that time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_shown_and_costs_nothing_while_the_token_lives() {
    let sim = simulator().await;
    let cases = [("drop_answer", "brought no answer"), ("stall_spent", "did not answer within 1 s")];
    let hosts = cases.map(|(fault, told)| {
        let sim = sim.clone();
        async move {
            let account = format!("acct-{fault}");
            let mut host = Host::new(&sim, &account).await;
            host.start("").await;
            sim.state().set_token_scenario_times(&account, fault.parse().expect("a scenario"), 1);
            let Refreshed::No(reason, message) = host.refresh().await else { panic!("{fault}: no answer came") };
            assert_eq!(reason, "IDENTITY_UNAVAILABLE", "{message}");
            host.kill().await;
            host.start("").await;
            let problem = host.shown().await.refresh_problem.expect("it shows");
            assert!(problem.contains(told) && problem.contains("may be spent"), "{problem}");
            assert!(bind(host.channel()).await.and_then(|answer| answer.bound).is_some_and(|bound| bound.version == 1));
            assert_eq!(host.spent(), 1, "{fault}: nothing is asked for again");
            let Refreshed::No(reason, message) = host.refresh().await else { panic!("{fault}: it was spent") };
            assert_eq!(reason, "CREDENTIAL_NEEDS_LOGIN", "{message}");
            assert!(message.contains(told) && message.contains("refresh token was lost"), "{message}");
            host.log_in_again().await;
            assert!(host.binds().await);
        }
    });
    futures_util::future::join_all(hosts).await;
}
