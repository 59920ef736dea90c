//! What every command that speaks to stores stands on: threads, the system's network and chance, and
//! an end on SIGTERM or SIGINT.

use std::{num::NonZero, process::ExitCode, sync::Arc, thread};

use anyhow::{Context as _, Result};
use keyloom_environment::{OsRandom, TokioDial};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    environment::Environment, listen::TokioListen, order::RenewOn, watched_files::FileChanges,
    workers::Workers,
};

/// How many threads may run at once: the machine's cores, less what the affinity or the cgroup of this
/// process takes away.
pub(super) fn all_cores() -> NonZero<usize> {
    thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

/// Runs a command to its end on so many threads. The token is cancelled by the first signal; what then is to be
/// finished or tidied up is the command's.
pub(super) fn work(
    threads: NonZero<usize>,
    task: impl AsyncFnOnce(Environment, CancellationToken) -> Result<()>,
) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    // They end after the command.
    let (workers, _running) = Workers::start(threads).context("starting the threads")?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        tokio::spawn(cancel_on_signal(stop.clone()));
        let environment = Environment {
            dial: Arc::new(TokioDial),
            listen: Arc::new(TokioListen),
            random: Arc::new(OsRandom),
            changes: FileChanges::Told,
            renew_on: RenewOn::OwnThread,
            workers,
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
