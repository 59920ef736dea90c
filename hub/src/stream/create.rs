//! Creating a watch: what etcd refuses, and where the watch begins.

use bytes::Bytes;
use keyloom_etcd_api::{KeyRange, etcdserverpb::WatchCreateRequest};
use keyloom_ledger::UnifiedRev;
use keyloom_planted::{Bug, planted};

use super::{ClientStream, NO_ID, Options, Watch, message::Control};
use crate::{Hub, Places};

/// etcd's texts: `rpctypes.ErrCompacted` for a start below 0, and those of `mvcc/watcher.go`.
const BELOW_ZERO: &str = "etcdserver: mvcc: required revision has been compacted";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

/// `WatchCreateRequest.FilterType`.
const NO_PUT: i32 = 0;
const NO_DELETE: i32 = 1;

impl ClientStream {
    pub(super) fn create(
        &mut self,
        mut create: WatchCreateRequest,
        hub: &mut Hub,
        places: &dyn Places,
    ) {
        if create.key.is_empty() {
            create.key = Bytes::from_static(b"\0");
        }
        let range = KeyRange::from_request(&create.key, &create.range_end);
        let refused = if create.start_revision < 0 {
            Some(BELOW_ZERO)
        } else if range.is_empty() {
            Some(EMPTY_RANGE)
        } else if create.watch_id != 0 && self.watches.contains_key(&create.watch_id) {
            Some(DUPLICATE_ID)
        } else {
            None
        };
        match refused {
            Some(reason) => self.refuse(reason, hub, places),
            None => self.begin(&create, &range, hub, places),
        }
    }

    fn refuse(&mut self, reason: &'static str, hub: &Hub, places: &dyn Places) {
        let revision = self.least(hub, places);
        self.control(Control {
            revision,
            watch_id: NO_ID,
            created: true,
            canceled: true,
            reason,
            ..Control::default()
        });
    }

    fn begin(
        &mut self,
        create: &WatchCreateRequest,
        range: &KeyRange,
        hub: &mut Hub,
        places: &dyn Places,
    ) {
        let id = match create.watch_id {
            0 => self.free_id(),
            chosen => chosen,
        };
        let head = places.head();
        let start = create.start_revision;
        let cursor = match start {
            0 => {
                self.told = self.told.max(head);
                head
            }
            start if planted(Bug::ResumesLate) => UnifiedRev::new(start),
            start if planted(Bug::ResumesEarly) => UnifiedRev::new((start - 2).max(0)),
            start => UnifiedRev::new(start - 1),
        };
        let created = match planted(Bug::CreatedAhead) {
            true => head,
            false => cursor.min(head),
        };
        self.control(Control {
            revision: created.get(),
            watch_id: id,
            created: true,
            ..Control::default()
        });
        let floor = floor(range, hub, places);
        let options = options(create);
        let is_lost = start > 0 && start < floor.get() && !planted(Bug::CompactionLosesEvents);
        if is_lost {
            let revision = cursor.min(head).get();
            self.control(Control {
                revision,
                watch_id: id,
                canceled: true,
                compact_revision: floor.get(),
                ..Control::default()
            });
        }
        let watcher = (!is_lost).then(|| hub.watch(self.id, range, cursor));
        if let Some(watcher) = watcher {
            self.ids.insert(watcher, id);
        }
        let watch = Watch {
            watcher,
            start,
            options,
            tick: true,
        };
        self.watches.insert(id, watch);
    }

    fn free_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }
}

/// Below which the range cannot be watched.
fn floor(range: &KeyRange, hub: &Hub, places: &dyn Places) -> UnifiedRev {
    let stores = hub.span(range).into_iter().map(|slot| places.floor(slot));
    let stores = stores.max().unwrap_or_default();
    stores.max(hub.range_floor(range)).max(places.compacted())
}

fn options(create: &WatchCreateRequest) -> Options {
    let (no_put, no_delete) = match planted(Bug::FiltersSwapped) {
        true => (NO_DELETE, NO_PUT),
        false => (NO_PUT, NO_DELETE),
    };
    Options {
        previous: create.prev_kv && !planted(Bug::PrevKvMissing),
        no_put: create.filters.contains(&no_put),
        no_delete: create.filters.contains(&no_delete),
        fragment: create.fragment,
        progress: create.progress_notify,
    }
}
