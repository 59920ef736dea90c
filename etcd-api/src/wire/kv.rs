//! One `mvccpb.KeyValue`, still encoded.

use bytes::Bytes;

use super::{
    Rewrite, WireError,
    read::{Field, Reader},
    rewrite, schema,
};

pub(super) const KEY: u32 = 1;
pub(super) const CREATE_REVISION: u32 = 2;
pub(super) const MOD_REVISION: u32 = 3;
pub(super) const VERSION: u32 = 4;
pub(super) const VALUE: u32 = 5;
pub(super) const LEASE: u32 = 6;

/// A `KeyValue` as it arrived. Both parts share the buffer of the answer.
///
/// Joining answers needs only keys, so only the key is kept; each other field is read from the
/// bytes when asked for, which costs a walk over at most six tags. To sort by such a field, use
/// [`slice::sort_by_cached_key`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RawKv {
    pub key: Bytes,
    /// The whole message, `key` included.
    pub encoded: Bytes,
}

impl RawKv {
    /// # Errors
    /// Where `encoded` is not a `KeyValue`.
    pub fn parse(encoded: Bytes) -> Result<Self, WireError> {
        let mut key = Bytes::new();
        let mut reader = Reader::new(&encoded);
        while let Some(field) = reader.next()? {
            match field.number {
                KEY => key = field.slice(&encoded)?,
                CREATE_REVISION | MOD_REVISION | VERSION | LEASE => {
                    field.varint()?;
                }
                VALUE => {
                    field.content()?;
                }
                _ => {}
            }
        }
        Ok(Self { key, encoded })
    }

    #[must_use]
    pub fn create_revision(&self) -> i64 {
        self.int64(CREATE_REVISION)
    }

    #[must_use]
    pub fn mod_revision(&self) -> i64 {
        self.int64(MOD_REVISION)
    }

    #[must_use]
    pub fn version(&self) -> i64 {
        self.int64(VERSION)
    }

    #[must_use]
    pub fn lease(&self) -> i64 {
        self.int64(LEASE)
    }

    #[must_use]
    pub fn value(&self) -> Bytes {
        self.last(VALUE)
            .and_then(|field| field.slice(&self.encoded).ok())
            .unwrap_or_default()
    }

    /// The encoded message with its revisions rewritten.
    ///
    /// # Errors
    /// None for what [`RawKv::parse`] made.
    pub fn rewritten(&self, with: &mut impl Rewrite) -> Result<Bytes, WireError> {
        rewrite::rewrite(&schema::KEY_VALUE, &self.encoded, with)
    }

    /// The same without its value, as `keys_only` has it. Everything else stays.
    #[must_use]
    pub fn without_value(&self) -> Self {
        let mut kept = Vec::new();
        let mut from = 0;
        for field in self.fields().filter(|field| field.number == VALUE) {
            kept.extend_from_slice(self.encoded.get(from..field.start).unwrap_or_default());
            from = field.end;
        }
        if from == 0 {
            return self.clone();
        }
        kept.extend_from_slice(self.encoded.get(from..).unwrap_or_default());
        Self {
            key: self.key.clone(),
            encoded: kept.into(),
        }
    }

    fn int64(&self, number: u32) -> i64 {
        self.last(number)
            .and_then(|field| field.int64().ok())
            .unwrap_or_default()
    }

    /// The occurrence that counts.
    fn last(&self, number: u32) -> Option<Field<'_>> {
        self.fields().filter(|field| field.number == number).last()
    }

    /// The fields of bytes that were parsed before, so that there is no error to meet.
    fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        let mut reader = Reader::new(&self.encoded);
        std::iter::from_fn(move || reader.next().ok().flatten())
    }
}
