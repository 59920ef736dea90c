//! Stores that are reached otherwise while everything goes on: as another user, with another
//! certificate, at another address, with other limits, in another order. No call fails, and no event
//! is lost or repeated.

use std::{fs, path::Path, sync::Arc, sync::atomic::AtomicBool};

use keyloom_tests::{
    Client, Etcd, Etcdctl, Keyloom, Version, kubernetes::Doorway, poll::eventually, port,
    tls::Authority,
};
use tokio::task::JoinHandle;

use crate::reload::{Change, read, status, write};

const PREFIXES: [&str; 3] = [
    "/registry/pods/a/",
    "/registry/roles/x/",
    "/registry/secrets/x/",
];

/// Clients that write and watch all the time.
struct Load {
    client: Client,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Vec<Change>>>,
    watch: JoinHandle<Vec<Change>>,
}

impl Load {
    async fn start(keyloom: &Keyloom) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let watch = tokio::spawn(read(keyloom.client(), "/registry/", "/end"));
        let writers = PREFIXES.map(|prefix| {
            let writer = write(keyloom.client(), prefix, Arc::clone(&stop));
            tokio::spawn(writer)
        });
        let load = Self {
            client: keyloom.client(),
            stop,
            writers: writers.into(),
            watch,
        };
        load.goes_on().await;
        load
    }

    /// Waits until every writer has made calls from now on.
    async fn goes_on(&self) {
        // A writer that stood still would leave too few to the others only for a while: each is
        // looked at.
        let from = self.client.revision().await;
        for prefix in PREFIXES {
            eventually(&format!("writes to {prefix}"), || async {
                assert!(
                    !self.writers.iter().any(JoinHandle::is_finished),
                    "a call failed"
                );
                assert!(!self.watch.is_finished(), "the watch ended");
                let newest = self.client.get(format!("{prefix}k0")).await;
                let at = newest.map_or(0, |kv| kv.mod_revision);
                if at > from { Ok(()) } else { Err(at) }
            })
            .await;
        }
    }

    async fn end(self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let mut log = Vec::new();
        for writer in self.writers {
            log.extend(writer.await.expect("no call fails"));
        }
        log.sort_unstable();
        self.client.put("/registry/pods/end", "").await;
        let seen = self.watch.await.expect("the watch goes on");
        let first = seen.first().map_or(0, |(revision, ..)| *revision);
        log.retain(|(revision, ..)| *revision >= first);
        assert_eq!(seen, log, "no event is lost or repeated");
    }
}

/// Changes something, and waits until it is what is served.
async fn change(keyloom: &Keyloom, what: impl FnOnce()) {
    let (before, _) = status(keyloom).await;
    what();
    eventually("the change to be taken", || async {
        let (changes, refused) = status(keyloom).await;
        if changes > before && !refused {
            Ok(())
        } else {
            Err((changes, refused))
        }
    })
    .await;
}

fn replace(file: &Path, text: &str) {
    let fresh = file.with_extension("new");
    fs::write(&fresh, text).expect("the folder is the test's own");
    fs::rename(fresh, file).expect("the folder is the test's own");
}

/// Makes `root`, and two users who may do everything, and lets nobody else in.
fn close(etcdctl: &Etcdctl, as_root: &[&str]) {
    let run = |words: &[&str]| drop(etcdctl.run(&[as_root, words].concat()));
    for (user, password) in [("root", "root"), ("first", "one"), ("second", "two")] {
        run(&[
            "user",
            "add",
            user,
            &format!("--new-user-password={password}"),
        ]);
        run(&["user", "grant-role", user, "root"]);
    }
    run(&["auth", "enable"]);
}

