//! What a topology says about each store.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::endpoint::{Endpoint, EndpointKind};

/// The name of the store that takes what no route claims; no backend may have it.
pub const DEFAULT_STORE: &str = "default";

/// A store's place in its topology; 0 is the default store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreIndex(pub u16);

impl StoreIndex {
    /// The store that takes what no route claims.
    pub const DEFAULT: Self = Self(0);
}

impl fmt::Display for StoreIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSpec {
    /// Unique; the store's identity in the ledger.
    pub name: String,
    /// At least one; all of one kind, and more than one only for etcd.
    pub endpoints: Vec<Endpoint>,
    /// `None` means the scheme alone decides, with the system's roots.
    pub tls: Option<TlsSpec>,
    /// What Keyloom asks of the store at most.
    pub limits: Limits,
    /// Free, such as `region: eu`.
    pub labels: BTreeMap<String, String>,
    /// Where the store stands in the file.
    pub line: Option<usize>,
}

/// The files of a TLS connection to a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsSpec {
    /// Whom to trust; `None` means the system's roots.
    pub ca_file: Option<PathBuf>,
    /// Keyloom's own certificate; given exactly if `key_file` is.
    pub cert_file: Option<PathBuf>,
    /// The key of `cert_file`.
    pub key_file: Option<PathBuf>,
    /// Whether any certificate of the store is accepted.
    pub skip_verify: bool,
}

/// What Keyloom asks of a store at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Calls under way at a time; above 0.
    pub max_in_flight: Option<u32>,
    /// How long one call may take; above zero.
    pub timeout: Option<Duration>,
}

/// What happens to a `DeleteRange` that touches several stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeleteRangeOverStores {
    /// Each store deletes its part: each part atomic, with a revision of its own.
    #[default]
    Split,
    /// The call is refused.
    Refuse,
}

impl StoreSpec {
    /// What sort of store it is.
    #[must_use]
    pub fn kind(&self) -> EndpointKind {
        self.endpoints
            .first()
            .map_or(EndpointKind::Etcd, Endpoint::kind)
    }
}
