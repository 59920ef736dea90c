//! What goes wrong, as a seed decides it, and how it is mended.

use std::time::Duration;

use keyloom_etcd_api::{EtcdError, Rpc, Status};
use keyloom_testkit::{model::Fault, program::Chance};

use crate::{drive::Drive, host::TICK, trace};

/// Something that is wrong for some time.
#[derive(Debug)]
struct Ailment {
    until: Duration,
    cure: Cure,
}

#[derive(Debug)]
enum Cure {
    Unblock(String, String),
    SpeedUp(String, String),
    StartStore(usize),
    Unhang(usize),
}

/// The faults of a run.
#[derive(Debug)]
pub(crate) struct Faults {
    chance: Chance,
    /// Milliseconds between two at most; 0 is none.
    every: i64,
    /// How often an instance is killed, paused or ended still.
    crashes: usize,
    next: Duration,
    ailments: Vec<Ailment>,
}

impl Faults {
    pub(crate) fn new(seed: u64, every: i64, crashes: bool) -> Self {
        let mut chance = Chance::new(seed ^ 0xfa_17);
        let most = if crashes { 1 + chance.below(5) } else { 0 };
        Self {
            chance,
            every,
            crashes: most,
            // First the clients find their way.
            next: Duration::from_secs(1),
            ailments: Vec::new(),
        }
    }

    /// What is due now.
    pub(crate) fn step(&mut self, drive: &mut Drive, now: Duration) {
        let (due, later) = std::mem::take(&mut self.ailments)
            .into_iter()
            .partition(|ailment| ailment.until <= now);
        self.ailments = later;
        cure(drive, due);
        if self.every == 0 || now < self.next {
            return;
        }
        let pause = self.chance.between(1, self.every).unsigned_abs();
        self.next = now + Duration::from_millis(pause);
        self.one(drive, now);
    }

    /// Mends everything.
    pub(crate) fn heal(&mut self, drive: &mut Drive) {
        cure(drive, std::mem::take(&mut self.ailments));
        self.every = 0;
        drive.heal();
    }

    fn for_some_time(&mut self, now: Duration, most: i64, cure: Cure) {
        let time = self.chance.between(100, most).unsigned_abs();
        let until = now + Duration::from_millis(time);
        trace::say(format_args!(
            "fault until {:.3}: {cure:?}",
            until.as_secs_f64()
        ));
        self.ailments.push(Ailment { until, cure });
    }

    fn one(&mut self, drive: &mut Drive, now: Duration) {
        if self.crashes > 0 && self.chance.percent(25) {
            self.crashes -= 1;
            self.crash(drive, now);
            return;
        }
        match self.chance.below(13) {
            0 | 1 => self.block(drive, now),
            2 => self.slow_down(drive, now),
            3 | 4 => self.break_a_connection(drive, true),
            5 => self.break_a_connection(drive, false),
            6 => {
                let at = self.a_store(drive);
                drive.kill_store(at);
                self.for_some_time(now, 4_000, Cure::StartStore(at));
            }
            7 => {
                let at = self.a_store(drive);
                drive.hang_store(at, true);
                self.for_some_time(now, 4_000, Cure::Unhang(at));
            }
            8 => self.lose_leader(drive),
            _ => self.lose_a_call(drive),
        }
    }

    fn a_store(&mut self, drive: &Drive) -> usize {
        self.chance.below(drive.stores.len())
    }

    /// A pair of hosts that talk to each other: a client and an instance, or that and a store.
    fn a_link(&mut self, drive: &Drive) -> (String, String) {
        let instance = self.chance.below(drive.instances.len());
        let instance = drive.instances.get(instance).map(|it| it.host.name.clone());
        let other = if self.chance.percent(65) {
            let at = self.a_store(drive);
            drive.stores.get(at).map(|store| store.host.clone())
        } else {
            let clients = [0, 1, 2, 10, 11, 20, 22, 50, 51, 52, 53];
            let client = self.chance.pick(&clients).copied().unwrap_or(0);
            Some(format!("client-{client}"))
        };
        let link = (instance.unwrap_or_default(), other.unwrap_or_default());
        if self.chance.percent(50) {
            (link.1, link.0)
        } else {
            link
        }
    }

