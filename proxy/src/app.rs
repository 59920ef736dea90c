//! The program: from options to listeners, and back down again.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use keyloom_sqlstore::Restored;
use prometheus_client::registry::Registry;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{
    admin,
    bringup::{FileStatus, Following},
    environment::Environment,
    feeds::WatchOptions,
    instance::{self, Instance},
    listen::{self, Accept, Limits, ListenUrl, ServerTls, TlsFiles},
    metrics::{Metrics, TopologyMetrics},
    stack::{Admission, AdmissionLimits, Extras, HttpPages, Stack},
    stores::{OpenStores, Stores},
    topology_file,
    workers::Workers,
};

/// How long calls may go on after the program was told to end.
const DRAIN: Duration = Duration::from_secs(10);

/// Between two counts of the keys that route elsewhere, where nothing changes; and where it does.
const COUNT_EVERY: Duration = Duration::from_secs(3600);
const COUNT_AFTER: Duration = Duration::from_secs(60);

/// What an operator asked for.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    pub topology: Option<PathBuf>,
    pub endpoint: Option<String>,
    pub listen: Vec<ListenUrl>,
    pub admin: Option<ListenUrl>,
    pub advertise: Vec<String>,
    pub tls: TlsFiles,
    /// How long a successor waits after this instance was last seen.
    pub leadership_duration: Duration,
    pub watch: WatchOptions,
    /// The SQLite stores that were taken back from a backup, by name.
    pub restored: BTreeMap<String, Restored>,
    /// Whether a start ends where the topology file is refused, in the place of serving the
    /// accepted one.
    pub stop_if_refused: bool,
    /// How many calls may be under way.
    pub admission: AdmissionLimits,
    /// etcd's `--max-request-bytes`.
    pub max_request_bytes: usize,
    /// Whether each call is written to the log.
    pub access_log: bool,
}

/// Told what a supervisor or a test waits for.
pub type Announce = Box<dyn Fn(&str) + Send + Sync>;

/// Serves until `stop` is cancelled.
///
/// # Errors
/// Where it cannot start, and where it lost its ledger to another instance.
pub async fn serve(
    options: ServeOptions,
    environment: Environment,
    announce: Announce,
    stop: CancellationToken,
) -> Result<()> {
    let topology = topology_file::load(options.topology.as_deref(), options.endpoint.clone())?;
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::register(&mut registry));
    let topology_metrics = TopologyMetrics::register(&mut registry);
    let stores = Arc::new(Stores::new(
        &environment,
        &mut registry,
        options.restored.clone(),
        options.watch.progress_interval,
    ));
    let admission = Admission::register(options.admission, &mut registry);
    let opened = stores.open_all(&topology).await?;
    let status = FileStatus::default();
    let shared = admin::Shared::new(registry, Arc::clone(&stores), status.clone());
    let shared = Arc::new(shared);
    let admin = serve_admin(&options, &environment, &shared, &announce).await?;
    // The ledger is kept until the last call is answered.
    let keep = CancellationToken::new();
    let instance_options = instance::Options {
        random: Arc::clone(&environment.random),
        leadership_duration: options.leadership_duration,
        renew_on: environment.renew_on,
        watch: options.watch.clone(),
        open: Arc::clone(&stores) as Arc<dyn OpenStores>,
        metrics: topology_metrics.clone(),
    };
    let started = tokio::select! {
        started = Instance::start(topology, opened, instance_options, keep.clone()) => started?,
        () = stop.cancelled() => return Ok(()),
    };
    let instance = Arc::new(started);
    let chores = Chores {
        tasks: TaskTracker::new(),
        stop: stop.child_token(),
    };
    let following = options.topology.as_ref().map(|file| {
        let endpoint = options.endpoint.clone();
        Following::new(
            file,
            endpoint,
            status,
            topology_metrics,
            environment.changes,
        )
    });
    let followed = follow(&options, following, &instance, &chores).await;
    let ended = match followed {
        Ok(()) => {
            shared.ready(Arc::clone(&instance));
            let edge = Edge {
                metrics,
                admission,
                shared: Arc::clone(&shared),
            };
            answer_calls(&options, &environment, &instance, edge, &announce, &stop).await
        }
        Err(error) => Err(error),
    };
    shared.release();
    chores.end().await;
    admin.end().await;
    instance.stop().await;
    stores.close().await;
    ended
}

/// Opens the listeners, which are there only while calls can be answered: a client that finds
/// nobody goes on to the next endpoint.
async fn answer_calls(
    options: &ServeOptions,
    environment: &Environment,
    instance: &Arc<Instance>,
    edge: Edge,
    announce: &Announce,
    stop: &CancellationToken,
) -> Result<()> {
    let listeners = bind(options, environment).await?;
    instance.advertise(advertised(options, &listeners)?);
    let calls = listen_all(
        listeners,
        &edge.stack(options, instance)?,
        &edge.shared,
        &environment.workers,
        stop,
        announce,
    );
    announce("ready");
    let ended = watch(instance, stop).await;
    stop.cancel();
    instance.services.stopping.cancel();
    calls.close();
    if tokio::time::timeout(DRAIN, calls.wait()).await.is_err() {
        warn!("calls were still running after {DRAIN:?}; they are cut off");
    }
    ended
}

