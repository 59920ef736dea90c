//! A connection that is read and written in few and large pieces.
//!
//! h2 reads with whatever room it has, which for a long answer is a fraction of a frame. Where a read
//! fills that room, the next ones take all that the kernel has, up to [`AHEAD`].
//!
//! What h2 does with a connection that takes several buffers at once (`is_write_vectored`): every
//! message of 256 bytes or more becomes a call to the kernel of its own. Of one that does not, it
//! copies messages up to 1 KiB behind each other and hands them on together, and begins larger ones
//! with a short piece. That piece waits here for what follows it, so that both leave as one.
//!
//! Invariant: what is held has left, or is on its way, when `poll_flush` or `poll_shutdown` is done.
//! h2 and hyper flush after everything that they write.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// Less than this waits for what follows; more is worth a call of its own.
const SHORT: usize = 4 << 10;

/// The most that is read ahead.
const AHEAD: usize = 64 << 10;

/// See the module's page.
#[derive(Debug)]
pub struct CoalescedIo<C> {
    inner: C,
    /// Read, and not yet taken. Without room of its own while there is nothing to read, unless it
    /// keeps it.
    ahead: BytesMut,
    keeps: bool,
    /// Whether the last read left something, as far as can be known.
    more: bool,
    /// Taken, and not yet written. Without room of its own while it is empty: most connections are
    /// idle.
    held: Vec<u8>,
}

impl<C> CoalescedIo<C> {
    /// For one of few connections, on which much comes all the time: to make room for it anew each
    /// time costs more than to keep the room.
    pub fn keeping(inner: C) -> Self {
        Self {
            keeps: true,
            ..Self::new(inner)
        }
    }

    /// Gathers what is written to a connection.
    pub fn new(inner: C) -> Self {
        Self {
            inner,
            ahead: BytesMut::new(),
            keeps: false,
            more: false,
            held: Vec::new(),
        }
    }

    /// So many bytes of what is held, and then of what follows, are written.
    fn wrote(&mut self, count: usize) -> usize {
        if count < self.held.len() {
            self.held.drain(..count);
            return 0;
        }
        let beyond = count - self.held.len();
        self.held = Vec::new();
        beyond
    }
}

