//! What a start makes of the topology that was accepted last: it is served, and the file is then
//! taken or refused as any other change.

use std::{collections::BTreeSet, sync::Arc};

use keyloom_topology::Topology;
use tokio::time::timeout;
use tracing::warn;

use super::{BeginError, PATIENCE};
use crate::{
    order::keeper::is_accepted,
    probe::{self, Found},
    reload::{Accepted, Floors, OpenStores},
};

/// What is served first.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) topology: Topology,
    /// In the order of its stores.
    pub(super) found: Vec<Found>,
    pub(super) floors: Floors,
    /// Whether the record in the default store says the same.
    pub(super) is_kept: bool,
}

/// The accepted topology, with the stores of the file where it names them; the file's where
/// nothing was accepted yet, or where both route alike.
pub(super) async fn served(
    file: Topology,
    found: Vec<Found>,
    open: &Arc<dyn OpenStores>,
) -> Result<Served, BeginError> {
    let Some(accepted) = kept(&found)? else {
        return Ok(Served {
            topology: file,
            found,
            floors: Floors::default(),
            is_kept: false,
        });
    };
    let topology = accepted.topology()?.with_stores_of(&file);
    if route_alike(&topology, &file) {
        return Ok(Served {
            is_kept: file.to_text() == accepted.text,
            topology: file,
            found,
            floors: accepted.floors,
        });
    }
    warn!(
        "the topology file differs from what was accepted last; that is served until it is taken"
    );
    let found = line_up(&topology, found, open).await?;
    Ok(Served {
        is_kept: topology.to_text() == accepted.text,
        topology,
        found,
        floors: accepted.floors,
    })
}

fn kept(found: &[Found]) -> Result<Option<Accepted>, BeginError> {
    let mut records = found.iter().take(1).flat_map(|default| &default.records);
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
async fn line_up(
    topology: &Topology,
    found: Vec<Found>,
    open: &Arc<dyn OpenStores>,
) -> Result<Vec<Found>, BeginError> {
    let mut lined_up = Vec::new();
    for spec in topology.stores() {
        if let Some(found) = found.iter().find(|found| found.name == spec.name) {
            lined_up.push(found.clone());
            continue;
        }
        let opened = open.open(spec).await;
        let store = opened.map_err(|error| BeginError::LeftOut {
            store: spec.name.clone(),
            error,
        })?;
        let asked = (spec.name.clone(), store);
        let absent = Found::absent(&asked);
        let found = timeout(PATIENCE, probe::until_answered(asked)).await;
        lined_up.push(found.unwrap_or(absent));
    }
    Ok(lined_up)
}
