//! `config check` and `config show`: what is in force, and where each value comes from. Needs no server.

use domain::Reason;
use domain::service::CLI;
use serde_json::json;
use service_kit::startup::StartError;

use crate::args::{Cli, ConfigAction, ConfigArgs};
use crate::control::places;
use crate::output::{Failed, print_json, print_line, print_text};

pub(crate) fn run(cli: &Cli, args: &ConfigArgs) -> Result<(), Failed> {
    let options = places(cli)?.load_options(Vec::new())?;
    let loaded = match config::load(&options) {
        Ok(loaded) => loaded,
        Err(error) if cli.json => {
            let problems = error.problems.clone();
            let start = StartError::from(error);
            let code = start.exit_code();
            print_json(&json!({ "status": "error", "error": start.into_failure(CLI), "problems": problems }));
            return Err(Failed::Printed(code));
        }
        Err(error) => return Err(StartError::from(error).into()),
    };
    match args.action {
        ConfigAction::Check => {
            let file = loaded.file.as_ref().map(|f| f.display().to_string());
            if cli.json {
                print_json(&json!({ "status": "ok", "file": file, "digest": loaded.digest }));
            } else {
                let from = file.unwrap_or_else(|| "built-in defaults (no file)".to_owned());
                print_line(&format!("ok: {from}, configuration digest {}", loaded.digest));
            }
        }
        ConfigAction::Show if cli.json => {
            let config = serde_json::to_value(&loaded.config)
                .map_err(|e| Failed::because(Reason::Internal, e.to_string(), Reason::Internal.row().next_step))?;
            print_json(&redacted(config));
        }
        ConfigAction::Show => print_text(&config::show(&loaded)),
    }
    Ok(())
}

/// A proxy's URL may hold a password.
fn redacted(mut config: serde_json::Value) -> serde_json::Value {
    for section in ["auth", "transport"] {
        if let Some(proxy) = config.get_mut(section).and_then(|s| s.get_mut("proxy"))
            && let Some((scheme, rest)) = proxy.as_str().and_then(|p| p.split_once("://"))
            && let Some((_, host)) = rest.rsplit_once('@')
        {
            *proxy = json!(format!("{scheme}://[redacted]@{host}"));
        }
    }
    config
}
