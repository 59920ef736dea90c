//! Leases that are granted, kept alive, revoked, and that expire.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use futures_util::future::join_all;
use keyloom_etcd_api::{
    Code,
    etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, PutRequest},
};
use keyloom_etcd_client::Answered as _;
use keyloom_testkit::{Step, history::Recorder, program::Chance};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{Client, poll, split::everything};

/// How many are alive at the same time.
const AT_ONCE: u64 = 4;

/// In seconds: for those that expire, and for those that are revoked before.
const SHORT: i64 = 2;
const LONG: i64 = 300;

/// Folders of which each is on another store.
const FOLDERS: [&str; 3] = [
    "/registry/secrets/default/",
    "/registry/secrets/tenant-a/",
    "/registry/pods/default/",
];

/// The id of its puts in the history.
const LESSEE: u64 = 91;

/// What is known of a lease.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) id: i64,
    /// It cannot have ended before on the default store.
    pub(super) ends_from: Instant,
    /// Nor before this on the others: a keep-alive does not wait long for a store that is late.
    pub(super) ends_elsewhere_from: Instant,
    pub(super) revoked: bool,
    /// When the answer to its revocation had arrived, by the recorder's clock, and its revision.
    pub(super) ended: Option<(u64, i64)>,
}

/// What became of a round's leases.
#[derive(Debug, Default)]
pub(super) struct Lived {
    pub(super) leases: Vec<Lease>,
    /// Times by the recorder's clock and by that of the machine, both growing.
    pub(super) ticks: Vec<(u64, Instant)>,
}

/// The leases of a round.
#[derive(Debug)]
pub(super) struct Leases {
    client: Client,
    recorder: Recorder,
    lived: RefCell<Lived>,
}

impl Leases {
    pub(super) fn new(url: &str, recorder: &Recorder) -> Self {
        Self {
            client: Client::new(url),
            recorder: recorder.clone(),
            lived: RefCell::default(),
        }
    }

    /// One that is alive, or was; 0 where there was none yet.
    pub(super) fn one(&self, chance: &mut Chance) -> i64 {
        let lived = self.lived.borrow();
        let newest = lived.leases.len().saturating_sub(8);
        let lease = chance.pick(lived.leases.get(newest..).unwrap_or(&[]));
        lease.map_or(0, |lease| lease.id)
    }

    /// Grants and ends leases for as long as somebody writes, and ends the last ones after that.
    pub(super) async fn run(&self, writing: &Cell<bool>) {
        let lives = async {
            join_all((0..AT_ONCE).map(|seed| async move {
                let mut chance = Chance::new(seed.wrapping_add(self.recorder.now()));
                while writing.get() {
                    self.live(&mut chance, writing).await;
                }
            }))
            .await;
        };
        tokio::pin!(lives);
        loop {
            self.tick();
            tokio::select! {
                _ = &mut lives => break,
                () = sleep(Duration::from_millis(20)) => {}
            }
        }
    }

    fn tick(&self) {
        // First the recorder's: what had arrived by then had arrived by the machine's time too.
        let tick = (self.recorder.now(), Instant::now());
        self.lived.borrow_mut().ticks.push(tick);
    }

    async fn live(&self, chance: &mut Chance, writing: &Cell<bool>) {
        let revoked = chance.percent(60);
        let ttl = if revoked { LONG } else { SHORT };
        let asked = Instant::now();
        let grant = LeaseGrantRequest { ttl, id: 0 };
        let Ok(granted) = self.client.lease().lease_grant(grant).await else {
            return sleep(Duration::from_millis(100)).await;
        };
        let granted = granted.into_inner();
        let place = self.push(Lease {
            id: granted.id,
            ends_from: asked + seconds(granted.ttl),
            ends_elsewhere_from: asked + seconds(granted.ttl),
            revoked,
            ended: None,
        });
        self.hang_keys_on(granted.id, place).await;
        let mut beats = chance.between(0, 3);
        while beats > 0 && writing.get() {
            sleep(Duration::from_millis(600)).await;
            self.keep_alive(place, granted.id).await;
            beats -= 1;
        }
        if revoked {
            sleep(Duration::from_millis(400)).await;
            self.revoke(place, granted.id).await;
        } else {
            let ends = self.lived.borrow().leases[place].ends_from;
            sleep_until(ends).await;
        }
    }

    /// Puts keys that nobody else writes, on one store after the other.
    async fn hang_keys_on(&self, lease: i64, place: usize) {
        for folder in FOLDERS.iter().cycle().skip(place).take(2) {
            let step = Step::Put(PutRequest {
                key: format!("{folder}lease-{place}").into(),
                lease,
                ..PutRequest::default()
            });
            let recording = self.recorder.begin(LESSEE, step.clone());
            recording.end(self.client.step(&step).await);
        }
    }

    fn push(&self, lease: Lease) -> usize {
        let leases = &mut self.lived.borrow_mut().leases;
        leases.push(lease);
        leases.len() - 1
    }

    fn change(&self, place: usize, change: impl FnOnce(&mut Lease)) {
        change(&mut self.lived.borrow_mut().leases[place]);
    }

    async fn keep_alive(&self, place: usize, id: i64) {
        let asked = Instant::now();
        if let Ok(Some(answer)) = self.client.keep_alive(id).await
            && answer.ttl > 0
        {
            self.change(place, |lease| lease.ends_from = asked + seconds(answer.ttl));
        }
    }

    async fn revoke(&self, place: usize, id: i64) {
        self.change(place, |lease| {
            lease.ends_from = Instant::now();
            lease.ends_elsewhere_from = lease.ends_from;
        });
        // Where a store is away it can be repeated, and must be: the lease is a long one.
        let answer = poll::eventually("the end of a lease", || async {
            let request = LeaseRevokeRequest { id };
            match self.client.lease().lease_revoke(request).await.answered() {
                Ok(answer) => Ok(Some(answer)),
                // Only an attempt before can have done it.
                Err(status) if status.code() == Code::NotFound => Ok(None),
                Err(status) => Err(status.to_string()),
            }
        })
        .await;
        let revision = answer.and_then(|answer| Some(answer.header?.revision));
        let now = self.recorder.now();
        self.change(place, |lease| lease.ended = revision.map(|at| (now, at)));
    }

    /// Waits until no key has a lease.
    pub(super) async fn wait_until_gone(&self, client: &Client) {
        poll::eventually("the end of all keys with leases", || async {
            self.tick();
            let keys = client.kv().range(everything(0)).await;
            let keys = keys.map_err(|status| status.to_string())?.into_inner();
            match keys.kvs.into_iter().find(|kv| kv.lease != 0) {
                None => Ok(()),
                Some(kv) => Err(format!("{kv:?}")),
            }
        })
        .await;
        self.tick();
    }

    pub(super) fn take(&self) -> Lived {
        self.lived.take()
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).expect("no lease has a negative time to live"))
}
