//! A Kubernetes on Keyloom, whose own comparisons of its cache with the store agree.
//!
//! One after the other: each has a kube-apiserver, which is a lot for a small machine.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a surprise ends the test with the reason"
)]

use std::time::Duration;

use keyloom_tests::{
    Etcd, Etcdctl, Served, Version, http,
    kubernetes::{ControlPlane, Doorway, Layout, Settings, Size, api::LISTED, live, work},
    page::{Page, Reader},
    tls::Authority,
};
use tokio::sync::Mutex;

static TURN: Mutex<()> = Mutex::const_new(());

const SIZE: Size = Size {
    objects: 30,
    page: 17,
    checks: 1,
    patience: Duration::from_secs(300),
};

fn settings(layout: &Layout) -> Settings {
    Settings {
        check_period: Some(Duration::from_secs(10)),
        ..Settings::on(&layout.keyloom.url())
    }
}

#[tokio::test]
async fn a_cluster_lives_on_stores_of_every_kind() {
    let _turn = TURN.lock().await;
    let mut layout = Layout::of_every_kind().await;
    let mut plane = ControlPlane::start(settings(&layout)).await;
    live(&mut layout, &mut plane, SIZE).await;
}

#[tokio::test]
async fn a_cluster_lives_on_files_of_keylooms_own() {
    let _turn = TURN.lock().await;
    let mut layout = Layout::embedded().await;
    let mut plane = ControlPlane::start(settings(&layout)).await;
    live(&mut layout, &mut plane, SIZE).await;
}

/// Keyloom comes before the etcd of a running cluster and goes away again: nothing is listed anew.
#[tokio::test]
async fn keyloom_is_put_before_an_etcd_and_taken_away() {
    let _turn = TURN.lock().await;
    let etcd = Etcd::start(Version::V36).await;
    let topology = format!("default: {{endpoint: '{}'}}\n", etcd.url());
    let mut keyloom = Served::keyloom("keyloom", &topology).await;
    let door = Doorway::to(&etcd.url()).await;
    let mut plane = ControlPlane::start(Settings::on(&door.url())).await;
    let api = plane.api.clone();
    work::prepare(&api).await;
    let watches = work::watch_all(&api).await;
    work::create(&api, SIZE).await;
    work::check_watches(&api, &watches, SIZE).await;
    let before = work::lists(&api).await;

    door.lead_to(&keyloom.url());
    work::apply(&api, SIZE, 1).await;
    work::check_watches(&api, &watches, SIZE).await;

    door.lead_to(&etcd.url());
    keyloom.end().await;
    work::apply(&api, SIZE, 2).await;
    work::check_watches(&api, &watches, SIZE).await;

    assert!(before > 0.0, "the caches were filled");
    let after = work::lists(&api).await;
    assert!(
        (after - before).abs() < f64::EPSILON,
        "{before} lists, then {after}"
    );
    for watching in &watches {
        let seen = watching.seen().await;
        assert!(
            seen.iter().all(|seen| seen.kind != LISTED),
            "a watch began anew"
        );
    }
    // What is there is the cluster's, and nothing of Keyloom's.
    let etcdctl = Etcdctl::new(Version::V36, &etcd.url());
    let keys = etcdctl.run(&["get", "", "--from-key", "--keys-only"]);
    for key in keys.lines().filter(|key| !key.is_empty()) {
        let known = key.starts_with("/registry/") || key.starts_with("compact_rev_key");
        assert!(known, "{key}");
    }
    let maps = keys
        .lines()
        .filter(|key| key.starts_with("/registry/configmaps/tenant-"));
    assert!(maps.count() >= 2 * SIZE.objects, "{keys}");
    plane.check();
}

/// Every flag of a list in kubeadm's form.
fn kubeadm_flags(text: &str) -> Vec<String> {
    let entries = text.split("{name: ").skip(1);
    let flags = entries.map(|entry| {
        let entry = entry.split('}').next().expect("a text has a first part");
        let (name, value) = entry.split_once(", value: ").expect("a name and a value");
        format!("--{name}={}", value.trim_matches('"'))
    });
    flags.collect()
}

