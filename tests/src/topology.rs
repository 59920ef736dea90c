//! Topology files for tests, and where they put keys: said again here in plain words, so that a
//! mistake of Keyloom's router shows.

use std::fmt::Write as _;

/// A matcher of a backend, in the file's words and as a rule.
#[derive(Clone, Copy, Debug)]
pub enum Matcher {
    /// Every resource in these namespaces.
    Namespaces(&'static [&'static str]),
    /// Whole segments below the registry prefix, or a kind that is stored under others.
    Prefix(&'static str),
    /// An anchored expression that is an alternative of first segments.
    Resources(&'static [&'static str]),
    /// An expression that is not anchored: keys below the registry prefix that end so.
    Suffix(&'static str),
    /// Bytes at the beginning of any key.
    Bytes(&'static str),
    /// The custom resources of a group and kind.
    Custom(&'static str, &'static str),
}

/// A topology: the default store, and backends in their order.
#[derive(Clone, Debug)]
pub struct Topology {
    matchers: Vec<(&'static str, Matcher)>,
}

impl Topology {
    /// Backends with a name and a matcher each; they are stores 1, 2, …, the default store is 0.
    #[must_use]
    pub fn new(matchers: &[(&'static str, Matcher)]) -> Self {
        Self {
            matchers: matchers.to_vec(),
        }
    }

    /// The same with another backend at its end.
    #[must_use]
    pub fn with(&self, name: &'static str, matcher: Matcher) -> Self {
        let mut matchers = self.matchers.clone();
        matchers.push((name, matcher));
        Self { matchers }
    }

    /// The file, with an endpoint for the default store and for each backend.
    #[must_use]
    pub fn file(&self, endpoints: &[String]) -> String {
        assert_eq!(endpoints.len(), self.stores(), "an endpoint for each store");
        let mut text = format!("default:\n  endpoint: {}\n", endpoints[0]);
        text.push_str("registryPrefix: /registry\nbackends:\n");
        for ((name, matcher), endpoint) in self.matchers.iter().zip(&endpoints[1..]) {
            write!(
                text,
                "- name: {name}\n  endpoint: {endpoint}\n{}",
                matcher.yaml()
            )
            .expect("strings grow");
        }
        text
    }

    #[must_use]
    pub fn stores(&self) -> usize {
        self.matchers.len() + 1
    }

    /// The names of the stores, as Keyloom says them.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        let backends = self.matchers.iter().map(|(name, _)| *name);
        std::iter::once("default").chain(backends).collect()
    }

    /// The store of a key.
    #[must_use]
    pub fn store_of(&self, key: &[u8]) -> usize {
        let first = self
            .matchers
            .iter()
            .position(|(_, matcher)| matcher.claims(key));
        first.map_or(0, |at| at + 1)
    }
}

impl Matcher {
    fn yaml(self) -> String {
        match self {
            Self::Namespaces(names) => {
                format!("  namespace:\n    namespaces: [{}]\n", names.join(", "))
            }
            Self::Prefix(prefix) => format!("  prefix:\n    prefix: {prefix}\n"),
            Self::Resources(names) => {
                format!("  regexp:\n    key: ^({})/\n", names.join("|"))
            }
            Self::Suffix(suffix) => format!("  regexp:\n    key: {suffix}$\n"),
            Self::Custom(group, kind) => {
                format!("  customresource:\n    group: {group}\n    kind: {kind}\n")
            }
            Self::Bytes(prefix) => format!("  prefix:\n    key: \"{prefix}\"\n"),
        }
    }

    fn claims(self, key: &[u8]) -> bool {
        let below = key.strip_prefix(b"/registry/");
        match self {
            Self::Namespaces(names) => below.is_some_and(|below| in_namespace(below, names)),
            Self::Prefix(prefix) => {
                below.is_some_and(|below| is_at_or_below(below, segments_of(prefix)))
            }
            Self::Resources(names) => names.iter().any(|name| {
                below
                    .unwrap_or(key)
                    .starts_with(format!("{name}/").as_bytes())
            }),
            Self::Suffix(suffix) => below.unwrap_or(key).ends_with(suffix.as_bytes()),
            Self::Bytes(prefix) => key.starts_with(prefix.as_bytes()),
            Self::Custom(group, kind) => {
                below.is_some_and(|below| is_at_or_below(below, &format!("{group}/{kind}")))
            }
        }
    }
}

/// `RESOURCE/NS/…`, or one segment more where the first has a dot or belongs to services.
fn in_namespace(below: &[u8], names: &[&str]) -> bool {
    let segments: Vec<_> = below.split(|byte| *byte == b'/').collect();
    let place = match segments[0] {
        b"services" => 2,
        first if first.contains(&b'.') => 2,
        _ => 1,
    };
    let namespace = segments.get(place).copied().unwrap_or_default();
    segments.len() >= place + 2 && names.iter().any(|name| is_named(namespace, name))
}

/// Where Kubernetes stores a kind.
fn segments_of(kind: &str) -> &str {
    match kind {
        "services" => "services/specs",
        "nodes" => "minions",
        kind => kind,
    }
}

/// A `*` at the end stands for anything, nothing too.
fn is_named(namespace: &[u8], name: &str) -> bool {
    match name.strip_suffix('*') {
        Some(begins) => namespace.starts_with(begins.as_bytes()),
        None => namespace == name.as_bytes(),
    }
}

fn is_at_or_below(below: &[u8], prefix: &str) -> bool {
    below
        .strip_prefix(prefix.as_bytes())
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_where_the_first_matcher_says() {
        let topology = Topology::new(&[
            ("tenant", Matcher::Namespaces(&["a", "b"])),
            ("pods", Matcher::Prefix("pods")),
            ("rbac", Matcher::Resources(&["roles", "clusterroles"])),
            ("odd", Matcher::Suffix("-odd")),
            ("other", Matcher::Bytes("calico")),
        ]);
        let rows: [(&str, usize); 14] = [
            ("/registry/pods/a/x", 1),
            ("/registry/pods/c/x", 2),
            ("/registry/pods", 2),
            ("/registry/podsecuritypolicies/x", 0),
            ("/registry/namespaces/a", 0),
            ("/registry/roles/b/x", 1),
            ("/registry/roles/c/x", 3),
            ("/registry/clusterroles/x", 3),
            ("/registry/services/specs/a/x", 1),
            ("/registry/stable.example.com/shirts/b/x", 1),
            ("/registry/stable.example.com/shirts/b", 0),
            ("/registry/secrets/c/x-odd", 4),
            ("calico/x", 5),
            ("compact_rev_key", 0),
        ];
        for (key, store) in rows {
            assert_eq!(topology.store_of(key.as_bytes()), store, "{key}");
        }
    }
}
