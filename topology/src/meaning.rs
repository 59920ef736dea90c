//! The second stage: what a file means, checked as a whole.

mod backend;
mod matcher;

use std::{collections::HashMap, path::PathBuf};

use bytes::Bytes;

pub(crate) use backend::nowhere;

use crate::{
    ParseOptions,
    input::{BackendInput, FileInput},
    matcher::Rule,
    problem::{Position, Problems},
    spanned::{Field, Spanned, Text, Texts},
    spec::{DEFAULT_STORE, DeleteRangeOverStores, StoreIndex, StoreSpec},
};

/// A file's meaning, before it is compiled.
#[derive(Debug, Default)]
pub(crate) struct Meaning {
    /// The default store first, then the backends in the order of the file.
    pub(crate) stores: Vec<StoreSpec>,
    pub(crate) rules: Vec<Rule>,
    /// Each with a slash at both ends.
    pub(crate) bases: Vec<Bytes>,
    pub(crate) delete_range_over_stores: DeleteRangeOverStores,
    /// What `${file:PATH}` named.
    pub(crate) files: Vec<PathBuf>,
}

/// Checks everything; what is wrong is left out of the result and reported.
pub(crate) fn of(file: &FileInput, options: &ParseOptions<'_>, problems: &mut Problems) -> Meaning {
    let mut meaning = Meaning {
        bases: bases(file.registry_prefix.value(), problems),
        delete_range_over_stores: delete_range(file),
        ..Meaning::default()
    };
    default_store(file, options, &mut meaning, problems);
    let mut names = HashMap::new();
    let backends = file.backends.value().into_iter().flatten();
    for input in backends.filter_map(Field::spanned) {
        one_backend(input, options, &mut names, &mut meaning, problems);
    }
    meaning
}

fn default_store(
    file: &FileInput,
    options: &ParseOptions<'_>,
    meaning: &mut Meaning,
    problems: &mut Problems,
) {
    let given = options.default_endpoint.as_ref();
    match (file.default.spanned(), given) {
        (Some(default), Some(_)) => problems.error(
            default.at,
            "the default store is set here and by --endpoint; set it in one place only",
        ),
        (None, None) => problems.error(None, "no `default` store; set it here or with --endpoint"),
        (Some(default), None) => {
            no_matcher(&default.value, problems);
            if let Some(name) = default.value.name.spanned()
                && name.value != DEFAULT_STORE
            {
                problems.error(name.at, "the default store is always named `default`");
            }
            let spec = backend::store(default, DEFAULT_STORE, options, meaning, problems);
            meaning.stores.push(spec);
        }
        (None, Some(endpoint)) => {
            let spec = backend::from_flag(endpoint, options, meaning, problems);
            meaning.stores.push(spec);
        }
    }
    if meaning.stores.is_empty() {
        // The indexes of the backends must not shift while the reading goes on.
        meaning.stores.push(nowhere());
    }
}

/// The default store has what no backend claims.
fn no_matcher(default: &BackendInput, problems: &mut Problems) {
    for (name, at) in matcher::given(default) {
        problems.error(
            at,
            format!("`default` takes no `{name}`: it has every key that no backend claims"),
        );
    }
}

fn one_backend<'f>(
    input: &'f Spanned<BackendInput>,
    options: &ParseOptions<'_>,
    names: &mut HashMap<&'f str, Position>,
    meaning: &mut Meaning,
    problems: &mut Problems,
) {
    let name = match matcher::name(&input.value, problems) {
        Some(name) => {
            check_name(name, names, problems);
            name.value.as_str()
        }
        None => {
            problems.error(input.at, "the backend has no `name`");
            ""
        }
    };
    let spec = backend::store(input, name, options, meaning, problems);
    let Ok(index) = u16::try_from(meaning.stores.len()) else {
        problems.error(input.at, "more than 65535 backends");
        return;
    };
    meaning.stores.push(spec);
    if let Some((at, matcher)) = matcher::of(input, &meaning.bases, problems) {
        meaning.rules.push(Rule {
            store: StoreIndex(index),
            matcher,
            at,
        });
    }
}

fn check_name<'f>(name: &'f Text, names: &mut HashMap<&'f str, Position>, problems: &mut Problems) {
    const LONGEST: usize = 128;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let value = name.value.as_str();
    if value == DEFAULT_STORE {
        problems.error(
            name.at,
            "`default` is the name of the default store; a backend needs another",
        );
    } else if value.is_empty() || value.len() > LONGEST || !value.chars().all(is_plain) {
        problems.error(
            name.at,
            format!(
                "a name has 1 to {LONGEST} characters of A-Z, a-z, 0-9, `-`, `_` and `.`; \
                 {value:?} does not"
            ),
        );
    } else if let Some(first) = names.insert(value, name.at) {
        problems.error(
            name.at,
            format!("the name `{value}` is already taken on line {}", first.line),
        );
    }
}

fn delete_range(file: &FileInput) -> DeleteRangeOverStores {
    let given = file.delete_range_over_stores.value();
    given.copied().unwrap_or_default()
}

/// The registry prefixes as kube-apiserver joins them: one slash in front, and here one behind.
fn bases(prefixes: Option<&Texts>, problems: &mut Problems) -> Vec<Bytes> {
    const USUAL: &[u8] = b"/registry/";
    let Some(prefixes) = prefixes else {
        return vec![Bytes::from_static(USUAL)];
    };
    if prefixes.is_empty() {
        problems.error(None, "`registryPrefix` is an empty list");
    }
    let mut bases: Vec<Bytes> = Vec::new();
    for text in prefixes.iter() {
        let base = base(&text.value);
        let nested = |other: &Bytes| base.starts_with(other) || other.starts_with(&base[..]);
        if bases.iter().any(nested) {
            problems.error(
                text.at,
                format!("the registry prefix {} lies within another one", text.value),
            );
        } else {
            bases.push(base);
        }
    }
    bases
}

fn base(prefix: &str) -> Bytes {
    let segments: Vec<_> = prefix.split('/').filter(|part| !part.is_empty()).collect();
    match segments.as_slice() {
        [] => Bytes::from_static(b"/"),
        _ => Bytes::from(format!("/{}/", segments.join("/"))),
    }
}
