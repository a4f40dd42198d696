//! Why a process did not start, and how it says so.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use domain::{Failure, Reason, service};

use crate::data_dir::DataDirError;
use crate::key_file::KeyFileError;
use crate::listener::BindError;
use crate::mount::MountError;

/// Exit code for a bad configuration (`EX_CONFIG` of sysexits.h).
pub const EXIT_CONFIGURATION: u8 = 78;

/// Why a process did not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is at fault: exit code 78.
    Configuration(String),
    /// Anything else: exit code 1.
    Failed(String),
    /// The same, with its reason and the next step, whose further lines are commands to be copied.
    Failure(Box<Failure>),
    /// As [`Self::Failure`], with the configuration, or what it names, at fault: exit code 78.
    Unfit(Box<Failure>),
}

impl StartError {
    /// From a service's own error, which knows whether the configuration is at fault.
    pub fn build(error: &dyn fmt::Display, is_configuration: bool) -> Self {
        if is_configuration { Self::Configuration(error.to_string()) } else { Self::Failed(error.to_string()) }
    }

    /// As a failure, of `service` where it does not say itself whose it is.
    pub fn into_failure(self, service: &str) -> Failure {
        match self {
            Self::Failure(failure) | Self::Unfit(failure) => *failure,
            Self::Configuration(message) => Failure::new(Reason::RequestInvalid, service, message).next_step(
                "correct the configuration or the argument as the message says; `switchboard config check` looks again",
            ),
            Self::Failed(message) => Failure::new(Reason::RequestInvalid, service, message)
                .next_step("mend what the message names, and start it again: nothing was changed"),
        }
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) | Self::Unfit(_) => EXIT_CONFIGURATION,
            Self::Failed(_) | Self::Failure(_) => 1,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(message) | Self::Failed(message) => f.write_str(message),
            Self::Failure(failure) | Self::Unfit(failure) => write!(f, "{failure}"),
        }
    }
}

impl From<config::ConfigError> for StartError {
    fn from(error: config::ConfigError) -> Self {
        Self::Configuration(error.to_string())
    }
}

macro_rules! failed_from {
    ($($error:ty),+) => { $(impl From<$error> for StartError {
        fn from(error: $error) -> Self {
            Self::Failed(error.to_string())
        }
    })+ };
}
failed_from!(BindError, KeyFileError, MountError, telemetry::TelemetryError, std::io::Error);

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self::Failure(Box::new(failure))
    }
}

impl From<DataDirError> for StartError {
    fn from(error: DataDirError) -> Self {
        match error {
            DataDirError::Io(..) | DataDirError::InUse(..) => error.failure(service::CLI).into(),
            // Nobody mends it by waiting.
            _ => Failure { retryable: false, retry_after_seconds: None, ..error.failure(service::CLI) }.into(),
        }
    }
}

/// The exit code of a process, after printing why it failed.
pub fn finish(result: Result<(), StartError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in told(&error) {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Why a process did not start, line by line.
fn told(error: &StartError) -> Vec<String> {
    match error {
        StartError::Configuration(message) | StartError::Failed(message) => {
            message.lines().map(|line| format!("error: {line}")).collect()
        }
        StartError::Failure(failure) | StartError::Unfit(failure) => {
            let Failure { reason, service, message, next_step, .. } = &**failure;
            let mut lines = vec![format!("error: {reason} ({service}): {message}")];
            lines.extend(format!("next: {next_step}").lines().map(str::to_owned));
            lines.push(format!("more: switchboard explain {reason}"));
            lines
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_on_lines_that_can_be_copied() {
        let failure = Failure::new(Reason::StoreUnavailable, service::AUTH, "it is damaged").next_step("type\n  ls");
        let lines = told(&StartError::from(failure));
        assert_eq!(lines[..3], ["error: STORE_UNAVAILABLE (auth-svc): it is damaged", "next: type", "  ls"]);
    }
}
