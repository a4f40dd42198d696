//! Killed at random times. What the provider counted tells whether a kill fell inside the window.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use service_kit::PeerChannel;
use tokio_util::task::TaskTracker;

use super::hosts::{Host, Refreshed, refresh, says_what_happened, simulator};

/// Processes that are drilled side by side.
const HOSTS: usize = 5;
/// Kills in a usual run.
const KILLS: usize = 20;
/// Says how many kills instead.
const VARIABLE: &str = "SWITCHBOARD_DRILL";

/// What came of the kills of one host.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    inside: usize,
    lost: usize,
    answer_to_commit_us: Vec<u64>,
}

/// No login is lost by a kill, whenever it falls, unless it falls between the provider's spending of the token and our
/// commit of the next one; and those losses are told as what they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_kills_lose_no_login_outside_the_window() {
    let kills = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    let sim = simulator().await;
    let drills = (0..HOSTS).map(|number| {
        let sim = sim.clone();
        // Each its share.
        let share = kills / HOSTS + usize::from(number < kills % HOSTS);
        async move {
            let host = Host::new(&sim, &format!("acct-{number}")).await;
            drill(host, share, &format!("{seed}/{number}")).await
        }
    });
    let mut total = Tally::default();
    for tally in futures_util::future::join_all(drills).await {
        total.kills += tally.kills;
        total.inside += tally.inside;
        total.lost += tally.lost;
        total.answer_to_commit_us.extend(tally.answer_to_commit_us);
    }
    let times = &mut total.answer_to_commit_us;
    times.sort_unstable();
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1))).copied();
    println!(
        "crash drill: {} kills, {} inside the window, {} logins lost; answer to commit of {} refreshes: median {} us, \
         p99 {} us, longest {} us",
        total.kills,
        total.inside,
        total.lost,
        times.len(),
        at(50).unwrap_or_default(),
        at(99).unwrap_or_default(),
        at(100).unwrap_or_default()
    );
    assert_eq!(total.kills, kills);
    assert_eq!(total.lost, total.inside, "no login is lost but by a kill inside the window");
}

async fn drill(mut host: Host, kills: usize, seed: &str) -> Tally {
    let mut tally = Tally::default();
    let tasks = TaskTracker::new();
    // Versions that did not come from a refresh: the import, and each login after a loss.
    let mut logins = 1;
    host.start("").await;
    assert!(matches!(host.refresh().await, Refreshed::Yes), "before any kill");
    for number in 0..kills {
        let asking = tasks.spawn(ask(host.channel()));
        tokio::time::sleep(some_time(seed, number)).await;
        assert!(host.kill().await, "{}", host.process().story());
        tally.kills += 1;
        let _ = asking.await;
        host.start("").await;
        let lost = i32::try_from(tally.lost).expect("few");
        let missing = host.spent() - lost + logins - host.shown().await.version;
        assert!((0..=1).contains(&missing), "at most the refresh that was cut off is missing: {missing}");
        tally.inside += usize::try_from(missing).expect("not negative");
        assert!(host.binds().await, "the access token lives, whatever became of its refresh");
        match settled(&host).await {
            Refreshed::Yes => assert_eq!(missing, 0, "a spent token cannot have worked"),
            Refreshed::No(reason, message) => {
                assert_eq!((missing, reason.as_str()), (1, "CREDENTIAL_NEEDS_LOGIN"), "{message}");
                says_what_happened(&message);
                tally.lost += 1;
                host.log_in_again().await;
                logins += 1;
            }
            Refreshed::Gone => panic!("{}", host.process().story()),
        }
    }
    host.kill().await;
    tally.answer_to_commit_us = measured(&host.process().log());
    tally
}

/// Asks for a refresh, and once more where the first answer is that the token may be spent: an operator who has read
/// that may ask.
async fn settled(host: &Host) -> Refreshed {
    match host.refresh().await {
        Refreshed::No(reason, message) if reason == "IDENTITY_UNAVAILABLE" => {
            assert!(message.contains("may be spent"), "{message}");
            host.refresh().await
        }
        other => other,
    }
}

async fn ask(channel: PeerChannel) -> Refreshed {
    refresh(channel).await
}

/// From no time at all to somewhat longer than a refresh takes.
fn some_time(seed: &str, number: usize) -> Duration {
    let hash = blake3::hash(format!("{seed}/{number}").as_bytes());
    let bytes = hash.as_bytes();
    Duration::from_micros(u64::from(u16::from_le_bytes([bytes[0], bytes[1]])) * 40_000 / u64::from(u16::MAX))
}

/// The times from answer to commit that a log tells, in microseconds.
fn measured(log: &str) -> Vec<u64> {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    log.split("answer_to_commit_us=").skip(1).filter_map(digits).collect()
}
