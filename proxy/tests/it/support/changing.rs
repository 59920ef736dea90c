//! Model stores that topologies name one after the other.

use std::sync::Arc;

use keyloom_proxy::{Applied, Refusal, RenewOn, StartError, WatchOptions};
use keyloom_store::Store;
use keyloom_testkit::model::ModelStore;

use super::{Keyloom, Ready, TERM, store};

pub(crate) const DEFAULT: &str =
    "default: {endpoint: 'http://default.invalid:2379'}\ndeleteRangeOverStores: refuse\n";

/// A topology with these backends; the names are the stores'.
pub(crate) fn topology(backends: &[(&str, &str)]) -> String {
    let mut text = DEFAULT.to_owned();
    if !backends.is_empty() {
        text += "backends:\n";
    }
    for (name, matcher) in backends {
        text += &format!("- {{name: {name}, endpoint: 'http://{name}.invalid:2379', {matcher}}}\n");
    }
    text
}

pub(crate) const RBAC: (&str, &str) = ("rbac", "regexp: {key: ^(clusterroles|roles)/}");
pub(crate) const TENANT: (&str, &str) = ("tenant", "namespace: {namespace: tenant-a}");
pub(crate) const PODS: (&str, &str) = ("pods", "prefix: {prefix: pods}");

/// Model stores that any topology can name.
pub(crate) struct Stage {
    models: Vec<(&'static str, ModelStore)>,
    ready: Ready,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let names = ["default", "rbac", "tenant", "pods"];
        let models: Vec<_> = names
            .into_iter()
            .zip(1..)
            .map(|(name, id)| (name, store(id)))
            .collect();
        let ready = models.iter().map(|(name, model)| {
            let store: Arc<dyn Store> = Arc::new(model.clone());
            ((*name).to_owned(), store)
        });
        Self {
            ready: Ready(ready.collect()),
            models,
        }
    }

    pub(crate) fn model(&self, name: &str) -> &ModelStore {
        &self
            .models
            .iter()
            .find(|(other, _)| *other == name)
            .unwrap()
            .1
    }

    pub(crate) async fn try_start(&self, text: &str) -> Result<Keyloom, StartError> {
        let stores = super::topology(text);
        let stores = stores
            .stores()
            .iter()
            .map(|spec| Arc::clone(self.ready.0.get(&spec.name).unwrap()));
        Keyloom::among(text, stores.collect(), self.ready.clone()).await
    }

    /// With other bounds for watches.
    pub(crate) async fn start_watching(&self, text: &str, watch: WatchOptions) -> Keyloom {
        let stores = super::topology(text);
        let stores = stores
            .stores()
            .iter()
            .map(|spec| Arc::clone(self.ready.0.get(&spec.name).unwrap()));
        let started = Keyloom::with_all(
            text,
            stores.collect(),
            self.ready.clone(),
            (watch, TERM, RenewOn::ThisRuntime),
        );
        started.await.unwrap()
    }

    pub(crate) async fn start(&self, text: &str) -> Keyloom {
        self.try_start(text).await.unwrap()
    }
}

pub(crate) fn changed(moved: bool) -> Result<Applied, Refusal> {
    Ok(Applied::Changed { moved })
}

pub(crate) const ALL: [&[(&str, &str)]; 6] = [
    &[RBAC],
    &[RBAC, TENANT],
    &[PODS, RBAC],
    &[TENANT, PODS, RBAC],
    &[PODS, TENANT],
    &[("rbac", "prefix: {prefix: services}"), TENANT],
];
