//! Serde's view of the tree: the input types of `input.rs` are read through it, and everything that
//! is wrong with a file is reported here, at its position.
//!
//! Each problem is reported by the innermost value that has it. [`Field`] then leaves the value out
//! and the reading goes on.
//!
//! [`Field`]: crate::spanned::Field

use std::{cell::RefCell, fmt, rc::Rc, slice};

use serde::{
    Deserialize,
    de::{
        DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::StrDeserializer,
    },
    forward_to_deserialize_any,
};

use crate::{
    problem::{Position, Problems, nearest},
    spanned,
    yaml::{Entry, Node, Value},
};

/// Reads a whole document; an empty one is a mapping without fields. `None` where it is no mapping.
pub(crate) fn read<'de, T: Deserialize<'de>>(
    node: &'de Node,
    problems: &mut Problems,
) -> Option<T> {
    let shared = RefCell::new(std::mem::take(problems));
    let root = Reader {
        node,
        at: node.at,
        role: Role::Root,
        problems: &shared,
    };
    let read = T::deserialize(root);
    *problems = shared.into_inner();
    read.ok()
}

/// One value of the file, to be read as whatever the types ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'de, 'p> {
    node: &'de Node,
    /// Where the field's name stands, or the value where it has none.
    at: Position,
    role: Role<'de>,
    problems: &'p RefCell<Problems>,
}

/// What a value is to the value around it.
#[derive(Clone, Copy, Debug)]
enum Role<'de> {
    Root,
    /// The value of the field of this name.
    Field(&'de str),
    /// One of the list in the field of this name.
    Item(&'de str),
}

/// Why a value could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// What a value must be: the end of a sentence that begins with its field's name.
    #[error("{0}")]
    Must(String),
    /// Everything is said already.
    #[error("reported")]
    Reported,
}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::Must(text.to_string())
    }
}

type Read<T> = Result<T, Fault>;

impl<'de, 'p> Reader<'de, 'p> {
    /// Reports `text` at the value.
    fn refuse<T>(&self, text: String) -> Read<T> {
        self.problems.borrow_mut().error(self.node.at, text);
        Err(Fault::Reported)
    }

    fn must<T>(&self, what: &str) -> Read<T> {
        let text = match self.role {
            Role::Root => format!("the topology {what}"),
            Role::Field(name) | Role::Item(name) => format!("`{name}` {what}"),
        };
        self.refuse(text)
    }

    /// Reports what is not reported yet.
    fn checked<T>(&self, read: Read<T>) -> Read<T> {
        match read {
            Err(Fault::Must(what)) => self.must(&what),
            Ok(_) | Err(Fault::Reported) => read,
        }
    }

    fn scalar(&self, what: &str) -> Read<&'de str> {
        match &self.node.value {
            Value::Scalar(text) => Ok(text),
            Value::Null | Value::List(_) | Value::Map(_) => self.must(what),
        }
    }

    /// What messages call the mapping, whose type has the name `kind`.
    fn owner(&self, kind: &str) -> String {
        match self.role {
            Role::Root => format!("the {kind}"),
            Role::Field(name) => format!("`{name}`"),
            Role::Item(_) => match self.name_of_item() {
                Some(name) => format!("{kind} `{name}`"),
                None => format!("a {kind}"),
            },
        }
    }

    fn name_of_item(&self) -> Option<&'de str> {
        let Value::Map(entries) = &self.node.value else {
            return None;
        };
        let name = entries.iter().find(|entry| entry.name == "name")?;
        match &name.node.value {
            Value::Scalar(name) => Some(name),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    fn entries(&self, must: impl FnOnce() -> String) -> Read<&'de [Entry]> {
        match &self.node.value {
            Value::Map(entries) => Ok(entries),
            Value::Null => Ok(&[]),
            Value::Scalar(_) | Value::List(_) => self.refuse(must()),
        }
    }

    fn items<V: Visitor<'de>>(self, items: &'de [Rc<Node>], visitor: V) -> Read<V::Value> {
        let name = match self.role {
            Role::Root => "",
            Role::Field(name) | Role::Item(name) => name,
        };
        let read = visitor.visit_seq(Items {
            items: items.iter(),
            name,
            problems: self.problems,
        });
        self.checked(read)
    }

    /// Reports the field with the name that was probably meant.
    fn unknown(&self, entry: &Entry, owner: &str, known: &[&'static str]) {
        let mut text = format!("unknown field `{}` in {owner}", entry.name);
        if let Some(name) = nearest(&entry.name, known) {
            text.push_str(&format!("; did you mean `{name}`?"));
        }
        self.problems.borrow_mut().error(entry.at, text);
    }
}

