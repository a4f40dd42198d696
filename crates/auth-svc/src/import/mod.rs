//! Takes credentials over from the files of Codex CLI and OpenClaw.
//!
//! Two halves, because the files may lie on another machine than the database: [`collect`] reads them where the command
//! runs, and `run` reads what is in them where the credentials are kept. `run` reads everything into a plan before the
//! first write, so a file that cannot be understood changes nothing.

mod apply;
mod codex;
pub mod collect;
pub(crate) mod input;
pub(crate) mod openclaw;
mod outcome;
pub(crate) mod plan;
#[cfg(test)]
mod tests;

use domain::Failure;
use proto::auth::v1::{ImportCredentialsRequest, ImportCredentialsResponse};

pub use collect::{
    CollectError, Collected, collect_codex, collect_codex_for_export, collect_openclaw, collect_openclaw_for_export,
};

use crate::refresh::Rules;
use crate::store::Store;
use input::Refused;
use plan::Context;

/// Provider of OAuth credentials that open the Codex backend.
pub(crate) const CODEX: &str = "openai-codex";
/// Provider of API keys of the OpenAI platform.
pub(crate) const OPENAI: &str = "openai";
/// Label of a login where nobody gives one; the next ones are `main-2`, `main-3`, ….
pub(crate) const DEFAULT_LABEL: &str = "main";

/// What an import must know of the service.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Unix seconds.
    pub(crate) now_s: i64,
    /// When logins are refreshed. Their origin is the issuer of a credential whose file does not name one.
    pub(crate) rules: Rules,
}

/// Imports the request's files, or says what an import would do.
///
/// # Errors
///
/// REQUEST_INVALID, naming the file and the place in it, if a file cannot be understood or nothing in the request is one
/// we read; STORE_UNAVAILABLE if the database fails.
pub(crate) async fn run(
    store: &Store,
    settings: &Settings,
    request: ImportCredentialsRequest,
) -> Result<ImportCredentialsResponse, Failure> {
    let context = Context { settings, borrow: request.borrow, named: request.label.is_some() };
    let plan = match request.format.as_str() {
        "codex" => codex::plan(&context, &request),
        "openclaw" => openclaw::plan(&context, &request),
        other => Err(Refused::new(format!("import format {other:?} is not known; the formats are codex and openclaw"))
            .param("format")),
    }?;
    apply::apply(store, &context, plan, request.dry_run).await
}

/// Everything that an import says of the request's files before it stores anything.
#[cfg(any(test, fuzzing))]
pub(crate) fn said_of(request: ImportCredentialsRequest) -> Vec<String> {
    let rules = Rules { origin: "https://auth.openai.com".to_owned(), margin_s: 300, proactive: true };
    let settings = Settings { now_s: 1_795_392_000, rules };
    let context = Context { settings: &settings, borrow: request.borrow, named: request.label.is_some() };
    let plan = match request.format.as_str() {
        "codex" => codex::plan(&context, &request),
        _ => openclaw::plan(&context, &request),
    };
    match plan {
        Ok(plan) => plan.said(),
        Err(refused) => vec![Failure::from(refused).to_string()],
    }
}