#[tokio::test]
async fn users_limits_addresses_and_order_change_under_load() {
    let etcds = Etcd::start_all([Version::V36; 3]).await;
    for etcd in &etcds {
        close(&Etcdctl::new(Version::V36, &etcd.url()), &[]);
    }
    let home = tempfile::tempdir().expect("a temporary folder");
    let (user, password) = (home.path().join("user"), home.path().join("password"));
    replace(&user, "first\n");
    replace(&password, "one\n");
    let login = format!(
        "${{file:{}}}:${{file:{}}}@",
        user.display(),
        password.display()
    );
    let at = |url: &str| url.replace("http://", &format!("http://{login}"));
    let [default, roles, pods] = etcds.each_ref().map(Etcd::url);
    let backend = |name: &str, url: &str, more: &str| {
        let url = at(url);
        format!("- {{name: {name}, endpoint: '{url}', prefix: {{prefix: {name}}}{more}}}\n")
    };
    let file = |backends: &[String]| {
        let default = at(&default);
        format!(
            "default: {{endpoint: '{default}'}}\nbackends:\n{}",
            backends.concat()
        )
    };
    let first = file(&[backend("roles", &roles, ""), backend("pods", &pods, "")]);
    let keyloom = Keyloom::start(&first).await;
    let load = Load::start(&keyloom).await;

    // Another user, in every store at once. The files are two, so that both may be read together.
    change(&keyloom, || {
        replace(&user, "second\n");
        replace(&password, "two\n");
    })
    .await;
    load.goes_on().await;
    for etcd in &etcds {
        let etcdctl = Etcdctl::new(Version::V36, &etcd.url());
        drop(etcdctl.run(&["--user=root:root", "user", "delete", "first"]));
    }
    load.goes_on().await;

    let limits = ", limits: {maxInFlight: 7, timeout: 20s}";
    let limited = file(&[backend("roles", &roles, ""), backend("pods", &pods, limits)]);
    change(&keyloom, || replace(&keyloom.topology_file(), &limited)).await;
    load.goes_on().await;

    let door = Doorway::to(&pods).await;
    let moved = file(&[
        backend("roles", &roles, ""),
        backend("pods", &door.url(), limits),
    ]);
    change(&keyloom, || replace(&keyloom.topology_file(), &moved)).await;
    load.goes_on().await;
    let (_, stores) = keyloom.admin("/stores").await;
    let address = door.url().replace("http://", "");
    assert!(stores.contains(&address), "{stores}");

    let ordered = file(&[
        backend("pods", &door.url(), limits),
        backend("roles", &roles, ""),
    ]);
    change(&keyloom, || replace(&keyloom.topology_file(), &ordered)).await;
    load.goes_on().await;
    load.end().await;
}

/// A store that is away at a start is asked the way that the newest file says.
#[tokio::test]
async fn a_wrong_address_is_mended_while_keyloom_serves() {
    let etcds = Etcd::start_all([Version::V36; 2]).await;
    let [default, roles] = etcds.each_ref().map(Etcd::url);
    let file = |roles: &str| {
        format!(
            "default: {{endpoint: '{default}'}}\nbackends:\n- {{name: roles, endpoint: '{roles}', \
             prefix: {{prefix: roles}}}}\n"
        )
    };
    let mut keyloom = Keyloom::start(&file(&roles)).await;
    let role = "/registry/roles/x/r";
    keyloom.client().put(role, "1").await;
    assert!(keyloom.terminate().await.success());
    let nobody = format!("http://127.0.0.1:{}", port::free());
    replace(&keyloom.topology_file(), &file(&nobody));
    keyloom.start_again().await;
    let client = keyloom.client();
    let get = || keyloom_etcd_api::etcdserverpb::RangeRequest {
        key: role.into(),
        ..Default::default()
    };
    client.kv().range(get()).await.expect_err("it is away");
    change(&keyloom, || {
        replace(&keyloom.topology_file(), &file(&roles))
    })
    .await;
    let answer = eventually("the store that is back", || async {
        client.kv().range(get()).await
    })
    .await;
    assert_eq!(answer.into_inner().kvs[0].value, "1");
}

