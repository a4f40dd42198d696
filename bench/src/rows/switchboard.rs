//! Switchboard in one of its topologies, over a home of its own, with the same login.

use e2e::{Home, Switchboard, Topology};
use serde_json::Value;

use super::{Endpoint, Service};
use crate::Failed;
use crate::sim::SimProcess;

pub(super) async fn start(sim: &SimProcess, topology: Topology) -> Result<(Service, Endpoint), Failed> {
    let home = Home::bare();
    let quoted = |text: &str| Value::from(text).to_string();
    home.set("targets.chatgpt-codex.base_url", quoted(&format!("{}/backend-api/codex", sim.base_url)));
    home.set("auth.identity_url", quoted(&sim.plain_url));
    if let Some(pem) = &sim.ca_pem {
        let path = home.write("ca.pem", pem);
        home.set("transport.ca_file", quoted(&path.to_string_lossy()));
    }
    let login = home.write("codex/auth.json", &sim.login.codex_auth_json().to_string());
    // Nothing refreshes here: the token lives for days, so several may hold the same login.
    let imported = home.cli(&["import", "codex", &login.to_string_lossy(), "--label", "main"]).await;
    if imported.code != Some(0) {
        return Err(imported.to_string().into());
    }
    let switchboard = Switchboard::try_start(&home, topology).await?;
    let headers = format!("authorization: Bearer {}\r\n", switchboard.key());
    let endpoint = Endpoint { address: switchboard.address().parse()?, path: "/v1/responses", headers, whole: false };
    Ok((Service::Switchboard(Box::new(switchboard)), endpoint))
}
