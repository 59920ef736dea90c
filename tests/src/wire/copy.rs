//! One direction of a connection.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use keyloom_testkit::program::Chance;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::tcp::{ReadHalf, WriteHalf},
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

use super::Fault;

/// How much is on its way at most, in pieces: more waits at the sender.
const PIECES: usize = 256;
const PIECE: usize = 16 * 1024;

/// What of a connection's life one direction sees.
pub(super) struct Direction<'a> {
    pub(super) fault: watch::Receiver<Fault>,
    /// Whether a fault swallows what goes in this direction.
    pub(super) swallows: fn(Fault) -> bool,
    pub(super) swallowed: &'a AtomicU64,
}

impl Direction<'_> {
    /// Copies to the end of either side.
    pub(super) async fn copy(self, reader: ReadHalf<'_>, writer: WriteHalf<'_>) {
        let (send, due) = mpsc::channel(PIECES);
        let fault = self.fault.clone();
        tokio::select! {
            () = self.read(reader, send) => {}
            () = write(writer, due, fault) => {}
        }
    }

    async fn read(self, mut reader: ReadHalf<'_>, send: mpsc::Sender<(Instant, Bytes)>) {
        let mut chance = Chance::new(0);
        let mut due = Instant::now();
        let mut piece = vec![0; PIECE];
        while let Ok(length @ 1..) = reader.read(&mut piece).await {
            let fault = *self.fault.borrow();
            if (self.swallows)(fault) {
                self.swallowed
                    .fetch_add(u64::try_from(length).unwrap_or(0), Ordering::Relaxed);
                continue;
            }
            // In order: nothing is due before what came before it.
            due = due.max(Instant::now() + delay(fault, &mut chance));
            let piece = Bytes::copy_from_slice(&piece[..length]);
            if send.send((due, piece)).await.is_err() {
                return;
            }
        }
    }
}

fn delay(fault: Fault, chance: &mut Chance) -> Duration {
    let Fault::Delay(from, to) = fault else {
        return Duration::ZERO;
    };
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Duration::from_millis(chance.between(millis(from), millis(to)).unsigned_abs())
}

async fn write(
    mut writer: WriteHalf<'_>,
    mut due: mpsc::Receiver<(Instant, Bytes)>,
    fault: watch::Receiver<Fault>,
) {
    while let Some((at, piece)) = due.recv().await {
        sleep_until(at).await;
        if writer.write_all(&piece).await.is_err() {
            return;
        }
        let fault = *fault.borrow();
        if let Fault::Throttle(rate) = fault {
            let length = u64::try_from(piece.len()).unwrap_or(0);
            sleep(Duration::from_millis(length * 1_000 / rate.max(1))).await;
        }
    }
}
