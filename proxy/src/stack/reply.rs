//! The body of an answer: messages in gRPC's frames, and how it ended.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    vec,
};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream::BoxStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use keyloom_etcd_api::{
    Metadata, Status,
    framing::{Pieces, begin_frame},
    wire::EncodedList,
};
use keyloom_store::Part;
use tonic::body::Body;

use super::admission::InFlight;
use crate::services::Answer;

/// A frame of HTTP/2.
const FRAME: usize = 16 << 10;

/// What is copied of a message to put it behind its prefix: with it, a frame.
const FIRST_FRAME: usize = FRAME - 5;

/// Known beforehand: by its text, it would be copied for every answer.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The messages of a streaming call. An error is the last item.
pub(super) type Messages = BoxStream<'static, Result<Part, Status>>;

/// An answer of one message.
pub(super) fn single(message: Answer, permit: Option<InFlight>) -> Response<Body> {
    let mut reply = Reply {
        permit,
        ..Reply::default()
    };
    let mut metadata = Metadata::default();
    match message {
        Answer::Message(message) => reply.put(message),
        Answer::Passed(answer) => {
            reply.put(answer.message);
            reply.trailers = answer.trailers;
            metadata = answer.metadata;
        }
        Answer::List(list) => reply.begin(list),
    }
    respond(reply, &metadata)
}

/// An answer of many messages. None is taken before the one before it has left.
pub(super) fn stream(
    messages: Messages,
    metadata: &Metadata,
    permit: Option<InFlight>,
) -> Response<Body> {
    let reply = Reply {
        messages: Some(messages),
        permit,
        ..Reply::default()
    };
    respond(reply, metadata)
}

/// An error from the start: the trailers alone.
pub(super) fn refusal(status: &Status) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = status.to_trailers();
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The body of another service's answer, which gives the permit back when it ends.
pub(super) fn holding(body: Body, permit: Option<InFlight>) -> Body {
    Body::new(body.map_frame(move |frame| {
        let _held = &permit;
        frame
    }))
}