impl<'de> Deserializer<'de> for Reader<'de, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        let text = self.scalar("must be a text")?;
        self.checked(visitor.visit_borrowed_str(text))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        const MUST: &str = "must be true or false";
        let value = match self.scalar(MUST)? {
            "true" | "True" | "TRUE" => true,
            "false" | "False" | "FALSE" => false,
            _ => return self.must(MUST),
        };
        self.checked(visitor.visit_bool(value))
    }

    /// The one type of number in the file is a count.
    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        const MUST: &str = "must be a whole number above 0";
        match self.scalar(MUST)?.parse() {
            Ok(number) if number > 0 => self.checked(visitor.visit_u32(number)),
            _ => self.must(MUST),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        let must = format!("must be {}", variants.join(" or "));
        match self.scalar(&must)? {
            text if variants.contains(&text) => {
                let name: StrDeserializer<'_, Fault> = text.into_deserializer();
                self.checked(visitor.visit_enum(name))
            }
            _ => self.must(&must),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Read<V::Value> {
        let is_item = matches!(self.role, Role::Item(_));
        match (name, &self.node.value) {
            (spanned::FIELD, Value::Null) if !is_item => visitor.visit_unit(),
            (spanned::FIELD, _) => visitor.visit_seq(Positioned {
                reader: self,
                given: 0,
            }),
            (spanned::ONE_OR_MANY, Value::List(items)) => self.items(items, visitor),
            (spanned::ONE_OR_MANY, _) => {
                let read = visitor.visit_seq(One(Some(self)));
                self.checked(read)
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        match &self.node.value {
            Value::List(items) => self.items(items, visitor),
            Value::Null | Value::Scalar(_) | Value::Map(_) => self.must("must be a list"),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        let entries = match &self.node.value {
            Value::Map(entries) => entries.iter().collect(),
            _ => return self.must("must be a mapping of names to texts"),
        };
        self.checked(visitor.visit_map(Entries::new(entries, self.problems)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        kind: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Read<V::Value> {
        let owner = self.owner(kind);
        let entries = self.entries(|| format!("{owner} must be a mapping of fields"))?;
        let (known, unknown): (Vec<_>, Vec<_>) = entries
            .iter()
            .partition(|entry| fields.contains(&entry.name.as_str()));
        for entry in unknown {
            self.unknown(entry, &owner, fields);
        }
        self.checked(visitor.visit_map(Entries::new(known, self.problems)))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Read<V::Value> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 f64 char string bytes byte_buf option unit
        unit_struct tuple tuple_struct identifier
    }
}

/// The fields of a mapping.
struct Entries<'de, 'p> {
    rest: std::vec::IntoIter<&'de Entry>,
    /// Whose name was read last.
    current: Option<&'de Entry>,
    problems: &'p RefCell<Problems>,
}

impl<'de, 'p> Entries<'de, 'p> {
    fn new(entries: Vec<&'de Entry>, problems: &'p RefCell<Problems>) -> Self {
        Self {
            rest: entries.into_iter(),
            current: None,
            problems,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'de, '_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Read<Option<K::Value>> {
        self.current = self.rest.next();
        let name = self.current.map(|entry| entry.name.as_str());
        let read = name.map(|name| {
            let name: StrDeserializer<'_, Fault> = name.into_deserializer();
            seed.deserialize(name)
        });
        read.transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Read<V::Value> {
        let Some(entry) = self.current.take() else {
            return Err(Fault::Must("has a value without a name".into()));
        };
        seed.deserialize(Reader {
            node: &entry.node,
            at: entry.at,
            role: Role::Field(&entry.name),
            problems: self.problems,
        })
    }
}

/// The items of a list.
struct Items<'de, 'p> {
    items: slice::Iter<'de, Rc<Node>>,
    /// Of the field that has the list.
    name: &'de str,
    problems: &'p RefCell<Problems>,
}

impl<'de> SeqAccess<'de> for Items<'de, '_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Read<Option<T::Value>> {
        let read = self.items.next().map(|node| {
            seed.deserialize(Reader {
                node,
                at: node.at,
                role: Role::Item(self.name),
                problems: self.problems,
            })
        });
        read.transpose()
    }
}

/// A lone value where a list can stand.
struct One<'de, 'p>(Option<Reader<'de, 'p>>);

impl<'de> SeqAccess<'de> for One<'de, '_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Read<Option<T::Value>> {
        let read = self.0.take().map(|reader| seed.deserialize(reader));
        read.transpose()
    }
}

/// Line, column, value.
struct Positioned<'de, 'p> {
    reader: Reader<'de, 'p>,
    given: usize,
}

impl<'de> SeqAccess<'de> for Positioned<'de, '_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Read<Option<T::Value>> {
        let reader = self.reader;
        let at = match reader.node.value {
            Value::Map(_) => reader.at,
            Value::Null | Value::Scalar(_) | Value::List(_) => reader.node.at,
        };
        self.given += 1;
        let read = match self.given {
            1 => seed.deserialize(IntoDeserializer::<Fault>::into_deserializer(at.line)),
            2 => seed.deserialize(IntoDeserializer::<Fault>::into_deserializer(at.column)),
            3 => reader.checked(seed.deserialize(reader)),
            _ => return Ok(None),
        };
        read.map(Some)
    }
}
