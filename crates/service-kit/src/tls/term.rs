//! How long a certificate is good, and that its owner hears of it in time.

use domain::timestamp;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::NobodyNamed;
use crate::finding::Finding;

/// How long before its end a certificate is spoken of: a week's holiday, and a week to get it done.
const SOON_S: i64 = 14 * 86_400;

/// From when until when a certificate is good, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// When it begins.
    pub begins_s: i64,
    /// When it ends.
    pub ends_s: i64,
}

/// How a certificate stands at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is good for a while.
    Good,
    /// It ends within two weeks.
    EndsSoon,
    /// It has not begun: somebody's clock is wrong.
    NotYet,
    /// It has ended.
    Ended,
}

impl Term {
    /// Reads it from a certificate.
    ///
    /// # Errors
    ///
    /// A certificate that cannot be read.
    pub fn of_certificate(der: &[u8]) -> Result<Self, NobodyNamed> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(NobodyNamed::unreadable)?;
        Ok(Self::of(&certificate))
    }

    pub(super) fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self { begins_s: validity.not_before.timestamp(), ends_s: validity.not_after.timestamp() }
    }

    /// How it stands at `now_s`.
    pub fn standing(self, now_s: i64) -> Standing {
        match self {
            Self { ends_s, .. } if now_s >= ends_s => Standing::Ended,
            Self { begins_s, .. } if now_s < begins_s => Standing::NotYet,
            Self { ends_s, .. } if now_s >= ends_s - SOON_S => Standing::EndsSoon,
            Self { .. } => Standing::Good,
        }
    }

    /// The same for people: `it has ended at 2026-11-23T00:00:00Z`.
    pub fn told(self, now_s: i64) -> String {
        match self.standing(now_s) {
            Standing::Good => format!("it is good until {}", timestamp(self.ends_s)),
            Standing::EndsSoon => format!("it ends at {}", timestamp(self.ends_s)),
            Standing::NotYet => {
                format!("it is good only from {} on; by this host's clock that is to come", timestamp(self.begins_s))
            }
            Standing::Ended => format!("it has ended at {}", timestamp(self.ends_s)),
        }
    }
}

impl Term {
    /// What an operator should know of it, and do: `renew` if it ends. `whose` says who has the certificate.
    pub fn finding(self, subject: &str, whose: &str, renew: &str, now_s: i64) -> Finding {
        let message = format!("{whose}: {}", self.told(now_s));
        match self.standing(now_s) {
            Standing::Good => Finding::ok(subject, message),
            Standing::EndsSoon => Finding::warning(subject, message).next(renew),
            Standing::Ended => Finding::error(subject, message).next(renew),
            Standing::NotYet => Finding::error(subject, message).next("set this host's clock, or wait"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;

    #[test]
    fn an_end_is_told_two_weeks_before() {
        let term = Term { begins_s: 1000, ends_s: 1000 + 20 * 86_400 };
        for (now_s, standing, severity, words) in [
            (999, Standing::NotYet, Severity::Error, "clock"),
            (1000, Standing::Good, Severity::Ok, "good until"),
            (term.ends_s - 15 * 86_400, Standing::Good, Severity::Ok, "good until"),
            (term.ends_s - 13 * 86_400, Standing::EndsSoon, Severity::Warning, "it ends at"),
            (term.ends_s - 1, Standing::EndsSoon, Severity::Warning, "it ends at"),
            (term.ends_s, Standing::Ended, Severity::Error, "has ended"),
        ] {
            assert_eq!(term.standing(now_s), standing, "{now_s}");
            let found = term.finding("certificate", "gateway", "renew it", now_s);
            assert!(found.message.starts_with("gateway: ") && found.message.contains(words), "{found}");
            assert_eq!((found.severity, found.next_step.is_empty()), (severity, severity == Severity::Ok), "{found}");
        }
    }
}
