//! `keyloom serve`.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use keyloom_store::environment::{OsRandom, TokioDial};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::say;
use crate::{
    WatchOptions,
    app::{self, Environment, ServeOptions},
    listen::{ListenUrl, TlsFiles, TokioListen},
};

/// A shorter term ends with any slow write to the default store.
const SHORTEST_TERM: Duration = Duration::from_secs(1);

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
    /// How long a successor waits after this instance was last seen; with one store there is none
    #[arg(long, env = "KEYLOOM_TERM", default_value = "5s", value_parser = humantime::parse_duration)]
    term: Duration,
    /// Between two looks at whether a watch is to be told of its progress, over several stores
    /// [etcd: --watch-progress-notify-interval]
    #[arg(
        long,
        env = "KEYLOOM_WATCH_PROGRESS_NOTIFY_INTERVAL",
        default_value = "5s",
        value_parser = humantime::parse_duration
    )]
    watch_progress_notify_interval: Duration,
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

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode> {
        let options = self.options()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the runtime")?;
        runtime.block_on(async {
            let stop = CancellationToken::new();
            tokio::spawn(cancel_on_signal(stop.clone()));
            let environment = Environment {
                dial: Arc::new(TokioDial),
                listen: Arc::new(TokioListen),
                random: Arc::new(OsRandom),
            };
            // A closed standard output must not end the endpoint.
            let announce = Box::new(|line: &str| drop(say(line)));
            app::serve(options, environment, announce, stop).await
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn options(self) -> Result<ServeOptions> {
        let admin = match self.admin_listen.as_str() {
            "none" => None,
            url => Some(url.parse::<ListenUrl>().context("--admin-listen")?),
        };
        ensure!(
            self.term >= SHORTEST_TERM,
            "--term: at least {SHORTEST_TERM:?}"
        );
        ensure!(
            self.watch_progress_notify_interval >= SHORTEST_PROGRESS,
            "--watch-progress-notify-interval: at least {SHORTEST_PROGRESS:?}"
        );
        Ok(ServeOptions {
            term: self.term,
            watch: WatchOptions {
                progress_interval: self.watch_progress_notify_interval,
                ..WatchOptions::default()
            },
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

async fn cancel_on_signal(stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return;
    };
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    info!(signal = name, "ending: calls under way are finished first");
    stop.cancel();
}
