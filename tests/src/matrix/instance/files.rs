//! The topology files of one or two Keylooms over the same stores, which change together.

use std::{cell::Cell, fs, path::PathBuf};

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: Vec<File>,
    number: Cell<u64>,
}

#[derive(Debug)]
struct File {
    urls: [String; 2],
    pods: Option<String>,
    path: PathBuf,
}

impl Files {
    /// The file for these ways to the stores; without a store for the pods the tenant's has them.
    pub(super) fn add(&mut self, urls: [String; 2], pods: Option<String>) -> String {
        let file = File {
            urls,
            pods,
            path: PathBuf::new(),
        };
        let text = file.text(0);
        self.files.push(file);
        text
    }

    /// Where the last one lies.
    pub(super) fn lies_at(&mut self, path: PathBuf) {
        if let Some(last) = self.files.last_mut() {
            last.path = path;
        }
    }

    /// Writes all of them anew: the tenant's store has another limit, and a namespace that nobody
    /// uses moves to or from it.
    pub(super) fn change(&self) {
        self.number.set(self.number.get() + 1);
        for file in &self.files {
            let new = file.path.with_extension("new");
            fs::write(&new, file.text(self.number.get())).expect("the folder is the test's own");
            fs::rename(&new, &file.path).expect("the folder is the test's own");
        }
    }

    /// Whether this is what was written last.
    pub(super) fn are_served(&self, topology: &str) -> bool {
        topology.contains(&limit(self.number.get()))
    }
}

impl File {
    fn text(&self, number: u64) -> String {
        let [default, tenant] = &self.urls;
        let namespaces = match number % 2 {
            0 => "[tenant-a]",
            _ => "[tenant-a, tenant-unused]",
        };
        let mut text = format!(
            "default:\n  endpoint: {default}\nbackends:\n- name: tenant\n  endpoint: {tenant}\n  \
             limits: {{{}}}\n  namespace: {{namespaces: {namespaces}}}\n",
            limit(number)
        );
        text += &match &self.pods {
            Some(pods) => format!("- name: pods\n  endpoint: {pods}\n"),
            None => format!("- name: pods\n  endpoint: {tenant}\n"),
        };
        text + "  prefix: {prefix: pods}\n"
    }
}

/// Tells one topology from another.
fn limit(number: u64) -> String {
    format!("maxInFlight: {}", 1_000 + number)
}
