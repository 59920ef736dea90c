//! `keyloom serve`.

use std::{num::NonZero, path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use keyloom_sqlstore::Restored;

use super::{
    say,
    work::{all_cores, work},
};
use crate::{
    AdmissionLimits, WatchOptions,
    app::{self, ServeOptions},
    listen::{ListenUrl, TlsFiles},
};

/// Where none is given.
const LEADERSHIP_DURATION: Duration = Duration::from_secs(5);

/// A shorter leadership ends with any slow write to the default store.
const SHORTEST_LEADERSHIP: Duration = Duration::from_secs(1);

/// As in etcd (`minWatchProgressInterval` in `embed/config.go`).
const SHORTEST_PROGRESS: Duration = Duration::from_millis(100);

/// As in etcd (`DefaultMaxRequestBytes` in `server/embed/config.go`).
const MAX_REQUEST_BYTES: usize = 1536 << 10;

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The topology file (YAML): stores and routes
    #[arg(long, env = "KEYLOOM_TOPOLOGY", value_name = "FILE")]
    topology: Option<PathBuf>,
    /// The default store, if the topology file does not name it: http://HOST:PORT, https://…,
    /// unix://PATH or sqlite://PATH [default: sqlite://./keyloom.db if there is no topology file]
    #[arg(long, env = "KEYLOOM_ENDPOINT", value_name = "URL")]
    endpoint: Option<String>,
    /// Where clients connect: http://HOST:PORT, https://HOST:PORT, unix://PATH, unixs://PATH or
    /// HOST:PORT; can be repeated
    #[arg(
        long,
        env = "KEYLOOM_LISTEN",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379"
    )]
    listen: Vec<ListenUrl>,
    /// Where probes, metrics and status pages are served, over plain HTTP; `none` turns them off
    #[arg(
        long,
        env = "KEYLOOM_ADMIN_LISTEN",
        value_name = "URL",
        default_value = "127.0.0.1:8080"
    )]
    admin_listen: String,
    /// The addresses that the member list tells clients; can be repeated [default: the addresses of
    /// --listen]
    #[arg(
        long,
        env = "KEYLOOM_ADVERTISE_CLIENT_URLS",
        value_name = "URL",
        value_delimiter = ','
    )]
    advertise_client_urls: Vec<String>,
    /// How long the leadership of this instance lasts after its last renewal, at least 1s. After a
    /// crash another instance waits this long before it takes over. With one store there is no
    /// leadership [default: 5s]
    #[arg(
        long,
        env = "KEYLOOM_LEADERSHIP_DURATION",
        value_name = "DURATION",
        value_parser = keyloom_topology::parse_duration
    )]
    leadership_duration: Option<Duration>,
    /// The former name of --leadership-duration
    #[arg(long, env = "KEYLOOM_TERM", hide = true, value_parser = keyloom_topology::parse_duration)]
    term: Option<Duration>,
    /// How often an idle watch that asked for progress gets it, at least 100ms, as etcd's flag. A
    /// single etcd store uses its own interval
    #[arg(
        long,
        value_name = "DURATION",
        env = "KEYLOOM_WATCH_PROGRESS_NOTIFY_INTERVAL",
        default_value = "5s",
        value_parser = keyloom_topology::parse_duration
    )]
    watch_progress_notify_interval: Duration,
    /// With several stores: how many revisions of each store are kept in memory for watches. A watch
    /// that needs older ones reads them from the store
    #[arg(
        long,
        env = "KEYLOOM_WATCH_HISTORY",
        value_name = "NUMBER",
        default_value_t = WatchOptions::default().history_revisions
    )]
    watch_history: usize,
    /// The SQLite file of this store was restored from a backup. Its revisions go on above all that
    /// clients have seen: above the number that is recorded beside the file, or above REVISION; can
    /// be repeated
    #[arg(
        long,
        env = "KEYLOOM_RESTORED",
        value_name = "STORE[=REVISION]",
        value_delimiter = ','
    )]
    restored: Vec<Declaration>,
    /// Exit if the topology file is refused at start, instead of serving the last accepted topology
    #[arg(long, env = "KEYLOOM_STOP_IF_REFUSED")]
    stop_if_refused: bool,
    /// How many threads answer calls [default: one for each core that this process is given]. The
    /// leadership is renewed, and SQLite files are read and written, on other threads
    #[arg(long, env = "KEYLOOM_THREADS", value_name = "NUMBER")]
    threads: Option<NonZero<usize>>,
    /// The largest request, in bytes. A store may refuse smaller ones [etcd: --max-request-bytes]
    #[arg(
        long,
        env = "KEYLOOM_MAX_REQUEST_BYTES",
        value_name = "BYTES",
        default_value_t = MAX_REQUEST_BYTES
    )]
    max_request_bytes: usize,
    /// Log one line for each call: caller, call, code, duration and size of the answer; never keys or
    /// values. Level info, target keyloom::access
    #[arg(long, env = "KEYLOOM_ACCESS_LOG")]
    access_log: bool,
    #[command(flatten)]
    admission: AdmissionFlags,
    /// The server certificate (PEM), required for https:// and unixs://
    #[arg(long, env = "KEYLOOM_CERT_FILE", value_name = "FILE")]
    cert_file: Option<PathBuf>,
    /// The key of --cert-file (PEM)
    #[arg(long, env = "KEYLOOM_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The authorities (PEM) that are trusted for client certificates
    #[arg(long, env = "KEYLOOM_TRUSTED_CA_FILE", value_name = "FILE")]
    trusted_ca_file: Option<PathBuf>,
    /// Require a client certificate that --trusted-ca-file has signed
    #[arg(long, env = "KEYLOOM_CLIENT_CERT_AUTH")]
    client_cert_auth: bool,
}

