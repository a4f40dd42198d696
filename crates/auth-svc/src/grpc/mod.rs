//! The gRPC faces: each method reads its request, calls one function, and writes the answer.

mod audit;
mod binding;
mod credential;
mod key;
mod login;
mod maintenance;

use domain::Failure;
use tonic::Status;

pub(crate) use audit::AuditFace;
pub(crate) use binding::Binding;
pub(crate) use credential::Credentials;
pub(crate) use key::AgentKeys;
pub(crate) use login::LoginFace;
pub(crate) use maintenance::Maintenance;

/// For `map_err`.
fn status(failure: impl Into<Failure>) -> Status {
    service_kit::status_from_failure(&failure.into())
}
