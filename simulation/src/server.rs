//! An etcd server on the simulated network: HTTP/2 and gRPC in front of a model store.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use h2::{Reason, RecvStream, SendStream, server, server::SendResponse};
use http::{HeaderMap, Request, Response};
use keyloom_environment::Connection;
use keyloom_etcd_api::{
    Code, Metadata, Rpc, Shape, Status,
    framing::{Assembler, framed},
};
use keyloom_proxy::Listen as _;
use keyloom_store::{Call, CallError, Lane, Store as _};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    net::Port,
    stores::{Fate, SimStore},
};

/// The longest request that is taken.
const LONGEST: usize = 16 << 20;

/// Serves until it is told to end; then everything is cut off, as when a process is killed.
pub(crate) async fn serve(store: Arc<SimStore>, port: Port, stop: CancellationToken) {
    let address = keyloom_environment::Address::Tcp {
        host: store.host.clone(),
        port: 2379,
    };
    let Ok(listener) = port.listen(address).await else {
        return;
    };
    let tasks = TaskTracker::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => {
                let Ok(accepted) = accepted else { return };
                let connection = accepted.connection;
                let serve = connected(Arc::clone(&store), connection, stop.clone());
                let stop = stop.clone();
                tasks.spawn(async move {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => {}
                        () = serve => {}
                    }
                });
            }
        }
    }
}

async fn connected(store: Arc<SimStore>, io: Box<dyn Connection>, stop: CancellationToken) {
    let Ok(mut connection) = server::handshake(io).await else {
        return;
    };
    // What a connection's requests started ends with it, save what the store has begun.
    let ended = CancellationToken::new();
    let _ended = ended.clone().drop_guard();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let answer = answer(Arc::clone(&store), request, respond);
        let (ended, stop) = (ended.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = ended.cancelled() => {}
                () = answer => {}
            }
        });
    }
}

async fn answer(
    store: Arc<SimStore>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (head, body) = request.into_parts();
    let Some(rpc) = Rpc::from_path(head.uri.path()) else {
        refuse(&mut respond, &Status::unimplemented("no such call"));
        return;
    };
    if rpc.shape() == Shape::Unary {
        unary(&store, rpc, body, respond).await;
    } else {
        stream(&store, rpc, body, respond).await;
    }
}

async fn unary(store: &SimStore, rpc: Rpc, body: RecvStream, mut respond: SendResponse<Bytes>) {
    let mut messages = messages(body);
    let Some(message) = messages.next().await else {
        return;
    };
    let call = Call {
        metadata: Metadata::default(),
        rpc,
        message,
        lane: Lane::Unary,
        deadline: None,
        idempotent: false,
    };
    store.wait_while_hung().await;
    let fate = store.fate(rpc, &call.message);
    if fate == Fate::IsLost {
        return std::future::pending().await;
    }
    let answer = store.model.call(call).await;
    store.look();
    if fate == Fate::TakesEffect {
        return std::future::pending().await;
    }
    store.wait_while_hung().await;
    match answer {
        Ok(message) => {
            let Ok(mut body) = respond.send_response(head(), false) else {
                return;
            };
            if body.send_data(framed(&message), false).is_ok() {
                drop(body.send_trailers(trailers(&Status::new(Code::Ok, ""))));
            }
        }
        Err(CallError::Refused(status)) => refuse(&mut respond, &status),
        // The answer is lost: nothing is known on the other side.
        Err(_) => respond.send_reset(Reason::INTERNAL_ERROR),
    }
}

async fn stream(store: &SimStore, rpc: Rpc, body: RecvStream, mut respond: SendResponse<Bytes>) {
    store.wait_while_hung().await;
    let opened = store.model.stream(rpc, messages(body)).await;
    let mut answers = match opened {
        Ok(answers) => answers,
        Err(CallError::Refused(status)) => return refuse(&mut respond, &status),
        Err(_) => return respond.send_reset(Reason::INTERNAL_ERROR),
    };
    let Ok(mut body) = respond.send_response(head(), false) else {
        return;
    };
    loop {
        let answer = tokio::select! {
            biased;
            _ = std::future::poll_fn(|context| body.poll_reset(context)) => return,
            answer = answers.next() => answer,
        };
        store.look();
        store.wait_while_hung().await;
        let sent = match answer {
            Some(Ok(message)) => body.send_data(framed(&message), false),
            Some(Err(CallError::Refused(status))) => return end(&mut body, &status),
            Some(Err(_)) => return body.send_reset(Reason::INTERNAL_ERROR),
            None => return end(&mut body, &Status::new(Code::Ok, "")),
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The messages of a body, to its end.
fn messages(body: RecvStream) -> BoxStream<'static, Bytes> {
    let state = (body, Assembler::up_to(LONGEST));
    stream::unfold(state, |(mut body, mut assembler)| async move {
        loop {
            if let Some(message) = assembler.take().ok()? {
                return Some((message.into_bytes(), (body, assembler)));
            }
            let piece = body.data().await?.ok()?;
            body.flow_control().release_capacity(piece.len()).ok()?;
            assembler.push(piece);
        }
    })
    .boxed()
}

fn head() -> Response<()> {
    let mut head = Response::new(());
    let grpc = http::HeaderValue::from_static("application/grpc");
    head.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
    head
}

fn trailers(status: &Status) -> HeaderMap {
    status.to_trailers()
}

fn refuse(respond: &mut SendResponse<Bytes>, status: &Status) {
    let mut head = head();
    head.headers_mut().extend(trailers(status));
    drop(respond.send_response(head, true));
}

fn end(body: &mut SendStream<Bytes>, status: &Status) {
    drop(body.send_trailers(trailers(status)));
}
