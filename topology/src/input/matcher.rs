//! The matchers of a backend as they are written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spanned::{Field, Texts};

/// Claims the keys below path segments, or with a prefix in bytes. One of the two.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename = "prefix", default, deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["prefix"]}, {"required": ["key"]}]))]
pub(crate) struct PrefixInput {
    /// Path segments below the registry prefix, such as `pods`: the key itself and everything below
    /// it.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) prefix: Field<String>,
    /// The first bytes of the whole key, for clients other than Kubernetes.
    #[serde(skip_serializing_if = "Field::is_absent")]
    #[schemars(extend("minLength" = 1))]
    pub(crate) key: Field<String>,
    /// The backend's name, in the spelling of 2025.
    #[serde(skip_serializing)]
    pub(crate) name: Field<String>,
}

/// Claims the keys that a regular expression matches.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename = "regexp", default, deny_unknown_fields)]
#[schemars(extend("anyOf" = [{"required": ["key"]}, {"required": ["prefix"]}]))]
pub(crate) struct RegexpInput {
    /// Matched against the key below the registry prefix; against the whole key where it lies
    /// elsewhere. Begin it with `^`: otherwise every list and watch asks this store.
    #[serde(skip_serializing_if = "Field::is_absent")]
    #[schemars(extend("examples" = ["^(roles|rolebindings)/"]))]
    pub(crate) key: Field<String>,
    /// Read as `key` where that is absent.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) prefix: Field<String>,
    /// The backend's name, in the spelling of 2025.
    #[serde(skip_serializing)]
    pub(crate) name: Field<String>,
}

/// Claims the objects of namespaces: of every resource, or of `kinds` alone.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename = "namespace", default, deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["namespace"]}, {"required": ["namespaces"]}]))]
pub(crate) struct NamespaceInput {
    /// The one namespace.
    #[serde(skip_serializing_if = "Field::is_absent")]
    pub(crate) namespace: Field<String>,
    /// Several namespaces; `*` at the end of one stands for anything.
    #[serde(skip_serializing_if = "Field::is_absent")]
    #[schemars(extend("examples" = [["team-a", "team-b-*"]]))]
    pub(crate) namespaces: Field<Texts>,
    /// Plurals in lower case. Without it: every resource.
    #[serde(skip_serializing_if = "Field::is_absent")]
    #[schemars(extend("examples" = [["pods", "deployments.apps", "shirts.stable.example.com"]]))]
    pub(crate) kinds: Field<Texts>,
    /// The backend's name, in the spelling of 2025.
    #[serde(skip_serializing)]
    pub(crate) name: Field<String>,
}

/// Claims the objects of a custom resource, or of all custom resources of a group.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename = "customresource", default, deny_unknown_fields)]
#[schemars(extend("required" = ["group"]))]
pub(crate) struct CustomInput {
    /// Has a dot. A version behind a slash is ignored: keys carry none.
    #[serde(skip_serializing_if = "Field::is_absent")]
    #[schemars(extend("pattern" = "\\."))]
    #[schemars(extend("examples" = ["stable.example.com"]))]
    pub(crate) group: Field<String>,
    /// The plural alone, in lower case, such as `shirts`. Without it: the whole group.
    #[serde(skip_serializing_if = "Field::is_absent")]
    #[schemars(extend("pattern" = "^[^A-Z./]+$"))]
    pub(crate) kind: Field<String>,
    /// The backend's name, in the spelling of 2025.
    #[serde(skip_serializing)]
    pub(crate) name: Field<String>,
}
