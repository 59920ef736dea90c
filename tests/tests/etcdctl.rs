//! etcdctl, as operators use it, through Keyloom over three stores; and where the keys then lie.

use keyloom_tests::{
    Etcd, Etcdctl, Keyloom, Version,
    topology::{Matcher, Topology},
};

const KEYS: [(&str, &str); 7] = [
    ("/registry/configmaps/default/settings", "default"),
    ("/registry/configmaps/tenant-a/settings", "tenant"),
    ("/registry/pods/default/web-1", "pods"),
    ("/registry/pods/default/web-2", "pods"),
    ("/registry/pods/tenant-a/web", "tenant"),
    ("/registry/podsecuritypolicies/strict", "default"),
    ("compact_rev_key", "default"),
];

struct Stage {
    topology: Topology,
    etcds: Vec<Etcd>,
    _keyloom: Keyloom,
    etcdctl: Etcdctl,
}

impl Stage {
    async fn new(version: Version) -> Self {
        let topology = Topology::new(&[
            ("tenant", Matcher::Namespaces(&["tenant-a"])),
            ("pods", Matcher::Prefix("pods")),
        ]);
        let etcds = Etcd::start_all([Version::V36, Version::V34, Version::V36]).await;
        let urls: Vec<_> = etcds.iter().map(Etcd::url).collect();
        let keyloom = Keyloom::start(&topology.file(&urls)).await;
        let etcdctl = Etcdctl::new(version, keyloom.url());
        Self {
            topology,
            etcds: etcds.into(),
            _keyloom: keyloom,
            etcdctl,
        }
    }

    fn put_all(&self) {
        for (key, store) in KEYS {
            assert_eq!(self.etcdctl.run(&["put", key, store]), "OK\n");
        }
    }

