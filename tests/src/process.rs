//! A child process that dies with its owner.
//!
//! Dropping a [`Process`] kills it. Should the test itself be killed, nothing is dropped: for that
//! case a second, tiny child holds the read end of a pipe and kills the first when the pipe closes.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::poll;

/// How much of a log is shown when a test fails.
const SHOWN: usize = 6_000;

/// A running program whose output is kept in files.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lifeline: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a program. Its output is appended to `NAME.out` and `NAME.err` in the folder.
    #[must_use]
    pub fn start(name: &str, command: &mut Command, logs: &Path) -> Self {
        let stdout = logs.join(format!("{name}.out"));
        let stderr = logs.join(format!("{name}.err"));
        command
            .stdin(Stdio::null())
            .stdout(append(&stdout))
            .stderr(append(&stderr));
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("starting {command:?}: {error}"),
        };
        let lifeline = lifeline(&child);
        Self {
            name: name.to_owned(),
            child,
            lifeline,
            stdout,
            stderr,
            ended: None,
        }
    }

    /// Everything it wrote to standard output, over all starts in this folder.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// Everything it wrote to standard error, over all starts in this folder.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("asking for one's own child");
        }
        self.ended
    }

    /// Asks it to end, and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(poll::LONG).await
    }

    /// Ends it at once, as a crash would.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(poll::LONG).await;
    }

    /// Stops it in its tracks, as a long pause of its machine would. None of its threads runs any more
    /// when this returns: the signal stops them once one of them gets a core to take it on.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
        let deadline = Instant::now() + poll::LONG;
        while self.ended().is_none() && !self.is_stopped() {
            assert!(Instant::now() < deadline, "{} does not stop", self.name);
            thread::yield_now();
        }
    }

    /// proc(5): what a thread is doing follows its name, which stands in brackets.
    fn is_stopped(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let is_stopped = |task: fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
            // A thread that ended meanwhile runs no more.
            matches!(state, None | Some("T" | "Z" | "X"))
        };
        tasks.is_ok_and(|mut tasks| tasks.all(|task| task.is_ok_and(is_stopped)))
    }

    /// Lets it go on after [`Self::pause`].
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let this = std::cell::RefCell::new(self);
        poll::within(limit, &what, || async {
            this.borrow_mut().ended().ok_or("it runs")
        })
        .await
    }

    fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let id = i32::try_from(self.child.id()).expect("process ids are small");
            let id = Pid::from_raw(id).expect("process ids are not zero");
            kill_process(id, signal).expect("signalling one's own child");
        }
    }

    fn show_log(&self) {
        for (what, text) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
            let from = text.len().saturating_sub(SHOWN);
            let tail = String::from_utf8_lossy(&text.as_bytes()[from..]).into_owned();
            if !tail.trim().is_empty() {
                eprintln!("--- {what} of {}\n{tail}", self.name);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // First the lifeline, so that it never kills a stranger with the child's old number.
        drop(self.lifeline.kill());
        drop(self.lifeline.wait());
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            self.show_log();
        }
    }
}

/// Kills the child when its own input closes, which happens when the owner is gone.
fn lifeline(child: &Child) -> Child {
    Command::new("sh")
        .args(["-c", &format!("read _; kill -KILL {}", child.id())])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("every system has a shell")
}

fn append(path: &Path) -> File {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .expect("the folder is the test's own")
}

fn read(path: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = fs::File::open(path) {
        file.read_to_end(&mut text)
            .expect("the file is the test's own");
    }
    String::from_utf8_lossy(&text).into_owned()
}
