//! When a process is to stop.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled at SIGTERM or SIGINT. A second signal ends the process at once, with exit code 130.
pub fn shutdown_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = token.clone();
    let watch = async move {
        tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
        tracing::info!("shutting down; a second signal ends the process at once");
        stop.cancel();
        tokio::select! { _ = term.recv() => {} _ = int.recv() => {} }
        std::process::exit(130);
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "it belongs to the process, not to a service: no shutdown waits for it"
    )]
    drop(tokio::spawn(watch));
    Ok(token)
}
