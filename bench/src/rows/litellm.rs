//! LiteLLM's proxy, as `pip install 'litellm[proxy]'` brings it, with the simulator as its OpenAI API.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use e2e::Home;

use super::process::Service;
use super::{Endpoint, free_port, on_path};
use crate::Failed;
use crate::sim::{API_KEY, SimProcess};

/// Names the program, or the virtual environment that it is installed in.
const VARIABLE: &str = "BENCH_LITELLM";
/// It reads a great deal before it listens.
const START_TIME: Duration = Duration::from_secs(120);
const MASTER_KEY: &str = "sk-bench-litellm";

pub(super) fn missing() -> Option<String> {
    program().is_none().then(|| {
        format!("`litellm` is not installed (`pip install 'litellm[proxy]'`; {VARIABLE} names the program or its venv)")
    })
}

fn program() -> Option<PathBuf> {
    match std::env::var_os(VARIABLE).map(PathBuf::from) {
        Some(venv) if venv.is_dir() => Some(venv.join("bin/litellm")).filter(|program| program.is_file()),
        Some(program) => Some(program).filter(|program| program.is_file()),
        None => on_path("litellm"),
    }
}

pub(super) async fn start(sim: &SimProcess) -> Result<(Service, Endpoint), Failed> {
    let program = program().ok_or("litellm is not installed")?;
    let home = Home::bare();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let model = format!("model: openai/gpt-5.5, api_base: \"{}/v1\", api_key: \"{API_KEY}\"", sim.plain_url);
    let settings = format!(
        "model_list:\n  - model_name: gpt-5.5\n    litellm_params: {{ {model} }}\ngeneral_settings: {{ master_key: {MASTER_KEY} }}\n"
    );
    let file = home.write("litellm.yaml", &settings);
    let mut command = Command::new(program);
    command.arg("--config").arg(file).args(["--host", "127.0.0.1", "--port", &address.port().to_string()]);
    command.args(["--num_workers", "1", "--telemetry", "False"]).env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    let mut service = Service::spawn("litellm", command, &home)?;
    service.listening(address, START_TIME).await?;
    let headers = format!("authorization: Bearer {MASTER_KEY}\r\n");
    Ok((service, Endpoint { address, path: "/v1/responses", headers, whole: false }))
}
