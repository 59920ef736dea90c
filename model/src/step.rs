//! The steps of the model, and the exploration of all their orders.

use stateright::{Model, Property};

use crate::{
    scenes::Scene,
    told::Broken,
    world::{Key, STORES, Slot, U, What, World},
};

/// One step, under the name that it has in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Send {
        instance: usize,
        key: Key,
        what: What,
    },
    Commit {
        call: usize,
    },
    GiveUp {
        call: usize,
    },
    Place {
        call: usize,
    },
    OtherWrite {
        slot: Slot,
        key: Key,
    },
    Backup {
        slot: Slot,
    },
    GoBack {
        slot: Slot,
        is_new: bool,
    },

    Flush {
        instance: usize,
    },
    Lands {
        own: usize,
    },
    Written {
        own: usize,
    },
    Look {
        instance: usize,
    },
    UntilFree {
        instance: usize,
    },

    Crash {
        instance: usize,
    },
    End {
        instance: usize,
    },
    Ask {
        instance: usize,
        slot: Slot,
    },
    Absent {
        instance: usize,
        slot: Slot,
    },
    Recover {
        instance: usize,
    },
    ReturnOf {
        instance: usize,
        slot: Slot,
    },

    Deliver {
        instance: usize,
        slot: Slot,
    },
    List {
        instance: usize,
        cache: usize,
    },
    OldList {
        instance: usize,
        cache: usize,
        at: U,
    },
    Watch {
        instance: usize,
        cache: usize,
    },
    Take {
        cache: usize,
    },

    Compact {
        instance: usize,
        at: U,
    },
    CompactStore {
        instance: usize,
        slot: Slot,
    },
    Compacted {
        instance: usize,
    },
    OtherCompaction {
        slot: Slot,
    },

    Hold {
        instance: usize,
    },
    LookForKeys {
        instance: usize,
    },
    Reroute {
        instance: usize,
    },
    Open {
        instance: usize,
    },
}

impl Model for Scene {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![self.begin()]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.broken.is_some() {
            return;
        }
        for instance in 0..world.instances.len() {
            self.steps_of(world, instance, steps);
        }
        for call in 0..world.calls.len() {
            steps.extend([
                Step::Commit { call },
                Step::GiveUp { call },
                Step::Place { call },
            ]);
        }
        for own in 0..world.own.len() {
            steps.extend([Step::Lands { own }, Step::Written { own }]);
        }
        for cache in 0..world.caches.len() {
            steps.push(Step::Take { cache });
        }
        for slot in 0..STORES {
            if world.budget.others > 0 {
                let keys = self
                    .keys
                    .iter()
                    .filter(|key| self.others_write(**key, slot));
                steps.extend(keys.map(|key| Step::OtherWrite { slot, key: *key }));
            }
            if world.budget.other_compactions > 0 {
                steps.push(Step::OtherCompaction { slot });
            }
            if world.budget.backups > 0 {
                steps.push(Step::Backup { slot });
            }
            if world.stores[slot].backup.is_some() {
                let is_new = self.new_cluster;
                steps.push(Step::GoBack { slot, is_new });
            }
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        self.take(&mut next, step)?;
        next.calls
            .sort_unstable_by_key(|call| (call.nonce, call.key, call.known));
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! never {
            ($($broken:ident $name:literal),*) => { vec![$(
                Property::always($name, |_, world: &World| world.broken != Some(Broken::$broken)),
            )*] };
        }
        let mut properties = never![
            Torn "a unified revision has one content",
            Backwards "no key goes back",
            Lost "no acknowledged write is lost",
            RealTime "revisions grow with real time",
            Reassigned "a revision is one write's for ever",
            NotDense "Keyloom's own writes take no revision",
            Repeated "no event comes twice",
            Skipped "no event is left out",
            CompactedRead "what is compacted is not read",
            Overtaken "no watch is overtaken by a compaction"
        ];
        properties.extend(self.reaches.iter().copied().map(Reach::property));
        properties
    }
}

