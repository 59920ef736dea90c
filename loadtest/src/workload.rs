//! What the clients of a run send, and how each answer is checked.
//!
//! A client is a [`Script`]: it says its next request and looks at the answer before the one after.
//! Every answer must have the status OK, a header whose revision fits, and what was asked for; of
//! lists, one page in [`CLOSELY`] is compared object by object, so that checking stays cheap beside
//! what is measured.

mod answer;
mod prepare;
mod single;
mod list;
mod lease;
mod event;
mod mix;
pub(crate) mod delivery;
mod watch;
mod cluster;
mod watch_delay;

use anyhow::Result;
use bytes::Bytes;
use clap::ValueEnum;
use futures_util::future::BoxFuture;

use crate::{connection::Connection, keyspace::Keyspace, request::Request};

pub(crate) use cluster::cluster_round;
pub(crate) use prepare::{clear, prepare};
pub(crate) use watch::watch_round;
pub(crate) use watch_delay::delay_round;

/// One page in so many is decoded whole.
const CLOSELY: u64 = 32;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Workload {
    /// Puts, each client to keys of its own
    Put,
    /// Gets of single keys
    Get,
    /// kube-apiserver's guaranteed update: a transaction that compares the revision last read
    Update,
    /// kube-apiserver's delete, each behind a create
    Delete,
    /// Lists of one namespace, page by page
    List,
    /// Counts of one namespace
    Count,
    /// Lists of all namespaces, page by page: over several stores where the routes say so
    MergedList,
    /// Leases granted and revoked
    Lease,
    /// A cluster's traffic: heartbeats of nodes, churn of pods, events with leases, reads
    Mix,
    /// The same at the rate of so many nodes, with the apiserver's watches and consistent reads
    Cluster,
    /// Writes at a rate, and watchers on all of them: delivery delay and completeness
    Watch,
    /// The same, and progress requests beside it: how long after a write's answer its event comes,
    /// and how long progress takes
    WatchDelay,
}

impl Workload {
    /// The name that the command line has for it.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// Whether it reads the objects of the lists.
    fn lists(self) -> bool {
        matches!(
            self,
            Self::List | Self::Count | Self::MergedList | Self::Mix | Self::Cluster
        )
    }
}

/// One client.
pub(crate) trait Script: Send {
    /// The next request.
    fn request(&mut self) -> Request;

    /// Looks at the answer to it.
    ///
    /// # Errors
    /// Where the answer is wrong.
    fn answer(&mut self, answer: Bytes) -> Result<()>;

    /// Learns anew where things stand, after a request whose outcome nobody knows. Most scripts
    /// remember nothing that a lost answer could change.
    ///
    /// # Errors
    /// Where that fails as well.
    fn relearn<'a>(&'a mut self, _connection: &'a Connection) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// How lists are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) keyspace: Keyspace,
    /// Objects of a page; 0 for all in one answer.
    pub(crate) page: usize,
}

/// The script of one client, once the keyspace is prepared.
pub(crate) async fn script(
    workload: Workload,
    shape: Shape,
    client: usize,
    connection: &Connection,
) -> Result<Box<dyn Script>> {
    let single = |verb| single::Single::new(verb, shape.keyspace, client);
    Ok(match workload {
        Workload::Put => Box::new(single(single::Verb::Put)),
        Workload::Get => Box::new(single(single::Verb::Get)),
        Workload::Update => {
            let mut script = single(single::Verb::Update);
            script.read(connection).await?;
            Box::new(script)
        }
        Workload::Delete => Box::new(single::Churn::new(shape.keyspace, client)),
        Workload::List => Box::new(list::List::of_namespaces(shape, client)),
        Workload::MergedList => Box::new(list::List::of_all(shape)),
        Workload::Count => Box::new(list::Count::new(shape.keyspace, client)),
        Workload::Lease => Box::new(lease::Lease::default()),
        Workload::Mix => Box::new(mix::Mix::new(shape, client, connection).await?),
        // Their rounds have a shape of their own.
        Workload::Watch | Workload::WatchDelay | Workload::Cluster => {
            Box::new(single(single::Verb::Put))
        }
    })
}
