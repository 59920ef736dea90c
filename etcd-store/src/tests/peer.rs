//! A server whose every move a test decides: h2 without anything above it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::{BufMut, Bytes, BytesMut};
use h2::{Reason, RecvStream, server, server::SendResponse};
use http::{HeaderMap, Request, Response};
use keyloom_etcd_api::{Code, Status};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::Notify,
};

use super::network::Network;

/// A request that arrived whole, or the first message of a stream.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) message: Bytes,
    pub(super) headers: HeaderMap,
    /// Which of the peer's connections it came on, from 0.
    pub(super) connection: usize,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// What to do about a request.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Answer(&'static [u8]),
    /// An error in the trailers, after headers; the usual way of a handler that failed.
    Refuse(Status),
    /// An error in the headers; the usual way of an interceptor.
    RefuseAtOnce(Status),
    /// Headers, and then a message's beginning and no more.
    Begin,
    /// A message, and the end without a status.
    Unfinished,
    /// An HTTP error without a gRPC status.
    Http(u16),
    /// Nothing, ever.
    Nothing,
    Reset(Reason),
    /// Ends the connection at once.
    Hangup,
    /// Stops reading and writing on the whole connection.
    Freeze,
    /// Sends every message back.
    Echo,
}

type Script = dyn Fn(&Seen) -> Act + Send + Sync;

#[derive(Clone)]
pub(super) struct Peer {
    inner: Arc<Inner>,
}

struct Inner {
    script: Mutex<Arc<Script>>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    hangup: Notify,
    /// Streams that the client reset.
    reset: AtomicUsize,
}

