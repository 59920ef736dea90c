//! The arguments of database URLs: only known ones, with known values.

use std::collections::BTreeMap;

use crate::problem::nearest;

/// One argument that a kind of database takes.
#[derive(Debug)]
pub(super) struct Argument {
    pub(super) name: &'static str,
    /// Other spellings of it.
    pub(super) aliases: &'static [&'static str],
    pub(super) values: Values,
}

/// What an argument may be set to.
#[derive(Debug)]
pub(super) enum Values {
    Any,
    Number,
    Flag,
    /// One of these, in any case.
    OneOf(&'static [&'static str]),
}

pub(super) const fn argument(name: &'static str, values: Values) -> Argument {
    Argument {
        name,
        aliases: &[],
        values,
    }
}

/// Reads `a=b&c=d` into canonical names; gives every fault. No message repeats a value.
pub(super) fn read(
    query: Option<&str>,
    known: &[Argument],
) -> (BTreeMap<String, String>, Vec<String>) {
    let mut arguments = BTreeMap::new();
    let mut faults = Vec::new();
    // As in forms: what Go's reader of queries does too.
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let Some(argument) = known.iter().find(|argument| argument.is(&name)) else {
            faults.push(unknown(&name, known));
            continue;
        };
        if let Some(fault) = argument.fault(&value) {
            faults.push(fault);
        }
        if arguments
            .insert(argument.name.to_owned(), value.into_owned())
            .is_some()
        {
            faults.push(format!("argument `{}` is given twice", argument.name));
        }
    }
    (arguments, faults)
}

fn unknown(name: &str, known: &[Argument]) -> String {
    let names: Vec<_> = known.iter().map(|argument| argument.name).collect();
    match nearest(name, &names) {
        Some(near) => format!("unknown argument `{name}`; did you mean `{near}`?"),
        None => format!("unknown argument `{name}`; known are {}", names.join(", ")),
    }
}

impl Argument {
    fn is(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }

    fn fault(&self, value: &str) -> Option<String> {
        let name = self.name;
        match self.values {
            Values::Any => None,
            Values::Number => value
                .parse::<i64>()
                .is_err()
                .then(|| format!("argument `{name}` must be a whole number")),
            Values::Flag => (!matches!(value, "true" | "false" | "1" | "0"))
                .then(|| format!("argument `{name}` must be true or false")),
            Values::OneOf(values) => {
                let known = values.iter().any(|known| known.eq_ignore_ascii_case(value));
                (!known).then(|| format!("argument `{name}` must be one of {}", values.join(", ")))
            }
        }
    }
}

/// `?a=b&c=d`, or nothing.
pub(super) fn show(arguments: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    for (name, value) in arguments {
        out.push(if out.is_empty() { '?' } else { '&' });
        out.push_str(&format!("{name}={}", super::url::encode(value)));
    }
    out
}
