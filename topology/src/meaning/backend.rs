//! The store of a backend: endpoints, TLS, limits.

use std::{collections::BTreeMap, path::PathBuf};

use super::Meaning;
use crate::{
    ParseOptions,
    endpoint::{Endpoint, EndpointKind},
    input::{BackendInput, LimitsInput, TlsInput},
    interpolate,
    problem::Problems,
    spanned::{Field, Spanned, Text},
    spec::{DEFAULT_STORE, Limits, StoreSpec, TlsSpec},
};

/// The store that a backend (or `default`) describes.
pub(super) fn store(
    input: &Spanned<BackendInput>,
    name: &str,
    options: &ParseOptions<'_>,
    meaning: &mut Meaning,
    problems: &mut Problems,
) -> StoreSpec {
    not_yet(&input.value, problems);
    let texts = endpoint_texts(&input.value, problems);
    if texts.is_empty() {
        problems.error(input.at, format!("store `{name}` has no `endpoint`"));
    }
    let endpoints: Vec<_> = texts
        .iter()
        .flat_map(|text| endpoint(text, options, meaning, problems))
        .collect();
    check_kinds(&endpoints, texts.first().copied(), problems);
    let BackendInput {
        tls: files,
        limits: most,
        labels: named,
        ..
    } = &input.value;
    StoreSpec {
        name: name.to_owned(),
        endpoints,
        tls: files.spanned().map(|files| tls(files, options, problems)),
        limits: most.value().map_or_else(Limits::default, limits),
        labels: named.value().map_or_else(BTreeMap::new, labels),
        line: Some(input.at.line),
    }
}

fn endpoint_texts<'f>(input: &'f BackendInput, problems: &mut Problems) -> Vec<&'f Text> {
    if let (Some(at), Some(_)) = (input.endpoint.at(), input.endpoints.at()) {
        problems.error(at, "`endpoint` or `endpoints`, not both");
    }
    match input.endpoints.value() {
        Some(several) => several.iter().collect(),
        None => input.endpoint.spanned().into_iter().collect(),
    }
}

/// Fields of the dialect that Keyloom knows and does not act on.
fn not_yet(input: &BackendInput, problems: &mut Problems) {
    let limits = input.limits.value();
    let requests = limits.and_then(|limits| limits.requests_per_second.at());
    for (name, at) in [
        ("compactInterval", input.compact_interval.at()),
        ("compactIntervalJitter", input.compact_interval_jitter.at()),
        ("compactTimeout", input.compact_timeout.at()),
        ("compactMinRetain", input.compact_min_retain.at()),
        ("compactBatchSize", input.compact_batch_size.at()),
        ("connectionPool", input.connection_pool.at()),
        (
            "disableStorageLevelFiltering",
            input.disable_storage_level_filtering.at(),
        ),
        ("limits.requestsPerSecond", requests),
    ] {
        if let Some(at) = at {
            problems.warning(at, format!("`{name}` has no effect yet"));
        }
    }
    if let Some(at) = input.key_prefix.at() {
        // To ignore it would mix up the keys of tenants who share one etcd.
        problems.error(at, "`keyPrefix` is not supported yet");
    }
}

/// A label without a value is an empty text.
fn labels(input: &BTreeMap<String, Field<String>>) -> BTreeMap<String, String> {
    let text = |field: &Field<String>| field.value().cloned().unwrap_or_default();
    let labels = input
        .iter()
        .map(|(name, field)| (name.clone(), text(field)));
    labels.collect()
}

/// The default store as named on the command line.
pub(super) fn from_flag(
    text: &str,
    options: &ParseOptions<'_>,
    meaning: &mut Meaning,
    problems: &mut Problems,
) -> StoreSpec {
    let (endpoints, faults) = read(text, options, meaning);
    for fault in faults {
        problems.error(None, format!("--endpoint: {fault}"));
    }
    StoreSpec {
        endpoints,
        ..nowhere()
    }
}

/// A default store that nobody described.
pub(crate) fn nowhere() -> StoreSpec {
    StoreSpec {
        name: DEFAULT_STORE.to_owned(),
        endpoints: Vec::new(),
        tls: None,
        limits: Limits::default(),
        labels: BTreeMap::new(),
        line: None,
    }
}

fn endpoint(
    text: &Text,
    options: &ParseOptions<'_>,
    meaning: &mut Meaning,
    problems: &mut Problems,
) -> Vec<Endpoint> {
    let (endpoints, faults) = read(&text.value, options, meaning);
    for fault in faults {
        problems.error(text.at, format!("endpoint: {fault}"));
    }
    endpoints
}

fn read(
    text: &str,
    options: &ParseOptions<'_>,
    meaning: &mut Meaning,
) -> (Vec<Endpoint>, Vec<String>) {
    let read = interpolate::expand(text, options.source).and_then(|expanded| {
        let endpoints = Endpoint::parse(&expanded);
        meaning.files.extend(expanded.files);
        endpoints
    });
    match read {
        Ok(endpoints) => (endpoints, Vec::new()),
        Err(faults) => (Vec::new(), faults),
    }
}

/// Several endpoints are several members of one etcd cluster; a database has one address.
fn check_kinds(endpoints: &[Endpoint], first: Option<&Text>, problems: &mut Problems) {
    let is_etcd = |endpoint: &Endpoint| endpoint.kind() == EndpointKind::Etcd;
    if endpoints.len() > 1 && !endpoints.iter().all(is_etcd) {
        problems.error(
            first.map(|text| text.at),
            "several endpoints must all be etcd endpoints; a database has one",
        );
    }
}

fn tls(
    Spanned { value: input, at }: &Spanned<TlsInput>,
    options: &ParseOptions<'_>,
    problems: &mut Problems,
) -> TlsSpec {
    if input.cert_file.is_absent() != input.key_file.is_absent() {
        problems.error(*at, "`backendTLS` needs `certFile` and `keyFile` together");
    }
    let skip_verify = input.skip_verify.value().copied().unwrap_or_default();
    if skip_verify {
        problems.warning(
            *at,
            "`skipVerify` accepts any certificate: whoever is between Keyloom and the store can \
             read and change everything",
        );
    }
    let mut path = |file: &Field<String>| {
        let file = file.spanned()?;
        match interpolate::expand(&file.value, options.source) {
            Ok(expanded) => Some(PathBuf::from(expanded.into_text())),
            Err(faults) => {
                for fault in faults {
                    problems.error(file.at, format!("backendTLS: {fault}"));
                }
                None
            }
        }
    };
    TlsSpec {
        ca_file: path(&input.ca_file),
        cert_file: path(&input.cert_file),
        key_file: path(&input.key_file),
        skip_verify,
    }
}

fn limits(input: &LimitsInput) -> Limits {
    Limits {
        max_in_flight: input.max_in_flight.value().map(|most| most.get()),
        timeout: input.timeout.value().map(|timeout| timeout.0),
    }
}