impl Peer {
    /// A peer that is not on the network.
    pub(super) fn new(script: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        let inner = Inner {
            script: Mutex::new(Arc::new(script)),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            hangup: Notify::new(),
            reset: AtomicUsize::new(0),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// A peer that does the same about every request.
    pub(super) fn always(network: &Network, host: &str, act: Act) -> Self {
        let peer = Self::new(move |_| act.clone());
        peer.join(network, host);
        peer
    }

    pub(super) fn scripted(
        network: &Network,
        host: &str,
        script: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        let peer = Self::new(script);
        peer.join(network, host);
        peer
    }

    pub(super) fn join(&self, network: &Network, host: &str) {
        let peer = self.clone();
        network.up(host, move |io| drop(tokio::spawn(peer.clone().serve(io))));
    }

    /// Changes what the peer does.
    pub(super) fn now(&self, script: impl Fn(&Seen) -> Act + Send + Sync + 'static) {
        *self.inner.script.lock() = Arc::new(script);
    }

    /// Ends every connection.
    pub(super) fn hangup(&self) {
        self.inner.hangup.notify_waiters();
    }

    /// The requests to a path's last part, without probes unless they are asked for.
    pub(super) fn seen(&self, name: &str) -> Vec<Seen> {
        let seen = self.inner.seen.lock();
        seen.iter()
            .filter(|seen| seen.path.ends_with(name))
            .cloned()
            .collect()
    }

    pub(super) fn connections(&self) -> usize {
        self.inner.connections.load(Ordering::Relaxed)
    }

    pub(super) fn resets(&self) -> usize {
        self.inner.reset.load(Ordering::Relaxed)
    }

    pub(super) async fn serve(self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let number = self.inner.connections.fetch_add(1, Ordering::Relaxed);
        let Ok(mut connection) = server::handshake(io).await else {
            return;
        };
        let (hangup, freeze) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        loop {
            tokio::select! {
                biased;
                () = self.inner.hangup.notified() => return,
                () = hangup.notified() => return,
                () = freeze.notified() => std::future::pending().await,
                accepted = connection.accept() => {
                    let Some(Ok((request, respond))) = accepted else {
                        return;
                    };
                    let (hangup, freeze) = (Arc::clone(&hangup), Arc::clone(&freeze));
                    tokio::spawn(self.clone().answer(request, respond, number, hangup, freeze));
                }
            }
        }
    }

    async fn answer(
        self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        connection: usize,
        hangup: Arc<Notify>,
        freeze: Arc<Notify>,
    ) {
        let (head, mut body) = request.into_parts();
        let Some(message) = message(&mut body).await else {
            self.inner.reset.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let seen = Seen {
            path: head.uri.path().to_owned(),
            message,
            headers: head.headers,
            connection,
        };
        let script = Arc::clone(&self.inner.script.lock());
        let act = script(&seen);
        self.inner.seen.lock().push(seen.clone());
        match act {
            Act::Answer(message) => finish(&mut respond, Some(message), &Status::new(Code::Ok, "")),
            Act::Refuse(status) => finish(&mut respond, None, &status),
            Act::RefuseAtOnce(status) => {
                let mut response = response(200);
                response.headers_mut().extend(trailers(&status));
                respond.send_response(response, true).unwrap();
            }
            Act::Begin => {
                let mut stream = respond.send_response(response(200), false).unwrap();
                stream
                    .send_data(Bytes::from_static(&[0, 0, 0, 0, 9, 1]), false)
                    .unwrap();
                std::future::poll_fn(|context| stream.poll_reset(context))
                    .await
                    .ok();
            }
            Act::Unfinished => {
                let mut stream = respond.send_response(response(200), false).unwrap();
                stream.send_data(framed(b"no"), true).unwrap();
            }
            Act::Http(status) => drop(respond.send_response(response(status), true)),
            Act::Nothing => {
                std::future::poll_fn(|context| respond.poll_reset(context))
                    .await
                    .ok();
                self.inner.reset.fetch_add(1, Ordering::Relaxed);
            }
            Act::Reset(reason) => respond.send_reset(reason),
            Act::Hangup => hangup.notify_one(),
            Act::Freeze => {
                freeze.notify_one();
                std::future::pending().await
            }
            Act::Echo => self.echo(seen.message, body, respond).await,
        }
    }

    async fn echo(self, first: Bytes, mut body: RecvStream, mut respond: SendResponse<Bytes>) {
        let mut stream = respond.send_response(response(200), false).unwrap();
        let mut next = Some(first);
        while let Some(message) = next {
            if message == b"fail".as_slice() {
                let status = Status::new(Code::Unavailable, "etcdserver: no leader");
                stream.send_trailers(trailers(&status)).unwrap();
                return;
            }
            stream.send_data(framed(&message), false).unwrap();
            next = match body.data().await {
                // The end of the client's half is a frame of its own.
                Some(Ok(piece)) if piece.is_empty() => None,
                Some(Ok(piece)) => Some(piece.slice(5..)),
                Some(Err(_)) => {
                    self.inner.reset.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                None => None,
            };
        }
        stream
            .send_trailers(trailers(&Status::new(Code::Ok, "")))
            .ok();
    }
}

/// The first message of a request; none if the client ended the stream before it.
async fn message(body: &mut RecvStream) -> Option<Bytes> {
    let mut all = BytesMut::new();
    loop {
        let piece = body.data().await?.ok()?;
        body.flow_control().release_capacity(piece.len()).ok()?;
        all.put(piece);
        let whole = 5 + all.get(1..5).map_or(usize::MAX - 5, length);
        if all.len() >= whole {
            return Some(all.freeze().slice(5..whole));
        }
    }
}

fn length(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |length, &byte| (length << 8) | usize::from(byte))
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

fn response(status: u16) -> Response<()> {
    let response = Response::builder().status(status);
    response
        .header("content-type", "application/grpc")
        .body(())
        .unwrap()
}

fn trailers(status: &Status) -> HeaderMap {
    status.to_trailers()
}

fn finish(respond: &mut SendResponse<Bytes>, message: Option<&[u8]>, status: &Status) {
    let Ok(mut stream) = respond.send_response(response(200), false) else {
        return;
    };
    if let Some(message) = message {
        stream.send_data(framed(message), false).ok();
    }
    stream.send_trailers(trailers(status)).ok();
}

/// A server made of single frames, for what h2 would not do: it waits for a request's message,
/// says goodbye with the given last stream, and hangs up. Gives back how many messages came.
pub(super) fn goodbye(network: &Network, host: &str, last_stream: u8) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    network.up(host, move |mut io| {
        let counted = Arc::clone(&counted);
        tokio::spawn(async move {
            const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
            let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last_stream, 0, 0, 0, 0];
            io.write_all(&SETTINGS).await.unwrap();
            let mut all = Vec::new();
            // The message is the last thing that a client says.
            while !all.ends_with(b"write") && !all.ends_with(b"read") {
                if io.read_buf(&mut all).await.unwrap() == 0 {
                    return;
                }
            }
            counted.fetch_add(1, Ordering::Relaxed);
            io.write_all(&goaway).await.unwrap();
            io.shutdown().await.unwrap();
        });
    });
    count
}
