//! Drives a run: gives the hosts their turns, and ends and starts what the faults say.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use keyloom_testkit::program::Chance;
use tokio::runtime::Runtime;

use crate::{
    conduct::{Signals, conduct},
    faults::Faults,
    host::{Host, TICK},
    judge::{Findings, judge},
    keyloom::{self, Instance, Setup},
    net::Net,
    plan::Plan,
    reloads::Reloads,
    stage::Stage,
    stores::SimStore,
    trace,
    watchdog::Watchdog,
};

/// How long everything may take to be well again, once nothing goes wrong any more.
const RECOVERY: Duration = Duration::from_secs(180);

/// How long things go wrong at most.
const MOST_TROUBLE: Duration = Duration::from_secs(45);

/// A machine for a Keyloom, and the Keyloom on it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) host: Host,
    instance: Option<Instance>,
    /// When the next one may begin at the earliest.
    next: Duration,
    /// Whether the machine was without power.
    dark: bool,
    /// Whether its instance was seen to serve.
    met: bool,
}

/// A run.
#[derive(Debug)]
pub(crate) struct Drive {
    pub(crate) net: Net,
    pub(crate) stores: Vec<Arc<SimStore>>,
    pub(crate) instances: Vec<Place>,
    world: Host,
    setup: Setup,
    chance: Chance,
    signals: Signals,
    /// The place of the instance that served last.
    serving: Option<usize>,
    begun: u64,
    seed: u64,
    /// Whether half-open connections stay so in the end.
    patient: bool,
    now: Duration,
}

/// What became of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) hash: u64,
    pub(crate) simulated: Duration,
    pub(crate) findings: Findings,
}

/// Runs a plan to its end.
pub(crate) fn run(plan: &Plan, folder: &Path) -> Result<Outcome> {
    trace::say(format_args!("{plan:?}"));
    let mut drive = Drive::new(plan, folder)?;
    let hosts = drive.instances.iter().map(|it| it.host.name.clone());
    let stage = Stage::new(hosts.collect());
    let reloads = Reloads::new(plan, drive.setup.topology.clone());
    std::fs::write(&drive.setup.topology, plan.topology(None))?;
    drive.begin(plan, &stage)?;
    let mut faults = Faults::new(plan.seed, plan.fault_every, plan.crashes);
    let followers = drive.until_done(&mut faults, reloads)?;
    let findings = match followers {
        Some(followers) => judge(plan, stage.segments(), &followers, &drive.stores),
        None => Findings {
            broken: vec![format!(
                "liveness: not well again {RECOVERY:?} after the last fault"
            )],
            ..Findings::default()
        },
    };
    for broken in &findings.broken {
        trace::say(format_args!("{broken}"));
    }
    for store in &drive.stores {
        trace::say(format_args!("{}: {:?}", store.host, store.log()));
    }
    let simulated = drive.now;
    drive.end_all();
    Ok(Outcome {
        hash: trace::hash(),
        simulated,
        findings,
    })
}

impl Drive {
    fn new(plan: &Plan, folder: &Path) -> Result<Self> {
        let names = plan.stores();
        let stores = names.iter().zip(&plan.versions).zip(1..);
        let stores = stores
            .map(|((name, version), number)| Arc::new(SimStore::new(name, number, version)))
            .collect();
        let places: &[&str] = if plan.standby {
            &["keyloom-a", "keyloom-b"]
        } else {
            &["keyloom-a"]
        };
        let mut chance = Chance::new(plan.seed ^ 0xd217e);
        let mut place = |name: &&str| {
            let mut host = Host::new(name);
            host.drift(chance.between(0, 3_000).unsigned_abs());
            Place {
                host,
                instance: None,
                next: Duration::ZERO,
                dark: false,
                met: false,
            }
        };
        Ok(Self {
            net: Net::new(plan.seed ^ 0x4e7, plan.latency),
            stores,
            instances: places.iter().map(&mut place).collect(),
            world: Host::new("world"),
            setup: Setup {
                topology: folder.join("topology.yaml"),
                leadership_duration: plan.leadership_duration,
                watch: plan.watch.clone(),
            },
            chance,
            signals: Signals::default(),
            serving: None,
            begun: 0,
            seed: plan.seed,
            patient: plan.patient,
            now: Duration::ZERO,
        })
    }

