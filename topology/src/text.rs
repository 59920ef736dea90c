//! A topology written as a file: how it is kept with the ledger and shown to operators.
//!
//! Everything is written out in its resolved form, in the dialect that [`crate::parse`] reads, and
//! passwords are not. One value a line, so that two such texts can be compared.

use bytes::Bytes;

use crate::{
    matcher::{Matcher, Namespaces, Rule},
    spec::{DeleteRangeOverStores, StoreIndex, StoreSpec},
};

/// What is written.
pub(crate) struct Content<'t> {
    pub(crate) stores: &'t [StoreSpec],
    pub(crate) rules: &'t [Rule],
    pub(crate) bases: &'t [Bytes],
    pub(crate) delete_range_over_stores: DeleteRangeOverStores,
}

/// The text of a file that means the same.
pub(crate) fn written(content: &Content<'_>) -> String {
    let mut out = Writer::default();
    if let Some(default) = content.stores.first() {
        out.line(0, "default:");
        out.store(2, default);
    }
    let bases = content
        .bases
        .iter()
        .map(|base| String::from_utf8_lossy(base));
    out.line(0, &format!("registryPrefix: {}", list(bases)));
    if content.delete_range_over_stores == DeleteRangeOverStores::Refuse {
        out.line(0, "deleteRangeOverStores: refuse");
    }
    let backends = content.rules.iter().filter_map(|rule| {
        let StoreIndex(index) = rule.store;
        Some((content.stores.get(usize::from(index))?, rule))
    });
    let mut backends = backends.peekable();
    if backends.peek().is_some() {
        out.line(0, "backends:");
    }
    for (spec, rule) in backends {
        out.line(0, &format!("- name: {}", quoted(&spec.name)));
        out.store(2, spec);
        out.line(2, &matcher(&rule.matcher));
    }
    out.text
}

#[derive(Default)]
struct Writer {
    text: String,
}

impl Writer {
    fn line(&mut self, indent: usize, line: &str) {
        self.text.push_str(&format!("{:indent$}{line}\n", ""));
    }

    fn store(&mut self, indent: usize, spec: &StoreSpec) {
        // `${…}` was replaced already.
        let endpoints = spec.endpoints.iter();
        let endpoints = endpoints.map(|each| each.to_string().replace('$', "$$"));
        self.line(indent, &format!("endpoints: {}", list(endpoints)));
        if let Some(tls) = &spec.tls {
            self.line(indent, "backendTLS:");
            for (name, path) in [
                ("caFile", &tls.ca_file),
                ("certFile", &tls.cert_file),
                ("keyFile", &tls.key_file),
            ] {
                if let Some(path) = path {
                    let path = path.to_string_lossy().replace('$', "$$");
                    self.line(indent + 2, &format!("{name}: {}", quoted(&path)));
                }
            }
            self.line(indent + 2, &format!("skipVerify: {}", tls.skip_verify));
        }
        let mut limits = Vec::new();
        if let Some(most) = spec.limits.max_in_flight {
            limits.push(format!("maxInFlight: {most}"));
        }
        if let Some(timeout) = spec.limits.timeout {
            limits.push(format!("timeout: {}ms", timeout.as_millis()));
        }
        if !limits.is_empty() {
            self.line(indent, &format!("limits: {{{}}}", limits.join(", ")));
        }
        if !spec.labels.is_empty() {
            self.line(indent, "labels:");
            for (name, value) in &spec.labels {
                let (name, value) = (quoted(name), quoted(value));
                self.line(indent + 2, &format!("{name}: {value}"));
            }
        }
    }
}

fn matcher(matcher: &Matcher) -> String {
    match matcher {
        Matcher::Path(path) => format!("prefix: {{prefix: {}}}", quoted(path)),
        Matcher::KeyPrefix(key) => format!("prefix: {{key: {}}}", quoted(key)),
        Matcher::Regexp(regexp) => format!("regexp: {{key: {}}}", quoted(regexp.pattern())),
        Matcher::CustomResource(path) => match path.split_once('/') {
            Some((group, kind)) => {
                let (group, kind) = (quoted(group), quoted(kind));
                format!("customresource: {{group: {group}, kind: {kind}}}")
            }
            None => format!("customresource: {{group: {}}}", quoted(path)),
        },
        Matcher::Namespace(namespaces) => namespace(namespaces),
    }
}

fn namespace(namespaces: &Namespaces) -> String {
    let wildcards = namespaces.wildcards.iter().map(|each| format!("{each}*"));
    let names = list(namespaces.names.iter().cloned().chain(wildcards));
    match &namespaces.directories {
        None => format!("namespace: {{namespaces: {names}}}"),
        Some(directories) => {
            let kinds = list(directories.iter().map(|each| kind_of(each)));
            format!("namespace: {{namespaces: {names}, kinds: {kinds}}}")
        }
    }
}

/// The kind whose objects a directory has.
fn kind_of(directory: &str) -> String {
    match directory.split_once('/') {
        Some(("services", "specs")) => "services".to_owned(),
        Some(("services", plural)) => plural.to_owned(),
        Some((group, plural)) => format!("{plural}.{group}"),
        None => directory.to_owned(),
    }
}

fn list<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let items: Vec<_> = items
        .into_iter()
        .map(|item| quoted(item.as_ref()))
        .collect();
    format!("[{}]", items.join(", "))
}

/// A double-quoted scalar.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
