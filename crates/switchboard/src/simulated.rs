//! The simulator in this process, and the configuration that sends everything to it.

use std::time::Duration;

use codex_sim::{Sim, SimConfig};
use service_kit::startup::StartError;

/// Starts a simulator that approves device logins by itself.
pub(crate) async fn start() -> Result<Sim, StartError> {
    let config = SimConfig {
        device_auto_approve_after: Some(1),
        device_interval_seconds: 1,
        pace: Duration::from_millis(15),
        // Credentials in the simulator's data directory outlive a restart; the simulator's memory does not.
        adopt_own_tokens: true,
        ..SimConfig::default()
    };
    Sim::start(config).await.map_err(|e| StartError::Failed(format!("the simulator cannot start: {e}")))
}

/// The settings that point every target and the identity provider at `sim`.
pub(crate) fn overrides(sim: &Sim) -> Vec<(String, String)> {
    [
        ("targets.chatgpt-codex.base_url", sim.codex_base_url()),
        ("targets.openai-api.base_url", sim.openai_base_url()),
        ("auth.identity_url", sim.base_url()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec()
}