/// How much may be in flight. A call beyond a limit gets "etcdserver: too many requests".
#[derive(Debug, Args)]
struct AdmissionFlags {
    /// How many unary calls may be in flight at once, of all callers
    #[arg(
        long,
        env = "KEYLOOM_MAX_CALLS",
        value_name = "NUMBER",
        default_value_t = AdmissionLimits::default().calls
    )]
    max_calls: usize,
    /// How many unary calls one caller may have in flight. A caller is the name in a client
    /// certificate, or else an IP address
    #[arg(
        long,
        env = "KEYLOOM_MAX_CALLS_PER_CALLER",
        value_name = "NUMBER",
        default_value_t = AdmissionLimits::default().calls_per_caller
    )]
    max_calls_per_caller: usize,
    /// How many streams (watches, lease keep-alives) may be open at once, of all callers
    #[arg(
        long,
        env = "KEYLOOM_MAX_STREAMS",
        value_name = "NUMBER",
        default_value_t = AdmissionLimits::default().streams
    )]
    max_streams: usize,
    /// How many streams one caller may have open
    #[arg(
        long,
        env = "KEYLOOM_MAX_STREAMS_PER_CALLER",
        value_name = "NUMBER",
        default_value_t = AdmissionLimits::default().streams_per_caller
    )]
    max_streams_per_caller: usize,
}

impl From<AdmissionFlags> for AdmissionLimits {
    fn from(flags: AdmissionFlags) -> Self {
        Self {
            calls: flags.max_calls,
            calls_per_caller: flags.max_calls_per_caller,
            streams: flags.max_streams,
            streams_per_caller: flags.max_streams_per_caller,
        }
    }
}

/// What `--restored` says of one store.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Declaration {
    store: String,
    restored: Restored,
}

impl FromStr for Declaration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (store, above) = match text.split_once('=') {
            None => (text, None),
            Some((store, revision)) => {
                let revision = revision.parse().ok().filter(|revision| *revision > 0);
                (
                    store,
                    Some(revision.ok_or("REVISION must be a whole number above 0")?),
                )
            }
        };
        if store.is_empty() {
            return Err("the name of a store is missing".to_owned());
        }
        Ok(Self {
            store: store.to_owned(),
            restored: Restored { above },
        })
    }
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode> {
        let threads = self.threads.unwrap_or_else(all_cores);
        let options = self.options()?;
        work(threads, async move |environment, stop| {
            // A closed standard output must not end the endpoint.
            let announce = Box::new(|line: &str| drop(say(line)));
            app::serve(options, environment, announce, stop).await
        })
    }

    fn leadership_duration(&self) -> Duration {
        let given = self.leadership_duration.or(self.term);
        given.unwrap_or(LEADERSHIP_DURATION)
    }

    fn options(self) -> Result<ServeOptions> {
        let admin = match self.admin_listen.as_str() {
            "none" => None,
            url => Some(url.parse::<ListenUrl>().context("--admin-listen")?),
        };
        let leadership_duration = self.leadership_duration();
        ensure!(
            leadership_duration >= SHORTEST_LEADERSHIP,
            "--leadership-duration must be at least {SHORTEST_LEADERSHIP:?}"
        );
        ensure!(
            self.watch_progress_notify_interval >= SHORTEST_PROGRESS,
            "--watch-progress-notify-interval must be at least {SHORTEST_PROGRESS:?}"
        );
        Ok(ServeOptions {
            leadership_duration,
            watch: WatchOptions {
                progress_interval: self.watch_progress_notify_interval,
                history_revisions: self.watch_history,
                ..WatchOptions::default()
            },
            restored: self
                .restored
                .into_iter()
                .map(|declared| (declared.store, declared.restored))
                .collect(),
            stop_if_refused: self.stop_if_refused,
            admission: self.admission.into(),
            max_request_bytes: self.max_request_bytes,
            access_log: self.access_log,
            topology: self.topology,
            endpoint: self.endpoint,
            listen: self.listen,
            admin,
            advertise: self.advertise_client_urls,
            tls: TlsFiles {
                cert: self.cert_file,
                key: self.key_file,
                trusted_ca: self.trusted_ca_file,
                client_cert_auth: self.client_cert_auth,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leadership_s_duration_has_a_former_name() {
        #[derive(clap::Parser)]
        struct Program {
            #[command(flatten)]
            serve: Serve,
        }
        let duration = |arguments: &[&str]| {
            let arguments = ["keyloom"].iter().chain(arguments);
            let program = <Program as clap::Parser>::try_parse_from(arguments).unwrap();
            program.serve.leadership_duration().as_secs()
        };
        assert_eq!(duration(&[]), 5);
        assert_eq!(duration(&["--term=7s"]), 7);
        assert_eq!(duration(&["--leadership-duration=8s"]), 8);
        assert_eq!(duration(&["--term=7s", "--leadership-duration=8s"]), 8);
    }

    #[test]
    fn a_declaration_names_a_store_and_perhaps_a_revision() {
        let read = |text: &str| text.parse::<Declaration>().ok();
        let declared = |store: &str, above| {
            let (store, restored) = (store.to_owned(), Restored { above });
            Some(Declaration { store, restored })
        };
        assert_eq!(read("default"), declared("default", None));
        assert_eq!(read("a=70"), declared("a", Some(70)));
        for wrong in ["", "=7", "a=", "a=x", "a=0", "a=-3"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
