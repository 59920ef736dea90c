//! The store behind the port: every call goes from here to the writer or to a reader.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use futures_util::{StreamExt as _, future::BoxFuture};
use keyloom_etcd_api::{
    EtcdError, KeyRange, Rpc, Status, check_delete_range, check_put, check_range, check_txn,
    etcdserverpb::{LeaseKeepAliveRequest, RangeRequest, TxnRequest},
};
use keyloom_store::{Answers, Call, CallError, Lane, Requests};
use prost::Message;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Duration, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    kv::{Scope, Tx, only_reads, range},
    lease::Leases,
    readers::Readers,
    session::Session,
    shared::Shared,
    watch,
    wire::{RangeAnswer, decode, encode},
    writer::{Job, Request},
};

mod lease;
mod maintenance;

/// How many answers of a stream may wait for their reader.
const STREAM_BUFFER: usize = 16;

/// How many keep-alives of one stream may be under way: they share commits.
const KEEP_ALIVES: usize = 64;

/// How often the ends of leases are looked at.
const LEASE_TICK: Duration = Duration::from_millis(100);

/// What every clone of a store shares.
#[derive(Debug)]
pub(crate) struct Engine<S> {
    pub(crate) shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    readers: Arc<Readers<S>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<S: Session> Engine<S> {
    /// Takes the ends of the queues, and begins to watch over the leases.
    pub(crate) fn start(
        shared: Arc<Shared>,
        jobs: mpsc::Sender<Job>,
        readers: Readers<S>,
    ) -> Arc<Self> {
        let engine = Arc::new(Self {
            shared,
            jobs,
            readers: Arc::new(readers),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let watched = (engine.shared.clone(), engine.jobs.downgrade());
        let stop = engine.stop.clone();
        engine.tasks.spawn(async move {
            let (shared, jobs) = watched;
            stop.run_until_cancelled(watch_leases(shared, jobs)).await;
        });
        engine
    }

    /// Ends the streams, and tells the readers to end after what is queued.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.readers.stop().await;
    }

    /// Tells the writer to end after what is queued.
    pub(crate) async fn stop_writer(&self) {
        // A writer that has ended needs no telling.
        drop(self.jobs.send(Job::Stop).await);
    }

    pub(crate) async fn call(self: Arc<Self>, call: Call) -> Result<Bytes, CallError> {
        if self.stop.is_cancelled() {
            return Err(CallError::Refused(EtcdError::Stopped.into()));
        }
        let deadline = call.deadline;
        let answer = self.dispatch(call);
        match deadline {
            None => answer.await,
            Some(deadline) => timeout_at(deadline.into(), answer)
                .await
                .unwrap_or(Err(CallError::TimedOut)),
        }
    }

    fn dispatch(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Bytes, CallError>> {
        Box::pin(async move {
            match call.rpc {
                Rpc::Range => self.range(decode_call(call.message)?, call.lane).await,
                Rpc::Put | Rpc::DeleteRange | Rpc::Compact => {
                    let request = self.check_write(call.rpc, call.message)?;
                    self.write(request).await
                }
                Rpc::Txn => self.txn(call.message, call.lane).await,
                Rpc::LeaseGrant | Rpc::LeaseRevoke | Rpc::LeaseTimeToLive | Rpc::LeaseLeases => {
                    self.lease_call(call.rpc, call.message).await
                }
                rpc => self.maintenance_call(rpc, call.message).await,
            }
        })
    }

    fn check_write(&self, rpc: Rpc, message: Bytes) -> Result<Request, CallError> {
        let length = message.len();
        let request = match rpc {
            Rpc::Put => {
                let put = decode_call(message)?;
                check_put(&put).map_err(refused)?;
                Request::Put(put)
            }
            Rpc::DeleteRange => {
                let delete = decode_call(message)?;
                check_delete_range(&delete).map_err(refused)?;
                Request::DeleteRange(delete)
            }
            _ => Request::Compact(decode_call(message)?),
        };
        self.check_size(length)?;
        Ok(request)
    }

    fn check_size(&self, length: usize) -> Result<(), CallError> {
        if length > self.shared.options.max_request_bytes {
            return Err(refused(EtcdError::RequestTooLarge));
        }
        Ok(())
    }

    async fn range(&self, request: RangeRequest, lane: Lane) -> Result<Bytes, CallError> {
        check_range(&request).map_err(refused)?;
        let (before, shared) = (self.shared.clone(), self.shared.clone());
        let keys = KeyRange::from_request(&request.key, &request.range_end);
        let glance = move || before.key_counts.glance(&keys);
        let read = move |session: &mut S, glance| {
            let marks = session.marks()?;
            let scope = Scope {
                marks: &marks,
                seen: marks.revision,
                glance: Some((&shared.key_counts, &glance)),
            };
            let mut answer = RangeAnswer::new(&shared.header(marks.revision));
            let ranged = range(session, &scope, &request, &mut answer)?;
            Ok(answer.finish(ranged.more, ranged.count))
        };
        self.readers.run_with(lane, glance, read).await
    }

    async fn txn(&self, message: Bytes, lane: Lane) -> Result<Bytes, CallError> {
        let length = message.len();
        let request: TxnRequest = decode_call(message)?;
        if !only_reads(&request) {
            self.check_size(length)?;
        }
        check_txn(&request, self.shared.options.max_txn_ops).map_err(refused)?;
        if !only_reads(&request) {
            return self.write(Request::Txn(request)).await;
        }
        let shared = self.shared.clone();
        let read = move |session: &mut S| {
            let (marks, leases) = (session.marks()?, Leases::default());
            let mut answer = Tx::new(session, marks, &leases, false).txn(&request)?;
            answer.header = Some(shared.header(marks.revision));
            Ok(encode(&answer))
        };
        self.readers.run(lane, read).await
    }

    /// Hands a request to the writer.
    async fn write(&self, request: Request) -> Result<Bytes, CallError> {
        self.ask_writer(|reply| Job::Write(request, reply)).await
    }

    async fn ask_writer(
        &self,
        job: impl FnOnce(crate::writer::Reply) -> Job,
    ) -> Result<Bytes, CallError> {
        let (reply, answer) = oneshot::channel();
        let stopped = |_| CallError::Refused(EtcdError::Stopped.into());
        self.jobs.send(job(reply)).await.map_err(stopped)?;
        let lost = || CallError::Unknown(format!("{} was closed", self.shared.origin));
        answer.await.unwrap_or_else(|_| Err(lost()))
    }

    pub(crate) async fn stream(
        self: Arc<Self>,
        rpc: Rpc,
        requests: Requests,
    ) -> Result<Answers, CallError> {
        match rpc {
            Rpc::Watch => Ok(self.watch(requests)),
            Rpc::LeaseKeepAlive => Ok(self.keep_alives(requests)),
            rpc => Err(CallError::Refused(unimplemented(rpc))),
        }
    }

    fn watch(&self, requests: Requests) -> Answers {
        let (out, answers) = mpsc::channel(STREAM_BUFFER);
        let ended = out.clone();
        let serve = watch::serve(self.shared.clone(), self.readers.clone(), requests, out);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            if stop.run_until_cancelled(serve).await.is_none() {
                // As etcd when it stops: clients reconnect and resume.
                let stopped = Err(CallError::Refused(EtcdError::Stopped.into()));
                drop(ended.try_send(stopped));
            }
        });
        let next = |mut answers: mpsc::Receiver<_>| async move {
            answers.recv().await.map(|answer| (answer, answers))
        };
        futures_util::stream::unfold(answers, next).boxed()
    }

    fn keep_alives(self: Arc<Self>, requests: Requests) -> Answers {
        let keep_alive = move |message| {
            let engine = self.clone();
            async move {
                let request: LeaseKeepAliveRequest = decode_call(message)?;
                engine.write(Request::LeaseKeepAlive(request.id)).await
            }
        };
        let answers = requests.map(keep_alive).buffered(KEEP_ALIVES);
        // An error is the last item.
        let until_error = answers.scan(false, |ended, answer| {
            let item = (!std::mem::replace(ended, answer.is_err())).then_some(answer);
            std::future::ready(item)
        });
        until_error.boxed()
    }
}

/// Lets leases end when their time has come.
async fn watch_leases(shared: Arc<Shared>, jobs: mpsc::WeakSender<Job>) {
    loop {
        tokio::time::sleep(LEASE_TICK).await;
        if shared.clock.now_ms() < shared.next_end.load(Ordering::Relaxed) {
            continue;
        }
        let Some(jobs) = jobs.upgrade() else { return };
        let (reply, done) = oneshot::channel();
        if jobs.send(Job::Write(Request::Expire, reply)).await.is_err() {
            return;
        }
        // What went wrong is logged by the writer, and tried again with the next tick.
        drop(done.await);
    }
}

fn decode_call<M: Message + Default>(message: Bytes) -> Result<M, CallError> {
    decode(message).map_err(CallError::Refused)
}

fn refused(error: EtcdError) -> CallError {
    CallError::Refused(error.into())
}

fn unimplemented(rpc: Rpc) -> Status {
    Status::unimplemented(format!("a SQL store has no {}", rpc.name()))
}
