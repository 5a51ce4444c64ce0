//! One token per process that says: finish what you are doing and return.
//!
//! Nothing here ends a process; `main` does, after what it started has returned.

use tokio_util::sync::CancellationToken;

/// Returns a token that is cancelled by the first SIGTERM or interrupt.
///
/// # Errors
/// When the signal handler cannot be installed.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let trigger = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "shutting down"),
            _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "shutting down"),
        }
        trigger.cancel();
    });
    Ok(token)
}
