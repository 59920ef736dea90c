//! The example topologies are read without an error or a warning.

use std::{fs, path::Path, process::Command};

#[test]
fn every_example_is_checked() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let check = Command::new(env!("CARGO_BIN_EXE_keyloom"))
            .args(["topology", "check"])
            .arg(&file)
            .output()
            .unwrap();
        let text = String::from_utf8(check.stdout).unwrap();
        assert!(check.status.success(), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(".yaml: no error, stores: "), "{text}");
        seen += 1;
    }
    assert!(seen >= 3);
}

/// `docs/reference/topology.md` has whole files, each of which is accepted without a warning.
#[test]
fn every_file_of_the_topology_reference_is_checked() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/topology.md");
    let page = fs::read_to_string(page).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("topology.yaml");
    let blocks: Vec<_> = page.split("```yaml\n").skip(1).collect();
    assert!(blocks.len() >= 8);
    for block in blocks {
        let (text, _) = block.split_once("```").unwrap();
        fs::write(&file, text).unwrap();
        let check = Command::new(env!("CARGO_BIN_EXE_keyloom"))
            .args(["topology", "check"])
            .arg(&file)
            .envs([("PKI", "/etc/pki"), ("ETCD_PASSWORD", "secret")])
            .output()
            .unwrap();
        let said = String::from_utf8(check.stdout).unwrap();
        assert!(check.status.success(), "{text}\n{said}");
        assert_eq!(said.lines().count(), 1, "{text}\n{said}");
    }
}

#[test]
fn a_bad_file_is_refused_with_every_problem_and_exit_code_64() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml");
    fs::write(
        &file,
        "default: {endpoint: 'ftp://x'}\nbackends:\n- name: a\n  colour: red\n",
    )
    .unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_keyloom"))
        .args(["topology", "check"])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8(check.stdout).unwrap();
    assert_eq!(check.status.code(), Some(64));
    for part in ["bad.yaml:1:21: error:", "bad.yaml:4:3: error:", "colour"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn the_schema_is_printed_as_json() {
    let schema = Command::new(env!("CARGO_BIN_EXE_keyloom"))
        .args(["topology", "schema"])
        .output()
        .unwrap();
    assert!(schema.status.success());
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert_eq!(schema["$id"], "urn:keyloom:topology");
    assert!(schema["properties"]["backends"]["description"].is_string());
}

#[test]
fn flags_and_file_read_durations_alike() {
    let check = |timeout: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.yaml");
        let text = format!("default: {{endpoint: 'http://a:1', limits: {{timeout: {timeout}}}}}\n");
        fs::write(&file, text).unwrap();
        let check = Command::new(env!("CARGO_BIN_EXE_keyloom"))
            .args(["topology", "check"])
            .arg(&file)
            .output()
            .unwrap();
        String::from_utf8(check.stdout).unwrap()
    };
    // `--listen` is wrong as well, so that nothing is served.
    let flag = |duration: &str| {
        let serve = Command::new(env!("CARGO_BIN_EXE_keyloom"))
            .args([
                "serve",
                "--leadership-duration",
                duration,
                "--listen",
                "ftp://a",
            ])
            .output()
            .unwrap();
        String::from_utf8(serve.stderr).unwrap()
    };
    let text = "must be a duration such as `500ms`, `30s`, `5m`, `1h30m` or `1day`";
    for duration in ["1day", "1h 30min", "1.5s", ".5s"] {
        assert!(check(duration).contains("no error"), "{duration}");
        assert!(!flag(duration).contains(text), "{duration}");
    }
    for duration in ["5", "1x"] {
        assert!(check(duration).contains(text), "{duration}");
        assert!(
            flag(duration).contains(text),
            "{duration}: {}",
            flag(duration)
        );
    }
}

#[test]
fn a_route_is_told_for_keys_and_for_objects_as_kubectl_names_them() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/tenants.yaml");
    let route = |arguments: &[&str]| {
        let route = Command::new(env!("CARGO_BIN_EXE_keyloom"))
            .args(["topology", "route", "--topology"])
            .arg(&file)
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8(route.stdout).unwrap();
        text.lines()
            .filter_map(|line| line.split('\t').next())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(route(&["/registry/pods/tenant-a/web"]), "tenant-a");
    assert_eq!(route(&["pod/web", "-n", "tenant-a-east"]), "tenant-a");
    assert_eq!(route(&["node/n", "-n", "tenant-a"]), "default");
    assert_eq!(route(&["event/e", "-n", "other"]), "events");
    assert_eq!(
        route(&["--prefix", "/registry/pods/"]),
        "default tenant-a tenant-b"
    );
    assert_eq!(route(&["--prefix", "/registry/pods/tenant-b/"]), "tenant-b");
}
