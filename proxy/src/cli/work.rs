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
    let mut builder = match threads.get() {
        // Nothing is handed from one thread to another: a call costs less.
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder
        .worker_threads(threads.get())
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
            changes: FileChanges::Told,
            renew_on: RenewOn::OwnThread,
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
