//! The commands and files of `docs/operations/drop-in.md`, `docs/operations/move-a-resource.md` and
//! `docs/operations/topology-changes.md`, one after the other, as somebody would type them.

use keyloom_tests::{
    Client, Etcd, Etcdctl, Keyloom, Version, http,
    page::{Page, Reader},
    poll::eventually,
    port,
};

/// Waits for an etcd that the page has started.
async fn healthy(url: &str) {
    eventually("an etcd that answers", || async {
        match http::get(&format!("{url}/health")).await {
            Ok((200, _)) => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

/// The keys that etcdctl said were put, in the order of its watch.
fn watched(said: &str) -> Vec<String> {
    let lines: Vec<_> = said.lines().collect();
    let puts = lines.windows(2).filter(|pair| pair[0] == "PUT");
    puts.map(|pair| pair[1].to_owned()).collect()
}

#[tokio::test]
async fn keyloom_comes_before_an_etcd_and_goes_as_the_page_says() {
    let page = Page::read("operations/drop-in.md");
    let commands = page.commands();
    let [serve, keys, status, moved, before, back] = &commands[..] else {
        panic!("{commands:?}")
    };
    let mut reader = Reader::new();
    let peer = format!("http://127.0.0.1:{}", port::free());
    let quick = format!(
        "--data-dir=data --listen-peer-urls={peer} --initial-advertise-peer-urls={peer} \
         --initial-cluster=default={peer} --unsafe-no-fsync --log-level=warn"
    );
    let data = "--data-dir=/var/lib/etcd";
    reader.say(data, &quick);
    let urls = ["2379", "12379", "32379"].map(|port| {
        let url = format!("http://127.0.0.1:{}", port::free());
        reader.say(&format!("http://127.0.0.1:{port}"), &url);
        url
    });
    let [old, beside, _] = &urls;

    let mut etcd = reader.start(back);
    healthy(old).await;
    let put = async |number: usize| {
        let key = format!("/registry/pods/default/p{number}");
        eventually("a write", || async {
            let request = keyloom_etcd_api::etcdserverpb::PutRequest {
                key: key.clone().into(),
                ..Default::default()
            };
            Client::new(old).kv().put(request).await
        })
        .await;
        key
    };
    let first = put(1).await;
    let watch = format!("etcdctl --endpoints={old} watch --prefix /registry/ --rev=2");
    let watch = reader.start(&watch);
    let seen = async |keys: &[&String]| {
        eventually("the watch", || async {
            let said = watched(&watch.stdout());
            if said.iter().eq(keys.iter().copied()) {
                Ok(())
            } else {
                Err(said)
            }
        })
        .await;
    };
    seen(&[&first]).await;

    let (mut keyloom, ..) = reader.serve(serve).await;
    assert_eq!(reader.run(keys).await.trim(), first);
    assert!(reader.run(status).await.contains(beside), "its own address");
    assert!(keyloom.terminate().await.success());

    etcd.terminate().await;
    let mut etcd = reader.start(moved);
    healthy(&urls[2]).await;
    let (mut keyloom, ..) = reader.serve(before).await;
    let second = put(2).await;
    seen(&[&first, &second]).await;

    assert!(keyloom.terminate().await.success());
    etcd.terminate().await;
    let _etcd = reader.start(back);
    healthy(old).await;
    let third = put(3).await;
    // Nothing was missed, and nothing told twice.
    seen(&[&first, &second, &third]).await;
}

#[tokio::test]
async fn events_and_a_namespace_move_as_the_page_says() {
    let page = Page::read("operations/move-a-resource.md");
    let files = page.blocks("yaml");
    let [with_tenant, with_events] = &files[..] else {
        panic!("{files:?}")
    };
    let commands = page.commands();
    let [
        serve,
        diff,
        count,
        delete,
        replace,
        route,
        on_events,
        on_default,
    ] = &commands[..]
    else {
        panic!("{commands:?}")
    };
    let etcds = Etcd::start_all([Version::V36; 3]).await;
    let mut reader = Reader::new();
    for (host, etcd) in ["10.0.0.6", "10.0.0.7", "10.0.0.8"].iter().zip(&etcds) {
        reader.say(&format!("http://{host}:2379"), &etcd.url());
    }
    reader.say(
        "--listen http://127.0.0.1:2379",
        "--listen http://127.0.0.1:0",
    );
    reader.say(
        "--admin-listen 127.0.0.1:8080",
        "--admin-listen 127.0.0.1:0",
    );
    reader.write("topology.yaml", with_tenant);
    let (_keyloom, url, admin) = reader.serve(serve).await;
    reader.say("http://127.0.0.1:2379", &url);
    reader.say("http://127.0.0.1:8080", &admin);

    let client = Client::new(&url);
    client.put("/registry/pods/tenant-a/p", "").await;
    let tenant = etcds[1].client().get("/registry/pods/tenant-a/p").await;
    assert!(tenant.is_some(), "on the tenant's store");
    client.put("/registry/events/default/old", "").await;

    reader.write("new.yaml", with_events);
    let (succeeded, printed, _) = reader.output(diff).await;
    assert!(
        !succeeded && printed.contains("default\tkeys that would be hidden: 1,"),
        "{printed}"
    );
    assert!(reader.run(count).await.contains("\"Count\" : 1"), "{count}");
    assert_eq!(reader.run(delete).await, "1\n");
    assert!(
        reader
            .run(diff)
            .await
            .contains("default\tkeys that would be hidden: 0")
    );
    reader.run(replace).await;
    eventually("the new file to be served", || async {
        let (_, page) = http::get(&format!("{admin}/topology/status")).await?;
        if page.contains("changes: 1") {
            Ok(())
        } else {
            Err(page)
        }
    })
    .await;
    client.put("/registry/events/default/x", "").await;
    assert!(reader.run(route).await.starts_with("events\t"), "{route}");
    assert_eq!(
        reader.run(on_events).await.trim(),
        "/registry/events/default/x"
    );
    assert_eq!(reader.run(on_default).await.trim(), "");
}

#[tokio::test]
async fn a_topology_changes_as_the_page_says() {
    let commands = Page::read("operations/topology-changes.md").commands();
    let [check, diff, replace, route, strays] = &commands[..] else {
        panic!("{commands:?}")
    };
    let etcds = Etcd::start_all([Version::V36; 3]).await;
    let [default, roles, pods] = etcds.each_ref().map(Etcd::url);
    let two = format!(
        "default: {{endpoint: '{default}'}}\nbackends:\n- {{name: roles, endpoint: '{roles}', \
         prefix: {{prefix: roles}}}}\n"
    );
    let three = format!("{two}- {{name: pods, endpoint: '{pods}', prefix: {{prefix: pods}}}}\n");
    let mut reader = Reader::new();
    reader.write("topology.yaml", &two);
    let serve = "keyloom serve --topology topology.yaml --listen http://127.0.0.1:0";
    let (_keyloom, url, admin) = reader.serve(serve).await;
    reader.say("http://127.0.0.1:8080", &admin);
    let client = Client::new(&url);
    let web = "/registry/pods/default/web";
    client.put(web, "").await;

    reader.write("new.yaml", &three);
    let said = reader.run(check).await;
    for store in ["default\tcluster ", "roles\tcluster ", "pods\tcluster "] {
        assert!(said.contains(store), "{said}");
    }
    let (succeeded, printed, _) = reader.output(diff).await;
    assert!(!succeeded && printed.contains(web), "{printed}");
    assert!(reader.run(route).await.starts_with("default\t"), "{route}");

    let delete = keyloom_etcd_api::etcdserverpb::DeleteRangeRequest {
        key: web.into(),
        ..Default::default()
    };
    client.kv().delete_range(delete).await.expect("a deletion");
    assert!(
        reader
            .run(diff)
            .await
            .contains("default\tkeys that would be hidden: 0")
    );
    reader.run(replace).await;
    eventually("another route", || async {
        let (_, printed, _) = reader.output(route).await;
        if printed.starts_with("pods\t") {
            Ok(())
        } else {
            Err(printed)
        }
    })
    .await;
    assert_eq!(reader.run(strays).await, "");
    etcds[0].client().put(web, "past Keyloom").await;
    assert_eq!(reader.run(strays).await, format!("default\t{web}\tpods\n"));
}

/// A store that does not answer, and one that cannot be what it is said to be.
#[tokio::test]
async fn check_and_diff_say_which_store_is_not_as_it_should_be() {
    let etcd = Etcd::start(Version::V36).await;
    let nobody = format!("http://127.0.0.1:{}", port::free());
    let reader = Reader::new();
    let url = etcd.url();
    let old = format!(
        "default: {{endpoint: '{url}'}}\nbackends:\n- {{name: pods, endpoint: '{nobody}', prefix: \
         {{prefix: pods}}}}\n"
    );
    reader.write("old.yaml", &old);
    reader.write("new.yaml", &format!("default: {{endpoint: '{url}'}}\n"));
    for command in ["check old.yaml", "diff old.yaml new.yaml"] {
        let command = format!("keyloom topology {command} --connect");
        let (succeeded, printed, _) = reader.output(&command).await;
        assert!(!succeeded && printed.contains("pods\terror: "), "{printed}");
    }
    // The same etcd under two names is one store.
    reader.write("twice.yaml", &old.replace(&nobody, &url));
    let printed = reader
        .run("keyloom topology check twice.yaml --connect")
        .await;
    assert!(
        printed.contains("the same cluster as store \"default\""),
        "{printed}"
    );
    let kine = keyloom_tests::Served::kine().await;
    let file = format!("default: {{endpoint: '{}'}}\n", kine.url());
    reader.write("kine.yaml", &file);
    let check = "keyloom topology check kine.yaml --connect";
    let (succeeded, printed, _) = reader.output(check).await;
    assert!(
        !succeeded && printed.contains("cannot be the default store"),
        "{printed}"
    );
    let mut keyloom = Keyloom::launch(&file);
    let refusal = keyloom.refusal().await;
    assert!(refusal.contains("cannot be the default store"), "{refusal}");
    // Nothing was written to it.
    let keys = Etcdctl::new(Version::V36, &kine.url());
    let keys = keys.run(&["get", "--prefix", "/_keyloom", "--keys-only"]);
    assert_eq!(keys.trim(), "");
}
