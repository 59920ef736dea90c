//! The operator's pages of a running Keyloom, as text and as JSON, and `keyloom topology strays`.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use keyloom_sqlstore::{Metrics, SqliteOptions, SqliteStore, SystemClock};
use serde_json::{Value, json};

use crate::support;

struct Keyloom {
    process: Child,
    /// `HOST:PORT` of its operator's pages.
    admin: String,
}

impl Keyloom {
    fn serve(folder: &Path, topology: &str) -> Self {
        let file = folder.join("topology.yaml");
        fs::write(&file, topology).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_keyloom"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0", "--topology"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut admin = None;
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(url) = line.strip_prefix("admin on http://") {
                admin = Some(url.to_owned());
            }
            if line == "ready" {
                break;
            }
        }
        let admin = admin.unwrap();
        Self { process, admin }
    }

    fn get(&self, page: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.admin).unwrap();
        write!(stream, "GET {page} HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    fn json(&self, page: &str) -> (u16, Value) {
        let (status, text) = self.get(&format!("{page}?format=json"));
        (status, serde_json::from_str(&text).unwrap())
    }
}

impl Drop for Keyloom {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn every_page_is_a_text_and_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let keyloom = Keyloom::serve(
        folder.path(),
        &format!(
            "default: {{endpoint: 'sqlite://{path}/default.db'}}\n\
             backends:\n- {{name: pods, endpoint: 'sqlite://{path}/pods.db', prefix: {{prefix: pods}}}}\n"
        ),
    );
    assert_eq!(keyloom.get("/readyz"), (200, "ok\n".into()));
    assert_eq!(keyloom.json("/readyz"), (200, json!({"ready": true})));
    assert_eq!(
        keyloom.get("/stores"),
        (
            200,
            format!("default\t{path}/default.db\topen\t\npods\t{path}/pods.db\topen\t\n")
        )
    );
    assert_eq!(
        keyloom.json("/stores").1,
        json!({"endpoints": [
            {"store": "default", "address": format!("{path}/default.db"), "state": "open"},
            {"store": "pods", "address": format!("{path}/pods.db"), "state": "open"},
        ]})
    );
    // The ledger is in the default store.
    let (_, usage) = keyloom.json("/usage");
    let class = &usage["classes"][0];
    assert_eq!(class["store"], "default", "{usage}");
    assert!(class["keys"].as_i64() > Some(0) && class["bytes"].as_i64() > Some(0));
    assert!(class["class"].is_string());
    assert_eq!(
        keyloom.json("/topology").1,
        json!({
            "default": {"endpoints": [format!("sqlite://{path}/default.db")]},
            "registryPrefix": ["/registry/"],
            "backends": [{
                "name": "pods",
                "endpoints": [format!("sqlite://{path}/pods.db")],
                "prefix": {"prefix": "pods"},
            }],
        })
    );
    let (_, text) = keyloom.get("/topology");
    assert!(text.starts_with("default:\n"), "{text}");
    assert_eq!(
        keyloom.get("/topology/status").1,
        "serving: the topology as given\nchanges: 0\n"
    );
    assert_eq!(
        keyloom.json("/topology/status").1,
        json!({"serving": "given", "changes": 0})
    );
    assert_eq!(keyloom.get("/topology/strays"), (200, String::new()));
    assert_eq!(keyloom.json("/topology/strays").1, json!({"strays": []}));
    assert_eq!(keyloom.get("/topology/strays?from=x").0, 400);
    let (_, metrics) = keyloom.json("/metrics");
    let metrics = metrics["metrics"].as_array().unwrap().clone();
    let (_, text) = keyloom.get("/metrics");
    assert_eq!(metrics.len(), text.matches("# TYPE ").count());
    for family in &metrics {
        assert!(family["name"].is_string() && family["type"].is_string());
        assert!(family["help"].is_string() && family["samples"].is_array());
    }
}

#[tokio::test]
async fn strays_are_listed_by_page_and_by_command() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions::new("pods", folder.path().join("pods.db"));
    let store = SqliteStore::open(options, Arc::new(SystemClock), &Metrics::default())
        .await
        .unwrap();
    let alone = support::Keyloom::over(
        "default: {endpoint: 'sqlite://ignored.db'}",
        vec![Arc::new(store.clone())],
    );
    let alone = alone.await.unwrap();
    for key in [
        "/registry/pods/a/x",
        "/registry/secrets/a/\u{7}",
        "/registry/secrets/a/y",
    ] {
        alone.put(key, "v").await.unwrap();
    }
    alone.stop().await;
    store.close().await;
    let path = folder.path().display();
    let topology = format!(
        "default: {{endpoint: 'sqlite://{path}/default.db'}}\n\
         backends:\n- {{name: pods, endpoint: 'sqlite://{path}/pods.db', prefix: {{prefix: pods}}}}\n"
    );
    let keyloom = Keyloom::serve(folder.path(), &topology);
    let text = "pods\t/registry/secrets/a/\\x07\tdefault\npods\t/registry/secrets/a/y\tdefault\n";
    assert_eq!(keyloom.get("/topology/strays"), (200, text.into()));
    assert_eq!(
        keyloom.json("/topology/strays").1,
        json!({"strays": [
            {"store": "pods", "key": "/registry/secrets/a/\\x07", "routesTo": "default"},
            {"store": "pods", "key": "/registry/secrets/a/y", "routesTo": "default"},
        ]})
    );
    let listed = Command::new(env!("CARGO_BIN_EXE_keyloom"))
        .args(["topology", "strays", "--admin"])
        .arg(format!("http://{}", keyloom.admin))
        .output()
        .unwrap();
    assert!(listed.status.success());
    assert_eq!(String::from_utf8(listed.stdout).unwrap(), text);
}
