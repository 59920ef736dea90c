//! The one matcher of a backend, with every name resolved.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    fields::Text,
    input::{BackendInput, CustomInput, MatcherInput, NamespaceInput, PrefixInput, RegexpInput},
    kubernetes,
    matcher::{Matcher, Namespaces},
    problem::Problems,
    regexp::Regexp,
};

/// The backend's matcher and its line; `None` where it has none that is valid.
pub(super) fn of(
    input: &BackendInput,
    bases: &[Bytes],
    problems: &mut Problems,
) -> Option<(usize, Matcher)> {
    let [(line, matcher)] = input.matchers.as_slice() else {
        problems.error(
            input.line,
            format!(
                "{} needs exactly one of `prefix`, `regexp`, `namespace` and `customresource`; \
                 it has {}",
                named(input),
                input.matchers.len()
            ),
        );
        return None;
    };
    let matcher = match matcher {
        MatcherInput::Prefix(input) => prefix(input, *line, bases, problems),
        MatcherInput::Regexp(input) => regexp(input, *line, bases, problems),
        MatcherInput::Namespace(input) => namespace(input, *line, problems),
        MatcherInput::Custom(input) => custom(input, *line, problems),
    };
    Some((*line, matcher?))
}

fn named(input: &BackendInput) -> String {
    match &input.name {
        Some(name) => format!("backend `{}`", name.value),
        None => "a backend".into(),
    }
}

fn prefix(
    input: &PrefixInput,
    line: usize,
    bases: &[Bytes],
    problems: &mut Problems,
) -> Option<Matcher> {
    match (&input.prefix, &input.key) {
        (Some(prefix), None) => path(prefix, bases, problems).map(Matcher::Path),
        (None, Some(key)) if key.value.is_empty() => {
            problems.error(
                key.line,
                "an empty `key` would claim every key; that is the default store's part",
            );
            None
        }
        (None, Some(key)) => Some(Matcher::KeyPrefix(key.value.clone())),
        (Some(_), Some(_)) | (None, None) => {
            problems.error(line, "`prefix` needs either `prefix` or `key`");
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
            text.line,
            "`prefix` must be one or several path segments, such as `pods`",
        );
        return None;
    }
    let first = path.split('/').next().unwrap_or_default();
    if kubernetes::is_built_in_group(first) {
        problems.warning(
            text.line,
            format!(
                "the keys of {first} carry no group: name the kind itself, such as `deployments`"
            ),
        );
    }
    Some(kubernetes::directory_of_path(path))
}

fn regexp(
    input: &RegexpInput,
    line: usize,
    bases: &[Bytes],
    problems: &mut Problems,
) -> Option<Matcher> {
    if let (Some(key), Some(prefix)) = (&input.key, &input.prefix)
        && key.value != prefix.value
    {
        problems.warning(
            prefix.line,
            "`regexp.prefix` is ignored: `regexp.key` alone decides where a key lives",
        );
    }
    let Some(text) = input.key.as_ref().or(input.prefix.as_ref()) else {
        problems.error(line, "`regexp` needs a `key`");
        return None;
    };
    match Regexp::new(&text.value) {
        Ok(regexp) => {
            advise(&regexp, text.line, bases, problems);
            Some(Matcher::Regexp(Arc::new(regexp)))
        }
        Err(error) => {
            problems.error(text.line, format!("regexp: {error}"));
            None
        }
    }
}

/// Warns of what is valid and hardly meant.
fn advise(regexp: &Regexp, line: usize, bases: &[Bytes], problems: &mut Problems) {
    if let Some(anchored) = regexp.anchored_form() {
        problems.warning(
            line,
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
            line,
            format!(
                "the expression is matched against the key below {}, which it names itself",
                String::from_utf8_lossy(base)
            ),
        );
    }
    if regexp.matches_nothing() {
        problems.warning(line, "the expression matches no key");
    }
}

fn namespace(input: &NamespaceInput, line: usize, problems: &mut Problems) -> Option<Matcher> {
    if input.namespaces.is_empty() {
        problems.error(line, "`namespace` needs `namespace` or `namespaces`");
        return None;
    }
    let mut namespaces = Namespaces {
        names: Vec::new(),
        wildcards: Vec::new(),
        directories: directories(input, problems),
    };
    for text in &input.namespaces {
        match text.value.split_once('*') {
            _ if text.value.is_empty() || text.value.contains('/') => {
                problems.error(text.line, "a namespace is a name without slashes");
            }
            None => namespaces.names.push(text.value.clone()),
            Some((prefix, "")) => namespaces.wildcards.push(prefix.to_owned()),
            Some(_) => problems.error(text.line, "`*` may stand only at the end of a namespace"),
        }
    }
    Some(Matcher::Namespace(namespaces))
}

fn directories(input: &NamespaceInput, problems: &mut Problems) -> Option<Vec<String>> {
    let kinds = input.kinds.as_ref()?;
    let mut directories = Vec::new();
    for text in kinds {
        let Some(kind) = plural(text, "kinds", problems) else {
            continue;
        };
        let directory = kubernetes::directory_of_kind(kind);
        if kubernetes::is_cluster_scoped(&directory) {
            problems.warning(
                text.line,
                format!("`{kind}` lie in no namespace, so this matches none of them"),
            );
        }
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    if kinds.is_empty() {
        let line = input.namespaces.first().map(|text| text.line);
        problems.error(line, "`kinds` is empty; leave it out for all kinds");
    }
    Some(directories)
}

fn custom(input: &CustomInput, line: usize, problems: &mut Problems) -> Option<Matcher> {
    let Some(text) = &input.group else {
        problems.error(line, "`customresource` needs a `group`");
        return None;
    };
    let (group, _version) = text.value.split_once('/').unwrap_or((&text.value, ""));
    let kind = match &input.kind {
        Some(kind) => Some(plural(kind, "kind", problems)?),
        None => None,
    };
    if kind.is_some_and(|kind| kind.contains('.')) {
        problems.error(
            text.line,
            "`kind` is the plural alone; the group is in `group`",
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
        problems.error(text.line, fault);
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
    problems.error(text.line, fault);
    None
}
