//! Between the domain's types and their protobuf forms.

use domain::{Attempt, AttemptResult, Candidate, ExecutionTrace, Failure, Hop, Reason, Usage};
use proto::common::v1 as pb;

/// A failure for the wire.
pub fn failure_to_proto(failure: &Failure) -> pb::Failure {
    pb::Failure {
        reason: failure.reason.as_str().to_owned(),
        message: failure.message.clone(),
        service: failure.service.clone(),
        next_step: failure.next_step.clone(),
        retryable: failure.retryable,
        retry_after_seconds: failure.retry_after_seconds,
        resets_at: failure.resets_at.map(|s| s as f64),
        plan_type: failure.plan_type.clone(),
        param: failure.param.clone(),
        candidates: failure.candidates.iter().map(candidate_to_proto).collect(),
        upstream_status: failure.upstream_status.map(i32::from),
        ray_id: failure.ray_id.clone(),
        upstream_request_id: failure.upstream_request_id.clone(),
    }
}

/// A failure from the wire. A reason this build does not know becomes INTERNAL and keeps its text.
pub fn failure_from_proto(failure: &pb::Failure) -> Failure {
    let (reason, message) = match failure.reason.parse::<Reason>() {
        Ok(reason) => (reason, failure.message.clone()),
        Err(_) => (Reason::Internal, format!("{} ({})", failure.message, failure.reason)),
    };
    Failure {
        reason,
        message,
        service: failure.service.clone(),
        next_step: failure.next_step.clone(),
        retryable: failure.retryable,
        retry_after_seconds: failure.retry_after_seconds,
        resets_at: failure.resets_at.map(|s| s as i64),
        plan_type: failure.plan_type.clone(),
        param: failure.param.clone(),
        candidates: failure.candidates.iter().map(candidate_from_proto).collect(),
        upstream_status: failure.upstream_status.and_then(|s| u16::try_from(s).ok()),
        ray_id: failure.ray_id.clone(),
        upstream_request_id: failure.upstream_request_id.clone(),
    }
}

/// A candidate for the wire.
pub fn candidate_to_proto(candidate: &Candidate) -> pb::Candidate {
    pb::Candidate {
        credential: candidate.credential.clone(),
        eligible: candidate.eligible,
        reason: candidate.reason.map(|r| r.as_str().to_owned()),
        detail: candidate.detail.clone(),
    }
}

/// A candidate from the wire.
pub fn candidate_from_proto(candidate: &pb::Candidate) -> Candidate {
    Candidate {
        credential: candidate.credential.clone(),
        eligible: candidate.eligible,
        reason: candidate.reason.as_deref().and_then(|r| r.parse().ok()),
        detail: candidate.detail.clone(),
    }
}

/// Token counts for the wire; a count over `i32` is capped.
pub fn usage_to_proto(usage: &Usage) -> pb::Usage {
    let cap = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    pb::Usage {
        input_tokens: cap(usage.input_tokens),
        cached_input_tokens: cap(usage.cached_input_tokens),
        output_tokens: cap(usage.output_tokens),
        reasoning_tokens: cap(usage.reasoning_tokens),
    }
}

/// Token counts from the wire; a negative count is 0.
pub fn usage_from_proto(usage: &pb::Usage) -> Usage {
    let floor = |n: i32| u32::try_from(n).unwrap_or(0);
    Usage {
        input_tokens: floor(usage.input_tokens),
        cached_input_tokens: floor(usage.cached_input_tokens),
        output_tokens: floor(usage.output_tokens),
        reasoning_tokens: floor(usage.reasoning_tokens),
    }
}

/// An execution trace for the wire.
pub fn trace_to_proto(trace: &ExecutionTrace) -> pb::ExecutionTrace {
    pb::ExecutionTrace {
        winner_provider: trace.winner_provider.clone(),
        winner_model: trace.winner_model.clone(),
        fallback_used: trace.fallback_used,
        runner: trace.runner.clone(),
        requested_model: trace.requested_model.clone(),
        call_id: trace.call_id.clone(),
        trace_id: trace.trace_id.clone(),
        route_table: trace.route_table.clone(),
        attempts: trace.attempts.iter().map(attempt_to_proto).collect(),
        hops: trace.hops.iter().map(hop_to_proto).collect(),
    }
}

/// An execution trace from the wire.
pub fn trace_from_proto(trace: &pb::ExecutionTrace) -> ExecutionTrace {
    ExecutionTrace {
        winner_provider: trace.winner_provider.clone(),
        winner_model: trace.winner_model.clone(),
        fallback_used: trace.fallback_used,
        runner: trace.runner.clone(),
        requested_model: trace.requested_model.clone(),
        call_id: trace.call_id.clone(),
        trace_id: trace.trace_id.clone(),
        route_table: trace.route_table.clone(),
        attempts: trace.attempts.iter().map(attempt_from_proto).collect(),
        hops: trace.hops.iter().map(hop_from_proto).collect(),
    }
}

fn attempt_to_proto(attempt: &Attempt) -> pb::Attempt {
    pb::Attempt {
        provider: attempt.provider.clone(),
        model: attempt.model.clone(),
        credential: attempt.credential.clone().unwrap_or_default(),
        egress: attempt.egress.clone().unwrap_or_default(),
        url: attempt.url.clone(),
        result: attempt.result.as_str().to_owned(),
        reason: attempt.reason.clone(),
        status: attempt.status.map(i32::from),
        upstream_request_id: attempt.upstream_request_id.clone(),
        elapsed_ms: attempt.elapsed_ms,
        ray_id: attempt.ray_id.clone(),
    }
}

fn attempt_from_proto(attempt: &pb::Attempt) -> Attempt {
    let filled = |text: &String| (!text.is_empty()).then(|| text.clone());
    Attempt {
        provider: attempt.provider.clone(),
        model: attempt.model.clone(),
        credential: filled(&attempt.credential),
        egress: filled(&attempt.egress),
        url: attempt.url.clone(),
        result: match attempt.result.as_str() {
            "success" => AttemptResult::Success,
            "skipped" => AttemptResult::Skipped,
            _ => AttemptResult::Failed,
        },
        reason: attempt.reason.clone(),
        status: attempt.status.and_then(|s| u16::try_from(s).ok()),
        upstream_request_id: attempt.upstream_request_id.clone(),
        ray_id: attempt.ray_id.clone(),
        elapsed_ms: attempt.elapsed_ms,
    }
}

fn hop_to_proto(hop: &Hop) -> pb::Hop {
    pb::Hop {
        service: hop.service.clone(),
        host: hop.host.clone(),
        name: hop.name.clone(),
        start_us: hop.start_us,
        duration_us: hop.duration_us,
        outcome: hop.outcome.clone(),
        span_id: hop.span_id.clone(),
    }
}

fn hop_from_proto(hop: &pb::Hop) -> Hop {
    Hop {
        service: hop.service.clone(),
        host: hop.host.clone(),
        name: hop.name.clone(),
        start_us: hop.start_us,
        duration_us: hop.duration_us,
        outcome: hop.outcome.clone(),
        span_id: hop.span_id.clone(),
    }
}
