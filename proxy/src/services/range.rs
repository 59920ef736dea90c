//! Range: to one store as bytes, or merged over several.

use bytes::Bytes;
use keyloom_etcd_api::{Rpc, check_range, etcdserverpb::RangeRequest};
use keyloom_router::{RangePlan, plan_range};
use keyloom_store::Lane;
use prost::Message as _;

use super::{Answer, Request, forward::CallOptions};
use crate::failure::Failure;

/// A range without a limit up to this many keys goes with the small calls.
const SMALL_LIMIT: i64 = 16;

impl Request<'_> {
    pub(super) async fn range(self, message: Bytes) -> Result<Answer, Failure> {
        let request = RangeRequest::decode(message.clone())?;
        check_range(&request)?;
        self.is_readable_at(request.revision, &request)?;
        match plan_range(&self.snapshot.topology, &request) {
            RangePlan::One(store) => {
                let slot = self.member(store)?.slot;
                // Also what etcd checks first: a revision that is in the future or compacted.
                self.order.cut(request.revision, [slot])?;
                let options = CallOptions {
                    linearizable: !request.serializable,
                    ..CallOptions::read(Rpc::Range, lane_of(&request))
                };
                let answer = self.forward(store, options, message).await;
                answer.map(Answer::from)
            }
            RangePlan::Merged(parts) => {
                let list = Box::pin(self.merged_range(&request, parts)).await;
                list.map(Answer::List)
            }
        }
    }
}

/// Keeps answers that can be large away from the small calls.
pub(super) fn lane_of(request: &RangeRequest) -> Lane {
    let one = request.range_end.is_empty();
    let few = request.limit > 0 && request.limit <= SMALL_LIMIT;
    if one || few || request.count_only {
        Lane::Unary
    } else {
        Lane::Bulk
    }
}
