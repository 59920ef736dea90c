//! Reading a whole store at one revision.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use keyloom_etcd_api::{
    Code, EtcdError, KeyRange, Metadata, Rpc,
    etcdserverpb::{
        LeaseLeasesRequest, LeaseLeasesResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
        RangeRequest, RangeResponse,
    },
    mvccpb::KeyValue,
};
use keyloom_sqlstore::ImportedLease;
use keyloom_store::{Call, CallError, Lane, Store};
use prost::Message;
use tokio::time::{Duration, Instant, sleep};
use tracing::warn;

use crate::order::reserved_prefix;

/// How many keys the first page may have.
const FIRST_PAGE: i64 = 100;

/// How many keys any page may have.
const LARGEST_PAGE: i64 = 10_000;

/// How large a page should be, in bytes.
const PAGE_BYTES: u64 = 4 << 20;

/// How long one read may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How often a read is tried: it changes nothing.
const ATTEMPTS: usize = 5;

const PAUSE: Duration = Duration::from_secs(1);

/// Kine answers under this name for a key that it keeps under the other one.
const COMPACT_KEY: &[u8] = b"compact_rev_key";
const BEHIND_COMPACT_KEY: &[u8] = b"compact_rev_key_apiserver\0";

/// A store to copy from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    store: Arc<dyn Store>,
    name: String,
    /// Whether it is a kine: no versions, no leases but time to live, ranges between letters.
    pub(super) is_kine: bool,
}

/// Some keys in their order.
#[derive(Debug, Default)]
pub(super) struct SourcePage {
    pub(super) kvs: Vec<KeyValue>,
    /// Of keys and values.
    pub(super) bytes: u64,
    /// How many keys there are in all pages.
    pub(super) total: i64,
}

/// All keys at one revision, in their order.
#[derive(Debug)]
pub(super) struct SourcePages {
    source: Source,
    from: Bytes,
    end: Bytes,
    revision: i64,
    limit: i64,
    total: i64,
    read: i64,
    last: Bytes,
    done: bool,
    /// Keys of a ledger that were passed over.
    pub(super) own: i64,
}

impl Source {
    /// Asks who it is.
    pub(super) async fn new(store: Arc<dyn Store>, name: String) -> Result<Self> {
        let mut source = Self {
            store,
            name,
            is_kine: false,
        };
        let request = RangeRequest {
            key: Bytes::from_static(b"\0"),
            ..RangeRequest::default()
        };
        let answer: RangeResponse = source.ask(Rpc::Range, &request).await?;
        let header = answer.header.context("the answer has no header")?;
        source.is_kine = header.cluster_id == 0;
        Ok(source)
    }

    /// Every key at `revision`, or at the newest if it is 0.
    pub(super) fn pages(&self, revision: i64) -> SourcePages {
        // Kine compares the bounds as texts, and knows no range without an end.
        let (from, end) = match self.is_kine {
            true => ("\u{1}", "\u{10ffff}"),
            false => ("\0", "\0"),
        };
        SourcePages {
            source: self.clone(),
            from: Bytes::from_static(from.as_bytes()),
            end: Bytes::from_static(end.as_bytes()),
            revision,
            limit: FIRST_PAGE,
            total: 0,
            read: 0,
            last: Bytes::new(),
            done: false,
            own: 0,
        }
    }

    /// Every lease that there is. Those of a kine are the times to live that its keys name.
    pub(super) async fn leases(&self, named: &BTreeSet<i64>) -> Result<Vec<ImportedLease>> {
        let mut leases = Vec::new();
        for id in self.lease_ids(named).await? {
            leases.extend(self.lease(id).await?);
        }
        Ok(leases)
    }

    async fn lease_ids(&self, named: &BTreeSet<i64>) -> Result<Vec<i64>> {
        if self.is_kine {
            return Ok(named.iter().copied().collect());
        }
        let answer: LeaseLeasesResponse =
            self.ask(Rpc::LeaseLeases, &LeaseLeasesRequest {}).await?;
        Ok(answer.leases.iter().map(|lease| lease.id).collect())
    }

    /// One lease, if it has not ended.
    pub(super) async fn lease(&self, id: i64) -> Result<Option<ImportedLease>> {
        if self.is_kine {
            // The number is the time to live, and nobody can say what is left of it.
            let (ttl, remaining) = (id, id);
            return Ok(Some(ImportedLease { id, ttl, remaining }));
        }
        let request = LeaseTimeToLiveRequest { id, keys: false };
        let answer: LeaseTimeToLiveResponse = self.ask(Rpc::LeaseTimeToLive, &request).await?;
        Ok((answer.ttl >= 0).then_some(ImportedLease {
            id,
            ttl: answer.granted_ttl,
            remaining: answer.ttl,
        }))
    }

