//! What is done to a cluster, and what must hold of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::{
    Api, Layout,
    api::{LISTED, Seen, Watching, name_and_version},
    stores::{LATE, MOVED, SPLIT},
};
use crate::{metrics::Metrics, poll};

/// Two namespaces: one on the store of the tenant, one on the default store.
pub const NAMESPACES: [&str; 2] = ["tenant-a", "tenant-b"];

/// How many calls are under way.
const AT_ONCE: usize = 6;

/// Between two questions to an apiserver, which has other things to do.
const BETWEEN: Duration = Duration::from_millis(500);

/// How long controllers may take on a loaded machine.
const CONTROLLERS: Duration = Duration::from_secs(300);

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Objects of each kind in each namespace.
    pub objects: usize,
    /// On a page of a list.
    pub page: usize,
    /// Comparisons that the apiserver must have made of each resource.
    pub checks: u32,
    /// How long that may take.
    pub patience: Duration,
}

/// A kind of object: where it is, what one looks like.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub group: &'static str,
    pub resource: &'static str,
    version: &'static str,
    kind: &'static str,
}

pub const CONFIG_MAPS: Kind = kind("", "configmaps", "v1", "ConfigMap");
pub const SECRETS: Kind = kind("", "secrets", "v1", "Secret");
pub const ROLES: Kind = kind("rbac.authorization.k8s.io", "roles", "v1", "Role");
pub const SHIRTS: Kind = kind("stable.example.com", "shirts", "v1", "Shirt");
pub const KINDS: [Kind; 4] = [CONFIG_MAPS, SECRETS, ROLES, SHIRTS];

const fn kind(
    group: &'static str,
    resource: &'static str,
    version: &'static str,
    kind: &'static str,
) -> Kind {
    Kind {
        group,
        resource,
        version,
        kind,
    }
}

impl Kind {
    fn root(self) -> String {
        if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        }
    }

    /// In all namespaces.
    #[must_use]
    pub fn everywhere(self) -> String {
        format!("{}/{}", self.root(), self.resource)
    }

    /// In one namespace.
    #[must_use]
    pub fn within(self, namespace: &str) -> String {
        let (root, resource) = (self.root(), self.resource);
        format!("{root}/namespaces/{namespace}/{resource}")
    }

    pub(crate) fn object(self, name: &str, round: usize) -> Value {
        let version = match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        };
        let mut object =
            json!({"apiVersion": version, "kind": self.kind, "metadata": {"name": name}});
        let (field, value) = match self.resource {
            "configmaps" => ("data", json!({"round": round.to_string()})),
            "secrets" => ("stringData", json!({"round": round.to_string()})),
            "roles" => ("rules", json!([])),
            _ => ("spec", json!({"round": round})),
        };
        object[field] = value;
        object
    }
}

/// Makes a namespace.
pub async fn create_namespace(api: &Api, name: &str) {
    let namespace = json!({"metadata": {"name": name}});
    api.create("/api/v1/namespaces", &namespace).await;
}

