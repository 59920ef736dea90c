//! One kind of call, made again and again, and recorded with everything else.

mod watch;

use std::{cell::Cell, fmt, time::Duration};

use bytes::Bytes;
use keyloom_etcd_api::{
    EtcdError, KeyRange, Status,
    etcdserverpb::{
        CompactionRequest, Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, compare,
        request_op::Request,
    },
};
use keyloom_testkit::{Answer, Step, history::Recorder, program::Chance};
use tokio::time::timeout;

use super::{fault::Victim, ground::Ground};
use crate::{
    Client,
    poll::{self, eventually},
    robustness::Trouble,
};

/// The id of its calls in the history.
const PROBE: u64 = 95;

/// How long something may take that a fault may hold up.
const PATIENCE: Duration = Duration::from_secs(3);

/// Of a call: above any time limit of Keyloom's for a store, so that its own error comes first.
const DEADLINE: Duration = Duration::from_secs(10);

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Write,
    /// A transaction that compares what was read before.
    Cas,
    /// Over two stores.
    List,
    /// Over two stores, in pages at one revision.
    Pages,
    /// A new watch, and an event that it must be sent.
    Watch,
    /// A new watch, and how far it is.
    Progress,
    KeepAlive,
    /// A change of the topology.
    Reload,
    Compaction,
}

/// A client that makes one kind of call.
#[derive(Debug)]
pub struct Probe<'a> {
    call: Call,
    victim: Victim,
    client: Client,
    trouble: &'a Trouble<'a>,
    number: Cell<u64>,
    /// When the first topology was written, by the history's clock.
    reloads_since: Cell<Option<u64>>,
}

impl<'a> Probe<'a> {
    #[must_use]
    pub fn new(call: Call, victim: Victim, ground: &Ground, trouble: &'a Trouble<'a>) -> Self {
        Self {
            call,
            victim,
            client: ground.keyloom.client(),
            trouble,
            number: Cell::new(0),
            reloads_since: Cell::new(None),
        }
    }

    /// Makes a call that needs the victim.
    ///
    /// # Errors
    /// What a client is told.
    pub async fn on_victim(&self, ground: &Ground) -> Result<(), Status> {
        let key = self.victim.key();
        let over_stores = match self.victim {
            Victim::Pods => "/registry/pods/",
            Victim::Default | Victim::Tenant => "/registry/secrets/",
        };
        match self.call {
            Call::Write => self.put(key).await.map(drop),
            Call::Cas => self.cas(key).await,
            Call::List => self.list(over_stores).await,
            Call::Pages => self.pages(over_stores).await,
            Call::Watch => self.watch(key).await,
            Call::Progress => self.progress(key).await,
            Call::KeepAlive => self.keep_alive().await,
            Call::Reload => self.reload(ground).await,
            Call::Compaction => self.compact().await,
        }
    }

    /// Makes such a call to another store, as far as there is one that needs no other. It must be
    /// answered while the fault lasts.
    ///
    /// # Errors
    /// What a client is told.
    pub async fn on_others(&self) -> Result<(), Status> {
        let (store, list) = match self.victim {
            Victim::Pods => (Victim::Tenant, "/registry/secrets/"),
            Victim::Default | Victim::Tenant => (Victim::Pods, "/registry/pods/default/"),
        };
        let key = store.key();
        match self.call {
            Call::Cas => self.cas(key).await,
            Call::List => self.list(list).await,
            Call::Pages => self.pages(list).await,
            Call::Watch => self.watch(key).await,
            Call::Progress => self.progress(key).await,
            Call::Write | Call::KeepAlive | Call::Reload | Call::Compaction => {
                self.put(key).await?;
                self.put(Victim::Default.key()).await.map(drop)
            }
        }
    }

    /// Writes until there is no room even for little.
    pub async fn until_full(&self) {
        let key = self.victim.key();
        for more in [16 << 10, 0] {
            let full = || async {
                let mut put = self.put_of(key);
                put.value = [&put.value[..], &vec![b'.'; more]].concat().into();
                match self.step(Step::Put(put)).await {
                    Err(status) if EtcdError::of(&status) == Some(EtcdError::NoSpace) => Ok(()),
                    other => Err(other),
                }
            };
            eventually("a write for which there is no room", full).await;
        }
    }

    /// Waits until the last topology is taken, and says what may be forgotten by that.
    pub async fn settle_reloads(&self, ground: &Ground) {
        eventually("the last topology", || async {
            if ground.serves_what_is_written().await {
                return Ok(());
            }
            Err(ground.keyloom.admin("/topology/status").await)
        })
        .await;
        if let Some(since) = self.reloads_since.get() {
            let revision = self.client.revision().await;
            self.trouble.forgets(since, revision);
        }
    }