    /// How many keys there are now.
    pub(super) async fn count(&self) -> Result<i64> {
        let request = RangeRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            count_only: true,
            ..RangeRequest::default()
        };
        let answer: RangeResponse = self.ask(Rpc::Range, &request).await?;
        Ok(answer.count)
    }

    /// Makes a call that changes nothing, again where it was not answered.
    async fn ask<A: Message + Default>(&self, rpc: Rpc, request: &impl Message) -> Result<A> {
        let mut attempt = 1;
        loop {
            let call = Call {
                metadata: Metadata::default(),
                rpc,
                message: request.encode_to_vec().into(),
                lane: Lane::Bulk,
                deadline: Some((Instant::now() + TIMEOUT).into_std()),
                idempotent: true,
            };
            match self.store.call(call).await {
                Ok(answer) => return Ok(A::decode(answer)?),
                Err(error) if attempt < ATTEMPTS && may_pass(&error) => {
                    warn!(from = self.name, %error, "{} failed; trying again", rpc.name());
                    attempt += 1;
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(self.explain(&error)),
            }
        }
    }

    fn explain(&self, error: &CallError) -> anyhow::Error {
        let name = &self.name;
        match error {
            CallError::Refused(status) if EtcdError::of(status) == Some(EtcdError::Compacted) => {
                anyhow::anyhow!(
                    "{name} compacted the revision that was being copied: nothing is copied. Stop \
                     what compacts it (kube-apiserver does every five minutes) and start again"
                )
            }
            error => anyhow::anyhow!("{name}: {error}"),
        }
    }
}

/// Whether another attempt may be answered.
fn may_pass(error: &CallError) -> bool {
    match error {
        CallError::Refused(status) => status.code() == Code::Unavailable,
        CallError::NotSent(_) | CallError::Unknown(_) | CallError::TimedOut => true,
    }
}

impl SourcePages {
    /// The revision of all pages; known after the first.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// The next keys; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<SourcePage>> {
        if self.done {
            self.check_count()?;
            return Ok(None);
        }
        let request = RangeRequest {
            key: self.from.clone(),
            range_end: self.end.clone(),
            revision: self.revision,
            limit: self.limit,
            ..RangeRequest::default()
        };
        let answer: RangeResponse = self.source.ask(Rpc::Range, &request).await?;
        let header = answer.header.context("the answer has no header")?;
        if self.revision == 0 {
            self.revision = header.revision;
        }
        if self.read == 0 {
            self.total = answer.count;
        }
        self.done = !answer.more;
        let mut page = SourcePage {
            kvs: answer.kvs,
            bytes: 0,
            total: self.total,
        };
        self.check_order(&page.kvs)?;
        self.go_on(&mut page)?;
        Ok(Some(page))
    }

    fn check_order(&mut self, kvs: &[KeyValue]) -> Result<()> {
        for kv in kvs {
            ensure!(
                kv.key > self.last,
                "{} returned keys out of order: {}",
                self.source.name,
                kv.key.escape_ascii()
            );
            ensure!(
                kv.mod_revision <= self.revision,
                "{} was asked at revision {} and returned a key of revision {}",
                self.source.name,
                self.revision,
                kv.mod_revision
            );
            self.last = kv.key.clone();
        }
        Ok(())
    }

    fn go_on(&mut self, page: &mut SourcePage) -> Result<()> {
        let keys = i64::try_from(page.kvs.len())?;
        if !self.done {
            ensure!(
                keys > 0,
                "{} returned an empty page before the end",
                self.source.name
            );
        }
        self.read += keys;
        let next = match &self.last[..] {
            COMPACT_KEY if self.source.is_kine => BEHIND_COMPACT_KEY.to_vec(),
            last => [last, b"\0"].concat(),
        };
        self.from = next.into();
        let size = |kv: &KeyValue| (kv.key.len() + kv.value.len()) as u64;
        page.bytes = page.kvs.iter().map(size).sum();
        let fitting = i64::try_from(PAGE_BYTES / (page.bytes / keys.max(1).unsigned_abs()).max(1))?;
        self.limit = fitting.clamp(1, LARGEST_PAGE);
        // A ledger belongs to the stores that it was written over.
        let own = KeyRange::prefix(reserved_prefix());
        page.kvs.retain(|kv| !own.contains(&kv.key));
        self.own += keys - i64::try_from(page.kvs.len())?;
        if self.source.is_kine {
            page.kvs.iter_mut().for_each(give_version);
        }
        Ok(())
    }

    fn check_count(&self) -> Result<()> {
        if self.read != self.total {
            bail!(
                "{} said that it has {} keys at revision {}, but returned {}",
                self.source.name,
                self.total,
                self.revision,
                self.read
            );
        }
        Ok(())
    }
}

/// Kine does not count versions. What Kubernetes asks of one is whether the key was changed since
/// it was created.
fn give_version(kv: &mut KeyValue) {
    if kv.version == 0 {
        kv.version = if kv.create_revision == kv.mod_revision {
            1
        } else {
            2
        };
    }
}
