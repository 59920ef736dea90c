//! The matchers of a backend as they are written.

use crate::{
    fields::{Fields, Text},
    problem::Problems,
    yaml::Node,
};

#[derive(Debug)]
pub(crate) enum MatcherInput {
    Prefix(PrefixInput),
    Regexp(RegexpInput),
    Namespace(NamespaceInput),
    Custom(CustomInput),
}

#[derive(Debug)]
pub(crate) struct PrefixInput {
    pub(crate) prefix: Option<Text>,
    pub(crate) key: Option<Text>,
}

#[derive(Debug)]
pub(crate) struct RegexpInput {
    pub(crate) key: Option<Text>,
    pub(crate) prefix: Option<Text>,
}

#[derive(Debug)]
pub(crate) struct NamespaceInput {
    pub(crate) namespaces: Vec<Text>,
    pub(crate) kinds: Option<Vec<Text>>,
}

#[derive(Debug)]
pub(crate) struct CustomInput {
    pub(crate) group: Option<Text>,
    pub(crate) kind: Option<Text>,
}

/// Takes every matcher of a backend. `name` is filled from inside a matcher where the file is in
/// the spelling of 2025.
pub(super) fn read_all(
    fields: &mut Fields<'_>,
    name: &mut Option<Text>,
    problems: &mut Problems,
) -> Vec<(usize, MatcherInput)> {
    type Read = fn(&mut Fields<'_>, &mut Problems) -> MatcherInput;
    let readers: [(&'static str, Read); 4] = [
        ("prefix", prefix),
        ("regexp", regexp),
        ("namespace", namespace),
        ("customresource", custom),
    ];
    let mut matchers = Vec::new();
    for (kind, read) in readers {
        if let Some((line, node)) = fields.take(kind)
            && let Some(matcher) = matcher(kind, node, read, name, problems)
        {
            matchers.push((line, matcher));
        }
    }
    matchers
}

fn matcher(
    kind: &str,
    node: &Node,
    read: fn(&mut Fields<'_>, &mut Problems) -> MatcherInput,
    name: &mut Option<Text>,
    problems: &mut Problems,
) -> Option<MatcherInput> {
    let mut fields = Fields::open(node, &format!("`{kind}`"), problems)?;
    let matcher = read(&mut fields, problems);
    if let Some(inner) = fields.text("name", problems) {
        match name {
            Some(outer) if outer.value != inner.value => problems.error(
                inner.line,
                format!(
                    "the name is `{}` on line {} and `{}` here",
                    outer.value, outer.line, inner.value
                ),
            ),
            Some(_) => {}
            None => *name = Some(inner),
        }
    }
    fields.finish(problems);
    Some(matcher)
}

fn prefix(fields: &mut Fields<'_>, problems: &mut Problems) -> MatcherInput {
    MatcherInput::Prefix(PrefixInput {
        prefix: fields.text("prefix", problems),
        key: fields.text("key", problems),
    })
}

fn regexp(fields: &mut Fields<'_>, problems: &mut Problems) -> MatcherInput {
    MatcherInput::Regexp(RegexpInput {
        key: fields.text("key", problems),
        prefix: fields.text("prefix", problems),
    })
}

fn namespace(fields: &mut Fields<'_>, problems: &mut Problems) -> MatcherInput {
    let one = fields.text("namespace", problems);
    let several = fields.texts("namespaces", problems);
    if let (Some(one), Some(_)) = (&one, &several) {
        problems.error(one.line, "`namespace` or `namespaces`, not both");
    }
    MatcherInput::Namespace(NamespaceInput {
        namespaces: several.or(one.map(|one| vec![one])).unwrap_or_default(),
        kinds: fields.texts("kinds", problems),
    })
}

fn custom(fields: &mut Fields<'_>, problems: &mut Problems) -> MatcherInput {
    MatcherInput::Custom(CustomInput {
        group: fields.text("group", problems),
        kind: fields.text("kind", problems),
    })
}
