//! The first stage: a topology file as it is written. One set of types reads it, writes it, and is
//! its JSON schema: the comments of the types and fields below are what an editor shows.
//!
//! Nothing is decided here; `meaning.rs` does that.

mod matcher;

use std::{collections::BTreeMap, num::NonZeroU32};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use matcher::{CustomInput, NamespaceInput, PrefixInput, RegexpInput};

use crate::{
    duration::DurationText,
    spanned::{Field, Texts, Unused},
    spec::DeleteRangeOverStores,
};

/// Which key lives on which store.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename = "topology", rename_all = "camelCase")]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FileInput {
    /// The store for every key that no backend claims. It also keeps the ledger. It is named here
    /// or by `--endpoint`, not both.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) default: Field<BackendInput>,
    /// What kube-apiserver has as `--etcd-prefix`; a list where several apiservers share one
    /// Keyloom. Without it: `/registry`.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) registry_prefix: Field<Texts>,
    /// What happens to a DeleteRange that touches several stores. Without it: `split`.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) delete_range_over_stores: Field<DeleteRangeOverStores>,
    /// From top to bottom: a key lives on the first backend that claims it.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) backends: Field<Vec<Field<BackendInput>>>,
}

/// A store, and which keys it claims.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename = "backend", rename_all = "camelCase")]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BackendInput {
    /// Unique. The ledger knows the store by this name, so it must not change while the store holds
    /// keys. The default store needs none.
    #[serde(skip_serializing_if = "Field::is_absent")]
    #[schemars(extend("pattern" = "^[A-Za-z0-9._-]{1,128}$"))]
    pub(crate) name: Field<String>,
    /// A URL: http, https, unix or unixs for etcd, sqlite, postgres or mysql for a database.
    /// `${NAME}` and `${file:PATH}` are replaced; `$$` is a dollar sign.
    #[serde(skip_serializing_if = "Field::is_absent")]
    #[schemars(extend("examples" = ["https://etcd-0:2379", "sqlite:///var/lib/keyloom/main.db"]))]
    pub(crate) endpoint: Field<String>,
    /// Several members of one etcd cluster, instead of `endpoint`.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) endpoints: Field<Texts>,
    /// The files of a TLS connection to the store. Without it the endpoint's scheme decides alone,
    /// with the system's certificate authorities.
    #[serde(rename = "backendTLS", skip_serializing_if = "Field::is_absent")]
    pub(crate) tls: Field<TlsInput>,
    /// What Keyloom asks of the store at most.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) limits: Field<LimitsInput>,
    /// Free names with texts, such as `region: eu`.
    #[serde(skip_serializing_if = "Field::is_absent")]
    #[schemars(with = "BTreeMap<String, Label>")]
    pub(crate) labels: Field<BTreeMap<String, Field<String>>>,
    /// Claims the keys below path segments, or with a prefix in bytes.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) prefix: Field<PrefixInput>,
    /// Claims the keys that a regular expression matches.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) regexp: Field<RegexpInput>,
    /// Claims the objects of namespaces.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) namespace: Field<NamespaceInput>,
    /// Claims the objects of a custom resource, or of all custom resources of a group.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) customresource: Field<CustomInput>,
    /// Has no effect yet.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) connection_pool: Field<ConnectionPoolInput>,
    /// Has no effect yet.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) compact_interval: Field<Unused<DurationText>>,
    /// Has no effect yet.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) compact_interval_jitter: Field<Unused<serde_json::Value>>,
    /// Has no effect yet.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) compact_timeout: Field<Unused<DurationText>>,
    /// Has no effect yet.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) compact_min_retain: Field<Unused<i64>>,
    /// Has no effect yet.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) compact_batch_size: Field<Unused<i64>>,
    /// Has no effect yet.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) disable_storage_level_filtering: Field<Unused<bool>>,
    /// Is known, to be refused: to ignore it would mix up the keys of tenants who share one etcd.
    #[serde(skip_serializing)]
    #[schemars(skip)]
    pub(crate) key_prefix: Field<Unused<String>>,
}

/// The files of a TLS connection to a store.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename = "backendTLS", rename_all = "camelCase")]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TlsInput {
    /// The certificate authorities to trust. Without it: the system's.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) ca_file: Field<String>,
    /// Keyloom's own certificate, with `keyFile`.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) cert_file: Field<String>,
    /// The key of `certFile`.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) key_file: Field<String>,
    /// Accepts any certificate of the store: whoever is in between can read and write.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) skip_verify: Field<bool>,
}

/// What Keyloom asks of a store at most.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename = "limits", rename_all = "camelCase")]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LimitsInput {
    /// Calls under way at a time. Without it: 4096.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) max_in_flight: Field<NonZeroU32>,
    /// How long one call may take, unless the client's deadline is sooner. Without it: `60s`.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) timeout: Field<DurationText>,
    /// Has no effect yet.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) requests_per_second: Field<Unused<f64>>,
}

/// Connections to a database. None of it has an effect yet.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename = "connectionPool", rename_all = "camelCase")]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ConnectionPoolInput {
    #[serde(skip_serializing_if = "Field::is_absent")]
    #[schemars(with = "i64")]
    max_idle: Field<String>,
    #[serde(skip_serializing_if = "Field::is_absent")]
    #[schemars(with = "i64")]
    max_open: Field<String>,
    #[serde(skip_serializing_if = "Field::is_absent")]
    max_life_time: Field<DurationText>,
    #[serde(skip_serializing_if = "Field::is_absent")]
    max_idle_time: Field<DurationText>,
    /// The older name of `maxIdleTime`.
    #[serde(skip_serializing_if = "Field::is_absent")]
    max_idle_life_time: Field<DurationText>,
}

/// The value of a label, for the schema: anything that can be written without quotes is a text.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[expect(dead_code, reason = "only its schema is used")]
enum Label {
    Text(String),
    Number(f64),
    Flag(bool),
}
