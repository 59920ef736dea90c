//! Looks after a store in trouble until every endpoint is well again.
//!
//! One task per store, there only while something is wrong; it ends with the store. Each round it
//! asks the endpoints that are not well for their status, all at once, so that one that hangs
//! does not keep another from being found. Waits between rounds grow to a bound (`backoff.rs`).

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures_util::future::join_all;
use keyloom_etcd_api::Rpc;
use tokio::time::{Duration, Instant, sleep, timeout_at};

use super::{
    backoff::Backoff,
    endpoint::{Endpoint, Extra, Outgoing},
    health::EndpointState,
    store::{Core, answered, learn, trouble},
};
use keyloom_store::Lane;

/// How long a probe may take: more than any healthy store needs.
const PATIENCE: Duration = Duration::from_secs(3);

/// Makes sure that there is a prober.
pub(super) fn look_after(core: &Arc<Core>) {
    if !core.probing.swap(true, Ordering::AcqRel) {
        tokio::spawn(run(Arc::downgrade(core)));
    }
}

async fn run(core: Weak<Core>) {
    let mut backoff = Backoff::default();
    loop {
        let Some(wait) = core.upgrade().map(|core| backoff.next(core.random.next())) else {
            return;
        };
        sleep(wait).await;
        let Some(core) = core.upgrade() else {
            return;
        };
        probe(&core).await;
        if is_well(&core) {
            core.probing.store(false, Ordering::Release);
            // Trouble since the look above found a prober and left it at that.
            if is_well(&core) || core.probing.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}

fn is_well(core: &Core) -> bool {
    core.endpoints.iter().all(|endpoint| !in_trouble(endpoint)) && !core.breaker.lock().is_open()
}

fn in_trouble(endpoint: &Endpoint) -> bool {
    match endpoint.health.state() {
        EndpointState::Untried | EndpointState::Well => false,
        EndpointState::Unwell | EndpointState::Unreachable => true,
    }
}

async fn probe(core: &Arc<Core>) {
    // A breaker can be open over endpoints that seem well: then any of them may close it.
    let half_open = core.breaker.lock().start_probe();
    let all = core.endpoints.iter();
    let probes = all.filter(|endpoint| half_open || in_trouble(endpoint));
    join_all(probes.map(|endpoint| ask(core, endpoint))).await;
}

/// `Status` needs no permission, and with the demand for a leader a member that is cut off from
/// the others refuses it.
async fn ask(core: &Arc<Core>, endpoint: &Endpoint) {
    let pass = core.session.as_ref().map(|session| session.newest());
    let deadline = Instant::now() + PATIENCE;
    let call = Outgoing {
        rpc: Rpc::Status,
        message: &Bytes::new(),
        lane: Lane::Unary,
        deadline,
        extra: Extra {
            token: pass.as_ref().and_then(|pass| pass.token.as_ref()),
            needs_leader: true,
            metadata: None,
        },
    };
    let sent = AtomicBool::new(false);
    let answer = endpoint.call(call, || sent.store(true, Ordering::Relaxed));
    match timeout_at(deadline, answer).await {
        Ok(Ok(_)) => {
            let address = &endpoint.connector.address;
            tracing::info!(store = %core.name, endpoint = %address, "endpoint is healthy again");
            answered(core, endpoint);
        }
        Ok(Err(setback)) => {
            learn(core, endpoint, setback);
        }
        Err(_) => silent(core, endpoint, sent.load(Ordering::Relaxed)),
    }
}

/// No answer to a probe. The server may be stuck, or only the connection: the network may have
/// lost it and let new ones through. So the next probe gets a new one.
fn silent(core: &Arc<Core>, endpoint: &Endpoint, sent: bool) {
    let patience = PATIENCE.as_secs();
    if sent {
        let cause = format!("no answer to a probe within {patience} s");
        trouble(core, endpoint, EndpointState::Unwell, &cause);
        endpoint.leave_connections();
    } else {
        let cause = format!("no connection for a probe within {patience} s");
        trouble(core, endpoint, EndpointState::Unreachable, &cause);
    }
}
