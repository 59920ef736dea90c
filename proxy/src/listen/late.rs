//! A connection that is registered with the runtime that first uses it: it is accepted on one thread
//! and answered on another, whose own runtime must be told when there is something to read.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// A stream of tokio's that can be made where it is used.
pub(super) trait Register: AsyncRead + AsyncWrite + Unpin + Sized {
    /// The stream as no runtime knows it.
    type Unregistered: Unpin;

    fn unregister(self) -> io::Result<Self::Unregistered>;
    fn register(stream: Self::Unregistered) -> io::Result<Self>;
}

impl Register for TcpStream {
    type Unregistered = std::net::TcpStream;

    fn unregister(self) -> io::Result<Self::Unregistered> {
        self.into_std()
    }

    fn register(stream: Self::Unregistered) -> io::Result<Self> {
        Self::from_std(stream)
    }
}

impl Register for UnixStream {
    type Unregistered = std::os::unix::net::UnixStream;

    fn unregister(self) -> io::Result<Self::Unregistered> {
        self.into_std()
    }

    fn register(stream: Self::Unregistered) -> io::Result<Self> {
        Self::from_std(stream)
    }
}

/// See the module's page.
#[derive(Debug)]
pub(super) enum Late<S: Register> {
    /// `None` where it could not be registered.
    Unused(Option<S::Unregistered>),
    Used(S),
}

impl<S: Register> Late<S> {
    pub(super) fn new(stream: S) -> io::Result<Self> {
        Ok(Self::Unused(Some(stream.unregister()?)))
    }

    fn used(&mut self) -> io::Result<Pin<&mut S>> {
        if let Self::Unused(stream) = self {
            let stream = stream.take().ok_or(io::ErrorKind::NotConnected)?;
            *self = Self::Used(S::register(stream)?);
        }
        match self {
            Self::Used(stream) => Ok(Pin::new(stream)),
            Self::Unused(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl<S: Register> AsyncRead for Late<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.used()?.poll_read(context, buffer)
    }
}

impl<S: Register> AsyncWrite for Late<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.used()?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.used()?.poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.used()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.used()?.poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}
