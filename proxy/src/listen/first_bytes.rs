//! A bound on the time until a client says something.
//!
//! The server tells HTTP/1 and HTTP/2 apart by the first bytes, and waits for them without a bound
//! of its own: silent connections would hold their places forever.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// The length of HTTP/2's preface (RFC 9113, section 3.4), by which the two are told apart.
const PREFACE: usize = 24;

/// A connection whose reads fail where the first bytes do not come in time.
#[derive(Debug)]
pub(super) struct FirstBytes<C> {
    connection: C,
    /// `None` once it is known what the client speaks: other bounds hold from then on.
    waiting: Option<Pin<Box<Sleep>>>,
    read: usize,
}

impl<C> FirstBytes<C> {
    pub(super) fn within(limit: Duration, connection: C) -> Self {
        Self {
            connection,
            waiting: Some(Box::pin(sleep(limit))),
            read: 0,
        }
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for FirstBytes<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.connection).poll_read(context, buffer);
        let Some(waiting) = &mut self.waiting else {
            return read;
        };
        if read.is_pending() && waiting.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let new = buffer.filled().get(before..).unwrap_or_default();
        // The preface begins with a P. What else does, such as PUT, is told apart a few bytes later.
        let is_known = self.read == 0 && new.first().is_some_and(|byte| *byte != b'P');
        self.read += new.len();
        if is_known || self.read >= PREFACE {
            self.waiting = None;
        }
        read
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for FirstBytes<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}