    /// The keys that a command prints, one a line.
    fn keys(&self, arguments: &[&str]) -> Vec<String> {
        let command = [arguments, &["--keys-only"]].concat();
        let lines = self.etcdctl.run(&command);
        lines
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// The value of a key, as `get --print-value-only` prints it.
    fn value(&self, arguments: &[&str]) -> String {
        let command = [&["get", "--print-value-only"], arguments].concat();
        self.etcdctl.run(&command).trim_end().to_owned()
    }

    fn revision(&self) -> u64 {
        let json = self.etcdctl.run(&["get", "any", "-w", "json"]);
        number_after(&json, "\"revision\":")
    }
}

fn number_after(text: &str, name: &str) -> u64 {
    let from = text.find(name).map_or(text.len(), |at| at + name.len());
    let digits: String = text[from..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no number after {name} in {text}"))
}

async fn puts_and_gets(version: Version) {
    let stage = Stage::new(version).await;
    stage.put_all();
    let names = stage.topology.names();
    for (key, store) in KEYS {
        assert_eq!(stage.value(&[key]), store);
        for (name, etcd) in names.iter().zip(&stage.etcds) {
            let held = etcd.client().get(key).await;
            assert_eq!(held.is_some(), *name == store, "{key} on {name}");
        }
    }
    let all: Vec<_> = KEYS.iter().map(|(key, _)| (*key).to_owned()).collect();
    assert_eq!(
        stage.keys(&["get", "", "--prefix"]),
        all,
        "nothing of keyloom's own"
    );
    assert_eq!(stage.keys(&["get", "", "--from-key"]), all);
    assert_eq!(
        stage.keys(&["get", "/registry/pods/", "--prefix"]),
        all[2..5]
    );
    assert_eq!(
        stage.keys(&["get", "/registry/pods/e", "--from-key"]),
        all[4..]
    );
    assert_eq!(
        stage.keys(&["get", "/registry/", "/registry/pods/e"]),
        all[..4]
    );
    assert_eq!(stage.keys(&["get", "", "--prefix", "--limit=3"]), all[..3]);
    let mut backwards = all.clone();
    backwards.reverse();
    let order = ["get", "", "--prefix", "--sort-by=MODIFY", "--order=DESCEND"];
    assert_eq!(stage.keys(&order), backwards);
}

#[tokio::test]
async fn puts_and_gets_3_6() {
    puts_and_gets(Version::V36).await;
}

#[tokio::test]
async fn puts_and_gets_3_4() {
    puts_and_gets(Version::V34).await;
}

#[tokio::test]
async fn deletes_and_history() {
    let stage = Stage::new(Version::V36).await;
    stage.put_all();
    let before = stage.revision();
    assert_eq!(before, 1 + KEYS.len() as u64);
    assert_eq!(
        stage.etcdctl.run(&["del", "/registry/pods/default/web-1"]),
        "1\n"
    );
    assert_eq!(stage.revision(), before + 1);
    // The rest lies on two stores: each takes a revision.
    assert_eq!(
        stage.etcdctl.run(&["del", "/registry/pods/", "--prefix"]),
        "2\n"
    );
    assert_eq!(stage.revision(), before + 3);
    assert!(
        stage
            .keys(&["get", "/registry/pods/", "--prefix"])
            .is_empty()
    );
    let then = format!("--rev={before}");
    assert_eq!(
        stage
            .keys(&["get", "/registry/pods/", "--prefix", &then])
            .len(),
        3
    );

    let done = stage
        .etcdctl
        .run(&["compaction", &(before + 2).to_string()]);
    assert_eq!(done, format!("compacted revision {}\n", before + 2));
    let refusal = stage.etcdctl.refused(&["get", "any", &then]);
    assert!(
        refusal.contains("required revision has been compacted"),
        "{refusal}"
    );
    let refusal = stage
        .etcdctl
        .refused(&["compaction", &(before + 1).to_string()]);
    assert!(
        refusal.contains("required revision has been compacted"),
        "{refusal}"
    );
    let refusal = stage.etcdctl.refused(&["get", "any", "--rev=1000"]);
    assert!(
        refusal.contains("required revision is a future revision"),
        "{refusal}"
    );
}

#[tokio::test]
async fn transactions() {
    let stage = Stage::new(Version::V36).await;
    stage.put_all();
    let swap = "mod(\"/registry/pods/default/web-1\") = \"4\"\n\n\
        put /registry/pods/default/web-1 changed\nget /registry/pods/default/web-2\n\n\
        get /registry/pods/default/web-1\n\n";
    let done = stage.etcdctl.run_with(&["txn"], swap);
    assert_eq!(
        done,
        "SUCCESS\n\nOK\n\n/registry/pods/default/web-2\npods\n"
    );
    let done = stage.etcdctl.run_with(&["txn"], swap);
    assert_eq!(done, "FAILURE\n\n/registry/pods/default/web-1\nchanged\n");

    let reads = "value(\"compact_rev_key\") = \"default\"\n\n\
        get /registry/pods/default/web-2\nget /registry/pods/tenant-a/web\n\n\n";
    let done = stage.etcdctl.run_with(&["txn"], reads);
    let expected = "SUCCESS\n\n/registry/pods/default/web-2\npods\n\n\
        /registry/pods/tenant-a/web\ntenant\n";
    assert_eq!(done, expected);

    let spans = "\nput /registry/pods/default/web-1 x\nput compact_rev_key x\n\n\n";
    let refusal = stage.etcdctl.refused_with(&["txn"], spans);
    for word in [
        "/registry/pods/default/web-1",
        "compact_rev_key",
        "pods",
        "default",
    ] {
        assert!(refusal.contains(word), "{word} in {refusal}");
    }
    assert_eq!(stage.value(&["compact_rev_key"]), "default");
}

async fn looks_like_one_server(version: Version) {
    let stage = Stage::new(version).await;
    stage.put_all();
    let members = stage.etcdctl.run(&["member", "list"]);
    assert_eq!(members.lines().count(), 1, "{members}");
    assert!(
        members.contains("started") && members.contains("http://127.0.0.1:"),
        "{members}"
    );
    let status = stage.etcdctl.run(&["endpoint", "status", "-w", "json"]);
    assert_eq!(
        number_after(&status, "\"revision\":"),
        stage.revision(),
        "{status}"
    );
    assert!(
        status.contains("\"version\":\"3.4."),
        "the oldest store's: {status}"
    );
    let fields = stage.etcdctl.run(&["endpoint", "status"]);
    assert!(fields.contains("true"), "it leads itself: {fields}");
}

#[tokio::test]
async fn looks_like_one_server_to_3_6() {
    looks_like_one_server(Version::V36).await;
}

#[tokio::test]
async fn looks_like_one_server_to_3_4() {
    looks_like_one_server(Version::V34).await;
}

#[tokio::test]
async fn is_healthy_to_3_4() {
    let stage = Stage::new(Version::V34).await;
    drop(stage.etcdctl.run(&["endpoint", "health"]));
}

/// etcdctl since 3.5 asks for alarms too.
#[tokio::test]
async fn is_healthy_to_3_6() {
    let stage = Stage::new(Version::V36).await;
    drop(stage.etcdctl.run(&["endpoint", "health"]));
}