impl<C: AsyncWrite + Unpin> CoalescedIo<C> {
    fn poll_held(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(context, &self.held))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.wrote(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for CoalescedIo<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            inner,
            ahead,
            keeps,
            more,
            ..
        } = &mut *self;
        let mut inner = Pin::new(inner);
        if ahead.is_empty() && (!*more || buffer.remaining() >= AHEAD) {
            let before = buffer.filled().len();
            ready!(inner.poll_read(context, buffer))?;
            *more = buffer.remaining() == 0 && buffer.filled().len() > before;
            return Poll::Ready(Ok(()));
        }
        if ahead.is_empty() {
            ahead.reserve(AHEAD);
            match poll_read_buf(inner.as_mut(), context, ahead) {
                Poll::Ready(read) => *more = read? >= buffer.remaining(),
                Poll::Pending => {
                    *more = false;
                    if !*keeps {
                        *ahead = BytesMut::new();
                    }
                    return Poll::Pending;
                }
            }
        }
        let part = ahead.len().min(buffer.remaining());
        buffer.put_slice(ahead.get(..part).unwrap_or_default());
        ahead.advance(part);
        if ahead.is_empty() && !*more && !*keeps {
            *ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for CoalescedIo<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.held.len() + bytes.len() < SHORT {
            self.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        while !self.held.is_empty() {
            let Self { inner, held, .. } = &mut *self;
            let both = [IoSlice::new(held), IoSlice::new(bytes)];
            let written = ready!(Pin::new(inner).poll_write_vectored(context, &both))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let beyond = self.wrote(written);
            if beyond > 0 {
                return Poll::Ready(Ok(beyond));
            }
        }
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_held(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_held(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// Takes at most `room` bytes with each call, says no before each, and remembers what it took.
    struct Slow {
        room: usize,
        busy: bool,
        calls: Vec<usize>,
        taken: Vec<u8>,
    }

    impl Slow {
        fn with_room(room: usize) -> Self {
            Self {
                room,
                busy: false,
                calls: Vec::new(),
                taken: Vec::new(),
            }
        }

        fn take(&mut self, context: &Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<usize> {
            self.busy = !self.busy;
            if self.busy {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut left = self.room;
            for buffer in buffers {
                let part = left.min(buffer.len());
                self.taken.extend_from_slice(&buffer[..part]);
                left -= part;
            }
            self.calls.push(self.room - left);
            Poll::Ready(self.room - left)
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.take(context, &[IoSlice::new(bytes)]).map(Ok)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffers: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.take(context, buffers).map(Ok)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn short_pieces_leave_as_one() {
        let mut gathered = CoalescedIo::new(Slow::with_room(usize::MAX));
        for _ in 0..10 {
            gathered.write_all(&[1; 100]).await.unwrap();
        }
        assert!(gathered.inner.calls.is_empty());
        gathered.flush().await.unwrap();
        assert_eq!(gathered.inner.calls, [1000]);
        assert_eq!(gathered.held.capacity(), 0, "an idle connection holds room");
    }

    #[tokio::test]
    async fn a_long_piece_takes_the_short_one_before_it_along() {
        let mut gathered = CoalescedIo::new(Slow::with_room(usize::MAX));
        gathered.write_all(&[1; 9]).await.unwrap();
        gathered.write_all(&[2; 16_384]).await.unwrap();
        assert_eq!(gathered.inner.calls, [16_393]);
        assert!(!gathered.is_write_vectored());
    }

    #[tokio::test]
    async fn nothing_is_lost_or_doubled_however_little_is_taken_at_once() {
        for room in [1, 7, 99, 100, 101, 5000] {
            let mut gathered = CoalescedIo::new(Slow::with_room(room));
            let mut expected = Vec::new();
            for (place, length) in [100, 3, 9000, 0, 4096, 4095, 1].into_iter().enumerate() {
                let piece = vec![place as u8; length];
                gathered.write_all(&piece).await.unwrap();
                expected.extend_from_slice(&piece);
                if place % 3 == 0 {
                    gathered.flush().await.unwrap();
                    assert_eq!(gathered.inner.taken, expected, "room for {room}");
                }
            }
            gathered.shutdown().await.unwrap();
            assert_eq!(gathered.inner.taken, expected, "room for {room}");
        }
    }

    #[tokio::test]
    async fn what_is_read_is_what_was_sent() {
        for (room, length) in [(1, 300), (64, 100_000), (9000, 300_000), (1 << 17, 300_000)] {
            let (mut peer, own) = duplex(1 << 18);
            let sent: Vec<u8> = (0..length).map(|place| (place % 251) as u8).collect();
            let expected = sent.clone();
            tokio::spawn(async move { peer.write_all(&sent).await });
            let (mut gathered, mut read) = (CoalescedIo::new(own), Vec::new());
            let mut buffer = vec![0; room];
            loop {
                let count = gathered.read(&mut buffer).await.unwrap();
                if count == 0 {
                    break;
                }
                read.extend_from_slice(&buffer[..count]);
            }
            assert!(read == expected, "room for {room}");
            assert_eq!(gathered.ahead.capacity(), 0, "room for {room}");
        }
    }

    #[tokio::test]
    async fn kept_room_is_used_again() {
        let (mut peer, own) = duplex(1 << 20);
        let mut gathered = CoalescedIo::keeping(own);
        let mut buffer = vec![0; 1000];
        let mut rooms = Vec::new();
        for round in 0..5 {
            let sent: Vec<u8> = (0..50_000)
                .map(|place| (place % 251) as u8 ^ round)
                .collect();
            peer.write_all(&sent).await.unwrap();
            let mut read = Vec::new();
            while read.len() < sent.len() {
                let count = gathered.read(&mut buffer).await.unwrap();
                read.extend_from_slice(&buffer[..count]);
            }
            assert!(read == sent, "round {round}");
            rooms.push(gathered.ahead.capacity());
        }
        // What is left of it is all that is seen; nothing grows.
        assert!(rooms.iter().all(|room| *room <= AHEAD), "{rooms:?}");
    }

    #[tokio::test]
    async fn a_short_room_does_not_make_short_reads() {
        let (mut peer, own) = duplex(1 << 20);
        peer.write_all(&vec![7; 200_000]).await.unwrap();
        let mut gathered = CoalescedIo::new(own);
        let mut buffer = [0; 100];
        gathered.read_exact(&mut buffer).await.unwrap();
        assert!(gathered.ahead.is_empty());
        gathered.read_exact(&mut buffer).await.unwrap();
        assert_eq!(gathered.ahead.len(), AHEAD - 100);
    }

    #[tokio::test]
    async fn who_reads_little_holds_no_room() {
        let (mut peer, own) = duplex(64);
        let mut gathered = CoalescedIo::new(own);
        peer.write_all(b"hello").await.unwrap();
        let mut buffer = [0; 100];
        assert_eq!(gathered.read(&mut buffer).await.unwrap(), 5);
        assert_eq!((gathered.more, gathered.ahead.capacity()), (false, 0));
    }
}