/// Makes the namespaces and the custom resource, and waits until it is served.
pub async fn prepare(api: &Api) {
    for name in NAMESPACES {
        create_namespace(api, name).await;
    }
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    let names =
        json!({"plural": "shirts", "singular": "shirt", "kind": "Shirt", "listKind": "ShirtList"});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "shirts.stable.example.com"},
        "spec": {"group": "stable.example.com", "scope": "Namespaced", "names": names, "versions": [version]},
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    api.create(definitions, &definition).await;
    poll::eventually("shirts", || async {
        match api.text(&SHIRTS.everywhere()).await {
            Ok((200, _)) => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

/// Every object of this size, by kind, namespace and number.
fn every(size: Size) -> impl Iterator<Item = (Kind, &'static str, usize)> {
    (0..size.objects).flat_map(|number| {
        let kinds = KINDS.into_iter();
        kinds.flat_map(move |kind| NAMESPACES.map(|namespace| (kind, namespace, number)))
    })
}

/// Creates every object.
pub async fn create(api: &Api, size: Size) {
    let made = stream::iter(every(size)).map(|(kind, namespace, number)| async move {
        let object = kind.object(&format!("o{number}"), 0);
        api.create(&kind.within(namespace), &object).await;
    });
    made.buffer_unordered(AT_ONCE).collect::<()>().await;
}

/// Changes every object by server-side apply.
pub async fn apply(api: &Api, size: Size, round: usize) {
    let made = stream::iter(every(size)).map(|(kind, namespace, number)| async move {
        let name = format!("o{number}");
        let path = format!("{}/{name}", kind.within(namespace));
        api.apply(&path, &kind.object(&name, round)).await;
    });
    made.buffer_unordered(AT_ONCE).collect::<()>().await;
}

/// Opens a watch on each kind in all namespaces.
pub async fn watch_all(api: &Api) -> Vec<Watching> {
    let mut watches = Vec::new();
    for kind in KINDS {
        watches.push(api.watch(&kind.everywhere()).await);
    }
    watches
}

/// The objects of a kind, as lists in pages over all namespaces say: each once.
pub async fn listed(api: &Api, kind: Kind, size: Size) -> BTreeMap<String, u64> {
    let (items, pages) = api.pages(&kind.everywhere(), size.page).await;
    let count = items.len();
    assert!(
        pages >= count / size.page,
        "{pages} pages for {count} objects"
    );
    let objects: BTreeMap<_, _> = items.into_iter().collect();
    assert_eq!(
        objects.len(),
        count,
        "an object of {kind:?} is on two pages"
    );
    let of_ours = |namespace: &str| objects.keys().filter(|name| is_in(namespace, name)).count();
    for namespace in NAMESPACES {
        assert_eq!(of_ours(namespace), size.objects, "{kind:?} in {namespace}");
    }
    objects
}

/// Two apiservers say the same of every kind.
pub async fn same(one: &Api, other: &Api, size: Size) {
    for kind in KINDS {
        let objects = listed(one, kind, size).await;
        assert_eq!(objects, listed(other, kind, size).await, "{kind:?}");
    }
}

/// What watches said is in order, whole, and ends where the lists are.
pub async fn check_watches(api: &Api, watches: &[Watching], size: Size) {
    for (kind, watching) in KINDS.into_iter().zip(watches) {
        let objects = listed(api, kind, size).await;
        let what = format!("the watch of {kind:?} has seen everything");
        let seen = poll::eventually(&what, || async {
            let seen = watching.seen().await;
            let last = last_of(&seen);
            let missing = objects
                .iter()
                .find(|(name, version)| ours(name) && last.get(*name) != Some(version));
            missing.map_or(Ok(seen), |missing| Err(format!("{missing:?}")))
        })
        .await;
        let told = seen.iter().filter(|seen| seen.kind != LISTED);
        let versions: Vec<_> = told.map(|seen| seen.version).collect();
        assert!(
            versions.is_sorted_by(|a, b| a < b),
            "{kind:?}: {versions:?}"
        );
        let mut known = BTreeSet::new();
        for event in seen.iter().filter(|event| ours(&event.name)) {
            let new = known.insert(event.name.clone());
            if event.kind == LISTED {
                continue;
            }
            let added = event.kind == "ADDED";
            assert_eq!(new, added, "{kind:?}: {event:?}");
        }
    }
}

fn ours(name: &str) -> bool {
    let mut namespaces = NAMESPACES.iter().chain([&LATE]);
    namespaces.any(|namespace| is_in(namespace, name))
}

/// Whether it is one of the numbered objects of a namespace.
fn is_in(namespace: &str, name: &str) -> bool {
    let own = name
        .strip_prefix(namespace)
        .and_then(|rest| rest.strip_prefix("/o"));
    own.is_some_and(|number| number.parse::<usize>().is_ok())
}

fn last_of(seen: &[Seen]) -> BTreeMap<String, u64> {
    let last = seen.iter().map(|seen| (seen.name.clone(), seen.version));
    last.collect()
}

/// An owner is deleted, and what it owned is gone after it.
pub async fn collect_garbage(api: &Api) {
    for namespace in NAMESPACES {
        let maps = CONFIG_MAPS.within(namespace);
        let owner = api.create(&maps, &CONFIG_MAPS.object("owner", 0)).await;
        let uid = owner["metadata"]["uid"].as_str();
        let uid = match uid {
            Some(uid) => uid.to_owned(),
            None => {
                let owner = api.get(&format!("{maps}/owner")).await;
                owner["metadata"]["uid"]
                    .as_str()
                    .expect("an uid")
                    .to_owned()
            }
        };
        let reference =
            json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}]);
        for kind in [SECRETS, SHIRTS] {
            let mut owned = kind.object("owned", 0);
            owned["metadata"]["ownerReferences"] = reference.clone();
            api.create(&kind.within(namespace), &owned).await;
        }
        api.delete(&format!("{maps}/owner")).await;
    }
    for namespace in NAMESPACES {
        for kind in [SECRETS, SHIRTS] {
            gone(api, &format!("{}/owned", kind.within(namespace))).await;
        }
    }
}

/// A namespace is deleted, with all that is in it, and nothing of another.
pub async fn delete_namespace(api: &Api) {
    let name = "short-lived";
    create_namespace(api, name).await;
    for kind in KINDS {
        for number in 0..3 {
            let object = kind.object(&format!("s{number}"), 0);
            api.create(&kind.within(name), &object).await;
        }
    }
    api.delete(&format!("/api/v1/namespaces/{name}")).await;
    gone(api, &format!("/api/v1/namespaces/{name}")).await;
    for kind in KINDS {
        let (left, _) = api.pages(&kind.everywhere(), 500).await;
        let left = left
            .iter()
            .find(|(left, _)| left.starts_with("short-lived/"));
        assert_eq!(left, None, "{kind:?}");
    }
}

