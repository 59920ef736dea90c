//! What the stores of a topology say.

use std::{collections::BTreeMap, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Result;
use keyloom_environment::{OsRandom, TokioDial};
use keyloom_store::Store;
use keyloom_topology::{Topology, diff};
use prometheus_client::registry::Registry;
use tokio::time::timeout;

use crate::{
    bringup::{ask, hidden_keys},
    cli::say,
    environment::Environment,
    feeds::WatchOptions,
    listen::TokioListen,
    order::RenewOn,
    stores::{Declared, OpenStores as _, Stores},
    watched_files::FileChanges,
};

/// How long a store may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

fn stores() -> Stores {
    let environment = Environment {
        dial: Arc::new(TokioDial),
        listen: Arc::new(TokioListen),
        random: Arc::new(OsRandom),
        changes: FileChanges::Told,
        renew_on: RenewOn::ThisRuntime,
        workers: crate::Workers::default(),
    };
    let registry = &mut Registry::default();
    let interval = WatchOptions::default().progress_interval;
    Stores::new(&environment, registry, Declared::new(), interval)
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(future)
}

/// One line for each store: its cluster and revision, or why it does not answer.
pub(super) fn check(topology: &Topology) -> Result<ExitCode> {
    block_on(async {
        let stores = stores();
        let mut code = ExitCode::SUCCESS;
        let mut seen: BTreeMap<u64, &str> = BTreeMap::new();
        for (index, spec) in topology.stores().iter().enumerate() {
            let found = match stores.open(spec).await {
                Ok(store) => {
                    let asked = (spec.name.clone(), store);
                    timeout(PATIENCE, look(&asked, index == 0)).await
                }
                Err(error) => Ok(Err(error)),
            };
            let found = found.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
            let said = match found {
                Ok(found) => {
                    let first = *seen.entry(found.cluster_id).or_insert(&spec.name);
                    let same = match first == spec.name {
                        true => String::new(),
                        false => format!(", the same cluster as store \"{first}\""),
                    };
                    let revision = found.revision.get();
                    format!(
                        "cluster {:x} at revision {revision}{same}",
                        found.cluster_id
                    )
                }
                Err(error) => {
                    code = ExitCode::FAILURE;
                    format!("error: {error}")
                }
            };
            say(&format!("{}\t{said}", spec.name))?;
        }
        stores.close().await;
        Ok(code)
    })
}

/// What a store is, unless it is the default store and cannot be.
async fn look(
    asked: &(String, Arc<dyn Store>),
    is_default: bool,
) -> std::result::Result<ask::AskedStore, String> {
    if is_default && let Some(why) = ask::refuses_the_ledger(asked).await? {
        return Err(format!("it cannot be the default store: {why}"));
    }
    ask::once(asked).await
}

/// One line for each store that holds keys that would be hidden; fails where there are such keys.
pub(super) fn hidden(old: &Topology, new: &Topology) -> Result<ExitCode> {
    block_on(async {
        let stores = stores();
        let moves = diff(old, new);
        let mut code = ExitCode::SUCCESS;
        for spec in old.stores() {
            if !moves.iter().any(|each| each.from.contains(&spec.name)) {
                continue;
            }
            let found = match stores.open(spec).await {
                Ok(store) => hidden_keys((old, new), &moves, &spec.name, store.as_ref()).await,
                Err(error) => Err(error),
            };
            let said = match found {
                Ok(found) => match found.example {
                    None => "keys that would be hidden: 0".to_owned(),
                    Some(example) => {
                        code = ExitCode::FAILURE;
                        let (count, example) = (found.count, example.escape_ascii());
                        format!("keys that would be hidden: {count}, for example {example}")
                    }
                },
                Err(error) => {
                    code = ExitCode::FAILURE;
                    format!("error: {error}")
                }
            };
            say(&format!("{}\t{said}", spec.name))?;
        }
        stores.close().await;
        Ok(code)
    })
}
