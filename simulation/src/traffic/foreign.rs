//! Somebody who writes to the stores themselves, past Keyloom.
//!
//! Nobody is answered through Keyloom, so that to the checkers these are writes of unknown outcome:
//! each may show at any time from its beginning on. That each does show, on every watch of its range
//! and in the order of its store, is for [`crate::truth`] and for what is listed in the end.

use std::sync::Arc;

use bytes::Bytes;
use keyloom_etcd_api::{
    KeyRange,
    etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest,
        request_op::Request,
    },
};
use keyloom_testkit::{Step, program::Group};

use super::groups;
use crate::{client::Client, plan::Plan, stores::SimStore, trace};

/// How many of a hundred writes are of keys that route to another store: nobody sees those.
const STRAYS: usize = 10;

/// How many of a hundred steps compact a store, where anybody does.
const COMPACTIONS: usize = 6;

/// Writes until there is nothing to do any more.
pub(crate) async fn run(client: Client, plan: Plan, stores: Vec<Arc<SimStore>>) {
    let foreign = Foreign {
        client,
        plan,
        stores,
        written: 0,
    };
    foreign.write().await;
}

struct Foreign {
    client: Client,
    plan: Plan,
    stores: Vec<Arc<SimStore>>,
    written: u64,
}

impl Foreign {
    async fn write(mut self) {
        let groups = groups();
        loop {
            self.client.pause(self.plan.pause * 4).await;
            let Some(ticket) = self.client.stage.begin().await else {
                return;
            };
            if self.plan.others_compact && self.client.chance.percent(COMPACTIONS) {
                self.compact();
                continue;
            }
            let Some(group) = self.client.chance.pick(&groups) else {
                continue;
            };
            // Where a key lies that moves is not known here.
            let first = group.keys.first();
            let Some(home) = first.and_then(|key| self.plan.store_of(key)) else {
                continue;
            };
            let step = self.step(group);
            let is_stray = self.client.chance.percent(STRAYS);
            let at = if is_stray {
                self.client.chance.below(self.stores.len())
            } else {
                home
            };
            let Some(store) = self.stores.get(at).filter(|store| store.answers()) else {
                continue;
            };
            if at == home {
                // Its outcome stays unknown.
                drop(ticket.recorder.begin(self.client.id, step.clone()));
            }
            let answer = store.model.with(|etcd| etcd.apply(&step));
            store.look();
            trace::say(format_args!(
                "past Keyloom, at {}: {step:?}: {answer:?}",
                store.host
            ));
        }
    }

    /// One change of one revision of a group's keys.
    fn step(&mut self, group: &Group) -> Step {
        let one = self.client.chance.pick(&group.keys).cloned();
        let one = one.unwrap_or_default();
        match self.client.chance.below(8) {
            0 => {
                let range = KeyRange::prefix(group.prefix.clone());
                Step::DeleteRange(DeleteRangeRequest {
                    range_end: range.range_end(),
                    key: range.start,
                    prev_kv: false,
                })
            }
            1 | 2 => Step::DeleteRange(DeleteRangeRequest {
                key: one,
                ..DeleteRangeRequest::default()
            }),
            3 | 4 => {
                let puts = group.keys.iter().map(|key| RequestOp {
                    request: Some(Request::RequestPut(self.put(key.clone()))),
                });
                Step::Txn(TxnRequest {
                    success: puts.collect(),
                    ..TxnRequest::default()
                })
            }
            _ => Step::Put(self.put(one)),
        }
    }

    fn put(&mut self, key: Bytes) -> PutRequest {
        self.written += 1;
        PutRequest {
            key,
            value: format!("{} past Keyloom", self.written).into(),
            ..PutRequest::default()
        }
    }

    /// Compacts a store, at most at what it has now.
    fn compact(&mut self) {
        let at = self.client.chance.below(self.stores.len());
        let back = self.client.chance.between(0, 10);
        let Some(store) = self.stores.get(at).filter(|store| store.answers()) else {
            return;
        };
        store.look();
        let revision = store.model.with(|etcd| etcd.revision()) - back;
        let step = Step::Compact(CompactionRequest {
            revision,
            physical: false,
        });
        let answer = store.model.with(|etcd| etcd.apply(&step));
        trace::say(format_args!(
            "past Keyloom, at {}: {step:?}: {answer:?}",
            store.host
        ));
    }
}