impl Scene {
    fn steps_of(&self, world: &World, instance: usize, steps: &mut Vec<Step>) {
        let budget = &world.budget;
        let calls = [
            (What::Put, budget.puts),
            (What::Delete, budget.deletes),
            (What::Read, budget.reads),
        ];
        for (what, _) in calls.into_iter().filter(|(_, left)| *left > 0) {
            steps.extend(self.keys.iter().map(|key| Step::Send {
                instance,
                key: *key,
                what,
            }));
        }
        steps.extend([
            Step::Flush { instance },
            Step::Look { instance },
            Step::UntilFree { instance },
            Step::Recover { instance },
        ]);
        if budget.crashes > 0 {
            steps.push(Step::Crash { instance });
        }
        if budget.ends > 0 {
            steps.push(Step::End { instance });
        }
        for slot in 0..STORES {
            steps.extend([
                Step::Ask { instance, slot },
                Step::Absent { instance, slot },
                Step::ReturnOf { instance, slot },
            ]);
            if !world.caches.is_empty() {
                steps.push(Step::Deliver { instance, slot });
            }
        }
        for cache in 0..world.caches.len() {
            steps.extend([
                Step::List { instance, cache },
                Step::Watch { instance, cache },
            ]);
            if budget.old_lists > 0 {
                let all = 1..=world.instances[instance].ledger.head();
                steps.extend(all.map(|at| Step::OldList {
                    instance,
                    cache,
                    at,
                }));
            }
        }
        if budget.compactions > 0 {
            let all = 2..=world.instances[instance].ledger.head();
            steps.extend(all.map(|at| Step::Compact { instance, at }));
        }
        if world.instances[instance].compaction.is_some() {
            steps.extend((0..STORES).map(|slot| Step::CompactStore { instance, slot }));
            steps.push(Step::Compacted { instance });
        }
        if self.budget.reroutes > 0 {
            steps.extend([
                Step::Hold { instance },
                Step::LookForKeys { instance },
                Step::Reroute { instance },
                Step::Open { instance },
            ]);
        }
    }

    pub(crate) fn take(&self, world: &mut World, step: Step) -> Option<()> {
        let without = self.without;
        match step {
            Step::Send {
                instance,
                key,
                what,
            } => world.send(without, instance, key, what),
            Step::Commit { call } => world.commit(call),
            Step::GiveUp { call } => world.give_up(call),
            Step::Place { call } => world.place(without, call),
            Step::OtherWrite { slot, key } => world.other_write(slot, key),
            Step::Backup { slot } => world.backup(slot),
            Step::GoBack { slot, is_new } => world.go_back(slot, is_new),
            Step::Flush { instance } => world.flush(instance, false),
            Step::Lands { own } => world.lands(without, own),
            Step::Written { own } => world.written(without, own),
            Step::Look { instance } => world.look(instance),
            Step::UntilFree { instance } => world.until_free(without, instance),
            Step::Crash { instance } => world.crash(instance),
            Step::End { instance } => world.end(instance),
            Step::Ask { instance, slot } => world.ask(instance, slot),
            Step::Absent { instance, slot } => world.absent(instance, slot),
            Step::Recover { instance } => world.recover(without, instance),
            Step::ReturnOf { instance, slot } => world.return_of(without, instance, slot),
            Step::Deliver { instance, slot } => world.deliver(without, instance, slot),
            Step::List { instance, cache } => world.list(without, instance, cache),
            Step::OldList {
                instance,
                cache,
                at,
            } => world.old_list(without, instance, cache, at),
            Step::Watch { instance, cache } => world.watch(without, instance, cache),
            Step::Take { cache } => world.take_next(without, cache),
            Step::Compact { instance, at } => world.compact(without, instance, at),
            Step::CompactStore { instance, slot } => world.compact_store(without, instance, slot),
            Step::Compacted { instance } => world.compacted(without, instance),
            Step::OtherCompaction { slot } => world.other_compaction(slot),
            Step::Hold { instance } => world.hold(without, instance),
            Step::LookForKeys { instance } => world.look_for_keys(without, instance),
            Step::Reroute { instance } => world.reroute(without, instance),
            Step::Open { instance } => world.open(instance),
        }
    }
}

/// Something that the exploration of a scene must come by, or it shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    OrderLost,
    OrderKnown,
    TakenOver,
    ShutOut,
    Returned,
    Cancelled,
    Moved,
    Compacted,
    FloorRaised,
}

impl Reach {
    fn property(self) -> Property<Scene> {
        macro_rules! sometimes {
            ($field:ident, $name:literal) => {
                Property::sometimes($name, |_, world: &World| world.seen.$field)
            };
        }
        match self {
            Self::OrderLost => sometimes!(order_lost, "an order is lost"),
            Self::OrderKnown => sometimes!(order_known, "an order is known after a crash"),
            Self::TakenOver => sometimes!(taken_over, "a second instance takes over"),
            Self::ShutOut => sometimes!(shut_out, "a store is shut out"),
            Self::Returned => sometimes!(returned, "an absent store returns with news"),
            Self::Cancelled => sometimes!(cancelled, "a cache lists again"),
            Self::Moved => sometimes!(moved, "a key moves"),
            Self::Compacted => sometimes!(compacted, "a store is compacted"),
            Self::FloorRaised => sometimes!(floor_raised, "a floor is raised"),
        }
    }
}
