//! Keyloom over stores of every kind, and how each of them is read without it.

use crate::{
    etcd::{Etcd, Version},
    etcdctl::Etcdctl,
    poll,
    served::Served,
    topology::{Matcher, Topology},
};

/// Where the stores of a cluster are.
#[derive(Debug)]
pub struct Layout {
    pub keyloom: Served,
    /// Another Keyloom, which is the store of the tenant.
    pub second: Option<Served>,
    pub topology: Topology,
    places: Vec<Place>,
    /// A store that joins while the cluster lives.
    spare: Option<Place>,
    _etcds: Vec<Etcd>,
    _kine: Option<Served>,
}

/// Where a store is.
#[derive(Clone, Debug)]
struct Place {
    /// For Keyloom.
    url: String,
    /// For who reads it without Keyloom; `None` for a file of Keyloom's own.
    direct: Option<String>,
}

impl Place {
    fn of(etcd: &Etcd) -> Self {
        Self::behind(etcd.url(), etcd)
    }

    fn behind(url: String, etcd: &Etcd) -> Self {
        let direct = Some(etcd.url());
        Self { url, direct }
    }

    fn file(name: &str) -> Self {
        let url = format!("sqlite://./{name}.db");
        Self { url, direct: None }
    }
}

/// The resources of RBAC, as they begin a key.
const RBAC: &[&str] = &[
    "clusterrolebindings",
    "clusterroles",
    "rolebindings",
    "roles",
    "serviceaccounts",
];

/// Which resources lie on several stores, as the apiserver's own metrics name them: by group and
/// resource.
pub const SPLIT: [(&str, &str); 2] = [("", "configmaps"), ("", "secrets")];

/// A whole resource on a store of its own.
pub const MOVED: [(&str, &str); 2] = [
    ("rbac.authorization.k8s.io", "roles"),
    ("stable.example.com", "shirts"),
];

/// Something whole, something split, and something custom.
fn routes() -> Topology {
    Topology::new(&[
        ("rbac", Matcher::Resources(RBAC)),
        ("tenant", Matcher::Namespaces(&["tenant-a"])),
        ("shirts", Matcher::Custom("stable.example.com", "shirts")),
    ])
}

/// The namespace whose objects go to the store that joins.
pub const LATE: &str = "late";

impl Layout {
    /// RBAC by expression on etcd 3.4, a namespace on its own etcd behind a second Keyloom, custom
    /// resources on kine with SQLite, everything else on etcd 3.6. An etcd 3.6 joins.
    pub async fn of_every_kind() -> Self {
        let versions = [Version::V36, Version::V34, Version::V36, Version::V36];
        let etcds = Etcd::start_all(versions).await;
        let behind = format!("default: {{endpoint: '{}'}}\n", etcds[2].url());
        let second = Served::keyloom("second", &behind).await;
        let kine = Served::kine().await;
        let places = vec![
            Place::of(&etcds[0]),
            Place::of(&etcds[1]),
            Place::behind(second.url(), &etcds[2]),
            Place {
                url: kine.url(),
                direct: Some(kine.url()),
            },
        ];
        Self {
            second: Some(second),
            spare: Some(Place::of(&etcds[3])),
            _kine: Some(kine),
            ..Self::start(places, etcds.into()).await
        }
    }

    /// The same routes, each store an etcd 3.6.
    pub async fn of_etcds() -> Self {
        let etcds = Etcd::start_all([Version::V36; 4]).await;
        let places = etcds.iter().map(Place::of).collect();
        Self::start(places, etcds.into()).await
    }

    /// The same routes: everything on files of Keyloom's own, but RBAC and shirts on etcd. A file
    /// joins.
    pub async fn embedded() -> Self {
        let etcds = Etcd::start_all([Version::V36, Version::V36]).await;
        let places = vec![
            Place::file("default"),
            Place::of(&etcds[0]),
            Place::file("tenant"),
            Place::of(&etcds[1]),
        ];
        Self {
            spare: Some(Place::file("late")),
            ..Self::start(places, etcds.into()).await
        }
    }

    async fn start(places: Vec<Place>, etcds: Vec<Etcd>) -> Self {
        let topology = routes();
        Self {
            keyloom: Served::keyloom("keyloom", &file(&topology, &places)).await,
            second: None,
            topology,
            places,
            spare: None,
            _etcds: etcds,
            _kine: None,
        }
    }

    /// The file gains a store, and a route to it. Back when it is what is served.
    pub async fn grow(&mut self) {
        let spare = self.spare.take().expect("a store that can join");
        let route = Matcher::Namespaces(&[LATE]);
        self.topology = self.topology.with("late", route);
        self.places.push(spare);
        self.keyloom
            .change(&file(&self.topology, &self.places))
            .await;
    }

    /// Keys below the registry prefix on each store, read by etcdctl without Keyloom.
    #[must_use]
    pub fn keys(&self) -> Vec<Option<Vec<String>>> {
        let read = |place: &Place| {
            let etcdctl = Etcdctl::new(Version::V36, place.direct.as_ref()?);
            let text = etcdctl.run(&["get", "--prefix", "/registry/", "--keys-only"]);
            let keys = text.lines().filter(|line| !line.is_empty());
            Some(keys.map(str::to_owned).collect())
        };
        self.places.iter().map(read).collect()
    }

    /// A value as a store has it.
    #[must_use]
    pub fn value(&self, store: usize, key: &str) -> Option<String> {
        let etcdctl = Etcdctl::new(Version::V36, self.places[store].direct.as_ref()?);
        Some(etcdctl.run(&["get", key, "--print-value-only"]))
    }

    /// Waits until Keyloom answers `/readyz`-like questions again after a crash of a store.
    pub async fn settled(&self) {
        let client = self.keyloom.client();
        poll::eventually("a list over every store", || async {
            let request = keyloom_etcd_api::etcdserverpb::RangeRequest {
                key: "/registry/".into(),
                range_end: "/registry0".into(),
                count_only: true,
                ..Default::default()
            };
            client.kv().range(request).await
        })
        .await;
    }
}

fn file(topology: &Topology, places: &[Place]) -> String {
    let urls: Vec<_> = places.iter().map(|place| place.url.clone()).collect();
    topology.file(&urls)
}
