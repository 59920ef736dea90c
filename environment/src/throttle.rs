//! A connection that is read at most so often while much comes: what comes in between is then taken
//! in one piece, and whoever it is for is woken once for all of it.
//!
//! ```text
//!   every read at once ── BUSY reads within a WINDOW ──► a read waits until PAUSE after the last one
//!          ▲                                                             │
//!          └────────────── a WINDOW with fewer reads ────────────────────┘
//! ```
//!
//! What comes seldom is never held up, and nothing is held up for longer than the pause and the
//! timer's tick of 1 ms.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Duration, Instant, Sleep, sleep_until},
};

/// Between two reads while much comes. The timer rounds it up to its tick.
const PAUSE: Duration = Duration::from_micros(500);

/// In which reads are counted.
const WINDOW: Duration = Duration::from_millis(8);

/// So many reads in a window are much: 1,500 a second.
const BUSY: u32 = 12;

/// See the module's page.
#[derive(Debug)]
pub struct ReadThrottle<C> {
    inner: C,
    pace: Option<(Throttle, Pace)>,
}

/// Whether connections are throttled, all those that were made with a clone of it: off at first.
#[derive(Clone, Debug, Default)]
pub struct Throttle(Arc<AtomicBool>);

impl Throttle {
    /// Throttles the connections from now on.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Pace {
    /// When the last read brought something.
    last: Instant,
    /// When the window began, and the reads in it.
    window: (Instant, u32),
    /// Whether much came in the window before.
    busy: bool,
    /// Whether there was nothing to read.
    waited: bool,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<C> ReadThrottle<C> {
    /// A connection that is read as it comes.
    pub fn not(inner: C) -> Self {
        Self { inner, pace: None }
    }

    /// A connection that is read at a pace once the throttle is set.
    pub fn new(inner: C, throttle: Throttle) -> Self {
        let now = Instant::now();
        let pace = Pace {
            last: now,
            window: (now, 0),
            busy: false,
            waited: false,
            pause: None,
        };
        Self {
            inner,
            pace: Some((throttle, pace)),
        }
    }
}

impl Pace {
    /// Until the next read may be.
    fn poll_due(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.pause.is_none() {
            if !self.waited || !self.busy {
                return Poll::Ready(());
            }
            let due = self.last + PAUSE;
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            self.pause = Some(Box::pin(sleep_until(due)));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
        }
        self.pause = None;
        Poll::Ready(())
    }

    /// A read brought something.
    fn count(&mut self) {
        let now = Instant::now();
        let (begun, reads) = &mut self.window;
        let passed = now.duration_since(*begun);
        *reads += 1;
        if passed >= WINDOW {
            // A pause lets through a few reads in each window.
            let enough = if self.busy { BUSY / 3 } else { BUSY };
            self.busy = *reads >= enough && passed < 2 * WINDOW;
            (*begun, *reads) = (now, 0);
        }
        (self.last, self.waited) = (now, false);
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for ReadThrottle<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { inner, pace } = &mut *self;
        let Some((_, pace)) = pace.as_mut().filter(|(throttle, _)| throttle.is_set()) else {
            return Pin::new(inner).poll_read(context, buffer);
        };
        ready!(pace.poll_due(context));
        match Pin::new(inner).poll_read(context, buffer) {
            Poll::Ready(read) => {
                pace.count();
                Poll::Ready(read)
            }
            Poll::Pending => {
                pace.waited = true;
                Poll::Pending
            }
        }
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for ReadThrottle<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        time::{advance, sleep, timeout},
    };

    use super::*;

    fn set() -> Throttle {
        let throttle = Throttle::default();
        throttle.set();
        throttle
    }

    async fn read(paced: &mut ReadThrottle<DuplexStream>) -> usize {
        let mut room = [0; 100];
        paced.read(&mut room).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_seldom_is_read_at_once() {
        let (mut peer, own) = duplex(1000);
        let mut paced = ReadThrottle::new(own, set());
        for _ in 0..100 {
            sleep(Duration::from_millis(2)).await;
            let came = Instant::now();
            let (_, ()) = tokio::join!(read(&mut paced), async {
                tokio::task::yield_now().await;
                peer.write_all(b"event").await.unwrap();
            });
            assert_eq!(came.elapsed(), Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_fast_is_read_in_few_pieces_soon_and_whole() {
        let (mut peer, own) = duplex(100_000);
        let mut paced = ReadThrottle::new(own, set());
        let writer = tokio::spawn(async move {
            for number in 0..10_000_u32 {
                peer.write_all(&number.to_be_bytes()).await.unwrap();
                // The timer's tick is longer: time goes on by hand.
                advance(Duration::from_micros(100)).await;
            }
        });
        let (mut bytes, mut reads) = (Vec::new(), 0);
        while bytes.len() < 40_000 {
            let mut room = [0; 4096];
            let count = timeout(Duration::from_millis(3), paced.read(&mut room)).await;
            let count = count.expect("held up for long").unwrap();
            bytes.extend_from_slice(&room[..count]);
            reads += 1;
        }
        writer.await.unwrap();
        let numbers = (0..10_000_u32).flat_map(u32::to_be_bytes);
        assert!(bytes.into_iter().eq(numbers));
        assert!(reads < 3_000, "{reads} reads for 10,000 pieces");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_not_paced_or_whose_throttle_is_not_set_is_never_held_up() {
        type Make = fn(DuplexStream) -> ReadThrottle<DuplexStream>;
        let make: [Make; 2] = [ReadThrottle::not, |own| {
            ReadThrottle::new(own, Throttle::default())
        }];
        for make in make {
            let (mut peer, own) = duplex(1000);
            let mut paced = make(own);
            let begun = Instant::now();
            for _ in 0..1000 {
                let (count, ()) = tokio::join!(read(&mut paced), async {
                    tokio::task::yield_now().await;
                    peer.write_all(b"event").await.unwrap();
                });
                assert_eq!(count, 5);
            }
            assert_eq!(begun.elapsed(), Duration::ZERO);
        }
    }
}
