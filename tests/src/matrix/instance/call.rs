//! One kind of call, made while a Keyloom is killed, paused or cut off.

use std::{future::Future, sync::Arc, time::Duration};

use keyloom_etcd_api::{
    Code, Status,
    etcdserverpb::{
        CompactionRequest, Compare, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
        TxnRequest, WatchCreateRequest, compare, request_op::Request,
    },
    mvccpb::KeyValue,
};
use keyloom_etcd_client::Answered as _;
use tokio::time::{sleep, timeout};

use super::files::Files;
use crate::{
    client::Client,
    http,
    matrix::Call,
    split::everything,
    stage::range,
    trial::{book::Book, writer},
    watching::Watching,
};

/// Nobody else writes it. Marks are left out of the book: they may be written twice.
const KEY: &str = "/registry/secrets/tenant-a/called";
const FIRST: &str = "mark before";
const VALUE: &str = "mark called";

/// Of a call: a client has one.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a change of the topology is waited for at a time.
const SOON: Duration = Duration::from_secs(3);

/// How many revisions are kept when it compacts.
const KEPT: i64 = 20;

/// See the module's page.
#[derive(Debug)]
pub(super) struct Caller {
    call: Call,
    client: Client,
    book: Arc<Book>,
    /// Where its key was written first.
    first: i64,
    /// A revision before anything happened, what was there then, and a lease.
    revision: i64,
    keys: Vec<KeyValue>,
    lease: i64,
}

impl Caller {
    pub(super) async fn new(call: Call, client: Client, book: &Arc<Book>) -> Self {
        let first = client.put(KEY, FIRST).await;
        let listed = range(&client, everything(0)).await.expect("a list");
        let grant = LeaseGrantRequest { ttl: 300, id: 0 };
        let granted = client.lease().lease_grant(grant).await.expect("a lease");
        Self {
            call,
            client,
            book: Arc::clone(book),
            first,
            revision: listed.header.expect("a header").revision,
            keys: listed.kvs,
            lease: granted.into_inner().id,
        }
    }

    /// The same elsewhere.
    pub(super) fn at(self, client: Client) -> Self {
        Self { client, ..self }
    }

    /// Makes the call once. A change of the topology is to be served at this address.
    ///
    /// # Errors
    /// What a client is told, or that nothing came in time. What is said must be true.
    pub(super) async fn call(&self, files: &Files, topology: &str) -> Result<(), Status> {
        match self.call {
            Call::Write => within(writer::mark(&self.client, &self.book, KEY, VALUE)).await,
            Call::Cas => within(self.cas()).await,
            Call::List => within(self.read(everything(0))).await.map(drop),
            Call::Pages => within(self.pages()).await,
            Call::Watch => within(self.watch()).await,
            Call::Progress => within(self.progress()).await,
            Call::KeepAlive => within(self.keep_alive()).await,
            Call::Compaction => within(self.compact()).await,
            Call::Reload => {
                files.change();
                let served = timeout(SOON, served(files, topology)).await;
                served.map_err(|_| Status::deadline_exceeded("the topology is not taken yet"))
            }
        }
    }

    /// What must be so in the end, whatever the call was.
    pub(super) async fn must_be_right(&self) {
        let written = self
            .client
            .get(KEY)
            .await
            .expect("a key that nobody deletes");
        let wrote = matches!(self.call, Call::Write | Call::Cas);
        let expected = if wrote { VALUE } else { FIRST };
        assert_eq!(written.value, expected);
        self.keep_alive()
            .await
            .expect("a lease that nobody revoked");
        within(self.pages()).await.expect("pages, or compacted");
    }

    async fn read(&self, request: RangeRequest) -> Result<Vec<KeyValue>, Status> {
        let before = self.book.shown();
        let answer = range(&self.client, request).await?;
        let revision = answer.header.expect("a header").revision;
        self.book.read(before, revision, "the caller");
        Ok(answer.kvs)
    }

