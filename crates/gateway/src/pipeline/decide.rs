//! May a failed call be tried again, and with what? One pure function, so that rule 7 (no duplicate work) is a table
//! that a test can walk through.

use domain::{After, Reason};
use proto::transport::v1::Sent;

/// Most upstream attempts of one call.
pub(crate) const MAX_ATTEMPTS: u32 = 4;

/// What is known of a failed attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    /// Why.
    pub(crate) reason: Reason,
    /// Upstream HTTP status, if headers came.
    pub(crate) status: Option<u16>,
    /// How much of the request may have been acted on.
    pub(crate) sent: Sent,
    /// True once anything has gone to the caller.
    pub(crate) relayed: bool,
    /// True if the upstream itself ended the response as failed before any content.
    pub(crate) failed_event: bool,
    /// True if the upstream cannot read the encrypted reasoning of earlier turns.
    pub(crate) reasoning_refused: bool,
}

/// What is left to try with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Attempts made so far, the failed one included.
    pub(crate) attempts: u32,
    /// True if this credential was refreshed in this call already.
    pub(crate) refreshed: bool,
    /// True if a request that was not processed has been repeated already.
    pub(crate) repeated: bool,
    /// True if encrypted reasoning is left out already.
    pub(crate) reasoning_dropped: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// The same credential, refreshed.
    Refresh,
    /// The very same again: it was not processed.
    Repeat,
    /// The same route again, without the encrypted reasoning of earlier turns: it belongs to another account.
    DropReasoning,
    /// Another credential of the same route, else the next named fallback.
    NextCredential,
    /// The next named fallback.
    NextRoute,
    /// Nothing: the failure is the answer.
    Stop,
}

/// Statuses of a server in between that gave up waiting for the one that does the work: it may still be at it.
const MAY_STILL_WORK: [u16; 2] = [504, 524];

/// Rule 7: true if the upstream cannot have begun the work, or says itself that it will not do it.
fn cannot_duplicate(failed: &Failed) -> bool {
    if failed.relayed {
        return false;
    }
    match failed.sent {
        Sent::NotSent | Sent::NotProcessed => true,
        Sent::Unspecified | Sent::Sent => {
            let refused = failed.status.is_some_and(|s| s >= 400 && !MAY_STILL_WORK.contains(&s));
            refused || failed.failed_event
        }
    }
}

