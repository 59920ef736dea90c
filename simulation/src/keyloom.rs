//! The program itself, as `keyloom serve` runs it, with a network and a clock that are simulated.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use keyloom_environment::{Address, SeededRandom};
use keyloom_proxy::{
    AdmissionLimits, Environment, FileChanges, ListenUrl, RenewOn, ServeOptions, TlsFiles,
    WatchOptions, serve,
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{net::Net, trace};

/// What an instance is told, and says.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) stop: CancellationToken,
    said: Arc<Mutex<InstanceState>>,
}

#[derive(Debug, Default)]
struct InstanceState {
    ready: bool,
    ended: Option<String>,
}

impl Instance {
    /// Whether it serves calls, or has done so.
    pub(crate) fn is_ready(&self) -> bool {
        self.said.lock().ready
    }

    /// How it ended, once it has.
    pub(crate) fn ended(&self) -> Option<String> {
        self.said.lock().ended.clone()
    }
}

/// How instances are set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) topology: PathBuf,
    pub(crate) leadership_duration: Duration,
    pub(crate) watch: WatchOptions,
}

/// A new instance, and what its process runs.
pub(crate) fn instance(
    host: &str,
    seed: u64,
    setup: &Setup,
    net: &Net,
) -> (Instance, impl Future<Output = ()> + Send + use<>) {
    let instance = Instance {
        stop: CancellationToken::new(),
        said: Arc::default(),
    };
    let address = Address::Tcp {
        host: host.to_owned(),
        port: 2379,
    };
    let options = ServeOptions {
        topology: Some(setup.topology.clone()),
        endpoint: None,
        listen: vec![ListenUrl {
            address,
            tls: false,
        }],
        admin: None,
        advertise: Vec::new(),
        tls: TlsFiles::default(),
        leadership_duration: setup.leadership_duration,
        watch: setup.watch.clone(),
        restored: BTreeMap::new(),
        stop_if_refused: false,
        admission: AdmissionLimits::default(),
        max_request_bytes: 1536 << 10,
        access_log: false,
    };
    let environment = Environment {
        dial: Arc::new(net.of(host)),
        listen: Arc::new(net.of(host)),
        random: Arc::new(SeededRandom::new(seed)),
        changes: FileChanges::Looked,
        renew_on: RenewOn::ThisRuntime,
        workers: keyloom_proxy::Workers::default(),
    };
    let (said, stop, name) = (
        Arc::clone(&instance.said),
        instance.stop.clone(),
        host.to_owned(),
    );
    let heard = Arc::clone(&said);
    let announce = Box::new(move |line: &str| {
        if line == "ready" {
            heard.lock().ready = true;
        }
    });
    let main = async move {
        let ended = serve(options, environment, announce, stop).await;
        let how = ended.map_or_else(
            |error| format!("{error:#}"),
            |()| "in good order".to_owned(),
        );
        trace::say(format_args!("{name} ends: {how}"));
        said.lock().ended = Some(how);
    };
    (instance, main)
}
