//! How Kubernetes lays out its objects below the registry prefix.
//!
//! | key | directory | namespace |
//! |---|---|---|
//! | `pods/NS/NAME` | `pods` | NS |
//! | `clusterroles/NAME` | `clusterroles` | none |
//! | `services/specs/NS/NAME` | `services/specs` | NS |
//! | `GROUP/PLURAL/NS/NAME`, GROUP with a dot | `GROUP/PLURAL` | NS |
//! | `GROUP/PLURAL/NAME` | `GROUP/PLURAL` | none |

/// The directory and the namespace of an object that lies in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ObjectPath<'k> {
    /// The directory of the resource, without a slash at the end.
    pub(crate) directory: &'k [u8],
    pub(crate) namespace: &'k [u8],
}

/// Kinds that are stored under another segment (`SpecialDefaultResourcePrefixes` in
/// `k8s.io/kubernetes/pkg/kubeapiserver/default_storage_factory_builder.go`).
const RENAMED: [(&str, &str); 5] = [
    ("nodes", "minions"),
    ("services", "services/specs"),
    ("endpoints", "services/endpoints"),
    ("replicationcontrollers", "controllers"),
    ("ingresses", "ingress"),
];

/// The groups of the built-in kinds: their keys carry no group.
const BUILT_IN_GROUPS: [&str; 24] = [
    "admissionregistration.k8s.io",
    "apps",
    "auditregistration.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "core",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "settings.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// Built-in kinds without a namespace, by the directory of their keys.
const CLUSTER_SCOPED: [&str; 28] = [
    "apiextensions.k8s.io/customresourcedefinitions",
    "apiregistration.k8s.io/apiservices",
    "certificatesigningrequests",
    "clusterrolebindings",
    "clusterroles",
    "clustertrustbundles",
    "csidrivers",
    "csinodes",
    "deviceclasses",
    "flowschemas",
    "ingressclasses",
    "ipaddresses",
    "masterleases",
    "minions",
    "mutatingadmissionpolicies",
    "mutatingwebhookconfigurations",
    "namespaces",
    "persistentvolumes",
    "priorityclasses",
    "prioritylevelconfigurations",
    "resourceslices",
    "runtimeclasses",
    "servicecidrs",
    "storageclasses",
    "storageversions",
    "validatingadmissionpolicies",
    "validatingwebhookconfigurations",
    "volumeattachments",
];

/// The resource directory and namespace of a key below the registry prefix; `None` for keys that
/// lie in no namespace.
pub(crate) fn object_path(below: &[u8]) -> Option<ObjectPath<'_>> {
    let slash = directory_end(below)?;
    let (directory, rest) = below.split_at_checked(slash)?;
    let rest = rest.get(1..)?;
    let namespace = rest.get(..position(rest)?)?;
    Some(ObjectPath {
        directory,
        namespace,
    })
}

/// Where the slash behind the resource directory stands.
pub(crate) fn directory_end(below: &[u8]) -> Option<usize> {
    let first = position(below)?;
    if !has_two_segments(below.get(..first)?) {
        return Some(first);
    }
    let rest = below.get(first + 1..)?;
    Some(first + 1 + position(rest)?)
}

/// Whether a first segment takes a second one to name a resource.
pub(crate) fn has_two_segments(first: &[u8]) -> bool {
    first.contains(&b'.') || first == b"services"
}

fn position(text: &[u8]) -> Option<usize> {
    text.iter().position(|byte| *byte == b'/')
}

/// A built-in kind's directory: where its keys are, which is not always its name.
pub(crate) fn stored_as(kind: &str) -> &str {
    RENAMED
        .iter()
        .find_map(|(name, stored)| (*name == kind).then_some(*stored))
        .unwrap_or(kind)
}

pub(crate) fn is_built_in_group(group: &str) -> bool {
    BUILT_IN_GROUPS.contains(&group)
}

/// Whether it is known that the objects of this directory lie in no namespace.
pub(crate) fn is_cluster_scoped(directory: &str) -> bool {
    CLUSTER_SCOPED.contains(&directory)
}

/// The directory of `pods`, `deployments.apps` or `shirts.stable.example.com`.
pub(crate) fn directory_of_kind(kind: &str) -> String {
    match kind.split_once('.') {
        None => stored_as(kind).to_owned(),
        Some((plural, group)) if is_built_in_group(group) => stored_as(plural).to_owned(),
        Some((plural, group)) => format!("{group}/{plural}"),
    }
}

