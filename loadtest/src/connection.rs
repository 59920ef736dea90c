//! The thinnest gRPC client that checks what it gets: HTTP/2 streams, and messages as bytes.
//!
//! It stands on h2 itself: the client shares its machine with what it measures, and everything
//! above h2 costs as much again.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client::SendRequest};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header, uri};
use keyloom_etcd_api::Rpc;
use percent_encoding::percent_decode;
use tokio::net::TcpStream;

use crate::endpoint::Endpoint;

/// A flag for compression and the message's length, before every message.
const PREFIX: usize = 5;

/// Windows so wide that the client is never what a list waits for.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// One HTTP/2 connection; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    authority: uri::Authority,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// Where nobody listens, or who does speaks no HTTP/2.
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self> {
        let address = endpoint.address;
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(stream)
            .await
            .with_context(|| format!("speaking HTTP/2 with {address}"))?;
        // Ends with the last sender; what goes wrong on it, the calls on it are told.
        tokio::spawn(async move { drop(connection.await) });
        let authority = address.to_string().parse().context("an authority")?;
        Ok(Self { sender, authority })
    }

    /// One unary call: the framed request, the message of the answer.
    ///
    /// # Errors
    /// Where the answer is not exactly one message and the status OK.
    pub(crate) async fn unary(&self, rpc: Rpc, frame: Bytes) -> Result<Bytes> {
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut body) = sender.send_request(self.head(rpc)?, false)?;
        body.send_data(frame, true)?;
        let (head, mut answer) = response.await?.into_parts();
        ensure!(head.status.is_success(), "HTTP status {}", head.status);
        let mut message = Message::default();
        while let Some(piece) = answer.data().await {
            let piece = piece?;
            answer.flow_control().release_capacity(piece.len())?;
            message.push(piece);
        }
        match answer.trailers().await? {
            Some(trailers) => status_of(&trailers)?,
            None => status_of(&head.headers)?,
        }
        message.finish()
    }

    /// Begins a call with a stream of answers, and of requests.
    ///
    /// # Errors
    /// Where the call is refused at once.
    pub(crate) async fn stream(&self, rpc: Rpc, first: Bytes) -> Result<Streams> {
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut requests) = sender.send_request(self.head(rpc)?, false)?;
        requests.send_data(first, false)?;
        let (head, answers) = response.await?.into_parts();
        if head.headers.contains_key("grpc-status") {
            status_of(&head.headers)?;
        }
        Ok(Streams {
            requests,
            answers,
            buffer: BytesMut::new(),
        })
    }

    fn head(&self, rpc: Rpc) -> Result<Request<()>> {
        let mut parts = uri::Parts::default();
        parts.scheme = Some(uri::Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(rpc.path_and_query());
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_parts(parts)?;
        let headers = request.headers_mut();
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let grpc = HeaderValue::from_static("application/grpc");
        headers.insert(header::CONTENT_TYPE, grpc);
        Ok(request)
    }
}

/// Both sides of a streaming call. Dropping it ends the call.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Held even where nothing more is sent: the store would take its end for the end of the call.
    requests: SendStream<Bytes>,
    answers: RecvStream,
    buffer: BytesMut,
}

impl Streams {
    /// Sends one more framed request.
    ///
    /// # Errors
    /// Where the call has ended.
    pub(crate) fn send(&mut self, frame: Bytes) -> Result<()> {
        Ok(self.requests.send_data(frame, false)?)
    }

    /// The next answer.
    ///
    /// # Errors
    /// Where the stream ends, which no stream does that the client still wants.
    pub(crate) async fn next(&mut self) -> Result<Bytes> {
        loop {
            if let Some(message) = split(&mut self.buffer)? {
                return Ok(message);
            }
            let Some(piece) = self.answers.data().await else {
                let trailers = self.answers.trailers().await?.unwrap_or_default();
                status_of(&trailers)?;
                bail!("the stream ended");
            };
            let piece = piece?;
            self.answers.flow_control().release_capacity(piece.len())?;
            self.buffer.extend_from_slice(&piece);
        }
    }
}

