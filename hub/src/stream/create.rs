//! Creating a watch: where it begins, and whether its history is still there.

use keyloom_etcd_api::{KeyRange, etcdserverpb::WatchCreateRequest};
use keyloom_etcd_semantics::watch::{Admitted, Reply};
use keyloom_ledger::UnifiedRev;
use keyloom_planted::{Bug, planted};

use super::ClientStream;
use crate::{Hub, OrderView};

impl ClientStream {
    pub(super) fn create(
        &mut self,
        create: &WatchCreateRequest,
        hub: &mut Hub,
        order: &dyn OrderView,
    ) {
        match self.watches.admit(create) {
            Ok(admitted) => self.begin(&with_planted(admitted), hub, order),
            Err(reason) => {
                let head = order.head().get();
                self.reply(Reply::refused(reason, head));
            }
        }
    }

    fn begin(&mut self, admitted: &Admitted, hub: &mut Hub, order: &dyn OrderView) {
        let Admitted {
            id, range, start, ..
        } = admitted;
        let (id, start, head) = (*id, *start, order.head());
        if start == 0 {
            self.told = self.told.max(head);
        }
        let cursor = match start {
            start if start > 0 && planted(Bug::ResumesLate) => UnifiedRev::new(start),
            start if start > 0 && planted(Bug::ResumesEarly) => UnifiedRev::new((start - 2).max(0)),
            _ => UnifiedRev::new(admitted.cursor(head.get())),
        };
        let created = match planted(Bug::CreatedAhead) {
            true => head,
            false => cursor.min(head),
        };
        self.reply(Reply::created(id, created.get()));
        let floor = floor(range, hub, order);
        let is_lost = start > 0 && start < floor.get() && !planted(Bug::CompactionLosesEvents);
        if is_lost {
            self.watches.insert(admitted, None);
            self.reply(Reply::compacted(id, floor.get()));
            return;
        }
        let watcher = hub.watch(self.id, range, cursor, admitted.options.prev_kv);
        self.ids.insert(watcher, id);
        self.watches.insert(admitted, Some(watcher));
    }
}

/// Below which the range cannot be watched.
fn floor(range: &KeyRange, hub: &Hub, order: &dyn OrderView) -> UnifiedRev {
    let stores = hub.span(range).into_iter().map(|slot| order.floor(slot));
    let stores = stores.max().unwrap_or_default();
    stores.max(hub.range_floor(range)).max(order.compacted())
}

fn with_planted(mut admitted: Admitted) -> Admitted {
    let options = &mut admitted.options;
    if planted(Bug::FiltersSwapped) {
        std::mem::swap(&mut options.no_put, &mut options.no_delete);
    }
    options.prev_kv &= !planted(Bug::PrevKvMissing);
    admitted
}
