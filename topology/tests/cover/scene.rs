//! Random topologies, ranges and keys, with the obvious way to route a key.

use std::{collections::BTreeSet, sync::LazyLock};

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;
use keyloom_topology::{Accepted, Moved, ParseOptions, StoreIndex, Topology, parse};
use proptest::prelude::*;
use regex_automata::{meta::Regex, util::syntax};

/// A topology with what it was made of.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) bases: Vec<&'static str>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) reserved: Option<KeyRange>,
    /// Matchers as text instead of `rules`.
    pub(crate) texts: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Rule {
    /// The path as given, and the path below the registry prefix.
    Prefix(&'static str, &'static str),
    KeyPrefix(&'static str),
    Regexp(&'static Pattern),
    Namespace(Vec<&'static str>, Option<Vec<(&'static str, &'static str)>>),
    Custom(&'static str, Option<&'static str>),
}

/// An expression, and the same for the whole key: behind the registry prefix, and elsewhere.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) text: &'static str,
    pub(crate) anchored: bool,
    /// Without the anchor.
    pub(crate) body: &'static str,
    /// Whether its language is a few intervals.
    pub(crate) enumerable: bool,
    regex: LazyLock<Regex>,
}

/// Makes a [`Pattern`].
macro_rules! pattern {
    ($text:literal, $anchored:literal, $body:literal, $enumerable:literal) => {
        Pattern {
            text: $text,
            anchored: $anchored,
            body: $body,
            enumerable: $enumerable,
            regex: LazyLock::new(|| regex($text)),
        }
    };
}

static PATTERNS: [Pattern; 12] = [
    pattern!("^(pods|secrets)/", true, "(pods|secrets)/", true),
    pattern!("^pods/a(-b)?/", true, "pods/a(-b)?/", true),
    pattern!("^pods$", true, "pods$", true),
    pattern!("^pods/[a-c]", true, "pods/[a-c]", true),
    pattern!("^(pods|secrets)/.+", true, "(pods|secrets)/.+", true),
    pattern!("^[a-z]+/team-[xy]/", true, "[a-z]+/team-[xy]/", false),
    pattern!("^pods/[a-z]*x", true, "pods/[a-z]*x", false),
    pattern!("team-", false, "team-", false),
    pattern!("/a/x$", false, "/a/x$", false),
    pattern!(
        "^stable[.]example[.]com/",
        true,
        "stable[.]example[.]com/",
        true
    ),
    pattern!("", false, "", true),
    pattern!("^s.*/a", true, "s.*/a", false),
];

/// Given, and below the registry prefix.
const PATHS: [(&str, &str); 9] = [
    ("pods", "pods"),
    ("services", "services/specs"),
    ("services/endpoints", "services/endpoints"),
    ("secrets/", "secrets"),
    ("stable.example.com", "stable.example.com"),
    ("stable.example.com/shirts", "stable.example.com/shirts"),
    ("pods/a", "pods/a"),
    ("pods/a/x", "pods/a/x"),
    ("nodes", "minions"),
];
const KINDS: [(&str, &str); 4] = [
    ("pods", "pods"),
    ("secrets", "secrets"),
    ("endpoints", "services/endpoints"),
    ("shirts.stable.example.com", "stable.example.com/shirts"),
];
const KEY_PREFIXES: [&str; 6] = [
    "a",
    "/registry/p",
    "/registry/pods/a",
    "/",
    "/e",
    "/registry/pods/team-x/",
];
const NAMESPACES: [&str; 8] = [
    "a",
    "a-b",
    "x",
    "team-x",
    "team-*",
    "t*",
    "*",
    "kube-system",
];
const SEGMENTS: [&str; 18] = [
    "pods",
    "pods!",
    "pod",
    "services",
    "specs",
    "endpoints",
    "secrets",
    "minions",
    "a",
    "a-b",
    "a0",
    "x",
    "team-x",
    "team-y",
    "team-",
    "stable.example.com",
    "shirts",
    "",
];

impl Scene {
    /// Backends with these matchers.
    pub(crate) fn of(matchers: &[&str]) -> Self {
        Self {
            bases: vec!["/registry"],
            rules: Vec::new(),
            reserved: None,
            texts: matchers.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    pub(crate) fn topology(&self) -> Topology {
        self.read().topology.with_reserved(self.reserved.clone())
    }

    /// The stores whose routes a warning says never match.
    pub(crate) fn shadowed(&self) -> BTreeSet<StoreIndex> {
        const FIRST_BACKEND: usize = 4;
        let warnings = self.read().warnings.into_iter();
        let shadowed = warnings.filter(|warning| warning.text.starts_with("no key can match"));
        let lines = shadowed.filter_map(|warning| warning.at?.line.checked_sub(FIRST_BACKEND));
        lines
            .filter_map(|line| u16::try_from(line + 1).ok())
            .map(StoreIndex)
            .collect()
    }
    fn read(&self) -> Accepted {
        let mut text = format!("registryPrefix: {:?}\n", self.bases);
        text.push_str("default: {endpoint: http://main:2379}\nbackends:\n");
        let matchers = self.rules.iter().map(Rule::yaml).chain(self.texts.clone());
        for (number, matcher) in matchers.enumerate() {
            text.push_str(&format!(
                "- {{name: s{number}, endpoint: http://s:{}, {matcher}}}\n",
                number + 1
            ));
        }
        parse(&text, &ParseOptions::default()).unwrap()
    }

    /// Asks one route after the other.
    pub(crate) fn first_match(&self, key: &[u8]) -> Option<StoreIndex> {
        if self
            .reserved
            .as_ref()
            .is_some_and(|range| range.contains(key))
        {
            return None;
        }
        let below = self
            .bases
            .iter()
            .find_map(|base| key.strip_prefix(base.as_bytes())?.strip_prefix(b"/"));
        let found = self.rules.iter().position(|rule| rule.matches(key, below));
        Some(StoreIndex(
            found.map_or(0, |at| u16::try_from(at + 1).unwrap_or(u16::MAX)),
        ))
    }

    /// Whether no matcher is an expression that only its automaton can decide: a route behind such
    /// a one may get a part although the expression takes all its keys.
    pub(crate) fn is_exactly_decidable(&self) -> bool {
        self.rules.iter().all(|rule| match rule {
            Rule::Regexp(pattern) => pattern.enumerable,
            _ => true,
        })
    }
}

impl Scene {
    pub(crate) fn has_wildcards(&self) -> bool {
        self.rules.iter().any(|rule| match rule {
            Rule::Namespace(names, _) => names.iter().any(|name| name.contains('*')),
            _ => false,
        })
    }
}

impl Rule {
    fn yaml(&self) -> String {
        match self {
            Self::Prefix(path, _) => format!("prefix: {{prefix: {path}}}"),
            Self::KeyPrefix(key) => format!("prefix: {{key: {key}}}"),
            Self::Regexp(pattern) => format!("regexp: {{key: {:?}}}", pattern.text),
            Self::Namespace(names, None) => format!("namespace: {{namespaces: {names:?}}}"),
            Self::Namespace(names, Some(kinds)) => {
                let kinds: Vec<_> = kinds.iter().map(|(kind, _)| kind).collect();
                format!("namespace: {{namespaces: {names:?}, kinds: {kinds:?}}}")
            }
            Self::Custom(group, None) => format!("customresource: {{group: {group}}}"),
            Self::Custom(group, Some(kind)) => {
                format!("customresource: {{group: {group}, kind: {kind}}}")
            }
        }
    }

    fn matches(&self, key: &[u8], below: Option<&[u8]>) -> bool {
        let is_path = |path: &str| {
            below
                .and_then(|below| below.strip_prefix(path.as_bytes()))
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        match self {
            Self::Prefix(_, path) => is_path(path),
            Self::Custom(group, None) => is_path(group),
            Self::Custom(group, Some(kind)) => is_path(&format!("{group}/{kind}")),
            Self::KeyPrefix(prefix) => key.starts_with(prefix.as_bytes()),
            Self::Regexp(pattern) => pattern.regex.is_match(below.unwrap_or(key)),
            Self::Namespace(names, kinds) => {
                let Some((directory, namespace)) = below.and_then(namespace_of) else {
                    return false;
                };
                let name = names.iter().any(|name| match name.strip_suffix('*') {
                    Some(prefix) => namespace.starts_with(prefix.as_bytes()),
                    None => namespace == name.as_bytes(),
                });
                let kind = kinds.as_ref().is_none_or(|kinds| {
                    kinds
                        .iter()
                        .any(|(_, stored)| stored.as_bytes() == directory)
                });
                name && kind
            }
        }
    }
}
fn regex(pattern: &str) -> Regex {
    let syntax = syntax::Config::new().unicode(false).utf8(false);
    Regex::builder().syntax(syntax).build(pattern).unwrap()
}

/// The directory and the namespace, by counting segments.
fn namespace_of(below: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let segments: Vec<_> = below.split(|byte| *byte == b'/').collect();
    let two = segments[0].contains(&b'.') || segments[0] == b"services";
    match segments.as_slice() {
        [group, plural, namespace, _name, ..] if two => Some((
            [group, plural].map(|s| s.to_vec()).join(&b'/'),
            namespace.to_vec(),
        )),
        [plural, namespace, _name, ..] if !two => Some((plural.to_vec(), namespace.to_vec())),
        _ => None,
    }
}

/// Whether a move is about this key.
pub(crate) fn names(what: &Moved, key: &[u8]) -> bool {
    match what {
        Moved::Keys(range) => range.contains(key),
        Moved::Namespace(name) => ["/registry/", "/east/", "/"].iter().any(|base| {
            let place = key.strip_prefix(base.as_bytes()).and_then(namespace_of);
            place.is_some_and(|(_, namespace)| match name.strip_suffix('*') {
                Some(prefix) => namespace.starts_with(prefix.as_bytes()),
                None => namespace == name.as_bytes(),
            })
        }),
    }
}

fn rule() -> BoxedStrategy<Rule> {
    let names = prop::collection::vec(prop::sample::select(&NAMESPACES[..]), 1..4);
    let kinds = prop::collection::vec(prop::sample::select(&KINDS[..]), 1..3);
    prop_oneof![
        3 => prop::sample::select(&PATHS[..]).prop_map(|(text, path)| Rule::Prefix(text, path)),
        1 => prop::sample::select(&KEY_PREFIXES[..]).prop_map(Rule::KeyPrefix),
        3 => (0..PATTERNS.len()).prop_map(|at| Rule::Regexp(&PATTERNS[at])),
        5 => (names, prop::option::of(kinds)).prop_map(|(names, kinds)| Rule::Namespace(names, kinds)),
        1 => prop::option::of(Just("shirts")).prop_map(|kind| Rule::Custom("stable.example.com", kind)),
    ]
    .boxed()
}

pub(crate) fn scene() -> BoxedStrategy<Scene> {
    let bases = prop_oneof![
        4 => Just(vec!["/registry"]),
        1 => Just(vec!["/registry", "/east"]),
        1 => Just(vec![""]),
    ];
    let rules = prop::collection::vec(rule(), 0..7);
    (bases, rules, prop::option::weighted(0.3, range()))
        .prop_map(|(bases, rules, reserved)| Scene {
            bases,
            rules,
            reserved: reserved.filter(|range| !range.is_empty()),
            texts: Vec::new(),
        })
        .boxed()
}

/// A key of up to five segments, mostly below a registry prefix.
fn key() -> BoxedStrategy<Vec<u8>> {
    let base = prop_oneof![
        6 => Just("/registry/"),
        1 => Just("/east/"),
        1 => Just("/"),
        1 => Just(""),
        1 => Just("/registry"),
    ];
    let segments = prop::collection::vec(prop::sample::select(&SEGMENTS[..]), 0..5);
    let tail = prop_oneof![
        6 => Just(&b""[..]),
        1 => Just(&b"/"[..]),
        1 => Just(&b"\0"[..]),
        1 => Just(&b"\xff"[..]),
        1 => Just(&b"\n"[..]),
        1 => Just(&b"0"[..]),
    ];
    (base, segments, tail)
        .prop_map(|(base, segments, tail)| {
            let mut key = [base.as_bytes(), segments.join("/").as_bytes(), tail].concat();
            if key.is_empty() {
                key.push(b'a');
            }
            key
        })
        .boxed()
}

pub(crate) fn keys(count: usize) -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(key(), count)
}

pub(crate) fn range() -> BoxedStrategy<KeyRange> {
    prop_oneof![
        5 => key().prop_map(|key| KeyRange::prefix(Bytes::from(key))),
        3 => key().prop_map(|key| KeyRange::prefix(Bytes::from([&key[..], b"/"].concat()))),
        2 => key().prop_map(|key| KeyRange::key(Bytes::from(key))),
        4 => (key(), key()).prop_map(|(a, b)| KeyRange {
            start: Bytes::from(a.clone().min(b.clone())),
            end: Some(Bytes::from(a.max(b))),
        }),
        1 => key().prop_map(|key| KeyRange { start: Bytes::from(key), end: None }),
        1 => Just(KeyRange::all()),
    ]
    .boxed()
}