/// A message with its prefix, ready to be sent any number of times.
pub(crate) fn framed(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // The buffer grows where it must; encoding into it cannot fail.
    let _: Result<(), _> = message.encode(&mut frame);
    frame.freeze()
}

fn split(buffer: &mut BytesMut) -> Result<Option<Bytes>> {
    let Some(mut prefix) = buffer.get(..PREFIX) else {
        return Ok(None);
    };
    ensure!(prefix.get_u8() == 0, "a compressed answer");
    let whole = PREFIX + prefix.get_u32() as usize;
    if buffer.len() < whole {
        return Ok(None);
    }
    let mut message = buffer.split_to(whole).freeze();
    message.advance(PREFIX);
    Ok(Some(message))
}

/// The one message of an answer, put together from its pieces; one piece is not copied.
#[derive(Debug, Default)]
struct Message {
    first: Bytes,
    rest: BytesMut,
}

impl Message {
    fn push(&mut self, piece: Bytes) {
        if self.first.is_empty() && self.rest.is_empty() {
            self.first = piece;
            return;
        }
        if self.rest.is_empty() {
            self.rest.extend_from_slice(&self.first);
        }
        self.rest.extend_from_slice(&piece);
    }

    fn finish(self) -> Result<Bytes> {
        let mut whole = if self.rest.is_empty() {
            self.first
        } else {
            self.rest.freeze()
        };
        ensure!(whole.len() >= PREFIX, "an answer without a message");
        ensure!(whole.get_u8() == 0, "a compressed answer");
        let length = whole.get_u32() as usize;
        ensure!(
            whole.len() == length,
            "an answer of {} bytes that says it has {length}",
            whole.len()
        );
        Ok(whole)
    }
}

fn status_of(headers: &HeaderMap) -> Result<()> {
    match headers.get("grpc-status") {
        Some(code) if code == "0" => Ok(()),
        Some(code) => {
            let text = headers.get("grpc-message").map(HeaderValue::as_bytes);
            let text = percent_decode(text.unwrap_or(b"no message")).decode_utf8_lossy();
            bail!("status {}: {text}", code.to_str().unwrap_or("?"))
        }
        None => bail!("an answer without a status"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(pieces: &[&'static [u8]]) -> Result<Bytes> {
        let mut message = Message::default();
        for piece in pieces {
            message.push(Bytes::from_static(piece));
        }
        message.finish()
    }

    #[test]
    fn an_answer_is_one_whole_message() {
        assert_eq!(finished(&[b"\0\0\0\0\x02ab"]).unwrap(), "ab");
        assert_eq!(finished(&[b"\0\0", b"\0\0\x02", b"a", b"b"]).unwrap(), "ab");
        assert_eq!(finished(&[b"\0\0\0\0\0"]).unwrap(), "");
        for wrong in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02a", b"\x01\0\0\0\0"] {
            assert!(finished(&[wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn messages_of_a_stream_are_split() {
        let mut buffer = BytesMut::from(&b"\0\0\0\0\x01a\0\0\0\0\x02b"[..]);
        assert_eq!(split(&mut buffer).unwrap().unwrap(), "a");
        assert!(split(&mut buffer).unwrap().is_none());
        buffer.extend_from_slice(b"c");
        assert_eq!(split(&mut buffer).unwrap().unwrap(), "bc");
    }

    #[test]
    fn only_an_explicit_ok_is_ok() {
        let mut headers = HeaderMap::new();
        assert!(status_of(&headers).is_err());
        headers.insert("grpc-status", HeaderValue::from_static("14"));
        headers.insert("grpc-message", HeaderValue::from_static("far%20away"));
        assert_eq!(
            status_of(&headers).unwrap_err().to_string(),
            "status 14: far away"
        );
        headers.insert("grpc-status", HeaderValue::from_static("0"));
        assert!(status_of(&headers).is_ok());
    }
}
