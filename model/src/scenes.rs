//! The scenes: which steps may happen, and how often.

use crate::{
    step::Reach,
    told::Told,
    variant::Without,
    world::{Budget, Cache, Instance, Key, MOVING, Seen, Slot, Store, World},
};

/// What is explored.
#[derive(Clone, Debug)]
pub struct Scene {
    pub name: &'static str,
    pub instances: usize,
    pub keys: Vec<Key>,
    /// The ranges of the caches.
    pub caches: Vec<Vec<Key>>,
    pub budget: Budget,
    /// Whether a store that is taken back has another cluster id then.
    pub new_cluster: bool,
    pub reaches: Vec<Reach>,
    pub without: Without,
}

impl Scene {
    pub fn without(mut self, rule: Without) -> Self {
        self.without = rule;
        self
    }

    pub(crate) fn begin(&self) -> World {
        let store = || Store {
            log: Vec::new(),
            compacted: 0,
            cluster: 0,
            kept: None,
            backup: None,
            had: 0,
        };
        let mut world = World {
            stores: [store(), store()],
            instances: vec![Instance::down(); self.instances],
            calls: Vec::new(),
            own: Vec::new(),
            caches: self
                .caches
                .iter()
                .map(|keys| Cache {
                    keys: keys.clone(),
                    has: None,
                    watching: None,
                })
                .collect(),
            told: Told::default(),
            budget: self.budget,
            ids: 0,
            nonces: 0,
            went_back: false,
            seen: Seen::default(),
            broken: None,
        };
        world.first_ledger();
        world
    }

    /// Others write where a key lives, and the moving one on both stores.
    pub(crate) fn others_write(&self, key: Key, slot: Slot) -> bool {
        key == slot || key == MOVING
    }
}

fn scene(name: &'static str, budget: Budget) -> Scene {
    Scene {
        name,
        instances: 1,
        keys: vec![0, 1],
        caches: Vec::new(),
        budget,
        new_cluster: false,
        reaches: Vec::new(),
        without: Without::Nothing,
    }
}

const NONE: Budget = Budget {
    puts: 0,
    deletes: 0,
    reads: 0,
    others: 0,
    flushes: 0,
    crashes: 0,
    ends: 0,
    starts: 0,
    absences: 0,
    lists: 0,
    old_lists: 0,
    watches: 0,
    compactions: 0,
    other_compactions: 0,
    reroutes: 0,
    give_ups: 0,
    backups: 0,
};

/// Calls, own writes and the reservation, without an end.
pub fn ordering(size: u8) -> Scene {
    scene(
        "ordering",
        Budget {
            puts: 2,
            deletes: size - 1,
            reads: 1,
            others: 1,
            flushes: size,
            ..NONE
        },
    )
}

/// One instance is killed, or ends, and starts again; a merged cache goes on from what it has.
pub fn recovery(size: u8) -> Scene {
    Scene {
        caches: vec![vec![0, 1]],
        reaches: vec![Reach::OrderLost, Reach::OrderKnown, Reach::Cancelled],
        ..scene(
            "recovery",
            Budget {
                puts: 1 + size,
                flushes: size,
                crashes: 1,
                starts: 1,
                lists: 1,
                watches: 2,
                ..NONE
            },
        )
    }
}

/// Two instances: pauses, take-overs, late own writes.
pub fn leadership(size: u8) -> Scene {
    Scene {
        instances: 2,
        reaches: vec![Reach::TakenOver, Reach::OrderKnown],
        ..scene(
            "leadership",
            Budget {
                puts: 1,
                reads: 1,
                flushes: size,
                crashes: size - 1,
                starts: size,
                ..NONE
            },
        )
    }
}

/// Several starts, some of which end before they served.
pub fn takings(size: u8) -> Scene {
    Scene {
        reaches: vec![Reach::OrderKnown],
        ..scene(
            "takings",
            Budget {
                puts: 1,
                reads: size - 1,
                flushes: 1,
                crashes: 1 + size,
                ends: size - 1,
                starts: 1 + size,
                ..NONE
            },
        )
    }
}

/// Stores that are not there at a start.
pub fn absence(size: u8) -> Scene {
    Scene {
        caches: vec![vec![0, 1]],
        reaches: vec![Reach::OrderLost, Reach::Returned],
        ..scene(
            "absence",
            Budget {
                puts: 1 + size,
                flushes: 1,
                crashes: 1,
                starts: 1,
                absences: 1,
                lists: 1,
                watches: 1,
                ..NONE
            },
        )
    }
}