/// The path that a `prefix` matcher means: a kind's name as its first segment becomes the segment
/// under which the kind is stored.
pub(crate) fn directory_of_path(path: &str) -> String {
    let already = RENAMED.iter().any(|(_, stored)| {
        path.strip_prefix(stored)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    if already {
        return path.to_owned();
    }
    let (first, rest) = match path.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let directory = match first.split_once('.') {
        Some((_, group)) if is_built_in_group(group) => directory_of_kind(first),
        _ => stored_as(first).to_owned(),
    };
    match rest {
        Some(rest) => format!("{directory}/{rest}"),
        None => directory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_stand_where_kubernetes_puts_them() {
        for (key, want) in [
            ("pods/default/web", Some(("pods", "default"))),
            ("clusterroles/admin", None),
            (
                "services/specs/default/web",
                Some(("services/specs", "default")),
            ),
            ("services/specs/web", None),
            (
                "stable.example.com/shirts/default/blue",
                Some(("stable.example.com/shirts", "default")),
            ),
            ("stable.example.com/shirts/blue", None),
            ("namespaces/default", None),
            ("apiregistration.k8s.io/apiservices/v1.apps", None),
            ("pods", None),
            ("pods/", None),
            ("", None),
        ] {
            let got = object_path(key.as_bytes());
            let want = want.map(|(directory, namespace): (&str, &str)| ObjectPath {
                directory: directory.as_bytes(),
                namespace: namespace.as_bytes(),
            });
            assert_eq!(got, want, "{key}");
        }
    }

    #[test]
    fn kinds_lead_to_the_directories_of_their_keys() {
        for (kind, want) in [
            ("pods", "pods"),
            ("deployments.apps", "deployments"),
            ("ingresses.networking.k8s.io", "ingress"),
            ("ingresses.extensions", "ingress"),
            ("nodes", "minions"),
            ("shirts.stable.example.com", "stable.example.com/shirts"),
            (
                "gateways.gateway.networking.k8s.io",
                "gateway.networking.k8s.io/gateways",
            ),
            (
                "customresourcedefinitions.apiextensions.k8s.io",
                "apiextensions.k8s.io/customresourcedefinitions",
            ),
        ] {
            assert_eq!(directory_of_kind(kind), want);
        }
        for (path, want) in [
            ("services", "services/specs"),
            ("services/specs", "services/specs"),
            ("services/endpoints", "services/endpoints"),
            ("endpoints/default", "services/endpoints/default"),
            ("deployments.apps", "deployments"),
            ("stable.example.com", "stable.example.com"),
            ("stable.example.com/shirts", "stable.example.com/shirts"),
            ("minions", "minions"),
        ] {
            assert_eq!(directory_of_path(path), want);
        }
    }
}

/// The key, below the registry prefix, of an object that is named as kubectl names it: `pod/web`,
/// `deployments.apps/web`, `shirt.stable.example.com/x`. A kind without a namespace ignores it.
#[must_use]
pub fn object_key(object: &str, namespace: &str) -> String {
    let (kind, name) = object.split_once('/').unwrap_or((object, ""));
    let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
    let plural = plural(kind);
    let directory = if group.is_empty() || is_built_in_group(group) {
        stored_as(&plural).to_owned()
    } else {
        format!("{group}/{plural}")
    };
    if CLUSTER_SCOPED.contains(&directory.as_str()) || namespace.is_empty() {
        format!("{directory}/{name}")
    } else {
        format!("{directory}/{namespace}/{name}")
    }
}

/// Kubernetes' own guess (`UnsafeGuessKindToResource` in apimachinery's `pkg/api/meta`); what is a
/// plural already stays one.
fn plural(kind: &str) -> String {
    let kind = kind.to_ascii_lowercase();
    match kind.as_bytes() {
        _ if kind == "endpoints" => kind,
        [.., b's', b's'] => format!("{kind}es"),
        [.., b's'] => kind,
        [stem @ .., b'y'] if !stem.ends_with(b"e") => {
            format!("{}ies", kind.trim_end_matches('y'))
        }
        _ => format!("{kind}s"),
    }
}

#[cfg(test)]
mod object_tests {
    use super::object_key;

    #[test]
    fn objects_are_named_as_kubectl_names_them() {
        for (object, namespace, key) in [
            ("pod/web", "a", "pods/a/web"),
            ("pods/web", "a", "pods/a/web"),
            ("service/web", "a", "services/specs/a/web"),
            ("endpoints/web", "a", "services/endpoints/a/web"),
            ("deployment.apps/web", "a", "deployments/a/web"),
            (
                "networkpolicy.networking.k8s.io/p",
                "a",
                "networkpolicies/a/p",
            ),
            ("ingress/i", "a", "ingress/a/i"),
            (
                "shirt.stable.example.com/x",
                "a",
                "stable.example.com/shirts/a/x",
            ),
            ("node/n", "a", "minions/n"),
            ("clusterrole/r", "a", "clusterroles/r"),
        ] {
            assert_eq!(object_key(object, namespace), key);
        }
    }
}
