//! The store of a backend: endpoints, TLS, limits.

use std::{collections::BTreeMap, path::PathBuf};

use super::Meaning;
use crate::{
    ParseOptions,
    endpoint::{Endpoint, EndpointKind},
    fields::Text,
    input::{BackendInput, LimitsInput, TlsInput},
    interpolate,
    problem::Problems,
    spec::{DEFAULT_STORE, Limits, StoreSpec, TlsSpec},
};

/// The store that a backend (or `default`) describes.
pub(super) fn store(
    input: &BackendInput,
    name: &str,
    options: &ParseOptions<'_>,
    meaning: &mut Meaning,
    problems: &mut Problems,
) -> StoreSpec {
    if input.endpoints.is_empty() {
        problems.error(input.line, format!("no `endpoint` for store `{name}`"));
    }
    let texts = input.endpoints.iter();
    let endpoints: Vec<_> = texts
        .flat_map(|text| endpoint(text, options, meaning, problems))
        .collect();
    check_kinds(&endpoints, input.endpoints.first(), problems);
    StoreSpec {
        name: name.to_owned(),
        endpoints,
        tls: input
            .tls
            .as_ref()
            .map(|input| tls(input, options, problems)),
        limits: limits(&input.limits),
        labels: input.labels.clone(),
        line: Some(input.line),
    }
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
        problems.error(text.line, format!("endpoint: {fault}"));
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
            first.map(|text| text.line),
            "several endpoints must all be etcd endpoints; a database has one",
        );
    }
}

fn tls(input: &TlsInput, options: &ParseOptions<'_>, problems: &mut Problems) -> TlsSpec {
    if input.cert_file.is_some() != input.key_file.is_some() {
        problems.error(
            input.line,
            "`backendTLS` needs `certFile` and `keyFile` together",
        );
    }
    if input.skip_verify {
        problems.warning(
            input.line,
            "`skipVerify` accepts any certificate: whoever is in between can read and write",
        );
    }
    let mut path = |file: &Option<Text>| {
        let file = file.as_ref()?;
        let expanded = interpolate::expand(&file.value, options.source);
        match expanded {
            Ok(expanded) => Some(PathBuf::from(expanded.into_text())),
            Err(faults) => {
                for fault in faults {
                    problems.error(file.line, format!("backendTLS: {fault}"));
                }
                None
            }
        }
    };
    TlsSpec {
        ca_file: path(&input.ca_file),
        cert_file: path(&input.cert_file),
        key_file: path(&input.key_file),
        skip_verify: input.skip_verify,
    }
}

fn limits(input: &LimitsInput) -> Limits {
    Limits {
        max_in_flight: input.max_in_flight,
        timeout: input.timeout,
    }
}
