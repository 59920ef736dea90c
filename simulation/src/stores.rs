//! The stores of a run: what they are, how they fail, and everything that ever happened in them.

use std::sync::Arc;

use keyloom_etcd_api::{Rpc, Status, mvccpb::Event};
use keyloom_store::CallError;
use keyloom_testkit::model::{Identity, ModelStore, Profile};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{net::Net, server};

/// One store.
#[derive(Debug)]
pub(crate) struct SimStore {
    /// Its name in topologies, and its host.
    pub(crate) host: String,
    pub(crate) model: ModelStore,
    /// Whether it answers nothing.
    hung: watch::Sender<bool>,
    /// Every revision from 2 on, with its changes.
    log: Mutex<Vec<Vec<Event>>>,
    /// While it runs.
    running: Mutex<Option<CancellationToken>>,
    ambush: Mutex<Ambush>,
}

/// Waits for a write of the ledger.
#[derive(Debug, Default)]
struct Ambush {
    /// How many go through before, and whether the next takes effect.
    waits: Option<(i64, bool)>,
    caught: bool,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Goes,
    /// It takes effect, and the caller hears nothing any more.
    TakesEffect,
    /// It does not even take effect.
    IsLost,
}

/// What the ledger's keys begin with.
const LEDGER: &[u8] = b"/_keyloom/";

impl SimStore {
    pub(crate) fn new(name: &str, number: u64, version: &str) -> Self {
        let profile = Profile {
            identity: Identity {
                cluster_id: 0xc0ff_ee00 + number,
                ..Identity::default()
            },
            version: version.to_owned(),
            ..Profile::default()
        };
        Self {
            host: name.to_owned(),
            model: ModelStore::new(profile),
            hung: watch::Sender::new(false),
            log: Mutex::default(),
            running: Mutex::new(None),
            ambush: Mutex::default(),
        }
    }

    /// Takes down what happened since it was last looked at: a compaction would forget it.
    pub(crate) fn look(&self) {
        let mut log = self.log.lock();
        self.model.with(|etcd| {
            let next = i64::try_from(log.len()).unwrap_or(i64::MAX) + 2;
            for revision in next..=etcd.revision() {
                log.push(etcd.keyspace().changes(revision).to_vec());
            }
        });
    }

    /// Every revision from 2 on, with its changes.
    pub(crate) fn log(&self) -> Vec<Vec<Event>> {
        self.look();
        self.log.lock().clone()
    }

    // === an ambush for the ledger's writes ===

    /// Lets so many writes of the ledger through; the next is the last.
    pub(crate) fn lie_in_wait(&self, through: i64, takes_effect: bool) {
        *self.ambush.lock() = Ambush {
            waits: Some((through, takes_effect)),
            caught: false,
        };
    }

    pub(crate) fn stop_waiting(&self) {
        *self.ambush.lock() = Ambush::default();
    }

    /// Whether somebody was caught since it was last asked.
    pub(crate) fn was_caught(&self) -> bool {
        std::mem::take(&mut self.ambush.lock().caught)
    }

    pub(crate) fn fate(&self, rpc: Rpc, message: &[u8]) -> Fate {
        let mut ambush = self.ambush.lock();
        let writes = rpc == Rpc::Txn && message.windows(LEDGER.len()).any(|part| part == LEDGER);
        if ambush.caught {
            // Whoever was caught lives no more.
            return if writes { Fate::IsLost } else { Fate::Goes };
        }
        match ambush.waits {
            Some((0, takes_effect)) if writes => {
                (ambush.waits, ambush.caught) = (None, true);
                if takes_effect {
                    Fate::TakesEffect
                } else {
                    Fate::IsLost
                }
            }
            Some((through, takes_effect)) if writes => {
                ambush.waits = Some((through - 1, takes_effect));
                Fate::Goes
            }
            _ => Fate::Goes,
        }
    }

    pub(crate) async fn wait_while_hung(&self) {
        // The sender is ours.
        drop(self.hung.subscribe().wait_for(|hung| !hung).await);
    }

    pub(crate) fn hang(&self, hung: bool) {
        self.hung.send_replace(hung);
    }

    /// Starts the server. To be called where its tasks are to run.
    pub(crate) fn start(self: &Arc<Self>, net: &Net) {
        let stop = CancellationToken::new();
        *self.running.lock() = Some(stop.clone());
        tokio::spawn(server::serve(Arc::clone(self), net.of(&self.host), stop));
    }

    /// Ends the server as a SIGKILL does; what it holds is on its disk.
    pub(crate) fn kill(&self, net: &Net) {
        if let Some(stop) = self.running.lock().take() {
            net.close_all(&self.host);
            stop.cancel();
        }
        self.model
            .end_streams(&CallError::Unknown("killed".to_owned()));
    }

    /// Whether a call that comes now is answered now.
    pub(crate) fn answers(&self) -> bool {
        self.is_running() && !*self.hung.borrow()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.lock().is_some()
    }

    /// Its members choose another leader: streams that asked for one end, as in etcd.
    pub(crate) fn lose_leader(&self, status: Status) {
        self.model.end_streams(&CallError::Refused(status));
    }
}
