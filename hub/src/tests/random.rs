//! Random worlds: stores that write, answer and deliver in any interleaving, clients that read
//! slowly, come back and ask for progress; every watch against the plain log.

use keyloom_etcd_api::KeyRange;

use super::{
    chance::Chance,
    client::Client,
    world::{LATER, World},
};
use crate::Bounds;

const KEYS: [&[&str]; 4] = [
    &[
        "/registry/a/1",
        "/registry/a/2",
        "/registry/a/3",
        "/registry/m/a",
        "/registry/m/z",
        "/registry/zz",
    ],
    &["/registry/b/1", "/registry/b/2", "/registry/b/3"],
    &["/registry/c/1", "/registry/c/2"],
    &["/registry/m/x1", "/registry/m/x2", "/registry/m/xy"],
];
/// Keys that live elsewhere.
const STRAYS: [&str; 4] = [
    "/registry/b/1",
    "/registry/a/1",
    "/registry/m/x1",
    "/registry/c/2",
];
const RANGES: [(&str, &str); 12] = [
    ("/registry/a/", "/registry/a0"),
    ("/registry/b/", "/registry/b0"),
    ("/registry/a/1", ""),
    ("/registry/m/x1", ""),
    ("\0", "\0"),
    ("/registry/b/", "/registry/d"),
    ("/registry/a/2", "/registry/c/2"),
    ("/registry/m/", "/registry/m0"),
    ("/registry/m/x", "\0"),
    ("/_keyloom/", "/_keyloom0"),
    ("/registry/none", ""),
    ("/registry/c/1", "/registry/m/y"),
];

/// More were run while this was written.
const SEEDS: u64 = 500;

struct Run {
    seed: u64,
    chance: Chance,
    world: World,
    clients: Vec<Client>,
    compactions: bool,
    reroutes: bool,
}

fn bounds(chance: &mut Chance) -> Bounds {
    Bounds {
        history_bytes: 1 << 20,
        history_groups: *chance.of(&[2, 5, 20, 1000]),
        chase_bytes: *chance.of(&[1, 2000, 100_000]),
        batch_bytes: *chance.of(&[1, 300, 100_000]),
        batch_revisions: *chance.of(&[1, 3, 100]),
        stream_bytes: *chance.of(&[1, 500, 100_000]),
    }
}

impl Run {
    fn new(seed: u64, compactions: bool) -> Self {
        let mut chance = Chance::new(seed);
        let bases = [(); 4].map(|()| 1 + chance.below(6) as i64);
        let bounds = bounds(&mut chance);
        Self {
            seed,
            world: World::new(&bases, bounds),
            chance,
            clients: Vec::new(),
            compactions,
            reroutes: false,
        }
    }

