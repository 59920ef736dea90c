//! From a known state to the next: lets the clients work, and has the segments begin and end.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use keyloom_etcd_api::etcdserverpb::RangeRequest;
use keyloom_testkit::{Answer, Step};
use parking_lot::Mutex;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    client::Client,
    net::Net,
    plan::Plan,
    stage::{Known, Phase, Stage},
    stores::SimStore,
    trace,
    traffic::{foreign, general, kubernetes, leases, viewer::Viewer},
    truth::Follower,
};

/// After this everything has arrived that will.
const LATE: Duration = Duration::from_secs(6);

/// The same where connections may be half-open: they are noticed when pings are not answered.
const VERY_LATE: Duration = Duration::from_secs(60);

/// What the conductor and the driver tell each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signals(Arc<Mutex<SignalState>>);

#[derive(Debug, Default)]
struct SignalState {
    /// An instance ended without its good order, and another one has not been met since.
    lost: bool,
    /// Nobody calls any more; another instance may begin.
    quiet: bool,
    /// Nobody calls before a new segment has begun.
    resting: bool,
    /// Whether everything is to be mended and nothing broken any more.
    healing: bool,
    over: Option<Vec<Follower>>,
}

impl Signals {
    /// The instance that served has ended, not in good order.
    pub(crate) fn lost(&self) {
        let mut state = self.0.lock();
        (state.lost, state.quiet) = (true, state.resting);
    }

    /// Whether another instance may begin.
    pub(crate) fn is_quiet(&self) -> bool {
        self.0.lock().quiet
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.0.lock().lost
    }

    pub(crate) fn is_healing(&self) -> bool {
        self.0.lock().healing
    }

    pub(crate) fn over(&self) -> Option<Vec<Follower>> {
        self.0.lock().over.take()
    }
}

/// Runs everything that the clients do.
pub(crate) async fn conduct(
    plan: Plan,
    stage: Stage,
    net: Net,
    signals: Signals,
    stores: Vec<Arc<SimStore>>,
) {
    let followers = match all(&plan, &stage, &net, &signals, stores).await {
        Ok(followers) => followers,
        Err(error) => {
            trace::say(format_args!("the conductor gives up: {error:#}"));
            return;
        }
    };
    signals.0.lock().over = Some(followers);
}

async fn all(
    plan: &Plan,
    stage: &Stage,
    net: &Net,
    signals: &Signals,
    stores: Vec<Arc<SimStore>>,
) -> Result<Vec<Follower>> {
    let mut reader = Client::new(99, plan.seed, stage, net)?;
    signals.0.lock().resting = true;
    stage.begin_with(read_all(&mut reader).await);
    signals.0.lock().resting = false;
    let mut viewers = viewers(plan, stage, net)?;
    writers(plan, stage, net)?;
    if plan.foreign {
        let id = 30;
        let client = Client::new(id, plan.seed.wrapping_mul(64) + id, stage, net)?;
        tokio::spawn(foreign::run(client, plan.clone(), stores));
    }
    stage.go(Phase::Work);
    let end = Instant::now() + plan.work;
    while Instant::now() < end || signals.is_lost() {
        if signals.is_lost() || stage.has_lost_its_witness() {
            new_segment(stage, &mut reader, signals).await;
        }
        sleep(Duration::from_millis(10)).await;
    }
    trace::say(format_args!("the work is done"));
    signals.0.lock().healing = true;
    stage.rest().await;
    // Writes of which nothing was heard may be under way still.
    sleep(if plan.patient { VERY_LATE } else { LATE }).await;
    loop {
        // What was begun may be lost still.
        if signals.is_lost() || stage.has_lost_its_witness() {
            new_segment(stage, &mut reader, signals).await;
            stage.rest().await;
        }
        let known = read_all(&mut reader).await;
        if signals.is_lost() {
            continue;
        }
        trace::say(format_args!("the end is at {}", known.revision));
        stage.go(Phase::Finish(known.revision));
        let mut followers = Vec::new();
        while let Some(done) = viewers.join_next().await {
            followers.extend(done?);
        }
        stage.end_with(known);
        stage.go(Phase::Over);
        return Ok(followers);
    }
}

async fn new_segment(stage: &Stage, reader: &mut Client, signals: &Signals) {
    stage.rest().await;
    stage.cut();
    {
        let mut state = signals.0.lock();
        (state.lost, state.quiet, state.resting) = (false, true, true);
    }
    let known = read_all(reader).await;
    signals.0.lock().resting = false;
    trace::say(format_args!("a segment begins at {}", known.revision));
    stage.begin_with(known);
    stage.go(Phase::Work);
}

/// Every key, at a time when nobody writes; waits until that can be told.
async fn read_all(client: &mut Client) -> Known {
    let step = Step::Range(RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..RangeRequest::default()
    });
    loop {
        let asked = timeout(Duration::from_secs(5), client.step(&step)).await;
        if let Ok(Ok(Answer::Range(answer))) = asked {
            return Known {
                revision: answer.header.map_or(0, |header| header.revision),
                keys: answer.kvs,
            };
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn viewers(plan: &Plan, stage: &Stage, net: &Net) -> Result<JoinSet<Vec<Follower>>> {
    let mut set = JoinSet::new();
    for id in 50..54 {
        let seed = plan.seed.wrapping_mul(64) + id;
        let client = Client::new(id, seed, stage, net)?;
        let slow = if id == 53 { 400 } else { 0 };
        set.spawn(Viewer::new(client, id == 50, slow).run());
    }
    Ok(set)
}

fn writers(plan: &Plan, stage: &Stage, net: &Net) -> Result<()> {
    let client = |id: u64| Client::new(id, plan.seed.wrapping_mul(64) + id, stage, net);
    for id in 0..3 {
        tokio::spawn(general::run(
            client(id)?,
            plan.seed.wrapping_mul(64) + 32 + id,
            plan.pause,
        ));
    }
    for id in 10..12 {
        tokio::spawn(kubernetes::write(client(id)?, plan.pause));
    }
    tokio::spawn(kubernetes::list(client(20)?, plan.pause * 4));
    tokio::spawn(leases::run(client(22)?, plan.pause * 3));
    if plan.compacts {
        for id in [23, 24] {
            tokio::spawn(kubernetes::compact(client(id)?, plan.pause * 8));
        }
    }
    Ok(())
}
