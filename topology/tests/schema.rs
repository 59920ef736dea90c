//! The JSON schema takes what the program takes, and refuses what a schema can refuse.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

use keyloom_topology::{ParseOptions, Source, check, schema};
use serde_json::Value;

/// Has every variable and file.
struct Anything;

impl Source for Anything {
    fn variable(&self, _name: &str) -> Option<String> {
        Some("x".into())
    }

    fn file(&self, _path: &std::path::Path) -> std::io::Result<String> {
        Ok("x".into())
    }
}

fn is_accepted(text: &str) -> bool {
    let options = ParseOptions {
        default_endpoint: None,
        source: &Anything,
    };
    let said = check("t.yaml", text, &options);
    !said.iter().any(|line| line.contains(": error: "))
}

fn is_valid(text: &str) -> bool {
    let file: Value = serde_saphyr::from_str(text).unwrap();
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    validator.is_valid(&file)
}

#[test]
fn every_example_is_valid() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(is_accepted(&text), "{}", path.display());
        assert!(is_valid(&text), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 3, "{seen} examples");
}

#[test]
fn what_is_accepted_is_valid() {
    let backend = |fields: &str| {
        format!(
            "default: {{endpoint: 'http://d:1'}}\nbackends:\n- {{endpoint: 'http://a:1', {fields}}}\n"
        )
    };
    for text in [
        "default: {endpoints: ['http://a:1', 'http://b:1'], labels: {region: eu, tier: 1, hot: true}}\n"
            .to_owned(),
        "default: {name: default, endpoint: 'http://a:1'}\nregistryPrefix: [/a, /b]\ndeleteRangeOverStores: refuse\n"
            .to_owned(),
        backend("name: a, prefix: {key: abc}"),
        backend("prefix: {name: a, prefix: pods}"),
        backend("name: a, regexp: {prefix: '^a/', key: '^a/'}"),
        backend("name: a, namespace: {namespaces: 'a-*', kinds: pods}"),
        backend("name: a, customresource: {group: a.b/v1, kind: cs}"),
        backend("name: a, prefix: {prefix: p}, limits: {maxInFlight: 7, timeout: 1h 30min, requestsPerSecond: 5}"),
        backend("name: a, prefix: {prefix: p}, limits: {timeout: 1.5s}, compactInterval: 5m, compactMinRetain: 1000"),
        backend("name: a, prefix: {prefix: p}, connectionPool: {maxIdle: 2, maxOpen: 0, maxLifeTime: 1h}"),
        backend("name: a, prefix: {prefix: p}, backendTLS: {caFile: a, certFile: b, keyFile: c, skipVerify: false}"),
    ] {
        assert!(is_accepted(&text), "{text}");
        assert!(is_valid(&text), "{text}");
    }
}

#[test]
fn what_a_schema_can_refuse_is_refused() {
    let backend = |fields: &str| {
        format!(
            "default: {{endpoint: 'http://d:1'}}\nbackends:\n- {{endpoint: 'http://a:1', {fields}}}\n"
        )
    };
    for text in [
        "bakends: []\ndefault: {endpoint: 'http://a:1'}\n".to_owned(),
        "default: [a]\n".to_owned(),
        "default: {}\n".to_owned(),
        "default: {endpoint: a, endpoints: [b]}\n".to_owned(),
        "default: {endpoint: 'http://a:1', prefix: {prefix: pods}}\n".to_owned(),
        "default: {endpoint: 'http://a:1'}\ndeleteRangeOverStores: maybe\n".to_owned(),
        backend("name: a"),
        backend("prefix: {prefix: pods}"),
        backend("name: two words, prefix: {prefix: pods}"),
        backend("name: a, prefix: {prefix: pods}, regexp: {key: ^a}"),
        backend("name: a, prefix: {}"),
        backend("name: a, prefix: {prefix: a, key: b}"),
        backend("name: a, regexp: {}"),
        backend("name: a, namespace: {kinds: [pods]}"),
        backend("name: a, namespace: {namespace: a, namespaces: [b]}"),
        backend("name: a, customresource: {kind: a}"),
        backend("name: a, customresource: {group: apps, kind: deployments}"),
        backend("name: a, customresource: {group: a.b, kind: Shirt}"),
        backend("name: a, prefix: {prefix: p}, keyPrefix: /a"),
        backend("name: a, prefix: {prefix: p}, limits: {maxInFlight: 0}"),
        backend("name: a, prefix: {prefix: p}, limits: {timeout: 5}"),
        backend("name: a, prefix: {prefix: p}, limits: {timeot: 5s}"),
        backend("name: a, prefix: {prefix: p}, backendTLS: {skipVerify: maybe}"),
    ] {
        assert!(!is_accepted(&text), "{text}");
        assert!(!is_valid(&text), "{text}");
    }
}

/// Editors show the descriptions, and know the schema by its identity.
#[test]
fn the_schema_is_described_and_stable() {
    let schema = schema();
    assert_eq!(schema, keyloom_topology::schema());
    assert_eq!(schema["$id"], "urn:keyloom:topology");
    let described = |pointer: &str| {
        let description = schema.pointer(pointer).and_then(|at| at.get("description"));
        assert!(description.is_some(), "{pointer}: {schema:#}");
    };
    for definition in schema["$defs"].as_object().unwrap().keys() {
        described(&format!("/$defs/{definition}"));
    }
    for field in [
        "default",
        "registryPrefix",
        "deleteRangeOverStores",
        "backends",
    ] {
        described(&format!("/properties/{field}"));
    }
    let no_null = schema.to_string();
    assert!(!no_null.contains("null"), "{schema:#}");
}
