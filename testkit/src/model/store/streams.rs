//! Streams of the model: what every write sends to the watch streams that are open.
//!
//! A write delivers to every stream before anything else happens, so that nothing depends on when
//! the streams are polled.

use std::{
    collections::BTreeMap,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keyloom_etcd_api::{
    Rpc, Status,
    etcdserverpb::{LeaseKeepAliveRequest, WatchRequest, WatchResponse},
};
use keyloom_store::{Answers, CallError, Requests};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    ModelStore,
    unary::{decode, encode, not_modelled},
};
use crate::model::{Etcd, watch::WatchStream};

type Item = Result<Bytes, CallError>;

/// The watch streams that are open.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: BTreeMap<u64, OpenStream>,
    opened: u64,
    /// Whether answers are kept back.
    held: bool,
}

#[derive(Debug)]
struct OpenStream {
    watch: WatchStream,
    answers: UnboundedSender<Item>,
    kept_back: Vec<Item>,
}

impl Streams {
    fn open(&mut self) -> (u64, UnboundedReceiver<Item>) {
        let (answers, receiver) = unbounded_channel();
        self.opened += 1;
        let stream = OpenStream {
            watch: WatchStream::default(),
            answers,
            kept_back: Vec::new(),
        };
        self.open.insert(self.opened, stream);
        (self.opened, receiver)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn watchers(&self) -> usize {
        self.open
            .values()
            .map(|stream| stream.watch.watchers())
            .sum()
    }

    /// Sends what has happened since the last time.
    pub(super) fn deliver(&mut self, etcd: &Etcd) {
        self.send_each(|watch| watch.deliver(etcd));
    }

    pub(super) fn progress_due(&mut self, etcd: &Etcd) {
        self.send_each(|watch| watch.progress_due(etcd));
    }

    pub(super) fn hold(&mut self, held: bool) {
        self.held = held;
        self.send_each(|_| Vec::new());
    }

    /// Ends every stream with an error.
    pub(super) fn end(&mut self, error: &CallError) {
        for (_, stream) in std::mem::take(&mut self.open) {
            // The receiver may have gone.
            drop(stream.answers.send(Err(error.clone())));
        }
    }

    fn send_each(&mut self, answers: impl Fn(&mut WatchStream) -> Vec<WatchResponse>) {
        for stream in self.open.values_mut() {
            let answers = answers(&mut stream.watch);
            stream.send(answers.iter().map(|answer| Ok(encode(answer))), self.held);
        }
    }

    fn request(&mut self, id: u64, etcd: &Etcd, request: Result<WatchRequest, Status>) {
        let Some(stream) = self.open.get_mut(&id) else {
            return;
        };
        match request {
            Ok(request) => {
                let answers = stream.watch.request(etcd, request);
                stream.send(answers.iter().map(|answer| Ok(encode(answer))), self.held);
            }
            Err(status) => {
                stream.send([Err(CallError::Refused(status))].into_iter(), self.held);
            }
        }
    }
}

impl OpenStream {
    fn send(&mut self, answers: impl Iterator<Item = Item>, held: bool) {
        self.kept_back.extend(answers);
        if !held {
            for answer in self.kept_back.drain(..) {
                // The receiver may have gone.
                drop(self.answers.send(answer));
            }
        }
    }
}

/// A stream that is open as long as somebody has it.
struct Handle {
    store: ModelStore,
    id: u64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.store.state.lock().streams.open.remove(&self.id);
    }
}

impl ModelStore {
    pub(super) fn open_stream(&self, rpc: Rpc, requests: Requests) -> Result<Answers, Status> {
        match rpc {
            Rpc::Watch => Ok(self.watch(requests)),
            Rpc::LeaseKeepAlive => Ok(self.keep_alive(requests)),
            _ => Err(not_modelled(rpc)),
        }
    }

    /// Where the requests end, the answers go on, as in etcd.
    fn watch(&self, mut requests: Requests) -> Answers {
        let (id, mut answers) = self.state.lock().streams.open();
        let handle = Handle {
            store: self.clone(),
            id,
        };
        let mut more = true;
        stream::poll_fn(move |context: &mut Context<'_>| {
            while more && let Poll::Ready(request) = requests.poll_next_unpin(context) {
                match request {
                    Some(request) => handle.store.watch_request(handle.id, request),
                    None => more = false,
                }
            }
            answers.poll_recv(context)
        })
        .boxed()
    }

    fn watch_request(&self, id: u64, message: Bytes) {
        let mut state = self.state.lock();
        state.received.push((Rpc::Watch, message.clone()));
        let state = &mut *state;
        state.streams.request(id, &state.etcd, decode(message));
    }

    fn keep_alive(&self, requests: Requests) -> Answers {
        let store = self.clone();
        requests
            .map(move |message| {
                let request = decode::<LeaseKeepAliveRequest>(message);
                let request = request.map_err(CallError::Refused)?;
                Ok(encode(&store.with(|etcd| etcd.lease_keep_alive(&request))))
            })
            .boxed()
    }
}
