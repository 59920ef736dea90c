//! Into a plain etcd, which can only be written by puts: its revisions and versions are its own.
//!
//! Keys go over in transactions, each of which holds only while its keys are not there, so that
//! nobody else's writes are lost. Leases keep their ids, and begin their time anew.

use std::{collections::BTreeSet, fmt, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use keyloom_etcd_api::{
    EtcdError, Metadata, Rpc,
    etcdserverpb::{
        Compare, LeaseGrantRequest, LeaseGrantResponse, PutRequest, RequestOp, TxnRequest,
        TxnResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
    },
    mvccpb::KeyValue,
};
use keyloom_sqlstore::ImportedLease;
use keyloom_store::{Call, CallError, Lane, Store};
use prost::Message;
use tokio::time::{Duration, Instant};
use tracing::info;

use super::{
    End, Opened, Progress,
    source::{Source, SourcePage},
    verify::{self, Verified},
};
use crate::environment::Environment;

/// Below etcd's limit of operations in a transaction, 128.
const BATCH_KEYS: usize = 100;

/// Below etcd's limit of a request, 1.5 MiB.
const BATCH_BYTES: usize = 1 << 20;

/// How long one write may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What an export did.
#[derive(Debug)]
pub(crate) struct ExportSummary {
    from: String,
    to: String,
    at: i64,
    leases: usize,
    expired: i64,
    own: i64,
    verified: Verified,
}

/// Copies everything that `from` has into the etcd `to`, and reads it back.
///
/// # Errors
/// Where anything stands in the way. What was written until then stays.
pub(crate) async fn export(
    from: End,
    to: End,
    overwrite: bool,
    environment: &Environment,
) -> Result<ExportSummary> {
    ensure!(
        to.file()?.is_none(),
        "--to must be an etcd; use `keyloom import` to make a SQLite file"
    );
    let target = to.open(environment).await?;
    let source = from.open(environment).await?;
    let done = copy(&source, &from, &target, &to, overwrite).await;
    source.close().await;
    done
}

async fn copy(
    source: &Opened,
    from: &End,
    target: &Opened,
    to: &End,
    overwrite: bool,
) -> Result<ExportSummary> {
    let source = Source::new(Arc::clone(&source.store), from.name()).await?;
    let read_back = Source::new(Arc::clone(&target.store), to.name()).await?;
    ensure!(!read_back.is_kine, "{} is a kine, not an etcd", to.name());
    if !overwrite {
        refuse_contents(&read_back, to).await?;
    }
    let mut writer = Writer {
        source: source.clone(),
        store: Arc::clone(&target.store),
        to: to.name(),
        overwrite,
        leases: BTreeSet::new(),
        written: 0,
    };
    let mut pages = source.pages(0);
    let mut progress = Progress::new("writing");
    let mut expired = 0;
    if !source.is_kine {
        for lease in source.leases(&BTreeSet::new()).await? {
            writer.grant(lease).await?;
        }
    }
    while let Some(page) = pages.next().await? {
        progress.add(&page);
        expired += writer.write(page).await?;
    }
    let at = pages.revision();
    info!(
        keys = writer.written,
        "all keys are written; reading them back to compare"
    );
    let verified = verify::compare(source.pages(at), read_back.pages(0)).await?;
    ensure!(
        verified.more == 0 || overwrite,
        "{} has {} keys that this export did not write: somebody else writes to it",
        to.name(),
        verified.more
    );
    Ok(ExportSummary {
        from: from.name(),
        to: to.name(),
        at,
        leases: writer.leases.len(),
        expired,
        own: pages.own,
        verified,
    })
}

async fn refuse_contents(target: &Source, to: &End) -> Result<()> {
    let keys = target.count().await?;
    let leases = target.leases(&BTreeSet::new()).await?.len();
    ensure!(
        keys == 0 && leases == 0,
        "{} is not empty: it has {keys} keys and {leases} leases. Use an empty etcd, or add \
         --overwrite",
        to.name()
    );
    Ok(())
}

struct Writer {
    source: Source,
    store: Arc<dyn Store>,
    to: String,
    overwrite: bool,
    /// Those that the target has.
    leases: BTreeSet<i64>,
    written: i64,
}

impl Writer {
    /// Writes a page; gives the number of keys whose lease has ended meanwhile.
    async fn write(&mut self, page: SourcePage) -> Result<i64> {
        let mut expired = 0;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for kv in page.kvs {
            if kv.lease != 0 && !self.has_lease(kv.lease).await? {
                expired += 1;
                continue;
            }
            let size = kv.key.len() + kv.value.len();
            if batch.len() == BATCH_KEYS || (bytes + size > BATCH_BYTES && !batch.is_empty()) {
                self.put(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += size;
            batch.push(kv);
        }
        if !batch.is_empty() {
            self.put(batch).await?;
        }
        Ok(expired)
    }

    /// A lease may have been granted after the leases were read.
    async fn has_lease(&mut self, id: i64) -> Result<bool> {
        if !self.leases.contains(&id)
            && let Some(lease) = self.source.lease(id).await?
        {
            self.grant(lease).await?;
        }
        Ok(self.leases.contains(&id))
    }

    async fn grant(&mut self, lease: ImportedLease) -> Result<()> {
        let ImportedLease { id, ttl, .. } = lease;
        let request = LeaseGrantRequest { id, ttl };
        let granted = self
            .ask::<LeaseGrantResponse>(Rpc::LeaseGrant, &request)
            .await;
        match granted {
            Err(CallError::Refused(status))
                if self.overwrite && EtcdError::of(&status) == Some(EtcdError::LeaseExist) => {}
            granted => drop(granted.map_err(|error| self.explain(&error))?),
        }
        self.leases.insert(id);
        Ok(())
    }

    async fn put(&mut self, kvs: Vec<KeyValue>) -> Result<()> {
        let absent = |kv: &KeyValue| Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Version.into(),
            key: kv.key.clone(),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::Version(0)),
        };
        let compare = match self.overwrite {
            true => Vec::new(),
            false => kvs.iter().map(absent).collect(),
        };
        let keys = i64::try_from(kvs.len())?;
        let first = kvs.first().context("an empty batch")?.key.clone();
        let put = |kv: KeyValue| RequestOp {
            request: Some(Request::RequestPut(PutRequest {
                key: kv.key,
                value: kv.value,
                lease: kv.lease,
                ..PutRequest::default()
            })),
        };
        let request = TxnRequest {
            compare,
            success: kvs.into_iter().map(put).collect(),
            failure: Vec::new(),
        };
        let answer = self.ask::<TxnResponse>(Rpc::Txn, &request).await;
        let answer = answer.map_err(|error| self.explain(&error))?;
        if !answer.succeeded {
            bail!(
                "somebody else wrote keys to {} during the export, at or behind {}; {} keys are \
                 written",
                self.to,
                first.escape_ascii(),
                self.written
            );
        }
        self.written += keys;
        Ok(())
    }

    /// Never made again: it may have reached the store.
    async fn ask<A: Message + Default>(
        &self,
        rpc: Rpc,
        request: &impl Message,
    ) -> Result<A, CallError> {
        let call = Call {
            metadata: Metadata::default(),
            rpc,
            message: request.encode_to_vec().into(),
            lane: Lane::Unary,
            deadline: Some((Instant::now() + TIMEOUT).into_std()),
            idempotent: false,
        };
        let answer = self.store.call(call).await?;
        A::decode(answer).map_err(|error| CallError::Unknown(error.to_string()))
    }

    fn explain(&self, error: &CallError) -> anyhow::Error {
        let (to, written) = (&self.to, self.written);
        anyhow::anyhow!(
            "{to}: {error}. {written} keys are written for certain; --overwrite begins again over \
             them"
        )
    }
}

impl fmt::Display for ExportSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to, at) = (&self.from, &self.to, self.at);
        let Verified { same, ended, more } = self.verified;
        write!(
            f,
            "exported {from} at revision {at} into {to}: {same} keys read back as they were, {} \
             leases; revisions and versions are the etcd's own, and leases begin their time anew",
            self.leases
        )?;
        let ended = ended + self.expired;
        if ended > 0 {
            write!(f, "; {ended} keys went with their leases")?;
        }
        if more > 0 {
            write!(f, "; {more} other keys were there and stay")?;
        }
        if self.own > 0 {
            write!(f, "; {} keys of a Keyloom's ledger were left out", self.own)?;
        }
        Ok(())
    }
}
