//! The stores, and the topologies over them.

use std::{cell::Cell, fs};

use tempfile::TempDir;

use crate::{
    client::Client,
    etcd::{Etcd, Version},
    keyloom::Keyloom,
    poll::eventually,
    split::everything,
    trial,
};
use keyloom_etcd_api::etcdserverpb::DeleteRangeRequest;

/// Stores that outlive every Keyloom over them.
#[derive(Debug)]
pub struct Ground {
    /// The default store, an etcd 3.6.
    pub default: Etcd,
    /// An etcd 3.4.
    pub tenant: Etcd,
    /// An etcd 3.6 that no topology needs: no client writes to it.
    spare: Etcd,
    /// With the SQLite file of pods.
    home: TempDir,
    number: Cell<usize>,
}

impl Ground {
    pub async fn new() -> Self {
        let versions = [Version::V36, Version::V34, Version::V36];
        let [default, tenant, spare] = Etcd::start_all(versions).await;
        Self {
            default,
            tenant,
            spare,
            home: tempfile::tempdir().expect("a temporary folder"),
            number: Cell::new(0),
        }
    }

    /// The topology of the moment.
    #[must_use]
    pub fn file(&self) -> String {
        let number = self.number.get();
        let pods = format!("sqlite://{}/pods.db", self.home.path().display());
        let urls = [self.default.url(), self.tenant.url(), pods];
        let mut file = trial::topology().file(&urls);
        // A store leaves and comes back, its connections are made anew, and empty ranges move
        // between it and the default store.
        let prefix = match number % 4 {
            0 | 2 => "leases",
            1 => "events",
            _ => return file,
        };
        file += &format!(
            "- name: spare\n  endpoint: {}\n  prefix: {{prefix: {prefix}}}\n  \
             limits: {{maxInFlight: {}}}\n",
            self.spare.url(),
            self.mark()
        );
        file
    }

    /// A limit that no other topology of this ground has.
    fn mark(&self) -> usize {
        1_000 + self.number.get()
    }

    /// Whether what is served is the topology of the moment and none before it: how often a file
    /// was read, or taken, says nothing of that.
    fn is_served_as(&self, page: &str) -> bool {
        if self.file().contains("spare") {
            page.contains(&format!("maxInFlight: {}\n", self.mark()))
        } else {
            page.starts_with("default:") && !page.contains("spare")
        }
    }

    /// Has another topology served, and gives back a revision of it: what begins up to there may be
    /// answered with `compacted`.
    pub async fn reload(&self, keyloom: &Keyloom) -> i64 {
        self.number.set(self.number.get() + 1);
        let file = keyloom.topology_file();
        let new = file.with_extension("new");
        fs::write(&new, self.file()).expect("the folder is the test's own");
        fs::rename(&new, &file).expect("the folder is the test's own");
        eventually("the new topology", || async {
            let (_, page) = keyloom.admin("/topology").await;
            if self.is_served_as(&page) {
                return Ok(());
            }
            Err((keyloom.admin("/topology/status").await, page))
        })
        .await;
        let client = keyloom.client();
        eventually("a revision", || async {
            let listed = client.kv().range(everything(0)).await;
            let header = listed.map_err(|status| status.to_string())?.into_inner();
            let revision = header.header.map(|it| it.revision);
            revision.ok_or_else(|| "no header".to_owned())
        })
        .await
    }
}

/// Deletes everything that clients have written.
pub async fn wipe(client: &Client) {
    eventually("an empty registry", || async {
        let request = DeleteRangeRequest {
            key: "/registry/".into(),
            range_end: "/registry0".into(),
            ..DeleteRangeRequest::default()
        };
        let deleted = client.kv().delete_range(request).await;
        match deleted.map(|answer| answer.into_inner().deleted) {
            Ok(0) => Ok(()),
            other => Err(other.map_err(|status| status.to_string())),
        }
    })
    .await;
}
