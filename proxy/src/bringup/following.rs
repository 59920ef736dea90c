//! Follows the topology file: reads it again when it changes or on SIGHUP, and says what became of it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{Applied, Reconfigurer, Refusal};
use crate::{
    metrics::{ChangeOutcome, TopologyMetrics},
    topology_file,
    watched_files::{FileChanges, Files, files_of},
};

/// How often the files are looked at without being told, and a topology that was refused for
/// something that may pass is tried again.
const LOOK: Duration = Duration::from_secs(10);

/// What operators are told of the topology file.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileStatus(Arc<Mutex<Option<String>>>);

impl FileStatus {
    /// Why Keyloom does not serve what the file says.
    pub(crate) fn refused(&self) -> Option<String> {
        self.0.lock().clone()
    }
}

/// Follows one file.
#[derive(Debug)]
pub(crate) struct Following {
    file: PathBuf,
    endpoint: Option<String>,
    status: FileStatus,
    metrics: TopologyMetrics,
    changes: FileChanges,
    files: Files,
    /// What the files held when they were read last.
    read: Vec<Option<Vec<u8>>>,
    /// Whether the file that was refused may be accepted later as it is.
    try_again: bool,
}

impl Following {
    pub(crate) fn new(
        file: &Path,
        endpoint: Option<String>,
        status: FileStatus,
        metrics: TopologyMetrics,
        changes: FileChanges,
    ) -> Self {
        Self {
            file: file.to_owned(),
            endpoint,
            status,
            metrics,
            changes,
            files: Files::watch(file, changes),
            read: Vec::new(),
            try_again: false,
        }
    }

    /// Reads the file and applies it: at a start, and whenever something changed.
    ///
    /// # Errors
    /// Why it was refused.
    pub(crate) async fn read(&mut self, reconfigurer: &Reconfigurer) -> Result<Applied, String> {
        let read = match topology_file::load(Some(&self.file), self.endpoint.clone()) {
            Ok(topology) => {
                self.files.name(&files_of(&topology));
                self.read = self.files.contents();
                reconfigurer.apply(topology).await
            }
            Err(error) => {
                self.read = self.files.contents();
                self.refused(format!("{error:#}"), false);
                return Err(format!("{error:#}"));
            }
        };
        match read {
            Ok(applied) => {
                self.applied(applied);
                Ok(applied)
            }
            Err(refusal) => {
                self.refused(refusal.to_string(), refusal.may_pass());
                if let Refusal::Ledger(_) = refusal {
                    error!("this instance cannot answer any more and exits: {refusal}");
                }
                Err(refusal.to_string())
            }
        }
    }

    fn applied(&mut self, applied: Applied) {
        self.try_again = false;
        self.metrics.looked_at(match applied {
            Applied::Unchanged => ChangeOutcome::Unchanged,
            Applied::Changed { .. } => ChangeOutcome::Accepted,
        });
        if self.status.0.lock().take().is_some() {
            info!("serving the topology of the file again");
        }
    }

    fn refused(&mut self, why: String, try_again: bool) {
        self.try_again = try_again;
        self.metrics.looked_at(ChangeOutcome::Refused);
        let mut status = self.status.0.lock();
        if status.as_ref() == Some(&why) {
            debug!(why, "the topology file is still refused");
            return;
        }
        error!(
            why,
            "the topology file is refused; the topology accepted before stays in effect"
        );
        *status = Some(why);
    }

    /// Until `stop` is cancelled.
    pub(crate) async fn run(mut self, reconfigurer: Arc<Reconfigurer>, stop: CancellationToken) {
        let mut hangup = match self.changes {
            FileChanges::Told => hangups(),
            FileChanges::Looked => None,
        };
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            let is_asked = tokio::select! {
                () = stop.cancelled() => return,
                _ = asked => true,
                () = self.files.changed() => false,
                _ = looks.tick() => self.try_again,
            };
            if is_asked || self.files.contents() != self.read {
                // It is logged and shown.
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = self.read(&reconfigurer) => {}
                }
            }
        }
    }
}

fn hangups() -> Option<Signal> {
    let hangups = signal(SignalKind::hangup());
    hangups
        .inspect_err(|error| warn!(%error, "SIGHUP will not reload the topology file"))
        .ok()
}
