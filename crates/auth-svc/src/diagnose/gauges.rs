//! The gauges about credentials.

use proto::auth::v1 as pb;
use telemetry::metrics::{Sample, names};

/// Every state that a credential can be in.
const STATES: [&str; 7] = ["ready", "login_due", "expired", "needs_login", "undecryptable", "resting", "unconfirmed"];

/// The gauges of these credentials at `now` (Unix seconds). A credential is named by its label, as in every list: what its
/// operator chose, else `main` or a profile's name without its address. Its account id and address are not told.
pub(super) fn samples(credentials: &[pb::Credential], pending: usize, now: i64) -> Vec<Sample> {
    let mut samples = vec![Sample::new(names::PENDING_WRITES, pending as f64)];
    for credential in credentials {
        let of = |name: &'static str, value: f64| Sample::new(name, value).label("credential", &credential.label);
        for state in STATES {
            let here = f64::from(u8::from(credential.state == state));
            samples.push(of(names::CREDENTIAL_STATE, here).label("state", state));
        }
        if credential.kind == "oauth" {
            let failing = credential.refresh_failing_since.map_or(0.0, |since| (now as f64 - since).max(0.0));
            samples.push(of(names::REFRESH_FAILING, failing));
        }
        if let Some(at) = credential.expires_at {
            samples.push(of(names::CREDENTIAL_EXPIRES, at - now as f64));
        }
        for window in &credential.quota {
            let used = of(names::QUOTA_USED, window.used_percent / 100.0);
            samples.push(used.label("limit", &window.limit).label("window", window.window_seconds.to_string()));
        }
    }
    samples
}
