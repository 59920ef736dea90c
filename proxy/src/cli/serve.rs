//! `keyloom serve`.

use std::{path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use keyloom_sqlstore::Restored;

use super::{say, work::work};
use crate::{
    WatchOptions,
    app::{self, ServeOptions},
    listen::{ListenUrl, TlsFiles},
};

/// Where none is given.
const LEADERSHIP_DURATION: Duration = Duration::from_secs(5);

/// A shorter leadership ends with any slow write to the default store.
const SHORTEST_LEADERSHIP: Duration = Duration::from_secs(1);

/// As in etcd (`minWatchProgressInterval` in `embed/config.go`).
const SHORTEST_PROGRESS: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The topology file
    #[arg(long, env = "KEYLOOM_TOPOLOGY")]
    topology: Option<PathBuf>,
    /// The default store, where the topology names none
    #[arg(long, env = "KEYLOOM_ENDPOINT")]
    endpoint: Option<String>,
    /// Where clients connect: http://HOST:PORT, https://…, unix://PATH or HOST:PORT; repeatable
    #[arg(
        long,
        env = "KEYLOOM_LISTEN",
        value_delimiter = ',',
        default_value = "127.0.0.1:2379"
    )]
    listen: Vec<ListenUrl>,
    /// Where probes, metrics and status pages are; `none` for nowhere
    #[arg(long, env = "KEYLOOM_ADMIN_LISTEN", default_value = "127.0.0.1:8080")]
    admin_listen: String,
    /// What clients learn from the member list; the listening addresses if not given
    #[arg(long, env = "KEYLOOM_ADVERTISE_CLIENT_URLS", value_delimiter = ',')]
    advertise_client_urls: Vec<String>,
    /// How long this instance may order and answer without renewing its leadership in the default
    /// store, and so how long another instance waits before it takes over; unused with one store
    /// [default: 5s]
    #[arg(long, env = "KEYLOOM_LEADERSHIP_DURATION", value_parser = humantime::parse_duration)]
    leadership_duration: Option<Duration>,
    /// The former name of --leadership-duration
    #[arg(long, env = "KEYLOOM_TERM", hide = true, value_parser = humantime::parse_duration)]
    term: Option<Duration>,
    /// How often a watch that asked for it is told of its progress, over several stores and by
    /// embedded stores; a single etcd has its own interval [etcd: --watch-progress-notify-interval]
    #[arg(
        long,
        env = "KEYLOOM_WATCH_PROGRESS_NOTIFY_INTERVAL",
        default_value = "5s",
        value_parser = humantime::parse_duration
    )]
    watch_progress_notify_interval: Duration,
    /// How many revisions of each store are kept in memory for watches that come back, over several
    /// stores; those that need older ones are served from the store
    #[arg(long, env = "KEYLOOM_WATCH_HISTORY", default_value_t = WatchOptions::default().history_revisions)]
    watch_history: usize,
    /// The SQLite file of this store was taken back from a backup: its revisions go on above all
    /// that were given out, as noted beside the file or as said here; STORE or STORE=REVISION
    #[arg(long, env = "KEYLOOM_RESTORED", value_delimiter = ',')]
    restored: Vec<Declaration>,
    /// End in the place of serving the accepted topology, where a start finds its file refused
    #[arg(long, env = "KEYLOOM_STOP_IF_REFUSED")]
    stop_if_refused: bool,
    /// The certificate that clients see
    #[arg(long, env = "KEYLOOM_CERT_FILE")]
    cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, env = "KEYLOOM_KEY_FILE")]
    key_file: Option<PathBuf>,
    /// The authorities whose client certificates are believed
    #[arg(long, env = "KEYLOOM_TRUSTED_CA_FILE")]
    trusted_ca_file: Option<PathBuf>,
    /// Clients must have a certificate
    #[arg(long, env = "KEYLOOM_CLIENT_CERT_AUTH")]
    client_cert_auth: bool,
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
                    Some(revision.ok_or("REVISION must be a number above 0")?),
                )
            }
        };
        if store.is_empty() {
            return Err("no store is named".to_owned());
        }
        Ok(Self {
            store: store.to_owned(),
            restored: Restored { above },
        })
    }
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode> {
        let options = self.options()?;
        work(async move |environment, stop| {
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
            "--leadership-duration: at least {SHORTEST_LEADERSHIP:?}"
        );
        ensure!(
            self.watch_progress_notify_interval >= SHORTEST_PROGRESS,
            "--watch-progress-notify-interval: at least {SHORTEST_PROGRESS:?}"
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
