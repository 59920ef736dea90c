//! A network between hosts, of which every delay and every loss is decided by one seed.
//!
//! What is written to a connection arrives after the link's latency, in order, as TCP delivers it.
//! What can go wrong:
//!
//! | | |
//! |---|---|
//! | blocked link | nothing passes until it is free again; then it arrives, as what TCP sends again |
//! | reset connection | both ends are told, what was under way is lost |
//! | half-open connection | what is written vanishes, in one direction or both, and nobody is told |
//! | a host that died with its machine | its connections are half-open |
//! | a host that ended | its connections are closed |
//!
//! Time is the driver's: what is due is delivered between two turns of the hosts, so that a seed
//! decides the order of everything.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt, io,
    sync::Arc,
    task::Waker,
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use keyloom_environment::{Address, Connection, Dial};
use keyloom_proxy::{Accept, AcceptedConnection, Listen};
use keyloom_testkit::program::Chance;
use parking_lot::Mutex;
use tokio::time::sleep;

mod socket;

use socket::{End, Pipe, Socket};

/// How often a dial looks whether its link is free, and how long it does.
const DIAL_AGAIN: Duration = Duration::from_millis(200);
const DIAL_TIMEOUT: Duration = Duration::from_secs(20);

/// The latency of a link, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) least: i64,
    pub(crate) most: i64,
}

/// The network. Clones are the same.
#[derive(Clone)]
pub(crate) struct Net {
    state: Arc<Mutex<NetState>>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

pub(crate) struct NetState {
    now: Duration,
    chance: Chance,
    latency: Latency,
    /// Extra latency of single links, in milliseconds.
    slow: BTreeMap<(String, String), i64>,
    blocked: BTreeSet<(String, String)>,
    listeners: BTreeMap<String, Listener>,
    pipes: BTreeMap<u64, Pipe>,
    opened: u64,
}

#[derive(Default)]
struct Listener {
    waiting: VecDeque<Socket>,
    waker: Option<Waker>,
}

/// One direction of a connection; the other has the number with the last bit turned.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) number: u64,
}

