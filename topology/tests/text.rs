//! A topology that was written as text means the same when it is read again.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use keyloom_etcd_api::KeyRange;
use keyloom_topology::{Affected, Moved, ParseOptions, Topology, diff, parse};

const EVERYTHING: &str = r#"
default:
  endpoint: https://root:se$$cret@etcd-0:2379,https://root:se$$cret@etcd-1:2379
  backendTLS: {caFile: /etc/ca.pem, certFile: "/a b.pem", keyFile: /k.pem}
  limits: {maxInFlight: 7, timeout: 1500ms}
  labels: {region: eu, "odd: one": "a\"b"}
registryPrefix: [/registry, /other/deep]
deleteRangeOverStores: refuse
backends:
- {name: rbac, endpoint: 'unix:///run/a.sock', regexp: {key: '^(clusterroles|roles)/["\\]?'}}
- {name: any, endpoint: 'http://[::1]:2379', regexp: {key: 'x.*y'}}
- {name: pods, endpoint: 'http://pods:2379', prefix: {prefix: pods}}
- {name: svc, endpoint: 'http://svc:2379', prefix: {prefix: services}}
- {name: raw, endpoint: 'http://raw:2379', prefix: {key: "no\tslash\\"}}
- {name: a, endpoint: 'http://a:2379', namespace: {namespaces: [a, "team-*", "*"], kinds: [services, endpoints, pods, deployments.apps, nodes, shirts.stable.example.com]}}
- {name: b, endpoint: 'http://b:2379', namespace: {namespaces: [b, "b-*"]}}
- {name: cr, endpoint: 'http://cr:2379', customresource: {group: stable.example.com/v1, kind: shirts}}
- {name: group, endpoint: 'http://group:2379', customresource: {group: other.example.com}}
- {name: file, endpoint: 'sqlite:///var/lib/a.db?_journal=WAL', prefix: {prefix: leases}}
"#;

fn read(text: &str) -> Topology {
    match parse(text, &ParseOptions::default()) {
        Ok(accepted) => accepted.topology,
        Err(refused) => panic!("{}\n{text}", refused.in_file("test").join("\n")),
    }
}

#[test]
fn what_is_written_is_read_as_the_same() {
    let first = read(EVERYTHING);
    let text = first.to_text();
    let again = read(&text);
    assert_eq!(diff(&first, &again), []);
    assert_eq!(diff(&again, &first), []);
    assert_eq!(again.to_text(), text);
    assert_eq!(first.registry_prefixes(), again.registry_prefixes());
    assert_eq!(
        first.delete_range_over_stores(),
        again.delete_range_over_stores()
    );
    for (was, is) in first.stores().iter().zip(again.stores()) {
        assert_eq!(
            (&was.name, &was.tls, was.limits),
            (&is.name, &is.tls, is.limits)
        );
        assert_eq!(
            (&was.labels, was.endpoints.len()),
            (&is.labels, is.endpoints.len())
        );
    }
}

proptest::proptest! {
    /// Whatever a name, path or expression holds, it is read again as it was.
    #[test]
    fn any_text_is_written_so_that_it_is_read_again(label in "\\PC{0,12}", free in "[-~?:,{}&*!|>%@'\"#\\[\\]\\\\ \n\t\r$a0nNuUlLyes.é\u{7}\u{85}\u{2028}]{0,16}") {
        let escaped = free.escape_unicode().to_string();
        // Rust's `\u{…}` as YAML has it.
        let escaped = escaped.replace("\\u{", "\\U").split("\\U").skip(1).map(|hex| {
            format!("\\U{:0>8}", hex.trim_end_matches('}'))
        }).collect::<String>();
        let text = format!(
            "default: {{endpoint: 'http://d:1', labels: {{a: \"{escaped}\", \"k{escaped}\": b}}}}\n\
             backends:\n- {{name: x, endpoint: 'http://x:1', prefix: {{key: \"k{escaped}\"}}, labels: {{b: {label:?}}}}}\n"
        );
        let Ok(first) = parse(&text, &ParseOptions::default()) else {
            // What Rust escapes otherwise than YAML.
            return Ok(());
        };
        let first = first.topology;
        proptest::prop_assert_eq!(first.stores()[0].labels.get("a"), Some(&free));
        let again = read(&first.to_text());
        proptest::prop_assert_eq!(diff(&first, &again), []);
        for (was, is) in first.stores().iter().zip(again.stores()) {
            proptest::prop_assert_eq!(&was.labels, &is.labels);
        }
    }
}

#[test]
fn no_password_is_written() {
    let text = read(EVERYTHING).to_text();
    assert!(!text.contains("cret"), "{text}");
}

#[test]
fn the_stores_of_a_newer_file_are_taken_by_name() {
    let old = read(EVERYTHING);
    let kept = read(&old.to_text()).with_stores_of(&old);
    assert_eq!(kept.stores().len(), old.stores().len());
    for (kept, old) in kept.stores().iter().zip(old.stores()) {
        assert_eq!(kept, old);
    }
}

#[test]
fn what_a_change_moves_is_found_by_key_and_by_range() {
    let base = "default: {endpoint: 'http://d:1'}\nbackends:\n";
    let old = read(&format!(
        "{base}- {{name: x, endpoint: 'http://x:1', prefix: {{prefix: pods}}}}"
    ));
    let new = read(&format!(
        "{base}- {{name: x, endpoint: 'http://x:1', namespace: {{namespace: a}}}}"
    ));
    let moves: Vec<Moved> = diff(&old, &new).into_iter().map(|each| each.what).collect();
    let affected = Affected::of(&moves, old.registry_prefixes());
    assert!(!affected.is_empty() && Affected::default().is_empty());
    let prefix = |text: &'static str| KeyRange::prefix(text.into());
    for (key, moved) in [
        ("/registry/pods/b/x", true),
        ("/registry/secrets/a/x", true),
        ("/registry/secrets/b/x", false),
        ("/registry/namespaces/a", false),
        ("/other", false),
    ] {
        assert_eq!(affected.holds(key.as_bytes()), moved, "{key}");
        assert_eq!(affected.touches(&KeyRange::key(key.into())), moved, "{key}");
    }
    for (range, moved) in [
        (prefix("/registry/pods/"), true),
        (prefix("/registry/secrets/"), true),
        (prefix("/registry/secrets/a/"), true),
        (prefix("/registry/secrets/b/"), false),
        (prefix("/registry/"), true),
        (prefix("/other/"), false),
        (KeyRange::all(), true),
    ] {
        assert_eq!(affected.touches(&range), moved, "{range:?}");
    }
}