/// More writes than are reserved, to a store that is absent at the next start.
pub fn reservation(size: u8) -> Scene {
    Scene {
        reaches: vec![Reach::OrderLost],
        ..scene(
            "reservation",
            Budget {
                puts: 4,
                flushes: size - 1,
                crashes: 1,
                starts: 1,
                absences: 1,
                ..NONE
            },
        )
    }
}

/// Watches, merged and of one store, and lists at old revisions.
pub fn watches(size: u8) -> Scene {
    Scene {
        caches: vec![vec![0, 1], vec![1]]
            .into_iter()
            .take(size.into())
            .collect(),
        ..scene(
            "watches",
            Budget {
                puts: 2,
                deletes: size - 1,
                others: 1,
                flushes: size - 1,
                lists: 1,
                old_lists: 1,
                watches: size,
                ..NONE
            },
        )
    }
}

/// Compaction by a client, beside watches and old reads.
pub fn compaction(size: u8) -> Scene {
    Scene {
        caches: vec![vec![0, 1]],
        reaches: vec![Reach::Compacted],
        ..scene(
            "compaction",
            Budget {
                puts: 1 + size,
                deletes: size - 1,
                flushes: 1,
                lists: 1,
                old_lists: size - 1,
                watches: 1,
                compactions: 1,
                ..NONE
            },
        )
    }
}

/// The same with a crash, and a successor that is asked for what was compacted.
pub fn compaction_crash(size: u8) -> Scene {
    Scene {
        caches: vec![vec![0, 1]],
        reaches: vec![Reach::Compacted],
        ..scene(
            "compaction-crash",
            Budget {
                puts: size,
                flushes: 1,
                crashes: 1,
                starts: 1,
                lists: size - 1,
                old_lists: 1,
                compactions: 1,
                ..NONE
            },
        )
    }
}

/// Compaction of a store by somebody else.
pub fn other_compaction(size: u8) -> Scene {
    Scene {
        keys: vec![0, MOVING],
        caches: vec![vec![0, MOVING]],
        reaches: vec![Reach::FloorRaised, Reach::Cancelled],
        ..scene(
            "other-compaction",
            Budget {
                puts: size,
                others: 1,
                flushes: 1,
                lists: 1,
                watches: 1,
                other_compactions: 1,
                ..NONE
            },
        )
    }
}

/// A key moves while it is written and watched, by us and by others, and calls are given up.
pub fn routes(size: u8) -> Scene {
    Scene {
        keys: vec![MOVING],
        caches: vec![vec![MOVING]],
        reaches: vec![Reach::Moved],
        ..scene(
            "routes",
            Budget {
                puts: size,
                deletes: size - 1,
                others: size - 1,
                flushes: 1,
                lists: 1,
                watches: 1,
                reroutes: 1,
                give_ups: 1,
                ..NONE
            },
        )
    }
}

/// A key moves, and somebody else writes it on either store.
pub fn routes_strays(size: u8) -> Scene {
    Scene {
        keys: vec![MOVING],
        caches: vec![vec![MOVING]],
        reaches: vec![Reach::Moved],
        ..scene(
            "routes-strays",
            Budget {
                puts: size - 1,
                others: 2,
                flushes: 1,
                lists: 2,
                watches: 2,
                reroutes: 1,
                ..NONE
            },
        )
    }
}

/// A key moves, and a crash comes at any point of it.
pub fn routes_crash(size: u8) -> Scene {
    Scene {
        keys: vec![MOVING],
        caches: vec![vec![MOVING]],
        reaches: vec![Reach::Moved],
        ..scene(
            "routes-crash",
            Budget {
                puts: size,
                flushes: 1,
                crashes: 1,
                starts: 1,
                lists: 1,
                watches: size - 1,
                reroutes: 1,
                ..NONE
            },
        )
    }
}

/// A store is taken back to a backup, under the same cluster id or another one.
pub fn backups(size: u8, new_cluster: bool) -> Scene {
    Scene {
        caches: vec![vec![0, 1]],
        reaches: vec![Reach::ShutOut],
        new_cluster,
        ..scene(
            if new_cluster {
                "backups-new-cluster"
            } else {
                "backups"
            },
            Budget {
                puts: 2,
                reads: size - 1,
                others: u8::from(new_cluster),
                flushes: size - 1,
                crashes: size - 1,
                starts: size - 1,
                lists: 1,
                backups: 1,
                ..NONE
            },
        )
    }
}

/// Every scene, at size 1 or larger.
pub fn all(size: u8) -> Vec<Scene> {
    vec![
        ordering(size),
        recovery(size),
        takings(size),
        leadership(size),
        absence(size),
        reservation(size),
        watches(size),
        compaction(size),
        compaction_crash(size),
        other_compaction(size),
        routes(size),
        routes_strays(size),
        routes_crash(size),
        backups(size, false),
        backups(size, true),
    ]
}