    fn begin(&mut self, plan: &Plan, stage: &Stage) -> Result<()> {
        let (stores, net) = (self.stores.clone(), self.net.clone());
        let clients = conduct(
            plan.clone(),
            stage.clone(),
            net.clone(),
            self.signals.clone(),
            stores.clone(),
        );
        self.world.start(async move {
            for store in &stores {
                store.start(&net);
            }
            clients.await;
        })
    }

    /// Until the clients are done; `None` where that takes too long.
    fn until_done(
        &mut self,
        faults: &mut Faults,
        mut reloads: Reloads,
    ) -> Result<Option<Vec<crate::truth::Follower>>> {
        let watchdog = Watchdog::new(self.seed);
        let mut healed_at = None;
        let mut second = Duration::ZERO;
        loop {
            self.now += TICK;
            trace::at(self.now);
            watchdog.at(self.now);
            self.net.deliver(self.now);
            if self.now >= second && healed_at.is_none() {
                second += Duration::from_secs(1);
                self.let_leases_age();
            }
            if self.signals.is_healing() || self.now > MOST_TROUBLE {
                if healed_at.is_none() {
                    healed_at = Some(self.now);
                    trace::say(format_args!("everything is mended"));
                    faults.heal(self);
                    reloads.heal()?;
                }
            } else {
                let now = self.now;
                faults.step(self, now);
                reloads.step(now)?;
            }
            self.look_after_instances()?;
            self.turns();
            if let Some(followers) = self.signals.over() {
                return Ok(Some(followers));
            }
            if healed_at.is_some_and(|healed| self.now > healed + RECOVERY) {
                return Ok(None);
            }
        }
    }

    /// In an order that the seed decides.
    fn turns(&mut self) {
        let world_first = self.chance.percent(50);
        if world_first {
            self.world.turn();
        }
        let turned = self.chance.percent(50);
        if turned {
            self.instances
                .iter_mut()
                .rev()
                .for_each(|it| it.host.turn());
        } else {
            self.instances.iter_mut().for_each(|it| it.host.turn());
        }
        if !world_first {
            self.world.turn();
        }
    }

    fn let_leases_age(&self) {
        for store in self.stores.iter().filter(|store| store.is_running()) {
            store.model.with(|etcd| etcd.advance(1));
            store.look();
        }
    }

    // === the instances ===

    /// Starts what is not there, and notices what ended and who serves.
    fn look_after_instances(&mut self) -> Result<()> {
        self.kill_where_written();
        for at in 0..self.instances.len() {
            let Some(place) = self.instances.get_mut(at) else {
                continue;
            };
            let Some(instance) = &place.instance else {
                self.start_instance(at)?;
                continue;
            };
            if instance.ended().is_some() {
                let served = self.serving == Some(at);
                place.instance = None;
                let process = place.host.kill();
                let pause = self.chance.between(0, 2_000).unsigned_abs();
                place.next = self.now + Duration::from_millis(pause);
                drop(process);
                if served {
                    // Also where it ended in good order: its last write may have been lost, and
                    // revisions that nobody ordered (leases that end) have no known place then.
                    self.serving = None;
                    self.signals.lost();
                }
            } else if instance.is_ready() && !place.met {
                place.met = true;
                trace::say(format_args!("{at} serves"));
                if self.serving.is_some() {
                    // The one before did not end in good order.
                    self.signals.lost();
                }
                self.serving = Some(at);
            }
        }
        Ok(())
    }