    /// A key that lives on the store now, wherever it was at first; or a stray.
    fn key(&mut self, store: usize) -> &'static str {
        let all = KEYS.concat();
        let here = all.into_iter().filter(|key| {
            let index = keyloom_topology::StoreIndex(store as u16);
            self.world.topology.route(key.as_bytes()) == Some(index)
        });
        let here: Vec<_> = here.collect();
        match self.chance.below(8) {
            0 => STRAYS[store],
            _ if here.is_empty() => STRAYS[store],
            _ => self.chance.of::<&str>(&here),
        }
    }

    fn write(&mut self) {
        let store = self.chance.below(4);
        let mut keys = Vec::new();
        for _ in 0..1 + self.chance.below(3) {
            let key = self.key(store);
            if keys.iter().all(|(other, _)| *other != key) {
                keys.push((key, self.chance.one_in(4)));
            }
        }
        if store == 0 && self.chance.one_in(4) {
            keys = vec![("/_keyloom/ledger", false)];
        }
        self.world.write(store, &keys);
    }

    fn watch(&mut self) {
        let (key, end) = *self.chance.of(&RANGES);
        let range = KeyRange::from_request(&key.into(), &end.into());
        let head = self.world.ledger.head().get();
        let least = self.world.ledger.stores().map(|(_, s)| s.floor.get()).max();
        let start = match self.chance.below(5) {
            0 => 0,
            1 => head + self.chance.below(4) as i64,
            _ => (head - self.chance.below(30) as i64).max(least.unwrap_or(0).max(1)),
        };
        let previous = self.chance.one_in(2);
        if self.clients.is_empty() || (self.clients.len() < 5 && self.chance.one_in(3)) {
            self.clients.push(Client::new(&mut self.world));
        }
        let at = self.chance.below(self.clients.len());
        let world = &mut self.world;
        let known: Vec<_> = self
            .clients
            .iter()
            .map(|client| client.watches.len())
            .collect();
        if known[at] < 6 {
            self.clients[at].watch(world, range, start, previous);
        }
    }

    fn client(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let at = self.chance.below(self.clients.len());
        let client = &mut self.clients[at];
        match self.chance.below(12) {
            0 => client.reconnect(&mut self.world),
            1 => client.ask(&mut self.world),
            2 => client.tick(&mut self.world),
            _ => drop(client.read(&mut self.world, 1 + self.chance.below(6))),
        }
    }

    fn step(&mut self) {
        let store = self.chance.below(4);
        let most = 1 + self.chance.below(4);
        match self.chance.below(20) {
            0..5 => self.write(),
            5 => self.world.observe(store),
            6..10 => self.world.deliver(store, most, &mut self.chance),
            10 => self.watch(),
            11 => self.world.reopen(store),
            12 if self.compactions => {
                let back = self.chance.below(6) as i64;
                let at = self.world.stores[store].revision() - back;
                self.world.compact(store, at);
            }
            12 if self.reroutes => {
                let which = self.chance.below(LATER.len());
                self.world.reroute(which);
            }
            12..15 => drop(self.world.serve(most, &mut self.chance)),
            _ => self.client(),
        }
    }

    /// Everything is delivered and read.
    fn finish(&mut self) {
        for store in 0..4 {
            self.world.observe(store);
        }
        let (mut idle, mut rounds) = (0, 0);
        while idle < 60 {
            rounds += 1;
            assert!(rounds < 3000, "comes to no end");
            for store in 0..4 {
                self.world.reopen(store);
                self.world.deliver(store, 1000, &mut self.chance);
            }
            let mut busy = false;
            for _ in 0..8 {
                busy |= self.world.serve(1000, &mut self.chance);
            }
            for client in &mut self.clients {
                busy |= client.read(&mut self.world, 50);
            }
            idle = if busy { 0 } else { idle + 1 };
        }
    }

    fn check(&mut self) {
        let head = self.world.ledger.head().get();
        for client in &mut self.clients {
            for watch in client.watches.values() {
                watch.check(&self.world, true);
            }
            // Progress is answered at the head, whatever is watched: the future has nothing to say.
            let is_future = client.watches.values().any(|watch| watch.asked > head);
            client.progressed.clear();
            client.ask(&mut self.world);
            self.world.woken.insert(client.stream.id());
            client.read(&mut self.world, 10);
            let expected = (!is_future && !client.watches.is_empty()).then_some(head);
            assert_eq!(client.progressed.last().copied(), expected, "progress");
        }
    }
}

fn run(seed: u64, steps: usize, compactions: bool) -> (usize, usize) {
    run_it(Run::new(seed, compactions), steps)
}

fn run_it(mut run: Run, steps: usize) -> (usize, usize) {
    let told = format!("seed {}", run.seed);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..steps {
            run.step();
        }
        run.finish();
        run.check();
    }));
    assert!(outcome.is_ok(), "{told}");
    (run.world.chases, run.world.lost)
}

#[test]
fn every_watch_sees_the_log() {
    let chases: usize = (0..SEEDS).map(|seed| run(seed, 300, false).0).sum();
    assert!(chases > 500, "only {chases} chases");
}

#[test]
fn every_watch_sees_the_log_or_is_told_that_it_is_compacted() {
    let lost: usize = (0..SEEDS).map(|seed| run(seed, 300, true).1).sum();
    assert!(lost > 100, "only {lost} losses");
}

/// The routes change while everything goes on.
#[test]
fn every_watch_sees_the_log_while_keys_move() {
    let (mut chases, mut cancelled) = (0, 0);
    for seed in 0..SEEDS / 2 {
        let mut run = Run::new(seed, seed % 3 == 0);
        run.reroutes = true;
        let (more, lost) = run_it(run, 400);
        chases += more;
        cancelled += lost;
    }
    assert!(chases > 200 && cancelled > 10, "{chases} {cancelled}");
}
