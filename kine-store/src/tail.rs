//! Where a kine stands: the last event that our own watch of it delivered.
//!
//! A revision at or below that place is final: kine delivers in the order of its rows, and settles
//! every gap before it goes on. What a header says is no such place: a row can be there before the
//! rows below it, and some rows have no event at all.
//!
//! ```text
//! who are you? --> the marker, made if missing --> watch from there --> a write to the marker
//!                                                      |                     |
//!                                         its event is the first place <-----'
//! watch ends --> watch again above the last place
//! ```

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{
        Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
        WatchCreateRequest, WatchRequest, WatchResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op,
        watch_request::RequestUnion,
    },
};
use prost::Message as _;
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep, timeout_at},
};
use tracing::{debug, warn};

use super::{Asked, Core};
use keyloom_environment::Random;
use keyloom_store::{Answers, CallError, Lane};

/// Says which kine this is, and moves its place when nothing else does. No client's key: it begins
/// with Keyloom's own prefix.
const MARKER: Bytes = Bytes::from_static(b"/_keyloom/kine");

/// What kine's watch covers.
pub(super) const FIRST: Bytes = Bytes::from_static(b"/");
pub(super) const END: Bytes = Bytes::from_static(b"0");

/// Between two attempts to watch.
const PAUSE: Duration = Duration::from_millis(200);

/// How long the first place, or a wait for one, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What every answer of the store is made at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) incarnation: u64,
    pub(super) revision: i64,
}

#[derive(Debug)]
pub(super) struct Tail {
    random: Arc<dyn Random>,
    /// Which kine this is.
    incarnation: OnceLock<u64>,
    /// 0 before the first place is known.
    delivered: watch::Sender<i64>,
    /// Whether the task that follows is there.
    follows: AtomicBool,
}

impl Tail {
    pub(super) fn new(random: Arc<dyn Random>) -> Self {
        Self {
            random,
            incarnation: OnceLock::new(),
            delivered: watch::Sender::new(0),
            follows: AtomicBool::new(false),
        }
    }

    fn place(&self) -> Option<Place> {
        let revision = *self.delivered.borrow();
        let incarnation = *self.incarnation.get()?;
        (revision > 0).then_some(Place {
            incarnation,
            revision,
        })
    }

    fn delivered(&self, revision: i64) {
        self.delivered.send_if_modified(|delivered| {
            let moves = *delivered < revision;
            *delivered = revision.max(*delivered);
            moves
        });
    }
}

impl Core {
    /// Where the store stands.
    pub(super) async fn place(self: &Arc<Self>, asked: Asked) -> Result<Place, CallError> {
        self.reach(1, asked.until).await
    }

    /// Waits until everything up to a revision was delivered.
    pub(super) async fn reach(
        self: &Arc<Self>,
        revision: i64,
        until: Instant,
    ) -> Result<Place, CallError> {
        self.follow();
        let mut delivered = self.tail.delivered.subscribe();
        let wait = delivered.wait_for(|delivered| *delivered >= revision.max(1));
        let reached = timeout_at(until.min(Instant::now() + PATIENCE), wait).await;
        let in_time = reached.is_ok_and(|reached| reached.is_ok());
        match self.tail.place() {
            Some(place) if in_time => Ok(place),
            _ if revision > 1 => Err(CallError::TimedOut),
            _ => Err(CallError::NotSent(format!(
                "store {}: its watch delivers nothing yet",
                self.name
            ))),
        }
    }

    /// Waits until everything was delivered that kine holds now, by writing something to wait for.
    pub(super) async fn barrier(self: &Arc<Self>, asked: Asked) -> Result<Place, CallError> {
        let written = self.write_marker(asked).await?;
        self.reach(written, asked.until).await
    }

    /// Starts the task that follows, unless it is there.
    fn follow(self: &Arc<Self>) {
        if self.tail.follows.swap(true, Ordering::AcqRel) {
            return;
        }
        let core = Arc::downgrade(self);
        tokio::spawn(async move {
            // Ends with the store.
            while let Some(core) = core.upgrade() {
                let ended = match core.open_tail().await {
                    Ok(answers) => {
                        let core = Arc::downgrade(&core);
                        read(core, answers).await
                    }
                    Err(error) => error.to_string(),
                };
                debug!(store = %core.name, ended, "the watch of a kine ended; opening it again");
                drop(core);
                sleep(PAUSE).await;
            }
        });
    }

    async fn open_tail(self: &Arc<Self>) -> Result<Answers, CallError> {
        let asked = Asked {
            lane: Lane::Unary,
            until: Instant::now() + PATIENCE,
        };
        let known = *self.tail.delivered.borrow();
        let (marker, at) = self.marker(asked).await?;
        if *self.tail.incarnation.get_or_init(|| marker) != marker {
            warn!(
                store = %self.name,
                "another kine answers under this store's name; calls fail until Keyloom is restarted \
                 on the right one"
            );
            let why = "another kine answers under this store's name".to_owned();
            return Err(CallError::NotSent(why));
        }
        let begin = if known > 0 { known } else { at };
        let answers = self.watch_from(begin + 1).await?;
        if known == 0 {
            // The watch is read meanwhile: it may have to deliver a lot before this.
            tokio::spawn(first_place(Arc::downgrade(self)));
        }
        Ok(answers)
    }

