//! A network in memory: hosts that serve, refuse or say nothing.

use std::{collections::HashMap, fmt, io, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use tokio::io::DuplexStream;

use keyloom_environment::{Address, Connection, Dial};

type Accept = Arc<dyn Fn(DuplexStream) + Send + Sync>;

#[derive(Clone)]
enum Host {
    /// Takes connections.
    Up(Accept),
    /// Refuses connections.
    Down,
    /// Drops every packet.
    Gone,
}

#[derive(Clone, Default)]
pub(super) struct Network {
    hosts: Arc<Mutex<HashMap<String, Host>>>,
    dials: Arc<Mutex<Vec<String>>>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

impl Network {
    pub(super) fn up(&self, host: &str, accept: impl Fn(DuplexStream) + Send + Sync + 'static) {
        self.set(host, Host::Up(Arc::new(accept)));
    }

    pub(super) fn down(&self, host: &str) {
        self.set(host, Host::Down);
    }

    pub(super) fn gone(&self, host: &str) {
        self.set(host, Host::Gone);
    }

    /// How often a host was dialled.
    pub(super) fn dials(&self, host: &str) -> usize {
        self.dials
            .lock()
            .iter()
            .filter(|dialled| *dialled == host)
            .count()
    }

    fn set(&self, host: &str, state: Host) {
        self.hosts.lock().insert(host.to_owned(), state);
    }
}

impl Dial for Network {
    fn dial(&self, to: Address) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        let Address::Tcp { host, .. } = to else {
            panic!("no such address: {to}");
        };
        let state = self.hosts.lock().get(&host).cloned().unwrap_or(Host::Down);
        self.dials.lock().push(host);
        async move {
            match state {
                Host::Up(accept) => {
                    let (ours, theirs) = tokio::io::duplex(256 << 10);
                    accept(theirs);
                    Ok(Box::new(ours) as Box<dyn Connection>)
                }
                Host::Down => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                Host::Gone => std::future::pending().await,
            }
        }
        .boxed()
    }
}
