//! Where the keeper runs: on a thread of its own, so that its renewals never wait behind clients.

use std::{io, sync::Arc, thread};

use keyloom_store::Store;
use parking_lot::Mutex;
use tokio::{runtime, sync::oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Where the leadership is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewOn {
    /// On a thread with a runtime and connections of its own.
    OwnThread,
    /// On the runtime that starts the instance: for simulations and for tests that stop time.
    ThisRuntime,
}

/// The keeper's work under way. It ends at once when this is dropped.
#[derive(Debug)]
pub(crate) struct Keeping {
    abort: DropGuard,
    ended: oneshot::Receiver<()>,
}

impl Keeping {
    /// # Errors
    /// Where the system gives no thread.
    pub(super) fn start(
        on: RenewOn,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Self> {
        let abort = CancellationToken::new();
        let (end, ended) = oneshot::channel();
        let aborted = abort.clone();
        let work = async move {
            tokio::select! {
                biased;
                () = aborted.cancelled() => {}
                () = work => {}
            }
            // Nobody may wait for it.
            let _gone = end.send(());
        };
        match on {
            RenewOn::ThisRuntime => drop(tokio::spawn(work)),
            RenewOn::OwnThread => {
                let runtime = runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                let thread = thread::Builder::new().name("leadership".to_owned());
                thread.spawn(move || runtime.block_on(work))?;
            }
        }
        let abort = abort.drop_guard();
        Ok(Self { abort, ended })
    }

    /// Ends it at once, as if the process had been killed.
    pub(crate) fn abort(self) {
        drop(self.abort);
    }

    /// Until it has ended by itself.
    pub(crate) async fn until_ended(&mut self) {
        // It is gone without a word where it panicked.
        drop((&mut self.ended).await);
    }
}

/// Stores as the keeper reaches them.
#[derive(Debug)]
pub(super) struct OwnConnections {
    on: RenewOn,
    known: Mutex<Option<Reconnected>>,
}

/// A store of another runtime, and the same one with connections here.
#[derive(Debug)]
struct Reconnected {
    there: Arc<dyn Store>,
    here: Arc<dyn Store>,
}

impl OwnConnections {
    pub(super) fn of_runtime(on: RenewOn) -> Self {
        Self {
            on,
            known: Mutex::default(),
        }
    }

    /// The same store, whose connections are driven where the keeper runs.
    pub(super) fn to(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        if self.on == RenewOn::ThisRuntime {
            return store;
        }
        let mut known = self.known.lock();
        if let Some(Reconnected { there, here }) = &*known
            && Arc::ptr_eq(there, &store)
        {
            return Arc::clone(here);
        }
        let here = store
            .with_own_connections()
            .unwrap_or_else(|| Arc::clone(&store));
        *known = Some(Reconnected {
            there: store,
            here: Arc::clone(&here),
        });
        here
    }
}
