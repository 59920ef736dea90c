//! The first stage: a topology file as it is written, typed, with the line of everything.
//!
//! Nothing is decided here; `meaning.rs` does that.

mod matcher;

use std::{collections::BTreeMap, time::Duration};

use crate::{
    fields::{Fields, Text},
    problem::Problems,
    yaml::{Node, Value},
};

pub(crate) use matcher::{CustomInput, MatcherInput, NamespaceInput, PrefixInput, RegexpInput};

/// Known fields that do nothing yet.
const NO_EFFECT: [&str; 7] = [
    "compactInterval",
    "compactIntervalJitter",
    "compactTimeout",
    "compactMinRetain",
    "compactBatchSize",
    "connectionPool",
    "disableStorageLevelFiltering",
];

#[derive(Debug, Default)]
pub(crate) struct FileInput {
    pub(crate) default: Option<BackendInput>,
    pub(crate) registry_prefixes: Option<Vec<Text>>,
    pub(crate) delete_range_over_stores: Option<Text>,
    pub(crate) backends: Vec<BackendInput>,
}

/// One backend, or the default store, which has neither name nor matcher.
#[derive(Debug)]
pub(crate) struct BackendInput {
    pub(crate) line: usize,
    pub(crate) name: Option<Text>,
    pub(crate) endpoints: Vec<Text>,
    pub(crate) tls: Option<TlsInput>,
    pub(crate) limits: LimitsInput,
    pub(crate) labels: BTreeMap<String, String>,
    /// In a valid file exactly one, and none for the default store.
    pub(crate) matchers: Vec<(usize, MatcherInput)>,
}

#[derive(Debug, Default)]
pub(crate) struct TlsInput {
    pub(crate) line: usize,
    pub(crate) ca_file: Option<Text>,
    pub(crate) cert_file: Option<Text>,
    pub(crate) key_file: Option<Text>,
    pub(crate) skip_verify: bool,
}

#[derive(Debug, Default)]
pub(crate) struct LimitsInput {
    pub(crate) max_in_flight: Option<u32>,
    pub(crate) timeout: Option<Duration>,
}

/// Reads the whole file; an empty one is a file without backends.
pub(crate) fn read(node: &Node, problems: &mut Problems) -> Option<FileInput> {
    let mut fields = Fields::open(node, "the topology", problems)?;
    let default = fields.take("default");
    let registry_prefixes = fields.texts("registryPrefix", problems);
    let delete_range_over_stores = fields.text("deleteRangeOverStores", problems);
    let backends = fields.take("backends");
    fields.finish(problems);
    Some(FileInput {
        default: default.and_then(|(_, node)| backend(node, "`default`", false, problems)),
        registry_prefixes,
        delete_range_over_stores,
        backends: backends.map_or_else(Vec::new, |(_, node)| list(node, problems)),
    })
}

fn list(node: &Node, problems: &mut Problems) -> Vec<BackendInput> {
    let Value::List(items) = &node.value else {
        problems.error(node.line, "`backends` must be a list");
        return Vec::new();
    };
    let read = items.iter().filter_map(|item| {
        let owner = owner(item);
        backend(item, &owner, true, problems)
    });
    read.collect()
}

/// How messages call a backend: by its name, if it can be found.
fn owner(node: &Node) -> String {
    let Value::Map(entries) = &node.value else {
        return "a backend".into();
    };
    let name = entries.iter().find(|entry| entry.name == "name");
    match name.map(|entry| &entry.node.value) {
        Some(Value::Scalar(name)) => format!("backend `{name}`"),
        _ => "a backend".into(),
    }
}

fn backend(
    node: &Node,
    owner: &str,
    takes_matcher: bool,
    problems: &mut Problems,
) -> Option<BackendInput> {
    let mut fields = Fields::open(node, owner, problems)?;
    let line = fields.line;
    let mut name = fields.text("name", problems);
    let endpoints = endpoints(&mut fields, problems);
    let tls = tls(&mut fields, problems);
    let limits = limits(&mut fields, problems);
    let labels = fields.labels("labels", problems);
    not_yet(&mut fields, problems);
    let matchers = if takes_matcher {
        matcher::read_all(&mut fields, &mut name, problems)
    } else {
        Vec::new()
    };
    fields.finish(problems);
    Some(BackendInput {
        line,
        name,
        endpoints,
        tls,
        limits,
        labels,
        matchers,
    })
}

fn endpoints(fields: &mut Fields<'_>, problems: &mut Problems) -> Vec<Text> {
    let one = fields.text("endpoint", problems);
    let several = fields.texts("endpoints", problems);
    if let (Some(one), Some(_)) = (&one, &several) {
        problems.error(one.line, "`endpoint` or `endpoints`, not both");
    }
    several.or(one.map(|one| vec![one])).unwrap_or_default()
}

fn tls(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<TlsInput> {
    let (line, node) = fields.take("backendTLS")?;
    let mut fields = Fields::open(node, "`backendTLS`", problems)?;
    let [ca_file, cert_file, key_file] =
        ["caFile", "certFile", "keyFile"].map(|name| fields.text(name, problems));
    let skip_verify = fields.flag("skipVerify", problems).unwrap_or_default();
    fields.finish(problems);
    Some(TlsInput {
        line,
        ca_file,
        cert_file,
        key_file,
        skip_verify,
    })
}

fn limits(fields: &mut Fields<'_>, problems: &mut Problems) -> LimitsInput {
    let Some((_, node)) = fields.take("limits") else {
        return LimitsInput::default();
    };
    let Some(mut fields) = Fields::open(node, "`limits`", problems) else {
        return LimitsInput::default();
    };
    let max_in_flight = fields.count("maxInFlight", problems);
    let timeout = fields.duration("timeout", problems);
    if let Some((line, _)) = fields.take("requestsPerSecond") {
        no_effect("limits.requestsPerSecond", line, problems);
    }
    fields.finish(problems);
    LimitsInput {
        max_in_flight,
        timeout,
    }
}

/// Fields of the dialect that Keyloom knows and does not act on.
fn not_yet(fields: &mut Fields<'_>, problems: &mut Problems) {
    for name in NO_EFFECT {
        if let Some((line, node)) = fields.take(name) {
            no_effect(name, line, problems);
            if name == "connectionPool" {
                connection_pool(node, problems);
            }
        }
    }
    if let Some((line, _)) = fields.take("keyPrefix") {
        // To ignore it would mix up the keys of tenants who share one etcd.
        problems.error(line, "`keyPrefix` is not supported yet");
    }
}

fn connection_pool(node: &Node, problems: &mut Problems) {
    let Some(mut fields) = Fields::open(node, "`connectionPool`", problems) else {
        return;
    };
    for name in ["maxIdle", "maxOpen"] {
        fields.text(name, problems);
    }
    for name in ["maxLifeTime", "maxIdleTime", "maxIdleLifeTime"] {
        fields.duration(name, problems);
    }
    fields.finish(problems);
}

fn no_effect(name: &str, line: usize, problems: &mut Problems) {
    problems.warning(line, format!("`{name}` has no effect yet"));
}