    /// Everything that kine can watch, from a revision on.
    pub(super) async fn watch_from(&self, start_revision: i64) -> Result<Answers, CallError> {
        let create = WatchCreateRequest {
            key: FIRST,
            range_end: END,
            start_revision,
            prev_kv: true,
            // A watch that says nothing for long is taken for dead by proxies in between.
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        let request = Bytes::from(request.encode_to_vec());
        let requests = stream::iter([request]).chain(stream::pending());
        self.raw.stream(Rpc::Watch, requests.boxed()).await
    }

    /// Which kine this is, and a revision that it had when it said so.
    async fn marker(&self, asked: Asked) -> Result<(u64, i64), CallError> {
        for _ in 0..3 {
            let found = self.read_marker(asked).await?;
            let at = found.header.map_or(0, |header| header.revision).max(1);
            if let Some(kv) = found.kvs.first() {
                let text = String::from_utf8_lossy(&kv.value);
                let id = u64::from_str_radix(&text, 16).unwrap_or(0);
                if id != 0 {
                    return Ok((id, at));
                }
                return Err(CallError::Unknown(format!(
                    "store {}: its marker cannot be read: {text:?}",
                    self.name
                )));
            }
            let value = format!("{:016x}", self.tail.random.next().max(1));
            // Somebody else may be faster: then theirs is read.
            let _made: TxnResponse = self
                .ask(asked, Rpc::Txn, &put_marker(0, value.into()), false)
                .await?;
        }
        Err(CallError::Unknown("the marker does not stay".to_owned()))
    }

    async fn read_marker(&self, asked: Asked) -> Result<RangeResponse, CallError> {
        let request = RangeRequest {
            key: MARKER,
            ..RangeRequest::default()
        };
        self.ask(asked, Rpc::Range, &request, true).await
    }

    /// Puts the marker again as it is, and gives back the revision of that.
    async fn write_marker(&self, asked: Asked) -> Result<i64, CallError> {
        while Instant::now() < asked.until {
            let found = self.read_marker(asked).await?;
            let Some(kv) = found.kvs.first() else {
                return Err(CallError::NotSent(format!(
                    "store {}: its marker is gone",
                    self.name
                )));
            };
            let put = put_marker(kv.mod_revision, kv.value.clone());
            let answer: TxnResponse = self.ask(asked, Rpc::Txn, &put, false).await?;
            if answer.succeeded {
                return Ok(answer.header.map_or(0, |header| header.revision));
            }
        }
        Err(CallError::TimedOut)
    }
}

fn put_marker(at: i64, value: Bytes) -> TxnRequest {
    let op = |request| RequestOp {
        request: Some(request),
    };
    let put = PutRequest {
        key: MARKER,
        value,
        ..PutRequest::default()
    };
    let read = RangeRequest {
        key: MARKER,
        ..RangeRequest::default()
    };
    // kine takes a creation without an alternative, and an update only with one.
    let failure = (at != 0).then(|| op(request_op::Request::RequestRange(read)));
    TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: MARKER,
            target_union: Some(TargetUnion::ModRevision(at)),
            ..Compare::default()
        }],
        success: vec![op(request_op::Request::RequestPut(put))],
        failure: failure.into_iter().collect(),
    }
}

/// Writes something to wait for, unless something else came before.
async fn first_place(core: Weak<Core>) {
    while let Some(core) = core.upgrade() {
        if core.tail.place().is_some() {
            return;
        }
        let asked = Asked {
            lane: Lane::Unary,
            until: Instant::now() + PATIENCE,
        };
        let Err(error) = core.write_marker(asked).await else {
            return;
        };
        debug!(store = %core.name, %error, "the first place of a kine is not known yet");
        drop(core);
        sleep(PAUSE).await;
    }
}

/// Reads until the watch ends, or the store does; says why.
async fn read(core: Weak<Core>, mut answers: Answers) -> String {
    while let Some(answer) = answers.next().await {
        let Some(core) = core.upgrade() else {
            return "the store is gone".to_owned();
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return error.to_string(),
        };
        let Ok(answer) = WatchResponse::decode(answer) else {
            return "an answer cannot be read".to_owned();
        };
        if let Some(last) = answer.events.last().and_then(|event| event.kv.as_ref()) {
            core.tail.delivered(last.mod_revision);
        }
        if answer.canceled && answer.compact_revision > 0 {
            // What was missed is gone; the next place is one that a new write has.
            core.tail.delivered.send_replace(0);
            return "compacted".to_owned();
        }
        if answer.canceled {
            return answer.cancel_reason;
        }
    }
    "without a word".to_owned()
}