    fn recorder(&self) -> &Recorder {
        self.trouble.recorder()
    }

    /// One call with a deadline, as kube-apiserver's have one.
    async fn step(&self, step: Step) -> Result<Answer, Status> {
        self.step_within(DEADLINE, step).await
    }

    async fn step_within(&self, deadline: Duration, step: Step) -> Result<Answer, Status> {
        let recording = self.recorder().begin(PROBE, step.clone());
        let answer = timeout(deadline, self.client.step(&step)).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        recording.end(answer.clone());
        answer
    }

    fn value(&self) -> Bytes {
        self.number.set(self.number.get() + 1);
        format!("probe {}", self.number.get()).into()
    }

    async fn put(&self, key: &'static str) -> Result<i64, Status> {
        let put = Step::Put(self.put_of(key));
        self.step(put).await.map(|answer| answer.revision())
    }

    fn put_of(&self, key: &'static str) -> PutRequest {
        PutRequest {
            key: key.into(),
            value: self.value(),
            ..PutRequest::default()
        }
    }

    async fn range(&self, request: RangeRequest) -> Result<Answer, Status> {
        self.step(Step::Range(request)).await
    }

    async fn cas(&self, key: &'static str) -> Result<(), Status> {
        let get = RangeRequest {
            key: key.into(),
            ..RangeRequest::default()
        };
        let Answer::Range(read) = self.range(get).await? else {
            return Ok(());
        };
        let at = read.kvs.first().map_or(0, |kv| kv.mod_revision);
        let unchanged = Compare {
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Mod.into(),
            key: key.into(),
            target_union: Some(compare::TargetUnion::ModRevision(at)),
            ..Compare::default()
        };
        let put = RequestOp {
            request: Some(Request::RequestPut(self.put_of(key))),
        };
        let txn = TxnRequest {
            compare: vec![unchanged],
            success: vec![put],
            ..TxnRequest::default()
        };
        self.step(Step::Txn(txn)).await.map(drop)
    }

    async fn list(&self, prefix: &'static str) -> Result<(), Status> {
        self.range(list_of(prefix)).await.map(drop)
    }

    /// Every page is held against the one state at the revision of the first.
    async fn pages(&self, prefix: &'static str) -> Result<(), Status> {
        let mut request = RangeRequest {
            limit: 2,
            ..list_of(prefix)
        };
        loop {
            let answer = self.range(request.clone()).await;
            let Answer::Range(page) = answer? else {
                return Ok(());
            };
            let Some(last) = page.kvs.last().filter(|_| page.more) else {
                return Ok(());
            };
            request.key = [&last.key[..], b"\0"].concat().into();
            request.revision = match request.revision {
                0 => page.header.as_ref().map_or(0, |header| header.revision),
                first => first,
            };
        }
    }

    async fn keep_alive(&self) -> Result<(), Status> {
        let id = self.trouble.lease(&mut Chance::new(self.number.get()));
        let answer = timeout(poll::LONG, self.client.keep_alive(id)).await;
        answer.expect("an answer to a keep-alive").map(drop)
    }

    /// At what was the newest revision a moment ago.
    async fn compact(&self) -> Result<(), Status> {
        let read = list_of("/registry/pods/default/");
        let revision = self.range(read).await?.revision();
        let step = Step::Compact(CompactionRequest {
            revision: revision - 5,
            physical: false,
        });
        // A compaction is recorded first: what holds up the ledger's writes holds it up.
        match self.step_within(PATIENCE, step).await {
            // The other compactor was faster.
            Err(status) if status.code() == keyloom_etcd_api::Code::OutOfRange => Ok(()),
            answer => answer.map(drop),
        }
    }

    async fn reload(&self, ground: &Ground) -> Result<(), Status> {
        if self.reloads_since.get().is_none() {
            self.reloads_since.set(Some(self.trouble.now()));
        }
        ground.write_another_topology();
        let taken = timeout(PATIENCE, async {
            while !ground.serves_what_is_written().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let late = |_| Status::deadline_exceeded("the topology is not taken yet");
        taken.await.map_err(late)
    }
}

fn list_of(prefix: &'static str) -> RangeRequest {
    let range = KeyRange::prefix(prefix.into());
    RangeRequest {
        range_end: range.range_end(),
        key: range.start,
        ..RangeRequest::default()
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "write",
            Self::Cas => "compare and write",
            Self::List => "list over stores",
            Self::Pages => "pages over stores",
            Self::Watch => "watch",
            Self::Progress => "progress request",
            Self::KeepAlive => "lease keep-alive",
            Self::Reload => "reload",
            Self::Compaction => "compaction",
        })
    }
}