#[tokio::test]
async fn certificates_are_renewed_under_load() {
    let authority = Authority::new();
    for (name, whose) in [("server", "server"), ("root", "root"), ("client", "first")] {
        authority.issue(name, whose);
    }
    let closed = Etcd::start_with_tls(Version::V36, authority.folder()).await;
    let open = Etcd::start_all([Version::V36; 2]).await;
    let files = |name: &str| {
        let file = |kind: &str| authority.file(&format!("{name}.{kind}"));
        (authority.file("ca.crt"), file("crt"), file("key"))
    };
    let (ca, cert, key) = files("root");
    let as_root = [
        &*format!("--cacert={ca}"),
        &*format!("--cert={cert}"),
        &*format!("--key={key}"),
    ];
    let etcdctl = Etcdctl::new(Version::V36, &closed.url());
    close(&etcdctl, &as_root);
    let (ca, cert, key) = files("client");
    let topology = format!(
        "default: {{endpoint: '{}'}}\nbackends:\n- {{name: roles, endpoint: '{}', prefix: {{prefix: \
         roles}}}}\n- {{name: pods, endpoint: '{}', prefix: {{prefix: pods}}, backendTLS: {{caFile: \
         '{ca}', certFile: '{cert}', keyFile: '{key}'}}}}\n",
        open[0].url(),
        open[1].url(),
        closed.url(),
    );
    let keyloom = Keyloom::start(&topology).await;
    let load = Load::start(&keyloom).await;
    // etcd takes a certificate's common name for the user.
    change(&keyloom, || authority.issue("client", "second")).await;
    load.goes_on().await;
    let delete = [&as_root[..], &["user", "delete", "first"]].concat();
    drop(etcdctl.run(&delete));
    load.goes_on().await;
    load.end().await;
}

/// What clients are shown is read again, without a restart, and connections that are there stay.
#[tokio::test]
async fn clients_are_shown_a_renewed_certificate() {
    let authority = Authority::new();
    authority.issue("server", "the old one");
    authority.issue("client", "a client");
    let etcd = Etcd::start(Version::V36).await;
    let mut reader = keyloom_tests::page::Reader::new();
    let file = |name: &str| authority.file(name);
    let serve = format!(
        "keyloom serve --endpoint {} --listen https://127.0.0.1:0 --cert-file {} --key-file {} \
         --trusted-ca-file {} --client-cert-auth",
        etcd.url(),
        file("server.crt"),
        file("server.key"),
        file("ca.crt"),
    );
    let (_keyloom, url, _) = reader.serve(&serve).await;
    let with = |ca: &str| {
        format!(
            "etcdctl --endpoints={url} --cacert={ca} --cert={} --key={}",
            file("client.crt"),
            file("client.key"),
        )
    };
    let watch = reader.start(&format!("{} watch k --rev=1", with(&file("ca.crt"))));
    reader
        .run(&format!("{} put k one", with(&file("ca.crt"))))
        .await;

    // Other clients' certificates are not believed, and a client that knows only the new authority
    // is served by what that one has issued.
    let newer = Authority::new();
    newer.issue("server", "the new one");
    let put = format!(
        "{} --command-timeout=2s put k two",
        with(&newer.file("ca.crt"))
    );
    let (succeeded, ..) = reader.output(&put).await;
    assert!(!succeeded, "nobody has its certificate");
    for name in ["server.key", "server.crt"] {
        let text = fs::read_to_string(newer.file(name)).expect("it was issued");
        replace(Path::new(&authority.file(name)), &text);
    }
    eventually("a handshake with the new certificate", || async {
        let (succeeded, _, complaint) = reader.output(&put).await;
        if succeeded { Ok(()) } else { Err(complaint) }
    })
    .await;
    eventually("the watch to go on", || async {
        let said = watch.stdout();
        let puts = said.lines().filter(|line| *line == "PUT").count();
        if puts >= 2 { Ok(()) } else { Err(said) }
    })
    .await;
}
