//! May a failed call be tried again, and with what? One pure function, so that rule 7 (no duplicate work) is a table
//! that a test can walk through.

use domain::{After, Reason};
use proto::transport::v1::Sent;

use crate::egress::Verdict;
use crate::retry::LONGEST_WAIT;

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
    /// Seconds that the upstream wants to be left alone for.
    pub(crate) retry_after: Option<f64>,
}

/// What is left to try with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Attempts made so far, the failed one included.
    pub(crate) attempts: u32,
    /// Most attempts of one call.
    pub(crate) max_attempts: u32,
    /// True if this credential was refreshed in this call already.
    pub(crate) refreshed: bool,
    /// True if the same has been repeated already, with this credential, egress and route.
    pub(crate) repeated: bool,
    /// True if encrypted reasoning is left out already.
    pub(crate) reasoning_dropped: bool,
    /// True if another egress is allowed that may be tried now.
    pub(crate) other_egress: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// The same credential, refreshed.
    Refresh,
    /// The very same again: it was not processed, or the upstream failed for the moment.
    Repeat,
    /// The same route again, without the encrypted reasoning of earlier turns: it belongs to another account.
    DropReasoning,
    /// Another credential of the same route, else the next named fallback.
    NextCredential,
    /// The same credential by another egress.
    NextEgress,
    /// The next named fallback.
    NextRoute,
    /// Nothing: the failure is the answer.
    Stop,
}

impl NextStep {
    /// True if the retry budget pays for it. An upstream that has answered about this request alone (refresh the token,
    /// leave the reasoning out) is not in trouble, and the answer cost it little.
    pub(crate) fn is_paid(self) -> bool {
        match self {
            Self::Repeat | Self::NextCredential | Self::NextEgress | Self::NextRoute => true,
            Self::Refresh | Self::DropReasoning | Self::Stop => false,
        }
    }
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
    if room.attempts >= room.max_attempts || !cannot_duplicate(failed) {
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
        After::NextEgress if room.other_egress => NextStep::NextEgress,
        After::NextEgress => NextStep::NextRoute,
        // A response that has begun and failed has cost the upstream work: not the very same once more.
        After::Repeat if !room.repeated && !failed.failed_event && is_short(failed.retry_after) => NextStep::Repeat,
        After::Repeat => NextStep::NextRoute,
    }
}

/// True for a wait that fits into a call.
fn is_short(retry_after: Option<f64>) -> bool {
    retry_after.is_none_or(|seconds| seconds <= LONGEST_WAIT.as_secs_f64())
}

