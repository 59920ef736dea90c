//! YAML text to a tree that knows the position of everything in it.
//!
//! A deserializer that reads the text itself stops at the first mistake; from a tree the reading
//! goes on and reports every problem at once. The tree is built from the parser's events without
//! recursion, so that no input can exhaust the stack.

use std::{collections::HashMap, rc::Rc};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use crate::problem::{Position, Problems};

/// Deeper than any topology file has a reason to be.
const MAX_DEPTH: usize = 64;

/// A value and where it begins.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`, not quoted.
    Null,
    /// Any other scalar as it is written: the reader of a field knows what type it wants.
    Scalar(String),
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// One field of a mapping.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// Where the name stands.
    pub(crate) at: Position,
    pub(crate) node: Rc<Node>,
}

/// The file's one document; `None` where it is empty or cannot be read at all.
pub(crate) fn read(text: &str, problems: &mut Problems) -> Option<Rc<Node>> {
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text.trim_start_matches('\u{feff}')) {
        let step = match event {
            Ok((event, span)) => tree.step(event, span, problems),
            Err(error) => Err((position(*error.marker()), error.info().to_owned())),
        };
        if let Err((at, text)) = step {
            problems.error(at, format!("not YAML: {text}"));
            return None;
        }
    }
    tree.root
}

/// The tree while it grows.
#[derive(Default)]
struct Tree {
    root: Option<Rc<Node>>,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    documents: usize,
}

/// A list or mapping whose end has not come yet.
struct Open {
    at: Position,
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Rc<Node>>),
    Map {
        entries: Vec<Entry>,
        key: Option<(String, Position)>,
    },
}

type Step = Result<(), (Position, String)>;

impl Tree {
    fn step(&mut self, event: Event<'_>, span: Span, problems: &mut Problems) -> Step {
        let at = position(span.start);
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let value = scalar(text.into_owned(), style);
                self.finished(anchor, Node { at, value }, problems)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => self.place(node, at, problems),
                None => Err((at, "an alias refers to a value that contains it".into())),
            },
            Event::SequenceStart(anchor, _) => self.open(at, anchor, Kind::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                let entries = Vec::new();
                self.open(at, anchor, Kind::Map { entries, key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(problems),
            Event::DocumentStart(_) => {
                self.documents += 1;
                match self.documents {
                    1 => Ok(()),
                    _ => Err((at, "a second document; a topology file has one".into())),
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn open(&mut self, at: Position, anchor: usize, kind: Kind) -> Step {
        if self.open.len() >= MAX_DEPTH {
            return Err((at, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        self.open.push(Open { at, anchor, kind });
        Ok(())
    }

    fn close(&mut self, problems: &mut Problems) -> Step {
        let Some(Open { at, anchor, kind }) = self.open.pop() else {
            return Ok(());
        };
        let value = match kind {
            Kind::List(items) => Value::List(items),
            Kind::Map { entries, .. } => Value::Map(entries),
        };
        self.finished(anchor, Node { at, value }, problems)
    }

    fn finished(&mut self, anchor: usize, node: Node, problems: &mut Problems) -> Step {
        let (at, node) = (node.at, Rc::new(node));
        // The parser counts anchors from 1.
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.place(node, at, problems)
    }

    /// Puts a complete node where it belongs: into the list or mapping that is open.
    fn place(&mut self, node: Rc<Node>, at: Position, problems: &mut Problems) -> Step {
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(Kind::List(items)) => items.push(node),
            Some(Kind::Map { entries, key }) => match key.take() {
                Some((name, at)) => add(entries, Entry { name, at, node }, problems),
                None => *key = Some((field_name(&node)?, at)),
            },
        }
        Ok(())
    }
}

/// Both counted from 1, as editors do.
fn position(marker: Marker) -> Position {
    Position {
        line: marker.line(),
        column: marker.col() + 1,
    }
}

fn scalar(text: String, style: ScalarStyle) -> Value {
    let plain = matches!(style, ScalarStyle::Plain);
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
        _ => Value::Scalar(text),
    }
}

fn field_name(node: &Node) -> Result<String, (Position, String)> {
    match &node.value {
        Value::Scalar(text) => Ok(text.clone()),
        Value::Null | Value::List(_) | Value::Map(_) => {
            Err((node.at, "a field's name must be plain text".into()))
        }
    }
}

fn add(entries: &mut Vec<Entry>, entry: Entry, problems: &mut Problems) {
    match entries.iter().find(|other| other.name == entry.name) {
        Some(first) => problems.error(
            entry.at,
            format!("`{}` is already set on line {}", entry.name, first.at.line),
        ),
        None => entries.push(entry),
    }
}
