//! Keys that a store holds and that do not route to it: no client sees them.

use std::sync::Arc;

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;
use keyloom_topology::Topology;

use super::scan::{ScannedKeys, behind, page, scan};
use crate::snapshot::ServingSnapshot;

/// How many keys are looked at for one answer.
const LOOKED_AT: usize = 20_000;
const PAGE: i64 = 1000;

/// One stray.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stray {
    pub(crate) store: String,
    pub(crate) key: Bytes,
    /// The store that it routes to.
    pub(crate) routes_to: String,
}

/// Where a search stands: a store and the first key to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StrayCursor {
    pub(crate) store: String,
    pub(crate) key: Bytes,
}

/// Some strays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strays {
    pub(crate) strays: Vec<Stray>,
    /// Where to go on.
    pub(crate) next: Option<StrayCursor>,
}

/// The name of the store that a key routes to; `None` for Keyloom's own.
fn route<'t>(topology: &'t Topology, key: &[u8]) -> Option<&'t str> {
    let index = topology.route(key)?;
    let spec = topology.stores().get(usize::from(index.0))?;
    Some(&spec.name)
}

fn stray<'t>(topology: &'t Topology, store: &str, key: &[u8]) -> Option<&'t str> {
    route(topology, key).filter(|name| *name != store)
}

/// How many strays each store has.
pub(crate) async fn count(
    snapshot: &Arc<ServingSnapshot>,
) -> Vec<(String, Result<ScannedKeys, String>)> {
    let mut counts = Vec::new();
    for member in snapshot.stores() {
        let is_stray = |key: &[u8]| stray(&snapshot.topology, &member.name, key).is_some();
        let found = scan(member.store.as_ref(), &[KeyRange::all()], is_stray).await;
        counts.push((member.name.clone(), found));
    }
    counts
}

/// The strays behind a place, as many as one answer holds.
pub(crate) async fn list(
    snapshot: &Arc<ServingSnapshot>,
    from: Option<StrayCursor>,
) -> Result<Strays, String> {
    let mut found = Strays::default();
    let mut looked_at = 0;
    let members = snapshot
        .stores()
        .skip_while(|member| from.as_ref().is_some_and(|from| from.store != member.name));
    let mut start = from.as_ref().map(|from| from.key.clone());
    for member in members {
        let mut rest = KeyRange::all();
        rest.start = start.take().unwrap_or(rest.start);
        loop {
            if looked_at >= LOOKED_AT {
                found.next = Some(StrayCursor {
                    store: member.name.clone(),
                    key: rest.start,
                });
                return Ok(found);
            }
            let page = page(member.store.as_ref(), &rest, None, PAGE).await;
            let page = page.map_err(|error| format!("store \"{}\": {error}", member.name))?;
            looked_at += page.kvs.len();
            let last = page.kvs.last().map(|kv| behind(&kv.key));
            for kv in page.kvs {
                if let Some(routes_to) = stray(&snapshot.topology, &member.name, &kv.key) {
                    found.strays.push(Stray {
                        store: member.name.clone(),
                        routes_to: routes_to.to_owned(),
                        key: kv.key,
                    });
                }
            }
            match last {
                Some(last) if page.more => rest.start = last,
                _ => break,
            }
        }
    }
    Ok(found)
}