/// What a call does after `failed`.
pub(crate) fn next_step(failed: &Failed, room: &Room) -> NextStep {
    if room.attempts >= MAX_ATTEMPTS || !cannot_duplicate(failed) {
        return NextStep::Stop;
    }
    if failed.reason == Reason::CredentialRejected && failed.status == Some(401) && !room.refreshed {
        return NextStep::Refresh;
    }
    if failed.sent == Sent::NotProcessed && !room.repeated {
        return NextStep::Repeat;
    }
    if failed.reasoning_refused && !room.reasoning_dropped {
        return NextStep::DropReasoning;
    }
    match failed.reason.row().after {
        After::Stop => NextStep::Stop,
        After::NextFallback => NextStep::NextRoute,
        After::NextCredential => NextStep::NextCredential,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { attempts: 1, refreshed: false, repeated: false, reasoning_dropped: false };
    const NOTHING: Failed = Failed {
        reason: Reason::Internal,
        status: None,
        sent: Sent::Sent,
        relayed: false,
        failed_event: false,
        reasoning_refused: false,
    };

    fn refused(reason: Reason, status: u16) -> Failed {
        Failed { reason, status: Some(status), ..NOTHING }
    }

    fn unanswered(reason: Reason, sent: Sent) -> Failed {
        Failed { reason, sent, ..NOTHING }
    }

    #[test]
    fn rule_seven_as_a_table() {
        use NextStep::{DropReasoning, NextCredential, NextRoute, Refresh, Repeat, Stop};
        use Reason as R;
        let cut = |status| Failed { status, ..unanswered(R::StreamCut, Sent::Sent) };
        let event = |reason| Failed { failed_event: true, ..refused(reason, 200) };
        let unreadable = |failed| Failed { reasoning_refused: true, ..failed };
        let rows = [
            // Refusals: the status allows it, the reason says where to.
            (refused(R::CredentialRejected, 401), Refresh),
            (refused(R::UsageLimit, 429), NextCredential),
            (refused(R::RateLimited, 429), NextCredential),
            (refused(R::NotEntitled, 403), NextRoute),
            (refused(R::UpstreamOverloaded, 503), NextRoute),
            (refused(R::UpstreamError, 500), NextRoute),
            (refused(R::UpstreamError, 520), NextRoute),
            (refused(R::EdgeChallenge, 403), NextRoute),
            (refused(R::RequestRejected, 400), Stop),
            (refused(R::ContextTooLong, 400), Stop),
            (refused(R::PolicyRefused, 400), Stop),
            (refused(R::ClientOutdated, 400), Stop),
            (refused(R::WrongEndpoint, 403), Stop),
            // Somebody behind the one who answered may still be working.
            (refused(R::UpstreamError, 504), Stop),
            (refused(R::UpstreamError, 524), Stop),
            // Nothing was sent.
            (unanswered(R::EgressUnreachable, Sent::NotSent), NextRoute),
            (unanswered(R::SealRefused, Sent::NotSent), Stop),
            (unanswered(R::PeerUnavailable, Sent::NotSent), Stop),
            // HTTP/2 says that it was not processed.
            (unanswered(R::UpstreamError, Sent::NotProcessed), Repeat),
            // Sent, and then silence or a cut: never again.
            (unanswered(R::UpstreamTimeout, Sent::Sent), Stop),
            (unanswered(R::EgressUnreachable, Sent::Sent), Stop),
            (unanswered(R::EgressUnreachable, Sent::Unspecified), Stop),
            (cut(None), Stop),
            (cut(Some(200)), Stop),
            (Failed { reason: R::StreamIdle, ..cut(Some(200)) }, Stop),
            // An early response.failed fails over by its reason; the same failure without the event does not.
            (event(R::RateLimited), NextCredential),
            (event(R::UpstreamOverloaded), NextRoute),
            (event(R::ContextTooLong), Stop),
            (refused(R::RateLimited, 200), Stop),
            // Reasoning of another account: a status or the failed event answered it; silence did not.
            (unreadable(refused(R::RequestRejected, 400)), DropReasoning),
            (unreadable(event(R::RequestRejected)), DropReasoning),
            (unreadable(refused(R::RequestRejected, 200)), Stop),
            (unreadable(cut(Some(200))), Stop),
        ];
        for (failed, expected) in rows {
            assert_eq!(next_step(&failed, &ROOM), expected, "{failed:?}");
            let relayed = Failed { relayed: true, ..failed };
            assert_eq!(next_step(&relayed, &ROOM), Stop, "after relaying: {failed:?}");
            let spent = Room { attempts: MAX_ATTEMPTS, ..ROOM };
            assert_eq!(next_step(&failed, &spent), Stop, "without attempts left: {failed:?}");
        }
    }

    #[test]
    fn each_second_chance_comes_once() {
        let rejected = refused(Reason::CredentialRejected, 401);
        assert_eq!(next_step(&rejected, &Room { refreshed: true, ..ROOM }), NextStep::NextCredential);
        let lost = unanswered(Reason::UpstreamError, Sent::NotProcessed);
        assert_eq!(next_step(&lost, &Room { repeated: true, ..ROOM }), NextStep::NextRoute);
        let unreadable = Failed { reasoning_refused: true, ..refused(Reason::RequestRejected, 400) };
        assert_eq!(next_step(&unreadable, &Room { reasoning_dropped: true, ..ROOM }), NextStep::Stop);
    }
}
