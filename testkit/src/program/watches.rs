//! Random requests on watch streams, for the same keys as the rest of a program.

use bytes::Bytes;
use keyloom_etcd_api::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
    watch_create_request::FilterType, watch_request::RequestUnion,
};

use super::{Generator, generator::Scope};

/// No stream gets more watches than this from a program.
const MOST: usize = 8;

/// A filter that no etcd knows, and every etcd passes over.
const UNKNOWN_FILTER: i32 = 7;

impl Generator {
    /// The next request on a stream on which these ids are taken.
    pub fn next_watch(&mut self, ids: &[i64]) -> WatchRequest {
        let request = match self.chance.below(100) {
            0..70 if ids.len() < MOST => RequestUnion::CreateRequest(self.create()),
            70..88 => RequestUnion::ProgressRequest(WatchProgressRequest {}),
            _ => RequestUnion::CancelRequest(WatchCancelRequest {
                watch_id: self.id_to_cancel(ids),
            }),
        };
        WatchRequest {
            request_union: Some(request),
        }
    }

    fn create(&mut self) -> WatchCreateRequest {
        let (key, range_end) = if self.chance.percent(4) {
            (Bytes::new(), Bytes::new())
        } else {
            self.bounds(Scope::Any)
        };
        WatchCreateRequest {
            key,
            range_end,
            start_revision: self.start(),
            progress_notify: self.chance.percent(25),
            filters: self.filters(),
            prev_kv: self.chance.percent(50),
            watch_id: match self.chance.below(3) {
                0 => self.chance.between(1, 6),
                _ => 0,
            },
            fragment: self.chance.percent(30),
        }
    }

    fn start(&mut self) -> i64 {
        match self.chance.below(10) {
            0..4 => 0,
            9 if !self.settings.watches_below_zero => 0,
            9 => -1,
            _ => self.memory.revision_to_watch(&mut self.chance),
        }
    }

    fn filters(&mut self) -> Vec<i32> {
        let (put, delete) = (FilterType::Noput.into(), FilterType::Nodelete.into());
        match self.chance.below(12) {
            0 => vec![put],
            1 => vec![delete],
            2 => vec![delete, put],
            3 => vec![UNKNOWN_FILTER, put, put],
            _ => Vec::new(),
        }
    }

    /// One that is there, mostly.
    fn id_to_cancel(&mut self, ids: &[i64]) -> i64 {
        let unknown = self.chance.between(-2, 12);
        match self.chance.pick(ids) {
            Some(id) if !self.chance.percent(15) => *id,
            _ => unknown,
        }
    }
}
