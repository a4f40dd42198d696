//! What is left once path and edge are ruled out: the service's own answer, by its status.

use config::TargetKind;
use domain::{Failure, Reason};

use super::detail::UpstreamError;
use super::page::Page;
use super::{Answer, codes, limits, upstream};
use crate::headers;

pub(super) fn judge(answer: &Answer<'_>, page: &Page, error: Option<&UpstreamError>) -> Failure {
    let case = Case { answer, page, error };
    match answer.status {
        200..=299 => case.no_stream(),
        401 => case.unauthorized(),
        402 => case.failure(Reason::NotEntitled),
        403 => case.forbidden(),
        404 | 405 | 410 => case.not_found(),
        407 => case.failure(Reason::EgressUnreachable).next_step("the proxy wants a user: check `[transport] proxy`"),
        408 => case.failure(Reason::UpstreamTimeout),
        409 => case.failure(Reason::UpstreamError),
        413 => case.failure(Reason::RequestTooLarge).next_step("send less: this is the upstream's limit"),
        429 => case.limited(),
        400..=499 => case.rejected(),
        _ => case.server_error(),
    }
}

struct Case<'a> {
    answer: &'a Answer<'a>,
    page: &'a Page,
    error: Option<&'a UpstreamError>,
}

impl Case<'_> {
    /// `https://… answered 400: "text"`
    fn told(&self) -> String {
        let (url, status) = (&self.answer.endpoint.shown, self.answer.status);
        match self.error {
            Some(error) => format!("{url} answered {status}: {}", error.quoted()),
            None if self.page.is_html() => format!("{url} answered {status} with an HTML page{}", self.page.titled()),
            None if self.answer.body.is_empty() => format!("{url} answered {status} without a body"),
            None => {
                let text = String::from_utf8_lossy(self.answer.body);
                format!("{url} answered {status}: {:?}", super::detail::shorten(text.trim(), 300))
            }
        }
    }

    fn failure(&self, reason: Reason) -> Failure {
        let mut failure = upstream(reason, self.told());
        failure.plan_type = self.error.and_then(|e| e.plan_type.clone());
        failure.param = self.error.and_then(|e| e.param.clone());
        failure
    }

    fn by_code(&self) -> Option<Reason> {
        self.error.and_then(codes::reason)
    }

    /// A 401 is about the credential if the service itself says it; a bare page may be anybody's.
    fn unauthorized(&self) -> Failure {
        let answer = self.answer;
        let signed = ["x-openai-authorization-error", "www-authenticate"];
        let own_word = self.error.is_some() || signed.iter().any(|name| headers::text(answer.headers, name).is_some());
        if !own_word && !answer.endpoint.is_custom_base() {
            return self.failure(Reason::UpstreamError);
        }
        let failure = self.failure(Reason::CredentialRejected);
        match answer.target.kind {
            TargetKind::ChatgptCodex => failure,
            TargetKind::OpenaiApi | TargetKind::Custom => {
                failure.next_step("import a valid key: `switchboard import codex` or `switchboard import openclaw`")
            }
        }
    }

    fn forbidden(&self) -> Failure {
        match self.by_code() {
            Some(reason @ (Reason::PolicyRefused | Reason::UsageLimit)) => self.known(reason),
            _ => self.failure(Reason::NotEntitled),
        }
    }

    /// On a path that is right. A page says that the server is not the one we know; so does a router's own JSON.
    fn not_found(&self) -> Failure {
        let by_router = self.error.is_some_and(|e| e.name().is_none() && e.message.as_deref() == Some("Not Found"));
        if self.error.is_none() || by_router {
            let message = format!("{}: the path is right, so the server is not the one that it should be", self.told());
            let right = self.answer.endpoint.right_base().unwrap_or_default();
            return upstream(Reason::WrongEndpoint, message).next_step(format!(
                "check `[targets.{}] {}`: {right}",
                self.answer.target.id, self.answer.endpoint.key
            ));
        }
        self.rejected()
    }

    fn limited(&self) -> Failure {
        match self.by_code() {
            Some(reason @ (Reason::NotEntitled | Reason::UsageLimit | Reason::UpstreamOverloaded)) => {
                self.known(reason)
            }
            _ => match self.error {
                Some(error) => limits::rate_limited(error),
                None => self.failure(Reason::RateLimited),
            },
        }
    }

    fn rejected(&self) -> Failure {
        self.known(self.by_code().unwrap_or(Reason::RequestRejected))
    }

    fn server_error(&self) -> Failure {
        let overloaded = self.by_code() == Some(Reason::UpstreamOverloaded)
            || self.answer.status == 529
            || (self.answer.status == 503 && self.error.is_some_and(codes::says_overloaded));
        self.failure(if overloaded { Reason::UpstreamOverloaded } else { Reason::UpstreamError })
    }

    /// A 2xx that is not what was asked for.
    fn no_stream(&self) -> Failure {
        if let Some(reason) = self.by_code() {
            return self.known(reason);
        }
        let (url, status) = (&self.answer.endpoint.shown, self.answer.status);
        let expects = self.answer.endpoint.expects;
        let what = match (self.error.is_some(), self.page.is_html()) {
            (true, _) => "a JSON document".to_owned(),
            (_, true) => format!("an HTML page{}", self.page.titled()),
            _ => "something else".to_owned(),
        };
        let message = format!("{url} answered {status} with {what} where {expects} was asked for");
        let mut failure = upstream(Reason::UpstreamError, message)
            .next_step("the server must speak the streaming Responses API; see what answers at that URL");
        failure.retryable = false;
        failure.retry_after_seconds = None;
        failure
    }

    /// A reason that the upstream's code or words stand for.
    fn known(&self, reason: Reason) -> Failure {
        match (reason, self.error) {
            (Reason::UsageLimit, Some(error)) => limits::usage_limit(error, self.answer.headers, self.answer.now_s),
            (Reason::RateLimited, Some(error)) => limits::rate_limited(error),
            (Reason::ClientOutdated, _) => {
                let target = self.answer.target;
                let now = target.version.as_ref().and_then(|v| v.to_str().ok()).unwrap_or("not set");
                self.failure(reason).next_step(format!(
                    "raise `[targets.{}] version` (now {now}), or update the Codex client that called, or use another model",
                    target.id
                ))
            }
            _ => self.failure(reason),
        }
    }
}