    fn start_instance(&mut self, at: usize) -> Result<()> {
        // Where the order may be lost, nobody may call one instance and be answered by the next.
        let wait = self.signals.is_lost() && !self.signals.is_quiet();
        let Some(place) = self.instances.get_mut(at) else {
            return Ok(());
        };
        if self.now < place.next || wait {
            return Ok(());
        }
        if std::mem::take(&mut place.dark) {
            self.net.forget_old(&place.host.name);
        }
        self.begun += 1;
        let seed = self.seed.wrapping_mul(1_000).wrapping_add(self.begun);
        trace::say(format_args!("{at} begins"));
        let (instance, main) = keyloom::instance(&place.host.name, seed, &self.setup, &self.net);
        place.instance = Some(instance);
        place.met = false;
        place.host.start(main)
    }

    /// Kills an instance, or takes the power from its machine.
    pub(crate) fn kill(&mut self, at: usize, dark: bool, now: Duration) {
        let Some(place) = self.instances.get_mut(at) else {
            return;
        };
        let Some(process) = place.host.kill() else {
            return;
        };
        trace::say(format_args!("fault: {at} is killed; without power: {dark}"));
        if dark {
            self.net.power_off(&place.host.name);
        } else {
            self.net.close_all(&place.host.name);
        }
        place.dark = dark;
        place.instance = None;
        let pause = self.chance.between(0, 3_000).unsigned_abs();
        place.next = now + Duration::from_millis(pause);
        drop(process);
        if self.serving == Some(at) {
            self.serving = None;
            self.signals.lost();
        }
    }

    /// The instance is killed when it has sent this many more writes of its own; of the last one
    /// it hears nothing any more.
    pub(crate) fn kill_at_write(&mut self, calls: i64, applies: bool) {
        if let Some(default) = self.stores.first() {
            default.lie_in_wait(calls, applies);
        }
    }

    fn kill_where_written(&mut self) {
        let caught = self.stores.first().is_some_and(|store| store.was_caught());
        if caught {
            let at = self.serving.unwrap_or(0);
            self.kill(at, false, self.now);
        }
    }

    /// Ends an instance in good order.
    pub(crate) fn end(&mut self, at: usize) {
        let place = self.instances.get(at);
        if let Some(instance) = place.and_then(|place| place.instance.as_ref()) {
            trace::say(format_args!("fault: {at} is to end"));
            instance.stop.cancel();
        }
    }

    pub(crate) fn pause(&mut self, at: usize, turns: u32) {
        if let Some(place) = self.instances.get_mut(at) {
            place.host.pause(turns);
        }
    }

    // === the stores ===

    pub(crate) fn kill_store(&mut self, at: usize) {
        if let Some(store) = self.stores.get(at) {
            store.kill(&self.net);
        }
    }

    pub(crate) fn start_store(&mut self, at: usize) {
        if let Some(store) = self.stores.get(at)
            && !store.is_running()
        {
            let (store, net) = (Arc::clone(store), self.net.clone());
            self.world.enter(|| store.start(&net));
        }
    }

    pub(crate) fn hang_store(&mut self, at: usize, hung: bool) {
        if let Some(store) = self.stores.get(at) {
            store.hang(hung);
        }
    }

    /// Whatever is wrong is right again.
    pub(crate) fn heal(&mut self) {
        self.net.heal(self.patient);
        for at in 0..self.stores.len() {
            self.start_store(at);
            self.hang_store(at, false);
            if let Some(store) = self.stores.get(at) {
                store.model.clear_faults();
                store.stop_waiting();
            }
        }
        for place in &mut self.instances {
            place.host.go_on();
            place.next = self.now;
        }
    }

    fn end_all(self) {
        let mut processes: Vec<Option<Runtime>> = Vec::new();
        for mut place in self.instances {
            processes.push(place.host.kill());
        }
        let mut world = self.world;
        processes.push(world.kill());
        drop(processes);
    }
}
