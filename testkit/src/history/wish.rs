//! A watch that a client wants to have over all the streams that it loses: it goes on where it was, as
//! those of etcd's client and of kube-apiserver do.

use std::collections::VecDeque;

use keyloom_etcd_api::etcdserverpb::{
    WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
};

use super::StreamRecording;

/// See the module's page.
#[derive(Debug)]
pub struct Wish {
    pub request: WatchCreateRequest,
    /// The revision to go on at; `None` before the first, and where that is compacted.
    pub next: Option<i64>,
    /// Where it began on the stream.
    pub start: i64,
    /// Its id on the stream, while it has one.
    pub id: Option<i64>,
}

/// One open stream, on which requests leave by `S`.
#[derive(Debug)]
pub struct Connection<S> {
    pub recording: StreamRecording,
    send: S,
    /// Wishes that were asked for and not answered yet.
    pending: VecDeque<usize>,
}

/// What a response was for; wishes by their places.
#[derive(Debug, Default)]
pub struct Heard {
    /// Those that were sent events or progress.
    pub told: Vec<usize>,
    /// Those whose place is compacted.
    pub lost: Vec<usize>,
    /// Whether a watch is over or was never asked for: the stream is to be left.
    pub over: bool,
}

impl Wish {
    #[must_use]
    pub fn new(request: WatchCreateRequest) -> Self {
        Self {
            request,
            next: None,
            start: 0,
            id: None,
        }
    }

    /// Whether everything up to a revision has come.
    #[must_use]
    pub fn is_complete(&self, last: i64) -> bool {
        self.next.is_some_and(|next| next > last)
    }

    /// Progress means that everything up to it has come, an event that everything before has.
    fn advance(&mut self, answer: &WatchResponse) {
        let last = answer.events.last().and_then(|event| event.kv.as_ref());
        let told = last.map_or(header(answer), |kv| kv.mod_revision);
        if !answer.fragment {
            self.next = self.next.max(Some(told + 1));
        }
    }
}

impl<S: Fn(WatchRequest)> Connection<S> {
    pub fn new(recording: StreamRecording, send: S) -> Self {
        Self {
            recording,
            send,
            pending: VecDeque::new(),
        }
    }

    /// Whether every wish that was asked for was answered.
    #[must_use]
    pub fn has_nothing_pending(&self) -> bool {
        self.pending.is_empty()
    }

    /// Asks for the wish at a place.
    pub fn create(&mut self, at: usize, wish: &mut Wish) {
        self.pending.push_back(at);
        let mut request = wish.request.clone();
        wish.start = wish.next.unwrap_or(0);
        request.start_revision = wish.start;
        self.send(RequestUnion::CreateRequest(request));
    }

    pub fn send(&self, request: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(request),
        };
        self.recording.asked(&request);
        (self.send)(request);
    }

    /// Takes a response in.
    pub fn hear(&mut self, wishes: &mut [Wish], answer: &WatchResponse) -> Heard {
        let mut heard = Heard::default();
        if answer.created {
            let at = self.pending.pop_front();
            let wish = at.and_then(|at| wishes.get_mut(at));
            heard.over = answer.canceled || wish.is_none();
            if let Some(wish) = wish {
                wish.id = (!answer.canceled).then_some(answer.watch_id);
                // A watch from now on goes on where it was created.
                wish.next = wish.next.or(Some(header(answer) + 1));
            }
            return heard;
        }
        let all = answer.watch_id == -1;
        for (at, wish) in wishes.iter_mut().enumerate() {
            if wish.id.is_none() || (!all && wish.id != Some(answer.watch_id)) {
                continue;
            }
            if answer.canceled {
                wish.id = None;
                heard.over = true;
                if answer.compact_revision != 0 {
                    wish.next = None;
                    heard.lost.push(at);
                }
            } else {
                wish.advance(answer);
                heard.told.push(at);
            }
        }
        heard
    }
}

fn header(answer: &WatchResponse) -> i64 {
    answer.header.as_ref().map_or(0, |header| header.revision)
}
