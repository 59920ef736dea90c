//! What is said about bad files: everything at once, each with its line.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise"
)]

use std::{io, path::Path};

use keyloom_topology::{NoSource, ParseOptions, Source, check};

fn said(text: &str) -> Vec<String> {
    check("t.yaml", text, &ParseOptions::default())
}

fn expect(text: &str, lines: &[&str]) {
    assert_eq!(said(text), lines, "{text}");
}

/// One backend after two lines; what is said of it.
fn of_backend(backend: &str) -> Vec<String> {
    said(&format!(
        "default: {{endpoint: http://d:1}}\nbackends:\n{backend}"
    ))
}

#[test]
fn every_problem_of_a_file_is_reported_at_once() {
    let text = r#"
default:
  endpoint: http://main
  endpont: http://main:2379
registryPrefix: [/registry, /registry/east]
deleteRangeOverStores: maybe
bakends: []
backends:
- name: rbac
  endpoint: gopher://127.0.0.1:2579
  regexp:
    key: ^(roles|clusterroles/
- name: rbac
  endpoint: http://10.0.0.1:2379
  keyPrefix: /a
  compactInterval: 5m
  limits: {maxInFlight: 0, timeout: 5, requestsPerSecond: 3}
  namespace: {namespaces: [a, "b*c"], kinds: [Pod, nodes]}
- name: default
  prefix: {prefix: pods}
  customresource: {group: apps, kind: deployments}
- name: "two words"
  endpoint: mysql://u:secret@tcp(h:3306)/d?tsl=true
  backendTLS: {certFile: a.pem, skipVerify: perhaps}
  customresource: {group: networking.k8s.io, kind: ingresses}
- endpoint: https://u:secret@h:2379/path
  prefix: {}
"#;
    expect(
        text,
        &[
            "t.yaml:3:13: error: endpoint: no valid port; write `host:port`",
            "t.yaml:4:3: error: unknown field `endpont` in `default`; did you mean `endpoint`?",
            "t.yaml:5:29: error: the registry prefix /registry/east lies within another one",
            "t.yaml:6:24: error: `deleteRangeOverStores` must be split or refuse",
            "t.yaml:7:1: error: unknown field `bakends` in the topology; did you mean `backends`?",
            "t.yaml:10:13: error: endpoint: unknown scheme; known are http, https, unix, unixs, sqlite, \
             postgres and mysql",
            "t.yaml:12:10: error: regexp: unclosed group",
            "t.yaml:13:9: error: the name `rbac` is already taken on line 9",
            "t.yaml:15:14: error: `keyPrefix` is not supported yet",
            "t.yaml:16:20: warning: `compactInterval` has no effect yet",
            "t.yaml:17:25: error: `maxInFlight` must be a whole number above 0",
            "t.yaml:17:37: error: `timeout` must be a duration such as `500ms`, `30s`, `5m`, \
             `1h30m` or `1day`",
            "t.yaml:17:59: warning: `limits.requestsPerSecond` has no effect yet",
            "t.yaml:18:31: error: `*` may stand only at the end of a namespace",
            "t.yaml:18:47: error: `kinds` takes the plural in lower case, such as `pods`, not `Pod`",
            "t.yaml:18:52: warning: `nodes` are cluster-scoped, so this matches none of them",
            "t.yaml:19:3: error: store `default` has no `endpoint`",
            "t.yaml:19:3: error: backend `default` needs exactly one of `prefix`, `regexp`, \
             `namespace` and `customresource`; it has 2",
            "t.yaml:19:9: error: `default` is the name of the default store; a backend needs another",
            "t.yaml:22:9: error: a name has 1 to 128 characters of A-Z, a-z, 0-9, `-`, `_` and `.`; \
             \"two words\" does not",
            "t.yaml:23:13: error: endpoint: unknown argument `tsl`; did you mean `tls`?",
            "t.yaml:24:3: error: `backendTLS` needs `certFile` and `keyFile` together",
            "t.yaml:24:45: error: `skipVerify` must be true or false",
            "t.yaml:25:27: error: networking.k8s.io is a built-in group, and keys of built-in kinds \
             carry no group; use `prefix: {prefix: ingresses}`",
            "t.yaml:26:3: error: the backend has no `name`",
            "t.yaml:26:13: error: endpoint: an etcd endpoint has no path",
            "t.yaml:27:3: error: `prefix` needs either `prefix` or `key`",
        ],
    );
}

#[test]
fn values_of_the_wrong_type_are_reported_at_once() {
    let text = "
default: [http://d:1]
registryPrefix: {a: b}
backends:
- a
- name: [x]
  endpoint: {a: b}
  endpoints: [http://a:1, [b], ~]
  limits: [1]
  labels: [eu]
  backendTLS: on
  prefix: pods
- name: b
  endpoint: http://b:1
  limits: {maxInFlight: [1], timeout: {s: 1}}
  labels: {a: [b]}
  backendTLS: {caFile: [a], skipVerify: [true]}
  connectionPool: {maxIdle: [1], maxLifeTime: 5, maxOpn: 1}
  namespace: {namespaces: a, kinds: {a: b}, name: [c]}
";
    expect(
        text,
        &[
            "t.yaml:2:10: error: `default` must be a mapping of fields",
            "t.yaml:3:17: error: `registryPrefix` must be a text",
            "t.yaml:5:3: error: a backend must be a mapping of fields",
            "t.yaml:6:3: error: the backend has no `name`",
            "t.yaml:6:3: error: a backend needs exactly one of `prefix`, `regexp`, `namespace` and \
             `customresource`; it has 0",
            "t.yaml:6:9: error: `name` must be a text",
            "t.yaml:7:13: error: `endpoint` must be a text",
            "t.yaml:8:27: error: `endpoints` must be a text",
            "t.yaml:8:32: error: `endpoints` must be a text",
            "t.yaml:9:11: error: `limits` must be a mapping of fields",
            "t.yaml:10:11: error: `labels` must be a mapping of names to texts",
            "t.yaml:11:15: error: `backendTLS` must be a mapping of fields",
            "t.yaml:12:11: error: `prefix` must be a mapping of fields",
            "t.yaml:15:25: error: `maxInFlight` must be a whole number above 0",
            "t.yaml:15:39: error: `timeout` must be a text",
            "t.yaml:16:15: error: `a` must be a text",
            "t.yaml:17:24: error: `caFile` must be a text",
            "t.yaml:17:41: error: `skipVerify` must be true or false",
            "t.yaml:18:3: warning: `connectionPool` has no effect yet",
            "t.yaml:18:29: error: `maxIdle` must be a text",
            "t.yaml:18:47: error: `maxLifeTime` must be a duration such as `500ms`, `30s`, `5m`, \
             `1h30m` or `1day`",
            "t.yaml:18:50: error: unknown field `maxOpn` in `connectionPool`; did you mean `maxOpen`?",
            "t.yaml:19:37: error: `kinds` must be a text",
            "t.yaml:19:51: error: `name` must be a text",
            "t.yaml: error: no `default` store; set it here or with --endpoint",
        ],
    );
    expect(
        "default: {endpoint: http://d:1}\nbackends: a",
        &["t.yaml:2:11: error: `backends` must be a list"],
    );
}

/// The file that the documentation shows.
const EXAMPLE: &str = r#"
default:
  endpoint: sqlite:///var/lib/keyloom/main.db        # or endpoints: [https://etcd-0:2379]
registryPrefix: /registry
backends:
- name: rbac
  endpoint: http://127.0.0.1:2579
  regexp:
    key: ^(clusterrolebindings|clusterroles|rolebindings|roles|serviceaccounts)/
- name: tenant-a
  endpoint: postgres://keyloom:${PASSWORD}@127.0.0.1:5432/tenant_a
  namespace:
    namespace: tenant-a
    kinds: [pods, deployments.apps, shirts.stable.example.com]
- name: pods
  endpoint: mysql://keyloom:${file:/run/secrets/mysql}@tcp(127.0.0.1:3306)/pods
  prefix:
    prefix: pods
- name: shirts
  endpoint: sqlite://./db/shirts.db?_journal=WAL&cache=shared
  customresource:
    group: stable.example.com
    kind: shirts
"#;

#[test]
fn the_documented_example_has_no_problem() {
    let options = ParseOptions {
        default_endpoint: None,
        source: &World,
    };
    assert_eq!(check("t.yaml", EXAMPLE, &options), [""; 0]);
    let topology = keyloom_topology::parse(EXAMPLE, &options).unwrap().topology;
    assert_eq!(topology.files(), [Path::new("/run/secrets/mysql")]);
}

proptest::proptest! {
    /// Whatever was broken in a file: no panic, and a clear answer.
    #[test]
    fn no_text_is_too_bad(at in 0..EXAMPLE.len(), len in 0..40_usize, new in "[-a-z:{}$&*!|>%@'\"\\[\\]\\n ]{0,12}") {
        let end = (at + len).min(EXAMPLE.len());
        let text = format!("{}{new}{}", &EXAMPLE[..at], &EXAMPLE[end..]);
        let said = check("t.yaml", &text, &ParseOptions { default_endpoint: None, source: &World });
        let is_line = |line: &String| line.contains(": error: ") || line.contains(": warning: ");
        proptest::prop_assert!(said.iter().all(is_line), "{:?}", said);
        proptest::prop_assert!(!said.join("").contains("p@ss"), "{:?}", said);
    }
}

#[test]
fn what_is_not_yaml_is_said_with_its_line() {
    for text in [
        "default: [",
        "a: b: c",
        "default: {endpoint: x}\n---\ndefault: {}\n",
        "*a",
    ] {
        let said = said(text);
        assert!(
            said[0].contains(": error: not YAML: "),
            "{text:?}: {said:?}"
        );
    }
    let deep = "a: ".to_owned() + &"[".repeat(100_000);
    assert!(said(&deep)[0].contains(": error: not YAML: "));
    expect(
        "default: {endpoint: http://d:1}\ndefault: {endpoint: http://e:1}\n",
        &["t.yaml:2:1: error: `default` is already set on line 1"],
    );
    expect(
        "- a",
        &["t.yaml:1:1: error: the topology must be a mapping of fields"],
    );
}

#[test]
fn there_is_exactly_one_default_store() {
    let with_flag = ParseOptions {
        default_endpoint: Some("http://flag:2379".into()),
        source: &NoSource,
    };
    expect(
        "",
        &["t.yaml: error: no `default` store; set it here or with --endpoint"],
    );
    assert_eq!(check("t.yaml", "", &with_flag), [""; 0]);
    assert_eq!(
        check("t.yaml", "\ndefault: {endpoint: http://d:1}", &with_flag),
        [
            "t.yaml:2:1: error: the default store is set here and by --endpoint; set it in one place only"
        ],
    );
}

#[test]
fn groups_kinds_and_prefixes_are_checked() {
    let said =
        |matcher: &str| of_backend(&format!("- {{name: a, endpoint: http://a:1, {matcher}}}\n"));
    assert_eq!(
        said("customresource: {group: a.b, kind: shirts.a.b}"),
        [
            "t.yaml:3:59: error: `kind` takes the plural without the group; put the group into `group`"
        ],
    );
    assert_eq!(
        said("customresource: {group: shirts}"),
        [
            "t.yaml:3:59: error: the group of a custom resource has a dot, such as `stable.example.com`"
        ],
    );
    assert_eq!(
        said("customresource: {group: apps/v1, kind: deployments}"),
        [
            "t.yaml:3:59: error: apps is a built-in group, and keys of built-in kinds carry no group; \
          use `prefix: {prefix: deployments}`"
        ],
    );
    assert_eq!(
        said("customresource: {group: gateway.networking.k8s.io}"),
        [""; 0]
    );
    assert_eq!(
        said("prefix: {prefix: networking.k8s.io}"),
        [
            "t.yaml:3:52: warning: the keys of networking.k8s.io carry no group: name the kind itself, \
          such as `deployments`"
        ],
    );
    assert_eq!(
        said("prefix: {prefix: /registry/}"),
        ["t.yaml:3:52: error: `prefix` must be one or several path segments, such as `pods`"],
    );
    assert_eq!(
        said("namespace: {}"),
        ["t.yaml:3:35: error: `namespace` needs `namespace` or `namespaces`"],
    );
    assert_eq!(
        said("namespace: {namespace: a/b}"),
        ["t.yaml:3:58: error: a namespace is a name without slashes"],
    );
    expect(
        "default: {endpoint: http://d:1, regexp: {key: ^a/}}\n",
        &[
            "t.yaml:1:33: error: `default` takes no `regexp`: it has every key that no backend claims",
        ],
    );
    expect(
        "registryPrefix: []\ndefault: {endpoint: http://d:1}\n",
        &["t.yaml: error: `registryPrefix` is an empty list"],
    );
}

#[test]
fn the_spelling_of_2025_is_read() {
    let old = "- endpoint: http://a:1\n  regexp: {name: rbac, prefix: '^roles/', key: '^roles/'}\n\
               - endpoint: http://b:1\n  prefix: {name: pods, prefix: pods}\n\
               - endpoint: multi://http://c:1\n  customresource: {name: c, group: a.b, kind: cs}\n";
    assert_eq!(of_backend(old), [""; 0]);
    assert_eq!(
        of_backend("- name: a\n  endpoint: http://a:1\n  prefix: {name: b, prefix: pods}\n"),
        ["t.yaml:5:18: error: the name is `a` on line 3 and `b` here"],
    );
}

#[test]
fn expressions_that_are_hardly_meant_are_warned_of() {
    let said = |regexp: &str| {
        of_backend(&format!(
            "- {{name: a, endpoint: http://a:1, regexp: {regexp}}}\n"
        ))
    };
    assert_eq!(
        said("{key: kube-system/}"),
        [
            "t.yaml:3:49: warning: the expression is not anchored: it can match in any range, so every \
          list and watch asks this store; `^kube-system/` would not"
        ],
    );
    assert!(said("{key: 'a/|b/'}")[0].contains("`^(?:a/|b/)`"));
    assert_eq!(said("{key: '^[^/]+/kube-system/'}"), [""; 0]);
    assert_eq!(
        said("{key: ^/registry/pods/}"),
        [
            "t.yaml:3:49: warning: the expression is matched against the key below /registry/; remove \
          /registry/ from the expression"
        ],
    );
    assert_eq!(
        said("{key: ^a/, prefix: ^b/}"),
        [
            "t.yaml:3:62: warning: `regexp.prefix` is ignored: `regexp.key` alone decides where a key \
          lives"
        ],
    );
    assert_eq!(
        said("{key: 'a$b'}"),
        ["t.yaml:3:49: warning: the expression matches no key"]
    );
    assert!(said("{key: '(?:[a-z]{900}){900}'}")[0].contains(": error: regexp: "));
}

#[test]
fn routes_that_never_match_are_warned_of() {
    let said = of_backend(
        "- {name: a, endpoint: http://a:1, prefix: {prefix: pods}}\n\
         - {name: b, endpoint: http://b:1, namespace: {namespace: x, kinds: [pods]}}\n\
         - {name: c, endpoint: http://c:1, namespace: {namespaces: [y]}}\n\
         - {name: d, endpoint: http://d:1, namespace: {namespaces: ['y']}}\n\
         - {name: e, endpoint: http://e:1, regexp: {key: '^pods/[^/]*x'}}\n",
    );
    assert_eq!(
        said,
        [
            "t.yaml:4:35: warning: no key can match this route: earlier routes claim all of its keys: see line 3",
            "t.yaml:6:35: warning: no key can match this route: earlier routes claim all of its keys: see line 5",
        ],
        "the last can match a key outside the registry prefix",
    );
}

#[test]
fn expressions_that_never_match_are_warned_of() {
    let said = of_backend(
        "- {name: a, endpoint: http://a:1, regexp: {key: '^pods/[a-z]*x'}}\n\
         - {name: b, endpoint: http://b:1, regexp: {key: '^pods/[a-z]*x'}}\n\
         - {name: c, endpoint: http://c:1, regexp: {key: '^(pods|secrets)/'}}\n\
         - {name: d, endpoint: http://d:1, regexp: {key: '^secrets/[a-z]*y'}}\n\
         - {name: e, endpoint: http://e:1, prefix: {key: pods/bx}}\n",
    );
    assert_eq!(
        said,
        [
            "t.yaml:4:35: warning: no key can match this route: earlier routes claim all of its keys: see line 3",
            "t.yaml:6:35: warning: no key can match this route: earlier routes claim all of its keys: see line 5",
            "t.yaml:7:35: warning: no key can match this route: earlier routes claim all of its keys: see line 3",
        ],
    );
}

/// Knows a password and a file.
struct World;

impl Source for World {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "PASSWORD").then(|| "p@ss/w:rd%41?".to_owned())
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("/run/secrets/mysql") => Ok("qu?)(@\n".into()),
            Some("/run/secrets/url") => Ok("https://u:hidden@h:2379".into()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }
}

#[test]
fn what_cannot_be_replaced_is_an_error() {
    let of = |endpoint: &str| {
        let text = format!("default:\n  endpoint: {endpoint}\n");
        check(
            "t.yaml",
            &text,
            &ParseOptions {
                default_endpoint: None,
                source: &World,
            },
        )
    };
    assert_eq!(of("http://${PASSWORD}x@h:1"), [""; 0]);
    assert_eq!(
        of("http://${NAME}:${file:/no}@h:1"),
        [
            "t.yaml:2:13: error: endpoint: `${NAME}` is not defined",
            "t.yaml:2:13: error: endpoint: `${file:/no}` cannot be read: entity not found",
        ],
    );
    assert_eq!(
        of("http://$h:1"),
        ["t.yaml:2:13: error: endpoint: a lone `$`; write `$$` for a dollar sign"]
    );
    assert_eq!(
        of("'http://${h:1'"),
        ["t.yaml:2:13: error: endpoint: `${` without a `}`"]
    );
}

#[test]
fn files_of_tls_are_named_with_variables() {
    use keyloom_topology::parse;
    let text = "default:\n  endpoint: https://h:1\n  backendTLS:\n    caFile: ${PASSWORD}/ca.pem\n    \
                certFile: ${NAME}\n    keyFile: k\n";
    let options = ParseOptions {
        default_endpoint: None,
        source: &World,
    };
    assert_eq!(
        check("t.yaml", text, &options),
        ["t.yaml:5:15: error: backendTLS: `${NAME}` is not defined"],
    );
    let accepted = parse(&text.replace("${NAME}", "c"), &options).unwrap();
    let tls = accepted.topology.stores()[0].tls.clone().unwrap();
    assert_eq!(
        tls.ca_file.as_deref(),
        Some(Path::new("p@ss/w:rd%41?/ca.pem"))
    );
}

#[test]
fn secrets_are_used_and_never_shown() {
    use keyloom_topology::{Endpoint, parse};
    let of = |endpoint: &str| {
        let text = format!("default:\n  endpoint: {endpoint}\n");
        let options = ParseOptions {
            default_endpoint: None,
            source: &World,
        };
        let accepted = parse(&text, &options).unwrap();
        let endpoint = accepted.topology.stores()[0].endpoints[0].clone();
        let shown = format!("{endpoint} {endpoint:?} {:?}", accepted.topology);
        for secret in ["p@ss", "p%40ss", "qu?", "hidden"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        let login = match &endpoint {
            Endpoint::Etcd(it) => it.login.clone(),
            Endpoint::Postgres(it) => it.login.clone(),
            Endpoint::Mysql(it) => it.login.clone(),
            Endpoint::Sqlite(_) => None,
        };
        let password = login.and_then(|login| Some(login.password?.expose().to_owned()));
        (endpoint.to_string(), password.unwrap_or_default())
    };
    for (endpoint, shown, password) in [
        (
            "postgres://keyloom:${PASSWORD}@127.0.0.1:5432/tenant_a?sslmode=disable",
            "postgres://keyloom:***@127.0.0.1:5432/tenant_a?sslmode=disable",
            "p@ss/w:rd%41?",
        ),
        (
            "mysql://keyloom:${file:/run/secrets/mysql}@tcp(127.0.0.1:3306)/pods",
            "mysql://keyloom:***@tcp(127.0.0.1:3306)/pods",
            "qu?)(@",
        ),
        (
            "mysql://keyloom:${PASSWORD}@db/pods",
            "mysql://keyloom:***@tcp(db:3306)/pods",
            "p@ss/w:rd%41?",
        ),
        ("${file:/run/secrets/url}", "https://u:***@h:2379", "hidden"),
        ("https://root:a$$b@h:2379", "https://root:***@h:2379", "a$b"),
        ("multi://http://h:2379", "http://h:2379", ""),
        ("http://[::1]:2379", "http://[::1]:2379", ""),
        ("unix:///run/etcd.sock", "unix:///run/etcd.sock", ""),
        ("127.0.0.1:2379", "http://127.0.0.1:2379", ""),
        (
            "sqlite://./db/shirts.db?_journal=WAL&cache=shared",
            "sqlite://./db/shirts.db?_journal_mode=WAL&cache=shared",
            "",
        ),
        (
            "sqlite:///var/lib/kine/db/state.db?_journal=WAL&_kine_disable_startup_vacuum",
            "sqlite:///var/lib/kine/db/state.db?_journal_mode=WAL&_kine_disable_startup_vacuum=",
            "",
        ),
        ("postgresql://h", "postgres://h:5432/", ""),
        (
            "mysql://root:p@unix(/run/my.sock)/d",
            "mysql://root:***@unix(/run/my.sock)/d",
            "p",
        ),
    ] {
        assert_eq!(
            of(endpoint),
            (shown.to_owned(), password.to_owned()),
            "{endpoint}"
        );
    }
}

#[test]
fn bad_endpoints_are_named_without_their_text() {
    for (endpoint, said) in [
        ("http://u:hidden@", "no valid host; write `host:port`"),
        ("http://u:hidden@h:0", "no valid port; write `host:port`"),
        (
            "http://[hidden]:1",
            "the text in brackets is not an IPv6 address",
        ),
        ("'http://h:1?hidden=1'", "an etcd endpoint has no arguments"),
        ("'sqlite://'", "no file; write sqlite://PATH"),
        (
            "'sqlite://f?_journal=hidden'",
            "argument `_journal_mode` must be one of DELETE, TRUNCATE, PERSIST, MEMORY, WAL, OFF",
        ),
        (
            "'sqlite://f?cache=shared&cache=shared'",
            "argument `cache` is given twice",
        ),
        (
            "'postgres://h/d?sslmod=require'",
            "unknown argument `sslmod`; did you mean `sslmode`?",
        ),
        ("mysql://u:hidden@tcp(h:1/d", "a `(` without a `)`"),
        (
            "unix://",
            "a unix endpoint is the path of a socket: unix:///run/etcd.sock",
        ),
    ] {
        let text = format!("default:\n  endpoint: {endpoint}\n");
        expect(&text, &[&format!("t.yaml:2:13: error: endpoint: {said}")]);
    }
    expect(
        "default:\n  endpoints:\n  - http://a:1\n  - sqlite://f\n",
        &["t.yaml:3:5: error: several endpoints must all be etcd endpoints; a database has one"],
    );
}
