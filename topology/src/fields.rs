//! Typed reading of one mapping: takes fields by name, and at the end whatever nobody asked for is
//! an error, with the name that was probably meant.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use crate::{
    duration,
    problem::Problems,
    yaml::{Entry, Node, Value},
};

/// A piece of text and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) value: String,
    pub(crate) line: usize,
}

/// One mapping while its fields are taken.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    /// The line of the mapping.
    pub(crate) line: usize,
    /// How messages call the mapping.
    owner: String,
    entries: Vec<&'a Entry>,
    /// Every name that was asked for: what is known here.
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Says so and gives nothing where `node` is not a mapping.
    pub(crate) fn open(node: &'a Node, owner: &str, problems: &mut Problems) -> Option<Self> {
        let entries = match &node.value {
            Value::Map(entries) => entries.iter().collect(),
            Value::Null => Vec::new(),
            Value::Scalar(_) | Value::List(_) => {
                problems.error(node.line, format!("{owner} must be a mapping of fields"));
                return None;
            }
        };
        Some(Self {
            line: node.line,
            owner: owner.to_owned(),
            entries,
            known: Vec::new(),
        })
    }

    /// The field's value with the line of its name; a field without a value counts as absent.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<(usize, &'a Rc<Node>)> {
        self.known.push(name);
        let at = self.entries.iter().position(|entry| entry.name == name)?;
        let entry = self.entries.remove(at);
        (!matches!(entry.node.value, Value::Null)).then_some((entry.line, &entry.node))
    }

    pub(crate) fn text(&mut self, name: &'static str, problems: &mut Problems) -> Option<Text> {
        let (_, node) = self.take(name)?;
        text_of(node, name, problems)
    }

    /// One text or a list of texts; `None` where the field is absent.
    pub(crate) fn texts(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
    ) -> Option<Vec<Text>> {
        let (_, node) = self.take(name)?;
        let Value::List(items) = &node.value else {
            return text_of(node, name, problems).map(|text| vec![text]);
        };
        let texts = items.iter().filter_map(|i| text_of(i, name, problems));
        Some(texts.collect())
    }

    pub(crate) fn flag(&mut self, name: &'static str, problems: &mut Problems) -> Option<bool> {
        let text = self.text(name, problems)?;
        match text.value.as_str() {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => {
                problems.error(text.line, format!("`{name}` must be true or false"));
                None
            }
        }
    }

    /// A whole number above zero.
    pub(crate) fn count(&mut self, name: &'static str, problems: &mut Problems) -> Option<u32> {
        let text = self.text(name, problems)?;
        match text.value.parse() {
            Ok(number) if number > 0 => Some(number),
            _ => {
                problems.error(
                    text.line,
                    format!("`{name}` must be a whole number above 0"),
                );
                None
            }
        }
    }

    pub(crate) fn duration(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
    ) -> Option<Duration> {
        let text = self.text(name, problems)?;
        let read = duration::parse(&text.value);
        if read.is_none() {
            problems.error(
                text.line,
                format!("`{name}` must be a duration such as `30s` or `5m`"),
            );
        }
        read
    }

    /// Free names with texts.
    pub(crate) fn labels(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
    ) -> BTreeMap<String, String> {
        let Some((line, node)) = self.take(name) else {
            return BTreeMap::new();
        };
        let Value::Map(entries) = &node.value else {
            problems.error(
                line,
                format!("`{name}` must be a mapping of names to texts"),
            );
            return BTreeMap::new();
        };
        let read = |entry: &Entry| match &entry.node.value {
            Value::Null => Some((entry.name.clone(), String::new())),
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
                let text = text_of(&entry.node, &entry.name, problems)?;
                Some((entry.name.clone(), text.value))
            }
        };
        entries.iter().filter_map(read).collect()
    }

    /// Reports every field that nobody asked for.
    pub(crate) fn finish(self, problems: &mut Problems) {
        for entry in &self.entries {
            let mut text = format!("unknown field `{}` in {}", entry.name, self.owner);
            if let Some(name) = nearest(&entry.name, &self.known) {
                text.push_str(&format!("; did you mean `{name}`?"));
            }
            problems.error(entry.line, text);
        }
    }
}

fn text_of(node: &Node, name: &str, problems: &mut Problems) -> Option<Text> {
    match &node.value {
        Value::Scalar(value) => Some(Text {
            value: value.clone(),
            line: node.line,
        }),
        Value::Null | Value::List(_) | Value::Map(_) => {
            problems.error(node.line, format!("`{name}` must be a text"));
            None
        }
    }
}

/// The known name that differs in spelling least, if it differs little.
pub(crate) fn nearest<'n>(wrong: &str, known: &[&'n str]) -> Option<&'n str> {
    let wrong = wrong.to_lowercase();
    let scored = known.iter().map(|name| (distance(&wrong, name), *name));
    let (distance, name) = scored.min()?;
    (distance <= 2 && distance < name.len()).then_some(name)
}

/// Insertions, removals and replacements between the two, in lower case (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.chars().count()).collect();
    for (line, right) in b.to_lowercase().chars().enumerate() {
        let mut corner = line;
        let mut before = line + 1;
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (cell, left) in row.iter_mut().skip(1).zip(a.chars()) {
            let replaced = corner + usize::from(left != right);
            corner = *cell;
            *cell = replaced.min(corner + 1).min(before + 1);
            before = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}