/// Has the file taken, which may differ from what was accepted last, and follows it from then on.
async fn follow(
    options: &ServeOptions,
    following: Option<Following>,
    instance: &Arc<Instance>,
    chores: &Chores,
) -> Result<()> {
    if let Some(mut following) = following {
        let reconfigurer = instance.reconfigurer();
        if let Err(why) = following.read(&reconfigurer).await
            && options.stop_if_refused
        {
            anyhow::bail!("the topology file is refused: {why}");
        }
        let run = following.run(reconfigurer, chores.stop.clone());
        chores.tasks.spawn(run);
    }
    let (instance, stop) = (Arc::clone(instance), chores.stop.clone());
    let mut changes = instance.reconfigurer().changes();
    chores.tasks.spawn(async move {
        loop {
            tokio::select! {
                () = instance.count_strays() => {}
                () = stop.cancelled() => return,
            }
            let changed = async {
                tokio::time::sleep(COUNT_AFTER).await;
                // The instance, which tells of them, is ours.
                let _ended = changes.changed().await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                // At most so often, and without a change now and then.
                () = tokio::time::sleep(COUNT_EVERY) => {}
                () = changed => {}
            }
        }
    });
    Ok(())
}

/// What the listeners' stack takes besides the instance.
struct Edge {
    metrics: Arc<Metrics>,
    admission: Arc<Admission>,
    shared: Arc<admin::Shared>,
}

impl Edge {
    fn stack(&self, options: &ServeOptions, instance: &Arc<Instance>) -> Result<Stack> {
        let (_reporter, health) = tonic_health::server::health_reporter();
        // The instance ends while connections still hold the stack.
        let (ready, alive) = (Arc::downgrade(instance), Arc::downgrade(instance));
        let ended = || Err("this instance has ended".to_owned());
        let shared = Arc::clone(&self.shared);
        let pages = HttpPages {
            ready: Box::new(move || ready.upgrade().map_or_else(ended, |it| it.ready())),
            alive: Box::new(move || alive.upgrade().map_or_else(ended, |it| it.alive())),
            metrics: Box::new(move || shared.metrics_page()),
        };
        Ok(Stack {
            services: Arc::clone(&instance.services),
            extras: Arc::new(Extras::new(health, pages)?),
            metrics: Arc::clone(&self.metrics),
            admission: Arc::clone(&self.admission),
            max_request_bytes: options.max_request_bytes,
            access_log: options.access_log,
        })
    }
}

/// Tasks that end before the instance does.
struct Chores {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Chores {
    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn serve_admin(
    options: &ServeOptions,
    environment: &Environment,
    shared: &Arc<admin::Shared>,
    announce: &Announce,
) -> Result<Chores> {
    let admin = Chores {
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    };
    if let Some(url) = &options.admin {
        let listener = environment.listen.listen(url.address.clone()).await;
        let listener = listener.with_context(|| format!("listening on {url}"))?;
        announce(&format!("admin on http://{}", listener.address()?));
        admin.tasks.spawn(admin::serve(
            listener,
            Arc::clone(shared),
            admin.stop.clone(),
        ));
    }
    Ok(admin)
}

/// Waits for the end; losing the ledger is one.
async fn watch(instance: &Instance, stop: &CancellationToken) -> Result<()> {
    tokio::select! {
        biased;
        why = instance.until_stopped() => {
            error!(why, "this instance can no longer answer, and exits");
            anyhow::bail!("the ledger is lost: {why}");
        }
        () = stop.cancelled() => Ok(()),
    }
}

struct Bound {
    url: ListenUrl,
    listener: Box<dyn Accept>,
    tls: Option<ServerTls>,
}

async fn bind(options: &ServeOptions, environment: &Environment) -> Result<Vec<Bound>> {
    ensure!(
        !options.listen.is_empty(),
        "no address to listen on: set --listen"
    );
    let mut bound = Vec::new();
    for url in &options.listen {
        let tls = if url.tls {
            Some(ServerTls::open(&options.tls, environment.changes)?)
        } else {
            None
        };
        if tls.is_none() && !url.is_local() {
            warn!(%url, "this address is open to the network without TLS");
        }
        let listener = environment.listen.listen(url.address.clone()).await;
        let listener = listener.with_context(|| format!("listening on {url}"))?;
        let url = ListenUrl {
            address: listener.address()?,
            tls: url.tls,
        };
        bound.push(Bound { url, listener, tls });
    }
    Ok(bound)
}

fn advertised(options: &ServeOptions, bound: &[Bound]) -> Result<Vec<String>> {
    if options.advertise.is_empty() {
        return Ok(bound.iter().map(|bound| bound.url.to_string()).collect());
    }
    for url in &options.advertise {
        url.parse::<ListenUrl>()
            .context("--advertise-client-urls")?;
    }
    Ok(options.advertise.clone())
}

fn listen_all(
    listeners: Vec<Bound>,
    stack: &Stack,
    shared: &admin::Shared,
    workers: &Workers,
    stop: &CancellationToken,
    announce: &Announce,
) -> TaskTracker {
    let tasks = TaskTracker::new();
    for Bound { url, listener, tls } in listeners {
        announce(&format!("serving on {url}"));
        info!(%url, "serving");
        let (stack, stop) = (stack.clone(), stop.clone());
        let limits = Limits {
            open: shared.connections(),
            listener: url.to_string().into(),
            workers: workers.clone(),
            ..Limits::default()
        };
        let service = move |peer| stack.of(&peer);
        tasks.spawn(listen::serve(listener, tls, service, limits, stop));
    }
    tasks
}