    async fn cas(&self) -> Result<(), Status> {
        let get = RangeRequest {
            key: KEY.into(),
            ..RangeRequest::default()
        };
        let at = self.read(get).await?[0].mod_revision;
        let put = PutRequest {
            key: KEY.into(),
            value: VALUE.into(),
            ..PutRequest::default()
        };
        let txn = TxnRequest {
            compare: vec![Compare {
                result: compare::CompareResult::Equal.into(),
                target: compare::CompareTarget::Mod.into(),
                key: KEY.into(),
                target_union: Some(compare::TargetUnion::ModRevision(at)),
                ..Compare::default()
            }],
            success: vec![RequestOp {
                request: Some(Request::RequestPut(put)),
            }],
            ..TxnRequest::default()
        };
        let before = self.book.shown();
        let answer = self.client.kv().txn(txn).await.answered()?;
        let revision = answer.header.expect("a header").revision;
        if answer.succeeded {
            self.book.wrote(before, revision, "the caller");
        } else {
            // An earlier attempt, of which nothing was known, happened in between.
            self.book.read(before, revision, "the caller");
        }
        Ok(())
    }

    /// Everything at the first revision again, in pages: as it was, or compacted.
    async fn pages(&self) -> Result<(), Status> {
        let (mut request, mut keys) = (everything(self.revision), Vec::new());
        request.limit = 3;
        loop {
            let page = match range(&self.client, request.clone()).await {
                Ok(page) => page,
                Err(status) if is_compacted(&status) => return Ok(()),
                Err(status) => return Err(status),
            };
            keys.extend(page.kvs);
            if !page.more {
                assert_eq!(keys, self.keys, "pages at revision {}", self.revision);
                return Ok(());
            }
            let last = &keys.last().expect("a page has keys").key;
            request.key = [&last[..], b"\0"].concat().into();
        }
    }

    /// A watch from before sends what was written then, or is compacted.
    async fn watch(&self) -> Result<(), Status> {
        let mut stream = Watching::open(&self.client);
        stream.create(WatchCreateRequest {
            key: KEY.into(),
            start_revision: self.first,
            ..WatchCreateRequest::default()
        });
        loop {
            let Some(told) = stream.next_within(DEADLINE).await else {
                return Err(Status::deadline_exceeded("nothing was told"));
            };
            let told = told?;
            if told.canceled {
                assert!(told.compact_revision > 0, "{told:?}");
                return Ok(());
            }
            if let Some(kv) = told.events.first().and_then(|event| event.kv.as_ref()) {
                assert_eq!(kv.value, FIRST, "{told:?}");
                return Ok(());
            }
        }
    }

    async fn progress(&self) -> Result<(), Status> {
        let mut stream = Watching::open(&self.client);
        stream.create(WatchCreateRequest {
            key: KEY.into(),
            ..WatchCreateRequest::default()
        });
        stream.ask_progress();
        loop {
            let Some(told) = stream.next_within(DEADLINE).await else {
                return Err(Status::deadline_exceeded("nothing was told"));
            };
            if told?.watch_id == -1 {
                return Ok(());
            }
        }
    }

    async fn keep_alive(&self) -> Result<(), Status> {
        match self.client.keep_alive(self.lease).await? {
            Some(answer) => {
                assert!(answer.ttl > 0, "the lease is gone: {answer:?}");
                Ok(())
            }
            None => Err(Status::unavailable("the stream ended")),
        }
    }

    async fn compact(&self) -> Result<(), Status> {
        let request = CompactionRequest {
            revision: (self.book.shown() - KEPT).max(1),
            physical: false,
        };
        match self.client.kv().compact(request).await.answered() {
            Err(status) if is_compacted(&status) => Ok(()),
            answer => answer.map(drop),
        }
    }
}

/// Until the topology that was written last is served. Whoever is down or paused serves nothing.
async fn served(files: &Files, topology: &str) {
    loop {
        let page = http::get(topology).await;
        if page.is_ok_and(|(_, text)| files.are_served(&text)) {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn is_compacted(status: &Status) -> bool {
    status.code() == Code::OutOfRange && status.message().contains("compacted")
}

async fn within<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let answer = timeout(DEADLINE, call).await;
    answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
}