/// What a failure says of the egress and the target. A refusal of the request or the credential is an answer: both work.
pub(crate) fn verdict(failed: &Failed) -> Verdict {
    use Reason as R;
    match failed.reason {
        R::PeerUnavailable => Verdict::EgressFails,
        R::EgressUnreachable | R::EdgeChallenge | R::EdgeBlocked | R::UpstreamTimeout => Verdict::TargetFails,
        // Without a status: HTTP/2 closed a connection in good order, or an idle one was gone. With a 200: the failure
        // of one response.
        R::UpstreamError | R::UpstreamOverloaded => match failed.status {
            Some(status) if status >= 500 => Verdict::TargetFails,
            Some(_) => Verdict::Works,
            None => Verdict::Nothing,
        },
        // Without a status the connection was cut before any header.
        R::StreamCut => match failed.status {
            None => Verdict::TargetFails,
            Some(_) => Verdict::Nothing,
        },
        R::CredentialRejected
        | R::NotEntitled
        | R::PolicyRefused
        | R::UsageLimit
        | R::RateLimited
        | R::RequestRejected
        | R::ContextTooLong
        | R::ClientOutdated => Verdict::Works,
        R::AgentKeyInvalid
        | R::AgentNotAllowed
        | R::AgentLimited
        | R::RequestInvalid
        | R::RequestTooLarge
        | R::Unsupported
        | R::NotFound
        | R::RouteUnknown
        | R::CredentialNotBound
        | R::CredentialNeedsLogin
        | R::IdentityUnavailable
        | R::WrongEndpoint
        | R::StreamIdle
        | R::PeerRefused
        | R::SealRefused
        | R::Shed
        | R::StoreUnavailable
        | R::Deadline
        | R::Cancelled
        | R::Internal => Verdict::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room {
        attempts: 1,
        max_attempts: 4,
        refreshed: false,
        repeated: false,
        reasoning_dropped: false,
        other_egress: true,
    };
    const NOTHING: Failed = Failed {
        reason: Reason::Internal,
        status: None,
        sent: Sent::Sent,
        relayed: false,
        failed_event: false,
        reasoning_refused: false,
        retry_after: None,
    };

    fn refused(reason: Reason, status: u16) -> Failed {
        Failed { reason, status: Some(status), ..NOTHING }
    }

    fn unanswered(reason: Reason, sent: Sent) -> Failed {
        Failed { reason, sent, ..NOTHING }
    }

    #[test]
    fn rule_seven_as_a_table() {
        use NextStep::{DropReasoning, NextCredential, NextEgress, NextRoute, Refresh, Repeat, Stop};
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
            (refused(R::UpstreamOverloaded, 503), Repeat),
            (refused(R::UpstreamError, 500), Repeat),
            (refused(R::UpstreamError, 520), Repeat),
            (Failed { retry_after: Some(2.0), ..refused(R::UpstreamOverloaded, 503) }, Repeat),
            (Failed { retry_after: Some(60.0), ..refused(R::UpstreamOverloaded, 503) }, NextRoute),
            (refused(R::EdgeChallenge, 403), NextEgress),
            (refused(R::EdgeBlocked, 403), NextEgress),
            (refused(R::RequestRejected, 400), Stop),
            (refused(R::ContextTooLong, 400), Stop),
            (refused(R::PolicyRefused, 400), Stop),
            (refused(R::ClientOutdated, 400), Stop),
            (refused(R::WrongEndpoint, 403), Stop),
            // Somebody behind the one who answered may still be working.
            (refused(R::UpstreamError, 504), Stop),
            (refused(R::UpstreamError, 524), Stop),
            // Nothing was sent.
            (unanswered(R::EgressUnreachable, Sent::NotSent), NextEgress),
            (unanswered(R::SealRefused, Sent::NotSent), Stop),
            (unanswered(R::PeerUnavailable, Sent::NotSent), NextEgress),
            (unanswered(R::UpstreamError, Sent::NotSent), Repeat),
            // transport-svc broke off, and nobody knows what it had sent by then.
            (unanswered(R::PeerUnavailable, Sent::Unspecified), Stop),
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
            let spent = Room { attempts: ROOM.max_attempts, ..ROOM };
            assert_eq!(next_step(&failed, &spent), Stop, "without attempts left: {failed:?}");
        }
    }

    #[test]
    fn each_second_chance_comes_once() {
        let rejected = refused(Reason::CredentialRejected, 401);
        assert_eq!(next_step(&rejected, &Room { refreshed: true, ..ROOM }), NextStep::NextCredential);
        let lost = unanswered(Reason::UpstreamError, Sent::NotProcessed);
        assert_eq!(next_step(&lost, &Room { repeated: true, ..ROOM }), NextStep::NextRoute);
        assert_eq!(
            next_step(&refused(Reason::UpstreamError, 500), &Room { repeated: true, ..ROOM }),
            NextStep::NextRoute
        );
        for reason in [Reason::EdgeBlocked, Reason::EdgeChallenge] {
            assert_eq!(next_step(&refused(reason, 403), &Room { other_egress: false, ..ROOM }), NextStep::NextRoute);
        }
        let unreadable = Failed { reasoning_refused: true, ..refused(Reason::RequestRejected, 400) };
        assert_eq!(next_step(&unreadable, &Room { reasoning_dropped: true, ..ROOM }), NextStep::Stop);
    }

    /// What opens a circuit, and what says that all is well, for every reason.
    #[test]
    fn only_what_is_seen_from_there_counts_against_an_egress() {
        let with = |reason: Reason, status: Option<u16>| verdict(&Failed { reason, status, ..NOTHING });
        for reason in Reason::ALL.iter().copied() {
            let counts = matches!(with(reason, reason_status(reason)), Verdict::TargetFails | Verdict::EgressFails);
            let listed = [
                Reason::UpstreamOverloaded,
                Reason::UpstreamError,
                Reason::UpstreamTimeout,
                Reason::EdgeChallenge,
                Reason::EdgeBlocked,
                Reason::StreamCut,
                Reason::EgressUnreachable,
                Reason::PeerUnavailable,
            ];
            assert_eq!(counts, listed.contains(&reason), "{reason}");
            let row = reason.row().after;
            assert!(!counts || row != After::NextCredential, "{reason} is the credential's affair");
        }
        assert_eq!(with(Reason::UpstreamError, None), Verdict::Nothing, "GOAWAY is no failure");
        assert_eq!(with(Reason::UpstreamOverloaded, Some(200)), Verdict::Works);
        assert_eq!(with(Reason::StreamCut, Some(200)), Verdict::Nothing);
        assert_eq!(with(Reason::RateLimited, Some(429)), Verdict::Works);
    }

    fn reason_status(reason: Reason) -> Option<u16> {
        match reason {
            Reason::UpstreamError => Some(500),
            Reason::UpstreamOverloaded => Some(503),
            _ => None,
        }
    }
}