fn respond(reply: Reply, metadata: &Metadata) -> Response<Body> {
    let mut response = Response::new(Body::new(reply));
    metadata.add_to(response.headers_mut());
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[derive(Default)]
struct Reply {
    /// What is left of the newest message.
    first: Option<Bytes>,
    rest: vec::IntoIter<Bytes>,
    /// What of it is not put together yet.
    list: Option<EncodedList>,
    /// What follows it.
    messages: Option<Messages>,
    ended: bool,
    /// What the store sent with the end.
    trailers: Metadata,
    /// Given back once the answer has left, or nobody waits for it any more.
    permit: Option<InFlight>,
}

impl Reply {
    fn put(&mut self, message: Pieces) {
        let frames = message.framed(FIRST_FRAME);
        self.first = Some(frames.first);
        self.rest = frames.rest.into_iter();
    }

    fn begin(&mut self, mut list: EncodedList) {
        let mut first = begin_frame(list.len(), list.len().min(FIRST_FRAME));
        list.put(&mut first, FIRST_FRAME);
        self.first = Some(first.freeze());
        self.list = Some(list);
    }

    /// The next piece of the newest message.
    fn piece(&mut self) -> Option<Bytes> {
        let there = self.first.take().or_else(|| self.rest.next());
        there.or_else(|| {
            let list = self.list.as_mut().filter(|list| !list.is_empty())?;
            let mut piece = BytesMut::with_capacity(list.len().min(FRAME));
            list.put(&mut piece, FRAME);
            Some(piece.freeze())
        })
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Part, Status>>> {
        match &mut self.messages {
            Some(messages) => messages.poll_next_unpin(context),
            None => Poll::Ready(None),
        }
    }
}

impl hyper::body::Body for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(piece) = self.piece() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let end = match ready!(self.poll_message(context)) {
                Some(Ok(Part::Message(message))) => {
                    self.put(message.into());
                    continue;
                }
                Some(Ok(Part::Trailers(trailers))) => {
                    self.trailers = trailers;
                    continue;
                }
                Some(Err(status)) => status.to_trailers(),
                None => well(&self.trailers),
            };
            self.ended = true;
            self.messages = None;
            self.permit = None;
            return Poll::Ready(Some(Ok(Frame::trailers(end))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

fn well(custom: &Metadata) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    custom.add_to(&mut trailers);
    trailers
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http::StatusCode;
    use http_body_util::StreamBody;
    use keyloom_etcd_api::wire::Header;
    use keyloom_etcd_client::RawCodec;
    use tonic::Streaming;

    use super::*;

    /// The bytes of a body, how many frames they came in, and its trailers.
    async fn read(response: Response<Body>) -> (Vec<u8>, usize, HeaderMap) {
        let mut body = response.into_body();
        let (mut bytes, mut frames) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            match frame.unwrap().into_data() {
                Ok(data) => {
                    bytes.extend_from_slice(&data);
                    frames += 1;
                }
                Err(trailers) => {
                    let trailers = trailers.into_trailers().unwrap();
                    assert!(hyper::body::Body::is_end_stream(&body));
                    assert!(body.frame().await.is_none());
                    return (bytes, frames, trailers);
                }
            }
        }
        panic!("no trailers");
    }

    #[tokio::test]
    async fn one_message_and_that_all_went_well() {
        let (bytes, frames, trailers) =
            read(single(Bytes::from_static(b"hello").into(), None)).await;
        assert_eq!((bytes.as_slice(), frames), (&b"\0\0\0\0\x05hello"[..], 1));
        assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    }

    #[tokio::test]
    async fn a_long_message_comes_in_frames() {
        let message = Bytes::from(vec![7; 40_000]);
        let (bytes, frames, _) = read(single(message.clone().into(), None)).await;
        assert_eq!(bytes[..5], [0, 0, 0, 0x9c, 0x40]);
        assert_eq!((&bytes[5..], frames), (&message[..], 2));
    }

    #[tokio::test]
    async fn a_list_comes_in_frames() {
        let kvs = vec![Bytes::from(vec![7; 1000]); 50];
        let list = || EncodedList::new(Header::default(), kvs.clone(), true, 60);
        let message = list().into_bytes();
        let (bytes, frames, trailers) = read(single(Answer::List(list()), None)).await;
        let length = u32::try_from(message.len()).unwrap();
        assert_eq!(bytes[..5], [&[0], &length.to_be_bytes()[..]].concat());
        assert_eq!((&bytes[5..], frames), (&message[..], 4));
        assert_eq!(trailers.get("grpc-status").unwrap(), "0");
    }

    /// A list that breaks off, wherever it does, is an error to its client and never a shorter list.
    #[tokio::test]
    async fn a_list_that_breaks_off_is_no_list() {
        let kvs = vec![Bytes::from(vec![7; 1000]); 50];
        let list = EncodedList::new(Header::default(), kvs, true, 60);
        let mut body = single(Answer::List(list), None).into_body();
        let mut frames = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            frames.extend(frame.into_data());
        }
        for (sent, whole) in [(0, false), (1, false), (3, false), (4, true)] {
            let sent = frames.clone().into_iter().take(sent).map(Frame::data);
            let body = StreamBody::new(stream::iter(sent.map(Ok::<_, Status>)));
            let mut answer = Streaming::new_response(RawCodec, body, StatusCode::OK, None, None);
            let message = answer.message().await;
            assert_eq!(matches!(message, Ok(Some(_))), whole, "{message:?}");
        }
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_error() {
        let messages = [
            Ok(Part::Message(Bytes::from_static(b"a"))),
            Ok(Part::Message(Bytes::new())),
            Err(Status::unavailable("gone")),
            Ok(Part::Message(Bytes::from_static(b"never"))),
        ];
        let (bytes, _, trailers) = read(super::stream(
            stream::iter(messages).boxed(),
            &Metadata::default(),
            None,
        ))
        .await;
        assert_eq!(bytes, b"\0\0\0\0\x01a\0\0\0\0\0");
        assert_eq!(trailers.get("grpc-status").unwrap(), "14");
        assert_eq!(trailers.get("grpc-message").unwrap(), "gone");
    }

    #[tokio::test]
    async fn what_the_store_sends_beside_messages_leaves_too() {
        let custom = |name: &'static str| {
            let name = HeaderName::from_static(name);
            Metadata::of(&HeaderMap::from_iter([(
                name,
                HeaderValue::from_static("7"),
            )]))
        };
        let passed = keyloom_store::Answer {
            message: Bytes::from_static(b"a").into(),
            metadata: custom("x-head"),
            trailers: custom("x-end"),
        };
        let parts = [
            Ok(Part::Message(Bytes::from_static(b"a"))),
            Ok(Part::Trailers(custom("x-end"))),
        ];
        let parts = stream::iter(parts).boxed();
        for response in [
            single(Answer::Passed(passed), None),
            super::stream(parts, &custom("x-head"), None),
        ] {
            assert_eq!(response.headers().get("x-head").unwrap(), "7");
            let (bytes, _, trailers) = read(response).await;
            assert_eq!(bytes, b"\0\0\0\0\x01a");
            assert_eq!(trailers.get("grpc-status").unwrap(), "0");
            assert_eq!(trailers.get("x-end").unwrap(), "7");
        }
    }
}
