//! What is compared of a key-value, in whatever form it is held.

use std::cmp::Ordering;

use bytes::Bytes;
use keyloom_etcd_api::{mvccpb::KeyValue, wire::RawKv};

/// A key-value whose fields can be compared.
pub trait Fields {
    fn version(&self) -> i64;
    fn create_revision(&self) -> i64;
    fn mod_revision(&self) -> i64;
    fn lease(&self) -> i64;
    /// How its value compares to another.
    fn cmp_value(&self, other: &[u8]) -> Ordering;
}

/// A key-value that can be sorted.
pub trait KeyAndValue: Fields {
    fn key(&self) -> Bytes;
    fn value(&self) -> Bytes;
}

impl Fields for KeyValue {
    fn version(&self) -> i64 {
        self.version
    }

    fn create_revision(&self) -> i64 {
        self.create_revision
    }

    fn mod_revision(&self) -> i64 {
        self.mod_revision
    }

    fn lease(&self) -> i64 {
        self.lease
    }

    fn cmp_value(&self, other: &[u8]) -> Ordering {
        self.value[..].cmp(other)
    }
}

impl KeyAndValue for KeyValue {
    fn key(&self) -> Bytes {
        self.key.clone()
    }

    fn value(&self) -> Bytes {
        self.value.clone()
    }
}

// Each field is read from the encoded bytes when it is asked for.
impl Fields for RawKv {
    fn version(&self) -> i64 {
        RawKv::version(self)
    }

    fn create_revision(&self) -> i64 {
        RawKv::create_revision(self)
    }

    fn mod_revision(&self) -> i64 {
        RawKv::mod_revision(self)
    }

    fn lease(&self) -> i64 {
        RawKv::lease(self)
    }

    fn cmp_value(&self, other: &[u8]) -> Ordering {
        RawKv::value(self)[..].cmp(other)
    }
}

impl KeyAndValue for RawKv {
    fn key(&self) -> Bytes {
        self.key.clone()
    }

    fn value(&self) -> Bytes {
        RawKv::value(self)
    }
}