impl Net {
    pub(crate) fn new(seed: u64, latency: Latency) -> Self {
        let state = NetState {
            now: Duration::ZERO,
            chance: Chance::new(seed),
            latency,
            slow: BTreeMap::new(),
            blocked: BTreeSet::new(),
            listeners: BTreeMap::new(),
            pipes: BTreeMap::new(),
            opened: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The network as a host sees it.
    pub(crate) fn of(&self, host: &str) -> Port {
        Port {
            net: self.clone(),
            host: host.to_owned(),
        }
    }

    // === the driver's side ===

    /// Delivers what is due by now.
    pub(crate) fn deliver(&self, now: Duration) {
        let mut state = self.state.lock();
        state.now = now;
        let state = &mut *state;
        for pipe in state.pipes.values_mut() {
            let blocked = state
                .blocked
                .contains(&(pipe.from.clone(), pipe.to.clone()));
            if !blocked {
                pipe.deliver(now);
            }
        }
        state.pipes.retain(|_, pipe| !pipe.is_over());
    }

    /// Nothing passes from one host to another, until it is called with `false`.
    pub(crate) fn block(&self, from: &str, to: &str, blocked: bool) {
        let link = (from.to_owned(), to.to_owned());
        let mut state = self.state.lock();
        if blocked {
            state.blocked.insert(link);
        } else if state.blocked.remove(&link) {
            // TCP waits longer and longer before it sends again.
            let again = Duration::from_millis(state.chance.between(0, 800).unsigned_abs());
            let earliest = state.now + again;
            for pipe in state.pipes.values_mut() {
                if pipe.from == from && pipe.to == to {
                    pipe.put_off(earliest);
                }
            }
        }
    }

    /// Everything from one host to another takes so much longer, in milliseconds.
    pub(crate) fn slow_down(&self, from: &str, to: &str, by: i64) {
        let link = (from.to_owned(), to.to_owned());
        self.state.lock().slow.insert(link, by);
    }

    /// Takes back everything that is wrong with links. Half-open connections stay so, or end.
    pub(crate) fn heal(&self, half_open: bool) {
        let vanishing: Vec<_> = {
            let state = self.state.lock();
            let broken = state.pipes.iter().filter(|(_, pipe)| pipe.vanishes());
            broken.map(|(number, _)| *number).collect()
        };
        for number in vanishing.into_iter().filter(|_| !half_open) {
            self.reset(number);
        }
        let blocked = std::mem::take(&mut self.state.lock().blocked);
        for (from, to) in &blocked {
            self.state.lock().blocked.insert((from.clone(), to.clone()));
            self.block(from, to, false);
        }
        self.state.lock().slow.clear();
    }

    /// The connections between two hosts, whoever dialled.
    pub(crate) fn links(&self, one: &str, other: &str) -> Vec<Link> {
        let state = self.state.lock();
        let between = state.pipes.iter().filter(|(_, pipe)| {
            (pipe.from == one && pipe.to == other) || (pipe.from == other && pipe.to == one)
        });
        between
            .map(|(number, _)| Link { number: *number })
            .collect()
    }

    /// Ends the connection to which a direction belongs; both ends are told.
    pub(crate) fn reset(&self, number: u64) {
        let mut state = self.state.lock();
        for number in [number, number ^ 1] {
            if let Some(pipe) = state.pipes.get_mut(&number) {
                pipe.reset();
            }
        }
    }

    /// From now on what is written in this direction vanishes.
    pub(crate) fn vanish(&self, number: u64) {
        if let Some(pipe) = self.state.lock().pipes.get_mut(&number) {
            pipe.vanish();
        }
    }

    /// The machine of a host died: nobody is told anything by it any more.
    pub(crate) fn power_off(&self, host: &str) {
        self.stop_listening(host);
        let mut state = self.state.lock();
        for pipe in state.pipes.values_mut() {
            if pipe.from == host || pipe.to == host {
                pipe.vanish();
            }
        }
    }

    /// The process of a host ended: its system closes what is open.
    pub(crate) fn close_all(&self, host: &str) {
        self.stop_listening(host);
        let mut state = self.state.lock();
        let now = state.now;
        for pipe in state.pipes.values_mut() {
            if pipe.from == host {
                pipe.close(now);
            }
            if pipe.to == host {
                pipe.orphan();
            }
        }
    }

    fn stop_listening(&self, host: &str) {
        // Sockets that nobody took lock the network when they are dropped.
        let gone = self.state.lock().listeners.remove(host);
        drop(gone);
    }

    /// The machine is there again and knows nothing of its old connections.
    pub(crate) fn forget_old(&self, host: &str) {
        let numbers: Vec<_> = {
            let state = self.state.lock();
            let of_host = |pipe: &Pipe| pipe.from == host || pipe.to == host;
            let old = state.pipes.iter().filter(|(_, pipe)| of_host(pipe));
            old.map(|(number, _)| *number).collect()
        };
        for number in numbers {
            self.reset(number);
        }
    }
}

impl NetState {
    fn latency(&mut self, from: &str, to: &str) -> Duration {
        let Latency { least, most } = self.latency;
        // Most are near the least; a few take long.
        let usual = self.chance.between(least, most);
        let long = if self.chance.percent(3) { most * 4 } else { 0 };
        let link = (from.to_owned(), to.to_owned());
        let slow = self.slow.get(&link).copied().unwrap_or(0);
        Duration::from_millis((usual + long + slow).unsigned_abs())
    }
}

/// A host's way into the network.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    net: Net,
    host: String,
}

impl Port {
    async fn connect(self, to: Address) -> io::Result<Box<dyn Connection>> {
        let Address::Tcp { host: target, .. } = to else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let mut waited = Duration::ZERO;
        let (there, back) = (
            (self.host.clone(), target.clone()),
            (target.clone(), self.host.clone()),
        );
        loop {
            let latency = {
                let mut state = self.net.state.lock();
                let blocked = state.blocked.contains(&there) || state.blocked.contains(&back);
                let latency =
                    state.latency(&self.host, &target) + state.latency(&target, &self.host);
                (!blocked).then_some(latency)
            };
            let Some(latency) = latency else {
                sleep(DIAL_AGAIN).await;
                waited += DIAL_AGAIN;
                if waited >= DIAL_TIMEOUT {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                continue;
            };
            sleep(latency).await;
            return match self.net.open(&self.host, &target) {
                Some(socket) => Ok(Box::new(socket)),
                None => Err(io::ErrorKind::ConnectionRefused.into()),
            };
        }
    }
}

impl Net {
    /// A new connection; none where nobody listens.
    fn open(&self, from: &str, to: &str) -> Option<Socket> {
        let mut state = self.state.lock();
        if !state.listeners.contains_key(to) {
            return None;
        }
        let number = state.opened * 2;
        state.opened += 1;
        let pipe = |from: &str, to: &str| Pipe::new(from.to_owned(), to.to_owned());
        state.pipes.insert(number, pipe(from, to));
        state.pipes.insert(number + 1, pipe(to, from));
        let socket = |writes, reads| Socket {
            net: self.clone(),
            writes,
            reads,
        };
        let theirs = socket(number + 1, number);
        let listener = state.listeners.get_mut(to)?;
        listener.waiting.push_back(theirs);
        if let Some(waker) = listener.waker.take() {
            waker.wake();
        }
        Some(socket(number, number + 1))
    }
}

impl Dial for Port {
    fn dial(&self, to: Address) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        self.clone().connect(to).boxed()
    }
}

impl Listen for Port {
    fn listen(&self, at: Address) -> BoxFuture<'_, io::Result<Box<dyn Accept>>> {
        self.net.stop_listening(&self.host);
        let mut state = self.net.state.lock();
        state
            .listeners
            .insert(self.host.clone(), Listener::default());
        let listening: Box<dyn Accept> = Box::new(Listening {
            port: self.clone(),
            address: at,
        });
        std::future::ready(Ok(listening)).boxed()
    }
}

#[derive(Debug)]
struct Listening {
    port: Port,
    address: Address,
}

impl Accept for Listening {
    fn accept(&self) -> BoxFuture<'_, io::Result<AcceptedConnection>> {
        std::future::poll_fn(|context| {
            let mut state = self.port.net.state.lock();
            let Some(listener) = state.listeners.get_mut(&self.port.host) else {
                return std::task::Poll::Pending;
            };
            match listener.waiting.pop_front() {
                Some(socket) => {
                    let accepted = AcceptedConnection {
                        connection: Box::new(socket),
                        from: None,
                    };
                    std::task::Poll::Ready(Ok(accepted))
                }
                None => {
                    listener.waker = Some(context.waker().clone());
                    std::task::Poll::Pending
                }
            }
        })
        .boxed()
    }

    fn address(&self) -> io::Result<Address> {
        Ok(self.address.clone())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.port.net.stop_listening(&self.port.host);
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
        })
    }
}
