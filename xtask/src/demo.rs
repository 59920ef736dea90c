//! Keyloom in front of three real etcds on this machine, for a first look.
//!
//! The data lies below `target/demo` and goes with the next run. Everything ends with Ctrl-C: the
//! etcds are children of this program and in its process group.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};

use crate::{e2e, peers::Peers};

/// The stores of the demo and their matchers; the default store has none.
const STORES: [(&str, &str); 3] = [
    ("default", ""),
    (
        "rbac",
        "regexp: {key: ^(clusterrolebindings|clusterroles|rolebindings|roles)/}",
    ),
    ("tenant-a", "namespace: {namespace: tenant-a}"),
];

/// Serves until it is interrupted.
///
/// # Errors
/// When a program cannot be built or started.
pub(crate) fn run(root: &Path, listen: &str) -> Result<()> {
    let peers = Peers::all(root)?;
    let keyloom = e2e::build_keyloom(root)?;
    let folder = root.join("target/demo");
    if folder.exists() {
        fs::remove_dir_all(&folder).context("removing the last demo")?;
    }
    let mut stores = Vec::new();
    for (name, matcher) in STORES {
        stores.push(Store::start(
            &peers.bin.join("etcd"),
            &folder,
            name,
            matcher,
        )?);
    }
    let topology = folder.join("topology.yaml");
    fs::write(&topology, topology_of(&stores))?;
    invite(&peers.bin.join("etcdctl"), &topology, &stores, listen);
    let mut keyloom = Command::new(keyloom)
        .args([
            "serve",
            "--listen",
            listen,
            "--admin-listen",
            "127.0.0.1:0",
            "--topology",
        ])
        .arg(&topology)
        .stdin(Stdio::null())
        .spawn()
        .context("starting keyloom")?;
    let status = keyloom.wait().context("waiting for keyloom")?;
    println!("keyloom ended: {status}");
    Ok(())
}

struct Store {
    name: &'static str,
    matcher: &'static str,
    url: String,
    process: Child,
}

impl Store {
    fn start(
        etcd: &Path,
        folder: &Path,
        name: &'static str,
        matcher: &'static str,
    ) -> Result<Self> {
        let data: PathBuf = folder.join(name);
        fs::create_dir_all(&data)?;
        let log = fs::File::create(folder.join(format!("{name}.log")))?;
        let (url, peer) = (free_url()?, free_url()?);
        let process = Command::new(etcd)
            .args(["--name", name, "--data-dir"])
            .arg(&data)
            .args([
                "--listen-client-urls",
                &url,
                "--advertise-client-urls",
                &url,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("{name}={peer}")])
            // Every cluster of the demo is one of its own.
            .args(["--initial-cluster-token", name])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting etcd for {name}"))?;
        Ok(Self {
            name,
            matcher,
            url,
            process,
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // It may have ended with Ctrl-C already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// An address that was free a moment ago.
fn free_url() -> Result<String> {
    Ok(format!(
        "http://{}",
        TcpListener::bind("127.0.0.1:0")?.local_addr()?
    ))
}

fn topology_of(stores: &[Store]) -> String {
    let mut text = String::new();
    for Store {
        name, matcher, url, ..
    } in stores
    {
        if matcher.is_empty() {
            text.push_str(&format!("default:\n  endpoint: {url}\nbackends:\n"));
        } else {
            text.push_str(&format!("- name: {name}\n  endpoint: {url}\n  {matcher}\n"));
        }
    }
    text
}

fn invite(etcdctl: &Path, topology: &Path, stores: &[Store], listen: &str) {
    let etcdctl = etcdctl.display();
    println!(
        "\nThe topology is {}. In another terminal:\n",
        topology.display()
    );
    println!("  alias keyctl='{etcdctl} --endpoints={listen}'");
    println!("  keyctl put /registry/pods/tenant-a/web one");
    println!("  keyctl put /registry/pods/default/web two");
    println!("  keyctl put /registry/roles/default/reader three");
    println!("  keyctl get --prefix /registry/\n\nand what each store holds:\n");
    for Store { name, url, .. } in stores {
        println!("  {etcdctl} --endpoints={url} get --prefix /registry/ --keys-only   # {name}");
    }
    println!("\nCtrl-C ends it.\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topology_names_every_store() {
        let store = |(name, matcher)| {
            let process = Command::new("true").spawn().unwrap();
            Store {
                name,
                matcher,
                url: format!("http://{name}:1"),
                process,
            }
        };
        let stores: Vec<_> = STORES.into_iter().map(store).collect();
        let text = topology_of(&stores);
        assert!(
            text.starts_with("default:\n  endpoint: http://default:1\nbackends:\n- name: rbac")
        );
        assert!(text.contains("- name: tenant-a\n  endpoint: http://tenant-a:1\n  namespace:"));
    }
}
