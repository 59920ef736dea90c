//! What the program does where nobody can read its log: a file on a full disk, a pipe whose reader ended.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

fn serve(folder: &Path, log: Stdio) -> Child {
    Command::new(env!("CARGO_BIN_EXE_keyloom"))
        .args(["--log", "debug", "serve", "--listen", "127.0.0.1:0"])
        .args(["--admin-listen", "127.0.0.1:0", "--endpoint"])
        .arg(format!("sqlite://{}/k.db", folder.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Waits until it says that it is ready, ends it, and gives back what it said.
fn said(mut child: Child) -> Vec<String> {
    drop(child.stderr.take());
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (tell, told) = channel();
    let reader = thread::spawn(move || lines.map_while(Result::ok).all(|it| tell.send(it).is_ok()));
    let mut said = Vec::new();
    // It ends where the program does.
    while let Ok(line) = told.recv_timeout(Duration::from_secs(120)) {
        let is_ready = line == "ready";
        said.push(line);
        if is_ready {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
    said
}

#[test]
fn it_serves_where_its_log_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let full = Stdio::from(File::create("/dev/full").unwrap());
    for (what, log) in [("full", full), ("closed", Stdio::piped())] {
        let said = said(serve(folder.path(), log));
        assert_eq!(
            said.last().map(String::as_str),
            Some("ready"),
            "{what}: {said:?}"
        );
    }
}