async fn gone(api: &Api, path: &str) {
    poll::every(
        BETWEEN,
        CONTROLLERS,
        &format!("the end of {path}"),
        || async {
            match api.text(path).await {
                Ok((404, _)) => Ok(()),
                other => Err(other),
            }
        },
    )
    .await;
}

/// How often the apiserver's own comparison of its cache with the store came out so.
async fn checks(api: &Api, status: &str, (group, resource): (&str, &str)) -> f64 {
    let (code, text) = api.text("/metrics").await.expect("metrics");
    assert_eq!(code, 200, "metrics");
    let labels = [
        format!("status=\"{status}\""),
        format!("group=\"{group}\""),
        format!("resource=\"{resource}\""),
    ];
    let labels: Vec<_> = labels.iter().map(String::as_str).collect();
    Metrics::parse(&text).sum("apiserver_storage_consistency_checks_total", &labels)
}

/// What an apiserver has in its cache of a kind, without asking the store.
pub async fn cached(api: &Api, kind: Kind) -> BTreeMap<String, u64> {
    let path = format!("{}?resourceVersion=0", kind.everywhere());
    let list = api.get(&path).await;
    let items = list["items"].as_array().expect("items");
    items.iter().map(name_and_version).collect()
}

/// The cache of one apiserver comes to what another reads from the store.
pub async fn cache_agrees(api: &Api, uncached: &Api, size: Size) {
    for kind in KINDS {
        let what = format!("a cache of {kind:?} that is as the store");
        poll::every(BETWEEN, poll::LONG, &what, || async {
            let stored = listed(uncached, kind, size).await;
            let cached = cached(api, kind).await;
            if cached == stored {
                Ok(())
            } else {
                Err((cached.len(), stored.len()))
            }
        })
        .await;
    }
}

/// How often the apiserver had to list a resource to fill its cache.
pub async fn lists(api: &Api) -> f64 {
    let (code, text) = api.text("/metrics").await.expect("metrics");
    assert_eq!(code, 200, "metrics");
    let metrics = Metrics::parse(&text);
    metrics.sum("apiserver_watch_cache_initializations_total", &[])
}

/// Every resource that matters was compared so often from now on, and nothing differed, ever.
pub async fn check_consistency(api: &Api, size: Size) {
    let resources: Vec<_> = SPLIT.into_iter().chain(MOVED).collect();
    let mut before = Vec::new();
    for resource in &resources {
        let errors = checks(api, "error", *resource).await;
        before.push((checks(api, "success", *resource).await, errors));
    }
    for (resource, (success, errors)) in resources.iter().zip(&before) {
        let what = format!("{} comparisons of {resource:?}", size.checks);
        poll::every(BETWEEN, size.patience, &what, || async {
            let now = checks(api, "success", *resource).await;
            let enough = now - success >= f64::from(size.checks);
            if enough { Ok(()) } else { Err((*success, now)) }
        })
        .await;
        let failed = checks(api, "failure", *resource).await;
        let errors = checks(api, "error", *resource).await - errors;
        assert!(
            failed + errors == 0.0,
            "{resource:?}: {failed} failed, {errors} errors"
        );
    }
}

/// Every key lies on the store that the topology says, secrets are not readable there, and no
/// object of a list is missing.
pub async fn check_places(api: &Api, layout: &Layout, size: Size) {
    let stores = layout.keys();
    for (store, keys) in stores.iter().enumerate() {
        for key in keys.iter().flatten() {
            // kine puts this one itself.
            if key == "/registry/health" {
                continue;
            }
            let place = layout.topology.store_of(key.as_bytes());
            assert_eq!(place, store, "{key}");
        }
    }
    for kind in KINDS {
        for name in listed(api, kind, size)
            .await
            .keys()
            .filter(|name| ours(name))
        {
            let key = match kind.group {
                "stable.example.com" => {
                    format!("/registry/{}/{}/{name}", kind.group, kind.resource)
                }
                _ => format!("/registry/{}/{name}", kind.resource),
            };
            let store = layout.topology.store_of(key.as_bytes());
            if let Some(keys) = &stores[store] {
                assert!(keys.contains(&key), "{key} is not on store {store}");
            }
        }
    }
    let secret = format!("/registry/secrets/{}/o0", NAMESPACES[0]);
    let store = layout.topology.store_of(secret.as_bytes());
    if let Some(value) = layout.value(store, &secret) {
        assert!(value.starts_with("k8s:enc:aescbc:v1:"), "{value}");
    }
}
