//! The one matcher of a backend, with every name resolved.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    input::{BackendInput, CustomInput, NamespaceInput, PrefixInput, RegexpInput},
    kubernetes,
    matcher::{Matcher, Namespaces},
    problem::{Position, Problems},
    regexp::Regexp,
    spanned::{Spanned, Text},
};

/// The backend's matcher and where it stands; `None` where it has none that is valid.
pub(super) fn of(
    input: &Spanned<BackendInput>,
    bases: &[Bytes],
    problems: &mut Problems,
) -> Option<(Position, Matcher)> {
    let found = given(&input.value);
    let [(_, at)] = found.as_slice() else {
        problems.error(
            input.at,
            format!(
                "{} needs exactly one of `prefix`, `regexp`, `namespace` and `customresource`; \
                 it has {}",
                named(&input.value),
                found.len()
            ),
        );
        return None;
    };
    let at = *at;
    let input = &input.value;
    let matcher = if let Some(input) = input.prefix.value() {
        prefix(input, at, bases, problems)
    } else if let Some(input) = input.regexp.value() {
        regexp(input, at, bases, problems)
    } else if let Some(input) = input.namespace.value() {
        namespace(input, at, problems)
    } else {
        custom(input.customresource.value()?, at, problems)
    };
    Some((at, matcher?))
}

/// Every matcher of a backend: its name and where it stands.
pub(super) fn given(input: &BackendInput) -> Vec<(&'static str, Position)> {
    let matchers = [
        ("prefix", input.prefix.at()),
        ("regexp", input.regexp.at()),
        ("namespace", input.namespace.at()),
        ("customresource", input.customresource.at()),
    ];
    let given = matchers.into_iter();
    given.filter_map(|(name, at)| Some((name, at?))).collect()
}

/// The backend's name, which the spelling of 2025 has inside of the matcher.
pub(super) fn name<'f>(input: &'f BackendInput, problems: &mut Problems) -> Option<&'f Text> {
    let inner = [
        input.prefix.value().map(|matcher| &matcher.name),
        input.regexp.value().map(|matcher| &matcher.name),
        input.namespace.value().map(|matcher| &matcher.name),
        input.customresource.value().map(|matcher| &matcher.name),
    ];
    let mut name = input.name.spanned();
    for inner in inner
        .into_iter()
        .flatten()
        .filter_map(|name| name.spanned())
    {
        match name {
            Some(outer) if outer.value != inner.value => problems.error(
                inner.at,
                format!(
                    "the name is `{}` on line {} and `{}` here",
                    outer.value, outer.at.line, inner.value
                ),
            ),
            Some(_) => {}
            None => name = Some(inner),
        }
    }
    name
}

fn named(input: &BackendInput) -> String {
    match input.name.value() {
        Some(name) => format!("backend `{name}`"),
        None => "a backend".into(),
    }
}

fn prefix(
    input: &PrefixInput,
    at: Position,
    bases: &[Bytes],
    problems: &mut Problems,
) -> Option<Matcher> {
    match (input.prefix.spanned(), input.key.spanned()) {
        (Some(prefix), None) => path(prefix, bases, problems).map(Matcher::Path),
        (None, Some(key)) if key.value.is_empty() => {
            problems.error(
                key.at,
                "an empty `key` would claim every key; use the default store for that",
            );
            None
        }
        (None, Some(key)) => Some(Matcher::KeyPrefix(key.value.clone())),
        (Some(_), Some(_)) | (None, None) => {
            problems.error(at, "`prefix` needs either `prefix` or `key`");
            None
        }
    }
}

/// Slashes at the ends and the registry prefix in front change nothing.
fn path(text: &Text, bases: &[Bytes], problems: &mut Problems) -> Option<String> {
    let with_slash = format!("{}/", text.value);
    let below = bases.iter().find_map(|base| {
        let base = std::str::from_utf8(base).ok()?;
        with_slash.strip_prefix(base).filter(|_| base != "/")
    });
    let path = below.unwrap_or(&text.value).trim_matches('/');
    if path.is_empty() || path.contains("//") {
        problems.error(
            text.at,
            "`prefix` must be one or several path segments, such as `pods`",
        );
        return None;
    }
    let first = path.split('/').next().unwrap_or_default();
    if kubernetes::is_built_in_group(first) {
        problems.warning(
            text.at,
            format!(
                "the keys of {first} carry no group: name the kind itself, such as `deployments`"
            ),
        );
    }
    Some(kubernetes::directory_of_path(path))
}

fn regexp(
    input: &RegexpInput,
    at: Position,
    bases: &[Bytes],
    problems: &mut Problems,
) -> Option<Matcher> {
    if let (Some(key), Some(prefix)) = (input.key.spanned(), input.prefix.spanned())
        && key.value != prefix.value
    {
        problems.warning(
            prefix.at,
            "`regexp.prefix` is ignored: `regexp.key` alone decides where a key lives",
        );
    }
    let Some(text) = input.key.spanned().or(input.prefix.spanned()) else {
        problems.error(at, "`regexp` needs a `key`");
        return None;
    };
    match Regexp::new(&text.value) {
        Ok(regexp) => {
            advise(&regexp, text.at, bases, problems);
            Some(Matcher::Regexp(Arc::new(regexp)))
        }
        Err(error) => {
            problems.error(text.at, format!("regexp: {error}"));
            None
        }
    }
}

