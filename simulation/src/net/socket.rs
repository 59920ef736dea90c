//! One end of a connection, and what is under way in each direction.

use std::{
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Net;

/// How much a sender may have under way before it waits.
const WINDOW: usize = 256 << 10;

/// How a direction ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Reset,
}

enum Piece {
    Data(Bytes),
    Closed,
}

/// One direction of a connection.
pub(super) struct Pipe {
    pub(super) from: String,
    pub(super) to: String,
    under_way: VecDeque<(Duration, Piece)>,
    /// Delivered and not read yet.
    ready: BytesMut,
    /// Under way and delivered, in bytes.
    length: usize,
    end: Option<End>,
    /// What is written vanishes.
    vanishes: bool,
    /// Nobody reads it any more: what arrives is answered with a reset.
    orphan: bool,
    /// The sender was told that it is over, or told so itself.
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    reader_gone: bool,
    writer_gone: bool,
}

impl Pipe {
    pub(super) fn new(from: String, to: String) -> Self {
        Self {
            from,
            to,
            under_way: VecDeque::new(),
            ready: BytesMut::new(),
            length: 0,
            end: None,
            vanishes: false,
            orphan: false,
            broken: false,
            reader: None,
            writer: None,
            reader_gone: false,
            writer_gone: false,
        }
    }

    /// Moves what is due to the reader.
    pub(super) fn deliver(&mut self, now: Duration) {
        let mut count = 0;
        while self.under_way.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, piece)) = self.under_way.pop_front() else {
                break;
            };
            count += 1;
            match piece {
                Piece::Data(bytes) if self.orphan => {
                    self.length -= bytes.len();
                    self.broken = true;
                }
                Piece::Data(bytes) => self.ready.extend_from_slice(&bytes),
                Piece::Closed => self.end = self.end.or(Some(End::Closed)),
            }
        }
        if count > 0 {
            self.wake();
        }
    }

    pub(super) fn put_off(&mut self, earliest: Duration) {
        for (at, _) in &mut self.under_way {
            *at = (*at).max(earliest);
        }
    }

    pub(super) fn reset(&mut self) {
        self.under_way.clear();
        self.ready.clear();
        self.length = 0;
        self.end = Some(End::Reset);
        self.broken = true;
        self.wake();
    }

    pub(super) fn vanish(&mut self) {
        self.vanishes = true;
        self.under_way.clear();
    }

    pub(super) fn vanishes(&self) -> bool {
        self.vanishes
    }

    /// The sender says no more.
    pub(super) fn close(&mut self, now: Duration) {
        if !self.writer_gone && !self.vanishes {
            let at = self.under_way.back().map_or(now, |(at, _)| *at);
            self.under_way.push_back((at, Piece::Closed));
        }
        self.writer_gone = true;
    }

    pub(super) fn orphan(&mut self) {
        self.orphan = true;
        self.reader_gone = true;
    }

    /// Nobody has it, and nothing is under way.
    pub(super) fn is_over(&self) -> bool {
        self.reader_gone && self.writer_gone
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()] {
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

/// One end of a connection.
pub(super) struct Socket {
    pub(super) net: Net,
    pub(super) writes: u64,
    pub(super) reads: u64,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.writes)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.net.state.lock();
        let Some(pipe) = state.pipes.get_mut(&self.reads) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if !pipe.ready.is_empty() {
            let count = pipe.ready.len().min(buffer.remaining());
            buffer.put_slice(pipe.ready.get(..count).unwrap_or_default());
            pipe.ready.advance(count);
            pipe.length -= count;
            pipe.writer.take().into_iter().for_each(Waker::wake);
            return Poll::Ready(Ok(()));
        }
        match pipe.end {
            Some(End::Closed) => Poll::Ready(Ok(())),
            Some(End::Reset) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None => {
                pipe.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.net.state.lock();
        let now = state.now;
        let Some(pipe) = state.pipes.get(&self.writes) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if pipe.broken || pipe.writer_gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let (from, to) = (pipe.from.clone(), pipe.to.clone());
        let latency = state.latency(&from, &to);
        let Some(pipe) = state.pipes.get_mut(&self.writes) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let room = WINDOW.saturating_sub(pipe.length);
        if room == 0 {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = room.min(buffer.len());
        pipe.length += count;
        if !pipe.vanishes {
            let last = pipe.under_way.back().map_or(Duration::ZERO, |(at, _)| *at);
            let piece = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
            let at = (now + latency).max(last);
            pipe.under_way.push_back((at, Piece::Data(piece)));
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.net.state.lock();
        let now = state.now;
        if let Some(pipe) = state.pipes.get_mut(&self.writes) {
            pipe.close(now);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut state = self.net.state.lock();
        let now = state.now;
        if let Some(pipe) = state.pipes.get_mut(&self.writes) {
            pipe.close(now);
        }
        if let Some(pipe) = state.pipes.get_mut(&self.reads) {
            pipe.orphan();
        }
    }
}
