//! What a connection bears.

use std::io;

use futures_util::future::BoxFuture;
use http_body_util::Empty;
use keyloom_environment::Address;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tower::service_fn;

use super::*;

/// Gives out one connection, and then none.
#[derive(Debug)]
struct One(Mutex<Option<DuplexStream>>);

impl Accept for One {
    fn accept(&self) -> BoxFuture<'_, io::Result<AcceptedConnection>> {
        let connection = self.0.lock().take();
        Box::pin(async move {
            match connection {
                Some(connection) => Ok(AcceptedConnection {
                    connection: Box::new(connection),
                    from: None,
                }),
                None => std::future::pending().await,
            }
        })
    }

    fn address(&self) -> io::Result<Address> {
        Ok(Address::Unix("one".into()))
    }
}

/// A client's end of a connection that is served; every request is answered at once.
fn served() -> DuplexStream {
    let (client, server) = tokio::io::duplex(1 << 20);
    let service =
        |_| service_fn(async |_: Request<Incoming>| Ok(Response::new(Empty::<Bytes>::new())));
    let listener = Box::new(One(Mutex::new(Some(server))));
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, None, service, Limits::default(), stop));
    client
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// The kind and the stream of the next frame.
async fn next_frame(connection: &mut DuplexStream) -> (u8, u32) {
    let mut head = [0; 9];
    connection.read_exact(&mut head).await.unwrap();
    let [a, b, c, kind, _, stream @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    connection.read_exact(&mut payload).await.unwrap();
    (kind, u32::from_be_bytes(stream))
}

/// A client whose callers give up at the same moment (a kube-apiserver that ends its watches, a test
/// that is interrupted) resets many streams in one write. Its other calls go on.
#[tokio::test]
async fn a_connection_lives_on_after_many_cancelled_calls() {
    let mut client = served();
    // `:method POST`, `:scheme http`, `:path /` of HPACK's static table.
    let call = [0x83, 0x86, 0x84];
    let (end_headers, end_stream) = (4, 1);
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(frame(SETTINGS, 0, 0, &[]));
    for stream in (1..2000).step_by(2) {
        sent.extend(frame(HEADERS, end_headers, stream, &call));
        sent.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    sent.extend(frame(HEADERS, end_headers | end_stream, 2001, &call));
    client.write_all(&sent).await.unwrap();
    loop {
        match next_frame(&mut client).await {
            (HEADERS, 2001) => break,
            (GOAWAY, _) => panic!("the connection was ended"),
            _ => {}
        }
    }
}
