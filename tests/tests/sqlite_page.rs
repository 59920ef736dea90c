//! The commands of `docs/operations/sqlite.md`, one after the other, as somebody would type them.

use std::path::Path;

use keyloom_tests::{
    Etcd, Keyloom, Version,
    page::{Page, shell},
};

/// Runs a command that must succeed, and gives back what it printed.
fn run(command: &str, folder: &Path) -> String {
    let output = shell(command, folder).output();
    let output = output.expect("every system has a shell");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn every_command_of_the_page_does_what_it_says() {
    let page = Page::read("operations/sqlite.md");
    let etcds = Etcd::start_all([Version::V36; 2]).await;
    etcds[0]
        .client()
        .put("/registry/pods/default/old", "from the etcd")
        .await;
    let home = tempfile::tempdir().expect("a temporary folder");
    let folder = home.path().to_owned();
    let mut keyloom: Option<Keyloom> = None;
    let mut home = Some(home);
    let mut printed = Vec::new();
    for line in page.blocks("console").into_iter().flat_map(str::lines) {
        if line == "# with Keyloom stopped" {
            let running = keyloom.as_mut().expect("it was started");
            assert!(running.terminate().await.success());
            continue;
        }
        let command = line.strip_prefix("$ ").expect("a command");
        if let Some(arguments) = command.strip_prefix("keyloom serve") {
            let arguments: Vec<_> = arguments.split_whitespace().collect();
            match &mut keyloom {
                None => {
                    let home = home.take().expect("it is started for the first time");
                    let mut first = Keyloom::launch_in(home, &[], &arguments);
                    first.ready().await;
                    keyloom = Some(first);
                }
                Some(keyloom) => {
                    keyloom.set_arguments(&arguments);
                    keyloom.start_again().await;
                }
            }
            continue;
        }
        let mut command = command
            .replace("http://etcd:2379", &etcds[0].url())
            .replace("http://new-etcd:2379", &etcds[1].url());
        if let Some(keyloom) = &keyloom {
            command = command.replace("http://127.0.0.1:2379", keyloom.url());
        }
        printed.push(run(&command, &folder));
    }
    let copied = etcds[1].client().get("/registry/pods/default/old").await;
    assert_eq!(copied.expect("the key").value, "from the etcd");
    let last = printed.last().expect("a command");
    assert_eq!(
        last, "/registry/pods/default/web\none\n",
        "the backup's value"
    );
    assert!(
        printed.iter().any(|text| text.starts_with("imported ")),
        "{printed:?}"
    );
    assert!(
        printed.iter().any(|text| text.starts_with("exported ")),
        "{printed:?}"
    );
}
