//! The command line client that operators use.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use crate::{etcd::Version, programs};

/// etcdctl of one version against one endpoint.
#[derive(Clone, Debug)]
pub struct Etcdctl {
    program: PathBuf,
    endpoint: String,
}

impl Etcdctl {
    #[must_use]
    pub fn new(version: Version, endpoint: &str) -> Self {
        // For its maintenance calls etcdctl 3.4 takes the endpoint as it is given for the name of
        // the server, which `http://…` is not: strict HTTP/2 servers, h2 among them, refuse it.
        let (program, endpoint) = match version {
            Version::V34 => (
                programs::etcdctl34(),
                endpoint.trim_start_matches("http://"),
            ),
            Version::V36 => (programs::peer("etcdctl"), endpoint),
        };
        Self {
            program,
            endpoint: endpoint.to_owned(),
        }
    }

    /// Runs a command that must succeed, and gives back what it printed.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> String {
        self.run_with(arguments, "")
    }

    /// [`Self::run`] with something to read on standard input.
    #[must_use]
    pub fn run_with(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "etcdctl {arguments:?}: {complaint}"
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command that must fail, and gives back what it complained of.
    #[must_use]
    pub fn refused(&self, arguments: &[&str]) -> String {
        self.refused_with(arguments, "")
    }

    /// [`Self::refused`] with something to read on standard input.
    #[must_use]
    pub fn refused_with(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input);
        assert!(!output.status.success(), "etcdctl {arguments:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn output(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(&self.program);
        command
            .env("ETCDCTL_API", "3")
            .arg("--endpoints")
            .arg(&self.endpoint)
            .args(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("etcdctl starts");
        let mut stdin = child.stdin.take().expect("it was asked for");
        stdin.write_all(input.as_bytes()).expect("etcdctl reads");
        drop(stdin);
        child.wait_with_output().expect("etcdctl ends")
    }
}
