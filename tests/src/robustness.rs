//! Everything at once, in rounds: writers, leases, compactions and watchers that come and go. After
//! each round everything that anybody was told is held against etcd's promises and against what the
//! stores themselves say, and then forgotten, so that a run can be as long as wished.
//!
//! ```text
//!  state known ──> everybody works ──> leases end ──> watchers are complete ──> checks ──┐
//!       ^                                                                                │
//!       └────────────────────────────────────────────────────────────────────────────────┘
//! ```

mod counts;
mod load;
mod leases;
mod sweep;
mod viewer;
mod store;
mod trouble;
mod verdict;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use futures_util::future::join_all;
use keyloom_testkit::{
    history::{History, Recorder},
    program::{Chance, Group, Settings},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

pub use counts::Counts;
pub use trouble::{Amid, Trouble};

use self::{
    leases::Leases,
    load::{Compactor, Writer},
    store::StoreView,
    verdict::State,
    viewer::Viewer,
};
use crate::{Client, duel, poll, topology::Topology};

/// How many clients write, usually.
pub const WRITERS: u64 = 8;

/// What runs against what.
#[derive(Clone, Debug)]
pub struct Course {
    /// Keyloom.
    pub url: String,
    /// Its stores, in the order of the topology, as far as what they say themselves is to be held
    /// against what Keyloom's clients were told.
    pub stores: Vec<String>,
    pub topology: Topology,
    /// Whether a client may go on after the revision of any header that it saw on a watch: Keyloom
    /// promises that over several stores, etcd does not.
    pub headers_are_bookmarks: bool,
    /// The keys that are written; a group lies on one store.
    pub groups: Vec<Group>,
    pub amid: Amid,
    /// How many clients write.
    pub writers: u64,
    /// How many steps each writer makes in a round, at least.
    pub steps: usize,
    /// The longest pause of a writer between two steps.
    pub pause: Duration,
    /// How many changes of a round may lack the value before. etcd looks it up beside a compaction.
    pub values_lost: usize,
    /// Whether transactions that write may read at revisions of the past although there is trouble:
    /// no etcd keeps its promises then, once it is killed.
    pub pinned: bool,
}

/// A run of rounds.
#[derive(Debug)]
pub struct Run {
    course: Course,
    recorder: Recorder,
    seed: u64,
    viewers: Vec<Viewer>,
    compacted: Rc<Cell<i64>>,
    state: State,
    pub counts: Counts,
}

impl Run {
    /// Begins with what the endpoint holds now; nobody else may write.
    pub async fn begin(course: Course, seed: u64) -> Self {
        let recorder = Recorder::default();
        let state = State::read(&Client::new(&course.url)).await;
        // The generators of one run draw from seeds of their own, and those of another from others.
        let seed = Chance::new(duel::seed(seed)).next_number();
        let compacted = Rc::default();
        let viewer = |id| {
            let seed = seed.wrapping_add(id << 32);
            Viewer::new(id, &course.url, &recorder, seed, &compacted)
        };
        let viewers = (viewer::FIRST..viewer::FIRST + viewer::VIEWERS)
            .map(viewer)
            .collect();
        Self {
            course,
            recorder,
            seed,
            viewers,
            compacted,
            state,
            counts: Counts::default(),
        }
    }

    /// The endpoint is elsewhere now, and has everything as it was.
    pub async fn move_to(&mut self, url: &str) {
        url.clone_into(&mut self.course.url);
        for viewer in &mut self.viewers {
            viewer.move_to(url);
        }
        let state = State::read(&Client::new(url)).await;
        assert_eq!(state, self.state, "what is there after a move, and before");
    }

    /// One round, from a known state to the next.
    pub async fn round(&mut self) {
        self.round_amid(async |_| {}).await;
    }

    /// One round, with trouble while the clients write. When the trouble is over, everything must be
    /// there again.
    pub async fn round_amid(&mut self, make: impl AsyncFnOnce(&Trouble<'_>)) {
        let ready = self.viewers[0].ready();
        let forgotten = self.compacted.get();
        let course = &self.course;
        let leases = Rc::new(Leases::new(&course.url, &self.recorder));
        let (tell, told) = watch::channel(None);
        let writing = Cell::new(true);
        let stores = StoreView::open_all(&course.stores).await;
        let writers: Vec<_> = (0..course.writers)
            .map(|id| self.writer(id, &leases))
            .collect();
        let compactor = Compactor::new(&course.url, &self.recorder, self.state.revision());
        let forgets = RefCell::default();
        let trouble = Trouble {
            writing: &writing,
            recorder: &self.recorder,
            forgets: &forgets,
            leases: &leases,
        };
        let making = Cell::new(course.amid == Amid::WritingWhileTrouble);
        let work = async {
            timeout(LONG, ready.notified())
                .await
                .expect("a watch of everything");
            let write = async {
                join_all(
                    writers
                        .into_iter()
                        .map(|writer| writer.run(course, &making)),
                )
                .await;
                writing.set(false);
            };
            tokio::join!(
                write,
                compactor.run(&writing, &self.compacted),
                leases.run(&writing),
                sweep::run(&course.url, &self.recorder, &writing),
                async {
                    make(&trouble).await;
                    making.set(false);
                },
            );
            let client = Client::new(&course.url);
            leases.wait_until_gone(&client).await;
            if course.amid != Amid::Nothing {
                trouble::wait_for_quiet(&client).await;
            }
            // Whoever watches must come as far as this.
            tell.send_replace(Some(State::read(&client).await.revision()));
        };
        let (viewers, before) = (self.viewers.iter_mut(), self.state.revision());
        let viewers = join_all(viewers.map(|viewer| viewer.run(before, told.clone())));
        tokio::join!(work, viewers);
        let forgets = forgets.into_inner();
        let last = forgets.iter().map(|(_, revision)| *revision).max();
        self.judge(forgotten, forgets, &leases, stores).await;
        self.compacted
            .set(self.compacted.get().max(last.unwrap_or(0)));
    }

    /// After trouble nothing is under way any more: what is unknown has happened or never will.
    fn take_history(&self) -> History {
        if self.course.amid != Amid::Nothing {
            self.recorder.take_all()
        } else {
            self.recorder.take()
        }
    }

    fn writer(&self, id: u64, leases: &Rc<Leases>) -> Writer {
        let seed = self
            .seed
            .wrapping_add(self.counts.rounds * self.course.writers + id);
        let settings = Settings {
            spanning_writes: false,
            compactions: false,
            bad_requests: false,
            leases: vec![1],
            ..Settings::new(self.course.groups.clone())
        };
        let at = self.state.revision();
        Writer::new(id, seed, settings, at, &self.recorder, Rc::clone(leases))
    }

    async fn judge(
        &mut self,
        forgotten: i64,
        forgets: Vec<(u64, i64)>,
        leases: &Leases,
        stores: Vec<StoreView>,
    ) {
        let round = verdict::Round {
            forgotten,
            forgets,
            history: self.take_history(),
            before: &self.state,
            leases: leases.take(),
            topology: &self.course.topology,
            headers_are_bookmarks: self.course.headers_are_bookmarks,
            values_lost: self.course.values_lost,
        };
        let after = State::read(&Client::new(&self.course.url)).await;
        let replay = round.check(&after, &mut self.counts);
        for (store, view) in stores.into_iter().enumerate() {
            let mine = |key: &[u8]| self.course.topology.store_of(key) == store;
            view.compare(&replay, mine).await;
        }
        for viewer in &mut self.viewers {
            self.counts.viewed(viewer);
        }
        self.state = after;
        self.counts.rounds += 1;
        eprintln!("{}", self.counts);
    }
}

/// A pause that is part of the load.
async fn pause(chance: &mut Chance, longest: Duration) {
    let share = u32::try_from(chance.below(1_000)).expect("below 1,000");
    sleep(longest * share / 1_000).await;
}

/// How long anything may take that must come.
const LONG: Duration = poll::LONG;