/// Warns of what is valid and hardly meant.
fn advise(regexp: &Regexp, at: Position, bases: &[Bytes], problems: &mut Problems) {
    if let Some(anchored) = regexp.anchored_form() {
        problems.warning(
            at,
            format!(
                "the expression is not anchored: it can match in any range, so every list and \
                 watch asks this store; `{anchored}` would not"
            ),
        );
    }
    let names_base = |base: &&Bytes| {
        let base = String::from_utf8_lossy(base);
        let pattern = regexp.pattern().trim_start_matches(['^', '(']);
        base.len() > 1 && pattern.starts_with(base.as_ref())
    };
    if let Some(base) = bases.iter().find(names_base) {
        problems.warning(
            at,
            format!(
                "the expression is matched against the key below {0}; remove {0} from the expression",
                String::from_utf8_lossy(base)
            ),
        );
    }
    if regexp.matches_nothing() {
        problems.warning(at, "the expression matches no key");
    }
}

fn namespace(input: &NamespaceInput, at: Position, problems: &mut Problems) -> Option<Matcher> {
    let texts = namespace_texts(input, problems);
    if texts.is_empty() {
        problems.error(at, "`namespace` needs `namespace` or `namespaces`");
        return None;
    }
    let mut namespaces = Namespaces {
        names: Vec::new(),
        wildcards: Vec::new(),
        directories: directories(input, &texts, problems),
    };
    for text in texts {
        match text.value.split_once('*') {
            _ if text.value.is_empty() || text.value.contains('/') => {
                problems.error(text.at, "a namespace is a name without slashes");
            }
            None => namespaces.names.push(text.value.clone()),
            Some((prefix, "")) => namespaces.wildcards.push(prefix.to_owned()),
            Some(_) => problems.error(text.at, "`*` may stand only at the end of a namespace"),
        }
    }
    Some(Matcher::Namespace(namespaces))
}

fn namespace_texts<'f>(input: &'f NamespaceInput, problems: &mut Problems) -> Vec<&'f Text> {
    if let (Some(at), Some(_)) = (input.namespace.at(), input.namespaces.at()) {
        problems.error(at, "`namespace` or `namespaces`, not both");
    }
    match input.namespaces.value() {
        Some(several) => several.iter().collect(),
        None => input.namespace.spanned().into_iter().collect(),
    }
}

fn directories(
    input: &NamespaceInput,
    namespaces: &[&Text],
    problems: &mut Problems,
) -> Option<Vec<String>> {
    let kinds = input.kinds.value()?;
    let mut directories = Vec::new();
    for text in kinds.iter() {
        let Some(kind) = plural(text, "kinds", problems) else {
            continue;
        };
        let directory = kubernetes::directory_of_kind(kind);
        if kubernetes::is_cluster_scoped(&directory) {
            problems.warning(
                text.at,
                format!("`{kind}` are cluster-scoped, so this matches none of them"),
            );
        }
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    if kinds.is_empty() {
        let at = namespaces.first().map(|text| text.at);
        problems.error(at, "`kinds` is empty; leave it out for all kinds");
    }
    Some(directories)
}

fn custom(input: &CustomInput, at: Position, problems: &mut Problems) -> Option<Matcher> {
    let Some(text) = input.group.spanned() else {
        problems.error(at, "`customresource` needs a `group`");
        return None;
    };
    let (group, _version) = text.value.split_once('/').unwrap_or((&text.value, ""));
    let kind = match input.kind.spanned() {
        Some(kind) => Some(plural(kind, "kind", problems)?),
        None => None,
    };
    if kind.is_some_and(|kind| kind.contains('.')) {
        problems.error(
            text.at,
            "`kind` takes the plural without the group; put the group into `group`",
        );
        return None;
    }
    if kubernetes::is_built_in_group(group) || !group.contains('.') {
        let hint = kind.map_or_else(String::new, |kind| {
            format!("; use `prefix: {{prefix: {kind}}}`")
        });
        let fault = if kubernetes::is_built_in_group(group) {
            format!("{group} is a built-in group, and keys of built-in kinds carry no group{hint}")
        } else {
            "the group of a custom resource has a dot, such as `stable.example.com`".into()
        };
        problems.error(text.at, fault);
        return None;
    }
    Some(Matcher::CustomResource(match kind {
        Some(kind) => format!("{group}/{kind}"),
        None => group.to_owned(),
    }))
}

/// The plural of a kind, as it stands in keys.
fn plural<'t>(text: &'t Text, field: &str, problems: &mut Problems) -> Option<&'t str> {
    let value = text.value.as_str();
    let fault = if value.is_empty() || value.contains('/') {
        format!("`{field}` takes a plural such as `pods`")
    } else if value.chars().any(|c| c.is_ascii_uppercase()) {
        format!(
            "`{field}` takes the plural in lower case, such as `{}s`, not `{value}`",
            value.to_lowercase()
        )
    } else {
        return Some(value);
    };
    problems.error(text.at, fault);
    None
}
