//! What a start makes of the topology that was accepted last: it is served, and the file is then
//! accepted or refused like any other change.

use std::{collections::BTreeSet, sync::Arc};

use keyloom_topology::Topology;
use tokio::time::timeout;
use tracing::warn;

use super::{BringUpError, PATIENCE};
use crate::{
    bringup::{
        accepted::Accepted,
        ask::{self, AskedStore},
    },
    order::is_accepted,
    snapshot::Floors,
    stores::OpenStores,
};

/// What is served first.
#[derive(Debug)]
pub(super) struct FirstTopology {
    pub(super) topology: Topology,
    /// In the order of its stores.
    pub(super) asked: Vec<AskedStore>,
    pub(super) floors: Floors,
    /// Whether the record in the default store says the same.
    pub(super) is_kept: bool,
}

/// The accepted topology, with the stores of the file where it names them; the file's where
/// nothing was accepted yet, or where both route alike.
pub(super) async fn first(
    file: Topology,
    asked: Vec<AskedStore>,
    open: &Arc<dyn OpenStores>,
) -> Result<FirstTopology, BringUpError> {
    let Some(accepted) = kept(&asked)? else {
        return Ok(FirstTopology {
            topology: file,
            asked,
            floors: Floors::default(),
            is_kept: false,
        });
    };
    let topology = accepted.topology()?.with_stores_of(&file);
    if route_alike(&topology, &file) {
        return Ok(FirstTopology {
            is_kept: file.to_text() == accepted.text,
            topology: file,
            asked,
            floors: accepted.floors,
        });
    }
    warn!(
        "the topology file differs from the topology that was accepted last; Keyloom serves the accepted \
         one until it can change to the file's"
    );
    let asked = with_left_out(&topology, asked, open).await?;
    Ok(FirstTopology {
        is_kept: topology.to_text() == accepted.text,
        topology,
        asked,
        floors: accepted.floors,
    })
}

fn kept(asked: &[AskedStore]) -> Result<Option<Accepted>, BringUpError> {
    let mut records = asked.iter().take(1).flat_map(|default| &default.records);
    let record = records.find(|kv| is_accepted(&kv.key));
    Ok(record.map(|kv| Accepted::decode(&kv.value)).transpose()?)
}

fn route_alike(a: &Topology, b: &Topology) -> bool {
    let names = |topology: &Topology| -> BTreeSet<String> {
        topology
            .stores()
            .iter()
            .map(|spec| spec.name.clone())
            .collect()
    };
    names(a) == names(b) && a.diff(b).is_empty() && b.diff(a).is_empty()
}

/// The stores of a topology: those that were asked already, and those that the file left out.
async fn with_left_out(
    topology: &Topology,
    asked: Vec<AskedStore>,
    open: &Arc<dyn OpenStores>,
) -> Result<Vec<AskedStore>, BringUpError> {
    let mut stores = Vec::new();
    for spec in topology.stores() {
        if let Some(asked) = asked.iter().find(|asked| asked.name == spec.name) {
            stores.push(asked.clone());
            continue;
        }
        let opened = open.open(spec).await;
        let store = opened.map_err(|error| BringUpError::LeftOut {
            store: spec.name.clone(),
            error,
        })?;
        let asked = (spec.name.clone(), store);
        let absent = AskedStore::absent(&asked);
        let asked = timeout(PATIENCE, ask::until_answered(asked)).await;
        stores.push(asked.unwrap_or(absent));
    }
    Ok(stores)
}
