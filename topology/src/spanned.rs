//! Fields of the input types: a value, and where it stands in the file.
//!
//! A field reads leniently: what is wrong with its value is reported by the [`Reader`], and the
//! field counts as absent, so that one reading finds every problem of a file. Types that are read
//! so still derive `Deserialize`, `Serialize` and `JsonSchema` as usual.
//!
//! [`Reader`]: crate::reader::Reader

use std::{borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};

use crate::problem::Position;

/// Under these names the reader gives a value with its position, and a lone value as a list.
pub(crate) const FIELD: &str = "$field";
pub(crate) const ONE_OR_MANY: &str = "$one-or-many";

/// A value and where it stands: a mapping at the name of its field, anything else at the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) at: Position,
}

/// A text and where it stands.
pub(crate) type Text = Spanned<String>;

/// A field that may be absent: not given, without a value, or with one that cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct Field<T>(pub(crate) Option<Spanned<T>>);

/// One text or a list of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts(Vec<Field<String>>);

/// A field that is known and has no effect: any value is taken. `S` is what the schema says of it.
#[derive(Debug)]
pub(crate) struct Unused<S>(PhantomData<S>);

// === impl Field ===

impl<T> Field<T> {
    /// For a file that is written: nobody asks where its fields stand.
    pub(crate) fn of(value: T) -> Self {
        let at = Position::default();
        Self(Some(Spanned { value, at }))
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn value(&self) -> Option<&T> {
        self.0.as_ref().map(|spanned| &spanned.value)
    }

    pub(crate) fn spanned(&self) -> Option<&Spanned<T>> {
        self.0.as_ref()
    }

    pub(crate) fn at(&self) -> Option<Position> {
        self.0.as_ref().map(|spanned| spanned.at)
    }
}

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> From<Option<T>> for Field<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or_else(Self::default, Self::of)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(FIELD, FieldVisitor(PhantomData))
    }
}

/// Takes nothing, or a sequence of line, column and value.
struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value with its position")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Field(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let at = Position {
            line: seq.next_element()?.unwrap_or_default(),
            column: seq.next_element()?.unwrap_or_default(),
        };
        // What is wrong with the value was reported where it stands.
        let value = seq.next_element().ok().flatten();
        Ok(Field(value.map(|value| Spanned { value, at })))
    }
}

impl<T: Serialize> Serialize for Field<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

// === impl Texts ===

impl Texts {
    pub(crate) fn of(texts: impl IntoIterator<Item = String>) -> Self {
        Self(texts.into_iter().map(Field::of).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Text> {
        self.0.iter().filter_map(Field::spanned)
    }

    /// Whether the list has no items, not even ones that cannot be read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(ONE_OR_MANY, TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one text or a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = seq.next_element()? {
            texts.push(text);
        }
        Ok(Texts(texts))
    }
}

impl Serialize for Texts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|text| &text.value))
    }
}

impl JsonSchema for Texts {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "texts".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}},
            ],
        })
    }
}

// === impl Unused ===

impl<'de, S> Deserialize<'de> for Unused<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(PhantomData))
    }
}

impl<T> Serialize for Unused<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<S: JsonSchema> JsonSchema for Unused<S> {
    fn inline_schema() -> bool {
        S::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        S::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        S::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        S::json_schema(generator)
    }
}
