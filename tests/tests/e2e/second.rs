//! A second egress beside the one that every topology has: a transport service of its own, on a socket of its own.

use e2e::{Home, Part, Process};

/// Its name.
pub(crate) const SECOND: &str = "second";
/// The label that routes and credentials ask for it by.
pub(crate) const SECOND_LABEL: &str = "far";

/// Names it in the configuration, with a key for the seals that both transport services open.
pub(crate) fn configure_second(home: &Home) {
    let key = home.path("seal.key");
    service_kit::SecretKey::generate().expect("a key").write_new(&key).expect("written");
    let key = format!("\"{}\"", key.display());
    home.set("auth.seal_key_file", key.clone()).set("transport.seal_key_file", key);
    home.set("gateway.transports.second.address", format!("\"{}\"", address(home)));
    home.set("gateway.transports.second.labels", format!("[\"{SECOND_LABEL}\"]"));
}

/// Starts it, and waits until it listens.
pub(crate) async fn start_second(home: &Home) -> Process {
    let mut command = home.command(Part::Transport.name());
    command.env("SWITCHBOARD__TRANSPORT__LISTEN", address(home));
    command.env("SWITCHBOARD__TRANSPORT__NAME", SECOND);
    let mut process = Process::spawn(SECOND, command, &home.log_file(SECOND));
    let _ = process.listening(&[Part::Transport.name()], e2e::PATIENCE).await.expect("it listens");
    process
}

fn address(home: &Home) -> String {
    format!("unix://{}", home.path("second.sock").display())
}