/// The files, flags and commands of `docs/operations/kubernetes.md` make a cluster.
#[tokio::test]
async fn the_page_makes_a_cluster() {
    let _turn = TURN.lock().await;
    let page = Page::read("operations/kubernetes.md");
    let (files, flags, commands) = (page.blocks("yaml"), page.blocks(""), page.commands());
    let ([topology, pod, kubeadm], [flags], [check, route, serve]) =
        (&files[..], &flags[..], &commands[..])
    else {
        panic!("{files:?}, {flags:?}, {commands:?}")
    };
    let authority = Authority::new();
    let names = ["server", "healthcheck-client", "apiserver-etcd-client"];
    for name in names {
        authority.issue(name, name);
    }
    let main = Etcd::start_with_tls(Version::V36, authority.folder()).await;
    let events = Etcd::start(Version::V36).await;
    let mut reader = Reader::new();
    let folder = authority.folder().display().to_string();
    for (word, meant) in [
        ("/etc/kubernetes/pki/etcd", &*folder),
        ("/etc/kubernetes/pki", &*folder),
        ("/etc/keyloom", &reader.folder().display().to_string()),
        ("https://127.0.0.1:2379", &main.url()),
        ("http://127.0.0.1:2579", &events.url()),
    ] {
        reader.say(word, meant);
    }
    reader.write("topology.yaml", topology);
    let said = reader.run(check).await;
    assert!(said.contains("events\tcluster "), "{said}");
    assert!(reader.run(route).await.starts_with("events\t"), "{route}");

    // Any port will do.
    let any = serve.replace(":12379", ":0");
    let (mut keyloom, url, _) = reader.serve(&any).await;
    let meant = |url: &str, flag: &str| reader.meant(flag).replace("https://127.0.0.1:12379", url);
    let mut settings = Settings::on(&url);
    let (servers, others): (Vec<_>, Vec<_>) = flags
        .lines()
        .partition(|flag| flag.starts_with("--etcd-servers="));
    assert_eq!(servers, kubeadm_flags(kubeadm), "the address is one");
    settings.etcd_flags = others.iter().map(|flag| meant(&url, flag)).collect();
    let mut plane = ControlPlane::start(settings).await;
    work::prepare(&plane.api).await;

    // The apiserver takes the pod, whose command then serves it.
    let create = [
        "create",
        "--dry-run=server",
        "--validate=strict",
        "-o",
        "json",
        "-f",
        "-",
    ];
    let pod = plane.kubectl(&create, pod).await;
    let pod: serde_json::Value = serde_json::from_str(&pod).expect("JSON");
    let container = &pod["spec"]["containers"][0];
    let arguments = container["args"].as_array().expect("arguments").iter();
    let arguments: Vec<_> = arguments.filter_map(|argument| argument.as_str()).collect();
    let listen = format!(
        "--listen={}",
        servers[0].trim_start_matches("--etcd-servers=")
    );
    assert!(arguments.contains(&&*listen), "{arguments:?}");
    assert!(keyloom.terminate().await.success());
    let command = format!("keyloom {}", arguments.join(" "));
    let command = command.replace(":12379", ":0").replace(":18080", ":0");
    let (_keyloom, url, admin) = reader.serve(&command).await;
    for probe in ["livenessProbe", "readinessProbe"] {
        let path = container[probe]["httpGet"]["path"]
            .as_str()
            .expect("a path");
        let (code, text) = http::get(&format!("{admin}{path}"))
            .await
            .expect("an answer");
        assert_eq!(code, 200, "{path}: {text}");
    }
    plane.move_to(&url).await;
    work::create(&plane.api, SIZE).await;
    let event = serde_json::json!({
        "metadata": {"name": "e"},
        "involvedObject": {"namespace": work::NAMESPACES[0]},
    });
    let path = format!("/api/v1/namespaces/{}/events", work::NAMESPACES[0]);
    plane.api.create(&path, &event).await;
    let key = format!("/registry/events/{}/e", work::NAMESPACES[0]);
    assert!(events.client().get(key).await.is_some(), "on its store");
    plane.check();
}
