//! What every command that speaks to stores stands on: one thread, the system's network and
//! chance, and an end on SIGTERM or SIGINT.

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result};
use keyloom_environment::{OsRandom, TokioDial};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{app::Environment, listen::TokioListen};

/// Runs a command to its end. The token is cancelled by the first signal; what then is to be
/// finished or tidied up is the command's.
pub(super) fn work(
    task: impl AsyncFnOnce(Environment, CancellationToken) -> Result<()>,
) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        tokio::spawn(cancel_on_signal(stop.clone()));
        let environment = Environment {
            dial: Arc::new(TokioDial),
            listen: Arc::new(TokioListen),
            random: Arc::new(OsRandom),
            changes: crate::FileChanges::Told,
        };
        task(environment, stop).await
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn cancel_on_signal(stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return;
    };
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    info!(signal = name, "shutting down; running calls finish first");
    stop.cancel();
}
