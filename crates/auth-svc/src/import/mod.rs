//! Takes credentials over from the files of Codex CLI and OpenClaw.
//!
//! Two halves, because the files may lie on another machine than the database: [`collect`] reads them where the command
//! runs, and `run` reads what is in them where the credentials are kept. `run` reads everything into a plan before the
//! first write, so a file that cannot be understood changes nothing.

mod apply;
mod codex;
pub mod collect;
mod input;
mod openclaw;
mod plan;
#[cfg(test)]
mod tests;

use domain::Failure;
use proto::auth::v1::{ImportCredentialsRequest, ImportCredentialsResponse};

pub use collect::{CollectError, Collected, collect_codex, collect_openclaw};

use crate::store::Store;
use input::Refused;
use plan::Context;

/// Provider of OAuth credentials that open the Codex backend.
const CODEX: &str = "openai-codex";
/// Provider of API keys of the OpenAI platform.
const OPENAI: &str = "openai";
/// Label of a credential from `auth.json` where the request gives none.
const DEFAULT_LABEL: &str = "main";

/// What an import must know of the service.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Origin of the identity provider: the issuer of a credential whose file does not name one.
    pub(crate) identity_origin: String,
    /// Unix seconds.
    pub(crate) now_s: i64,
    /// Seconds before its expiry at which an access token is refreshed.
    pub(crate) refresh_margin_s: i64,
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
    let context = Context { settings, borrow: request.borrow };
    let plan = match request.format.as_str() {
        "codex" => codex::plan(&context, &request),
        "openclaw" => openclaw::plan(&context, &request),
        other => Err(Refused::new(format!("import format {other:?} is not known; the formats are codex and openclaw"))
            .param("format")),
    }?;
    apply::apply(store, &context, plan, request.dry_run).await
}
