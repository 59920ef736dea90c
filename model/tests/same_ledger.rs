//! The model's ledger and Keyloom's: the same questions, the same answers, in every state that
//! random walks through the scenes come by; and the same recovery out of what was written.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use keyloom_ledger::{
    Ledger as Real, Mark, Order as RealOrder, Seal, StoreRev, StoreSlot, StoreStart, UnifiedRev,
    recover as really_recover,
};
use keyloom_model::{
    Care, Ledger, Order, Place, Restored, STORES, Scene, World, recover, scenes, world::Kept,
};
use stateright::Model as _;

const WALKS: u64 = 60;
const STEPS: usize = 60;

fn slot(at: usize) -> StoreSlot {
    StoreSlot::new(u16::try_from(at).unwrap())
}

fn store(r: u8) -> StoreRev {
    StoreRev::new(r.into())
}

fn unified(u: u8) -> UnifiedRev {
    UnifiedRev::new(u.into())
}

/// The real ledger with the same history.
fn real(model: &Ledger) -> Real {
    let starts: Vec<_> = (0..STORES)
        .map(|at| StoreStart {
            name: format!("s{at}"),
            cluster_id: at as u64 + 1,
            at: store(1),
        })
        .collect();
    let mut ledger = Real::start(&starts);
    let mut own = model.own.iter().enumerate().peekable();
    let mut hide = |ledger: &mut Real| {
        while let Some((at, _)) = own.next_if(|(_, hidden)| **hidden) {
            ledger.hide(StoreRev::new(at as i64 + 2));
        }
        own.next();
    };
    for place in &model.order {
        match place {
            Place::Hole => ledger.skip_to(UnifiedRev::new(ledger.head().get() + 1)),
            Place::Of(at) => {
                if *at == 0 {
                    hide(&mut ledger);
                }
                let next = StoreRev::new(ledger.frontier(slot(*at)).get() + 1);
                ledger.observe(slot(*at), next);
            }
        }
    }
    hide(&mut ledger);
    for at in 0..STORES {
        if model.floor[at] > 0 {
            ledger.raise_floor(slot(at), unified(model.floor[at]));
        }
    }
    if model.compacted > 0 {
        ledger.compact(unified(model.compacted));
    }
    ledger
}

#[track_caller]
fn same(model: &Ledger, real: &Real) {
    assert_eq!(real.head(), unified(model.head()));
    for at in 0..STORES {
        assert_eq!(
            real.frontier(slot(at)),
            store(model.frontier(at)),
            "{model:?}"
        );
        assert_eq!(real.floor(slot(at)), unified(model.floor[at]));
        for u in 1..=model.head() + 1 {
            let exact = model.exact(at, u).map(store);
            assert_eq!(
                real.store_exact(slot(at), unified(u)),
                exact,
                "{at} {u} {model:?}"
            );
            let cut = store(model.store_at(at, u));
            assert_eq!(
                real.store_at(slot(at), unified(u)),
                cut,
                "{at} {u} {model:?}"
            );
        }
        for r in 1..=model.frontier(at) + 1 {
            let known = r <= model.frontier(at) && !(at == 0 && model.is_hidden(r));
            let u = known.then(|| model.unified(at, r)).flatten().map(unified);
            assert_eq!(real.unified(slot(at), store(r)), u, "{at} {r} {model:?}");
            let below = unified(model.below_next(at, r));
            assert_eq!(
                real.below_next(slot(at), store(r)),
                below,
                "{at} {r} {model:?}"
            );
        }
    }
}

/// Both recover from what the default store keeps, whatever the stores say.
fn same_recovery(world: &World, kept: &Kept) {
    if kept.ledger.settled != [true; STORES] {
        return;
    }
    let seal = Seal {
        reserved: unified(kept.reserved),
        clean: kept.clean,
        ..Seal::default()
    };
    let written = real(&kept.ledger);
    let mut mark = Mark::new();
    let mut records = std::collections::BTreeMap::new();
    loop {
        let flush = written.flush(&mark, &seal);
        records.extend(flush.puts);
        for name in flush.deletes {
            records.remove(&name);
        }
        mark = flush.mark;
        if flush.complete {
            break;
        }
    }
    let records: Vec<_> = records.into_iter().collect();
    let revisions: Vec<u8> = world.stores.iter().map(|store| store.revision()).collect();
    for absent in [false, true] {
        let mut restored = Real::restore(&records, store(kept.head_at)).unwrap();
        restored.hidden = vec![store(kept.head_at)];
        let hidden = vec![kept.head_at];
        let other = (!absent).then_some(revisions[1]);
        let observed: Vec<_> = [Some(revisions[0]), other]
            .into_iter()
            .enumerate()
            .filter_map(|(at, r)| Some((slot(at), store(r?))))
            .collect();
        let expected = recover(
            Restored {
                ledger: kept.ledger.clone(),
                clean: kept.clean,
                reserved: kept.reserved,
                hidden,
            },
            [Some(revisions[0]), other],
            Care {
                floors: true,
                hole: true,
            },
        );
        match (really_recover(restored, &observed), expected) {
            (Ok(found), Ok((expected, order))) => {
                same(&expected, &found.ledger);
                let absent: Vec<_> = (0..STORES).filter(|at| !expected.settled[*at]).collect();
                let found_absent: Vec<_> = found
                    .absent
                    .iter()
                    .map(|slot| usize::from(slot.get()))
                    .collect();
                assert_eq!(found_absent, absent);
                let same_order = match found.order {
                    RealOrder::Clean => order == Order::Clean,
                    RealOrder::Known => order == Order::Known,
                    RealOrder::Lost { .. } => order == Order::Lost,
                };
                assert!(same_order, "{order:?} {:?}", found.order);
            }
            (Err(_), Err(_)) => {}
            (found, expected) => panic!("{found:?}\n{expected:?}"),
        }
    }
}

/// The same number takes the same way.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % limit
    }
}

/// A way through a scene; says how many orders with a hole it came by.
fn walk(scene: &Scene, seed: u64) -> usize {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut world = scene.init_states().remove(0);
    let mut holes = 0;
    for _ in 0..STEPS {
        let mut steps = Vec::new();
        scene.actions(&world, &mut steps);
        let next: Vec<_> = steps
            .into_iter()
            .filter_map(|step| scene.next_state(&world, step))
            .collect();
        if next.is_empty() {
            break;
        }
        let at = chance.below(next.len());
        world = next.into_iter().nth(at).unwrap();
        for instance in &world.instances {
            same(&instance.ledger, &real(&instance.ledger));
            holes += usize::from(instance.ledger.order.contains(&Place::Hole));
        }
        if let Some(kept) = world.stores[0].kept.clone() {
            same_recovery(&world, &kept);
        }
    }
    holes
}

#[test]
fn the_model_and_the_ledger_translate_and_recover_alike() {
    let mut holes = 0;
    for scene in scenes::all(2) {
        for seed in 0..WALKS {
            holes += walk(&scene, seed);
        }
    }
    assert!(holes > 100, "the walks come by too little: {holes}");
}
