//! A TCP connection that can be made bad: whatever goes through is delayed, throttled, swallowed,
//! cut, or loses the answers.
//!
//! It runs on a thread of its own, so that a test that is busy does not become a fault of its own.

mod copy;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use copy::Direction;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::{oneshot, watch},
};

/// What happens to what goes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// It goes through.
    #[default]
    None,
    /// Connections are reset, the open ones and new ones.
    Cut,
    /// Nothing goes through either way, and nobody is told: a half-open connection. New connections
    /// are accepted, and silent.
    Swallow,
    /// Requests go through, and their answers do not.
    DropAnswers,
    /// Everything comes later, each piece by a time from the first to the second; in order.
    Delay(Duration, Duration),
    /// So many bytes per second each way.
    Throttle(u64),
}

impl Fault {
    /// Whether bytes are lost, so that the connection is of no more use afterwards.
    fn loses(self) -> bool {
        matches!(self, Self::Cut | Self::Swallow | Self::DropAnswers)
    }
}

/// A way to an address.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    swallowed: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// To the address of an `http://` URL.
    #[must_use]
    pub fn to(url: &str) -> Self {
        let target = url.strip_prefix("http://").expect("a plain URL");
        let target: SocketAddr = target.parse().expect("an address");
        let (fault, seen) = watch::channel(Fault::None);
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let swallowed = Arc::<AtomicU64>::default();
        let lost = Arc::clone(&swallowed);
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
                let listener = listener.expect("a free port");
                let address = listener.local_addr().expect("its address");
                tell.send(address).expect("whoever starts it listens");
                tokio::select! {
                    () = accept(listener, target, seen, lost) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address: told.recv().expect("an address"),
            fault,
            swallowed,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Where to connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, for open connections too. One that lost bytes is reset when the fault is over.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// How many bytes were lost.
    #[must_use]
    pub fn swallowed(&self) -> u64 {
        self.swallowed.load(Ordering::Relaxed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    fault: watch::Receiver<Fault>,
    swallowed: Arc<AtomicU64>,
) {
    while let Ok((near, _)) = listener.accept().await {
        tokio::spawn(join(near, target, fault.clone(), Arc::clone(&swallowed)));
    }
}

/// One connection, to its end on either side or by a fault.
async fn join(
    mut near: TcpStream,
    target: SocketAddr,
    mut fault: watch::Receiver<Fault>,
    swallowed: Arc<AtomicU64>,
) {
    let begun = *fault.borrow_and_update();
    if begun == Fault::Cut {
        return reset(&near);
    }
    let Ok(mut far) = TcpStream::connect(target).await else {
        return reset(&near);
    };
    for stream in [&near, &far] {
        // Delays are what is asked for, and no others.
        drop(stream.set_nodelay(true));
    }
    {
        let (near_reader, near_writer) = near.split();
        let (far_reader, far_writer) = far.split();
        let requests = Direction {
            fault: fault.clone(),
            swallows: |fault| fault == Fault::Swallow,
            swallowed: &swallowed,
        };
        let answers = Direction {
            fault: fault.clone(),
            swallows: |fault| matches!(fault, Fault::Swallow | Fault::DropAnswers),
            swallowed: &swallowed,
        };
        tokio::select! {
            () = over(begun, &mut fault) => {}
            () = requests.copy(near_reader, far_writer) => {}
            () = answers.copy(far_reader, near_writer) => {}
        }
    }
    reset(&near);
    reset(&far);
}

/// Until the connection is cut, or was one that lost bytes and the fault is another now.
async fn over(mut now: Fault, fault: &mut watch::Receiver<Fault>) {
    while now != Fault::Cut {
        if fault.changed().await.is_err() {
            return;
        }
        let next = *fault.borrow_and_update();
        if now.loses() && next != now {
            return;
        }
        now = next;
    }
}

/// Whoever is at the other end is told by a reset, not by an orderly end.
fn reset(stream: &TcpStream) {
    drop(stream.set_zero_linger());
}

#[cfg(test)]
mod tests;