    fn block(&mut self, drive: &Drive, now: Duration) {
        let (from, to) = self.a_link(drive);
        drive.net.block(&from, &to, true);
        if self.chance.percent(60) {
            drive.net.block(&to, &from, true);
            self.for_some_time(now, 5_000, Cure::Unblock(to.clone(), from.clone()));
        }
        self.for_some_time(now, 5_000, Cure::Unblock(from, to));
    }

    fn slow_down(&mut self, drive: &Drive, now: Duration) {
        let (from, to) = self.a_link(drive);
        let by = self.chance.between(20, 1_500);
        drive.net.slow_down(&from, &to, by);
        self.for_some_time(now, 3_000, Cure::SpeedUp(from, to));
    }

    /// With a reset, or so that nobody notices.
    fn break_a_connection(&mut self, drive: &Drive, reset: bool) {
        let (from, to) = self.a_link(drive);
        let links = drive.net.links(&from, &to);
        let Some(link) = self.chance.pick(&links) else {
            return;
        };
        trace::say(format_args!("fault: reset {reset}: {link:?}"));
        if reset {
            drive.net.reset(link.number);
        } else {
            drive.net.vanish(link.number);
            if self.chance.percent(50) {
                drive.net.vanish(link.number ^ 1);
            }
        }
    }

    fn lose_leader(&mut self, drive: &Drive) {
        let at = self.a_store(drive);
        let Some(store) = drive.stores.get(at) else {
            return;
        };
        trace::say(format_args!("fault: {} has another leader", store.host));
        store.lose_leader(EtcdError::NoLeader.into());
        for _ in 0..self.chance.below(6) {
            let errors = [EtcdError::NoLeader, EtcdError::LeaderChanged];
            let error = self.chance.pick(&errors).copied();
            let status: Status = error.unwrap_or(EtcdError::NoLeader).into();
            store.model.inject(Fault::Refused(status));
        }
    }

    /// A call that is lost before or after it takes effect.
    fn lose_a_call(&mut self, drive: &Drive) {
        let at = self.a_store(drive);
        let Some(store) = drive.stores.get(at) else {
            return;
        };
        let rpcs = [
            Rpc::Txn,
            Rpc::Txn,
            Rpc::Txn,
            Rpc::Put,
            Rpc::Range,
            Rpc::Compact,
            Rpc::Watch,
        ];
        let rpc = self.chance.pick(&rpcs).copied().unwrap_or(Rpc::Txn);
        let fault = match self.chance.below(3) {
            0 => Fault::LostBeforeApply,
            _ => Fault::LostAfterApply,
        };
        trace::say(format_args!("fault: {} and {rpc:?}: {fault:?}", store.host));
        store.model.inject_on(rpc, 1, fault);
    }

    // === the instances ===

    fn crash(&mut self, drive: &mut Drive, now: Duration) {
        let at = self.chance.below(drive.instances.len());
        match self.chance.below(8) {
            0..3 => {
                let turns = self.chance.between(20, 1_200).unsigned_abs();
                let turns = u32::try_from(turns).unwrap_or(20);
                drive.pause(at, turns);
                trace::say(format_args!("fault: {at} pauses for {:?}", TICK * turns));
            }
            3 => drive.kill(at, false, now),
            4 => drive.kill(at, true, now),
            5 | 6 => {
                let (calls, applies) = (self.chance.between(0, 3), self.chance.percent(60));
                drive.kill_at_write(calls, applies);
                trace::say(format_args!(
                    "fault: killed {calls} writes of the ledger from now"
                ));
            }
            _ => drive.end(at),
        }
    }
}

fn cure(drive: &mut Drive, ailments: Vec<Ailment>) {
    for Ailment { cure, .. } in ailments {
        match cure {
            Cure::Unblock(from, to) => drive.net.block(&from, &to, false),
            Cure::SpeedUp(from, to) => drive.net.slow_down(&from, &to, 0),
            Cure::StartStore(at) => drive.start_store(at),
            Cure::Unhang(at) => drive.hang_store(at, false),
        }
    }
}
