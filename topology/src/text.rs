//! A topology written as a file: how it is kept with the ledger and shown to operators.
//!
//! Everything is written out in its resolved form, by the types that [`crate::parse`] reads, and
//! passwords are not. One value a line, so that two such texts can be compared.

use std::num::NonZeroU32;

use bytes::Bytes;
use serde_saphyr::{SerializerOptions, to_string_with_options};

use crate::{
    duration::DurationText,
    input::{
        BackendInput, CustomInput, FileInput, LimitsInput, NamespaceInput, PrefixInput,
        RegexpInput, TlsInput,
    },
    matcher::{Matcher, Namespaces, Rule},
    spanned::{Field, Texts},
    spec::{DeleteRangeOverStores, Limits, StoreIndex, StoreSpec, TlsSpec},
};

/// What is written.
pub(crate) struct Content<'t> {
    pub(crate) stores: &'t [StoreSpec],
    pub(crate) rules: &'t [Rule],
    pub(crate) bases: &'t [Bytes],
    pub(crate) delete_range_over_stores: DeleteRangeOverStores,
}

/// The text of a file that means the same.
pub(crate) fn written(content: &Content<'_>) -> String {
    let mut options = SerializerOptions::default();
    options.quote_all = true;
    // Its only errors are those of types that YAML cannot hold; the input types are none of them.
    to_string_with_options(&file(content), options).unwrap_or_default()
}

/// The same fields as JSON.
pub(crate) fn json(content: &Content<'_>) -> serde_json::Value {
    serde_json::to_value(file(content)).unwrap_or_default()
}

fn file(content: &Content<'_>) -> FileInput {
    let bases = content.bases.iter();
    let backends = content.rules.iter().filter_map(|rule| {
        let StoreIndex(index) = rule.store;
        let spec = content.stores.get(usize::from(index))?;
        Some(Field::of(backend(spec, &rule.matcher)))
    });
    let backends: Vec<_> = backends.collect();
    let refuse = content.delete_range_over_stores == DeleteRangeOverStores::Refuse;
    FileInput {
        default: content.stores.first().map(store).into(),
        registry_prefix: Field::of(Texts::of(
            bases.map(|base| String::from_utf8_lossy(base).into_owned()),
        )),
        delete_range_over_stores: refuse.then_some(DeleteRangeOverStores::Refuse).into(),
        backends: (!backends.is_empty()).then_some(backends).into(),
    }
}

fn backend(spec: &StoreSpec, claim: &Matcher) -> BackendInput {
    let mut backend = BackendInput {
        name: Field::of(spec.name.clone()),
        ..store(spec)
    };
    match claim {
        Matcher::Path(path) => {
            backend.prefix = Field::of(PrefixInput {
                prefix: Field::of(path.clone()),
                ..PrefixInput::default()
            });
        }
        Matcher::KeyPrefix(key) => {
            backend.prefix = Field::of(PrefixInput {
                key: Field::of(key.clone()),
                ..PrefixInput::default()
            });
        }
        Matcher::Regexp(regexp) => {
            backend.regexp = Field::of(RegexpInput {
                key: Field::of(regexp.pattern().to_owned()),
                ..RegexpInput::default()
            });
        }
        Matcher::CustomResource(path) => backend.customresource = Field::of(custom(path)),
        Matcher::Namespace(namespaces) => backend.namespace = Field::of(namespace(namespaces)),
    }
    backend
}

fn store(spec: &StoreSpec) -> BackendInput {
    // `${…}` was replaced already.
    let endpoints = spec.endpoints.iter().map(|each| escaped(&each.to_string()));
    let labels = spec.labels.iter();
    let labels = labels.map(|(name, value)| (name.clone(), Field::of(value.clone())));
    BackendInput {
        endpoints: Field::of(Texts::of(endpoints)),
        tls: spec.tls.as_ref().map(tls).into(),
        limits: (spec.limits != Limits::default())
            .then(|| limits(spec.limits))
            .into(),
        labels: (!spec.labels.is_empty()).then(|| labels.collect()).into(),
        ..BackendInput::default()
    }
}

fn tls(spec: &TlsSpec) -> TlsInput {
    let path = |path: &Option<std::path::PathBuf>| {
        let path = path.as_ref();
        path.map(|path| escaped(&path.to_string_lossy())).into()
    };
    TlsInput {
        ca_file: path(&spec.ca_file),
        cert_file: path(&spec.cert_file),
        key_file: path(&spec.key_file),
        skip_verify: Field::of(spec.skip_verify),
    }
}

fn limits(limits: Limits) -> LimitsInput {
    LimitsInput {
        max_in_flight: limits.max_in_flight.and_then(NonZeroU32::new).into(),
        timeout: limits.timeout.map(DurationText).into(),
        ..LimitsInput::default()
    }
}

fn custom(path: &str) -> CustomInput {
    let (group, kind) = match path.split_once('/') {
        Some((group, kind)) => (group, Some(kind)),
        None => (path, None),
    };
    CustomInput {
        group: Field::of(group.to_owned()),
        kind: kind.map(str::to_owned).into(),
        ..CustomInput::default()
    }
}

fn namespace(namespaces: &Namespaces) -> NamespaceInput {
    let wildcards = namespaces.wildcards.iter().map(|each| format!("{each}*"));
    let kinds = namespaces.directories.as_ref().map(|directories| {
        let kinds = directories.iter().map(|directory| kind_of(directory));
        Texts::of(kinds)
    });
    NamespaceInput {
        namespaces: Field::of(Texts::of(namespaces.names.iter().cloned().chain(wildcards))),
        kinds: kinds.into(),
        ..NamespaceInput::default()
    }
}

fn escaped(text: &str) -> String {
    text.replace('$', "$$")
}

/// The kind whose objects a directory has.
fn kind_of(directory: &str) -> String {
    match directory.split_once('/') {
        Some(("services", "specs")) => "services".to_owned(),
        Some(("services", plural)) => plural.to_owned(),
        Some((group, plural)) => format!("{plural}.{group}"),
        None => directory.to_owned(),
    }
}
