//! The program under test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
};

use tempfile::TempDir;

use crate::{client::Client, http, metrics::Metrics, poll, process::Process, programs};

/// A running `keyloom serve`.
#[derive(Debug)]
pub struct Keyloom {
    /// What the program is started by, if not by itself: a program and its arguments.
    by: Vec<String>,
    arguments: Vec<String>,
    process: Process,
    /// Lines of standard output that belong to earlier starts.
    heard: usize,
    url: String,
    admin: String,
    home: TempDir,
}

impl Keyloom {
    /// Serves a topology, and waits until it is ready.
    pub async fn start(topology: &str) -> Self {
        let mut keyloom = Self::launch(topology);
        keyloom.ready().await;
        keyloom
    }

    /// Serves one endpoint, without a topology.
    pub async fn in_front_of(endpoint: &str) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let mut keyloom = Self::launch_in(home, &[], &["--endpoint", endpoint]);
        keyloom.ready().await;
        keyloom
    }

    /// Starts with a topology and does not wait.
    #[must_use]
    pub fn launch(topology: &str) -> Self {
        Self::launch_with(topology, &[])
    }

    /// [`Self::launch`] with further arguments.
    #[must_use]
    pub fn launch_with(topology: &str, further: &[&str]) -> Self {
        Self::launch_by(Vec::new(), topology, further)
    }

    /// [`Self::launch_with`] by another program, which starts it.
    #[must_use]
    pub fn launch_by(by: Vec<String>, topology: &str, further: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let file = write_topology(home.path(), topology);
        let mut arguments = vec!["--topology".to_owned(), file.display().to_string()];
        arguments.extend(further.iter().map(|argument| (*argument).to_owned()));
        Self::spawn(by, arguments, home)
    }

    /// Serves with nothing named, a database in a folder of its own, and waits until it is ready.
    pub async fn alone() -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let mut keyloom = Self::launch_in(home, &[], &[]);
        keyloom.ready().await;
        keyloom
    }

    /// Starts in a folder with arguments, by another program if one is named, and does not wait.
    #[must_use]
    pub fn launch_in(home: TempDir, by: &[&str], arguments: &[&str]) -> Self {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Self::spawn(owned(by), owned(arguments), home)
    }

    fn spawn(by: Vec<String>, arguments: Vec<String>, home: TempDir) -> Self {
        let process = serve(&by, &arguments, home.path());
        let (url, admin) = (String::new(), String::new());
        Self {
            by,
            arguments,
            process,
            heard: 0,
            url,
            admin,
            home,
        }
    }

    /// Waits until it serves.
    pub async fn ready(&mut self) {
        if let Err(status) = self.try_ready().await {
            panic!("keyloom ended instead of serving: {status}");
        }
    }

    /// Waits until it serves, or ends.
    ///
    /// # Errors
    /// How it ended.
    pub async fn try_ready(&mut self) -> Result<(), ExitStatus> {
        let this = std::cell::RefCell::new(&mut *self);
        poll::eventually("keyloom's `ready`", || async {
            let mut this = this.borrow_mut();
            if this.is_ready() {
                return Ok(Ok(()));
            }
            match this.process.ended() {
                Some(status) => Ok(Err(status)),
                None => Err(this.said()),
            }
        })
        .await
    }

    /// Whether it serves by now.
    pub fn is_ready(&mut self) -> bool {
        let lines = self.said();
        let ready = lines.iter().any(|line| line == "ready");
        if ready {
            self.url = said(&lines, "serving on ");
            self.admin = said(&lines, "admin on ");
        }
        ready
    }

    /// What it said since it was started the last time.
    fn said(&self) -> Vec<String> {
        let text = self.process.stdout();
        text.lines().skip(self.heard).map(str::to_owned).collect()
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection of its own.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.url)
    }

    /// The topology file that it serves.
    #[must_use]
    pub fn topology_file(&self) -> PathBuf {
        topology_file(self.home.path())
    }

    /// Its counters, as they stand now.
    pub async fn metrics(&self) -> Metrics {
        Metrics::read(&self.admin).await
    }

    /// A page of its administrators' endpoint: status code and text.
    pub async fn admin(&self, page: &str) -> (u16, String) {
        http::get(&self.admin_url(page)).await.expect("an answer")
    }

    /// Where that page is; it changes with every start.
    #[must_use]
    pub fn admin_url(&self, page: &str) -> String {
        format!("{}{page}", self.admin)
    }

    /// Asks it to end, and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.process.terminate().await
    }

    /// Ends it as a crash would.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Stops it in its tracks.
    pub fn pause(&mut self) {
        self.process.pause();
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        self.process.resume();
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        self.process.wait(poll::LONG).await
    }

    /// Waits until it ends by itself, which it must do with an error, and gives back what it says
    /// is wrong.
    pub async fn refusal(&mut self) -> String {
        let status = self.ended().await;
        assert_eq!(status.code(), Some(1), "{}", self.log());
        let log = self.log();
        let last = log.lines().rfind(|line| line.starts_with("keyloom: "));
        last.expect("a reason").to_owned()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Starts it again after its end, and does not wait.
    pub fn launch_again(&mut self) {
        assert!(self.process.ended().is_some(), "keyloom still runs");
        self.heard = self.process.stdout().lines().count();
        self.process = serve(&self.by, &self.arguments, self.home.path());
    }

    /// Starts it from now on with other arguments.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
    }

    /// The folder that it runs in.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The number of its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Starts it again after its end, and waits until it is ready. Its address is another one.
    pub async fn start_again(&mut self) {
        self.launch_again();
        self.ready().await;
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.stderr()
    }
}

/// Runs `keyloom` with arguments to its end.
#[must_use]
pub fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(programs::keyloom());
    command.args(arguments).output().expect("keyloom starts")
}

/// Writes a topology file into a folder.
#[must_use]
pub fn write_topology(folder: &Path, text: &str) -> PathBuf {
    let file = topology_file(folder);
    fs::write(&file, text).expect("the folder is the test's own");
    file
}

pub(crate) fn topology_file(folder: &Path) -> PathBuf {
    folder.join("topology.yaml")
}

fn serve(by: &[String], arguments: &[String], home: &Path) -> Process {
    let mut command = match by {
        [] => Command::new(programs::keyloom()),
        [program, words @ ..] => {
            let mut command = Command::new(program);
            command.args(words).arg(programs::keyloom());
            command
        }
    };
    command.arg("serve").args(arguments).current_dir(home);
    command.args([
        "--listen",
        "http://127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    Process::start("keyloom", &mut command, home)
}

fn said(lines: &[String], before: &str) -> String {
    match lines.iter().find_map(|line| line.strip_prefix(before)) {
        Some(rest) => rest.to_owned(),
        None => panic!("keyloom did not say {before:?}: {lines:?}"),
    }
}
