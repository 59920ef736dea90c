//! Alarms over several stores: `etcdctl endpoint health` reads them.

use bytes::Bytes;
use futures_util::future::try_join_all;
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{AlarmMember, AlarmRequest, AlarmResponse},
};
use prost::Message as _;

use super::{
    Request,
    forward::{CallOptions, send},
};
use crate::{failure::Failure, snapshot::ServingStore};

impl Request<'_> {
    /// Every store is asked; its members' alarms are Keyloom's, since clients know no other member.
    pub(super) async fn alarm(self, message: Bytes) -> Result<Bytes, Failure> {
        // The members that clients know are none of a store's: 0 means all of them.
        let request = AlarmRequest {
            member_id: 0,
            ..AlarmRequest::decode(message)?
        };
        let asked = self
            .snapshot
            .stores()
            .map(|member| self.alarms_of(member, &request));
        let mut kinds: Vec<i32> = try_join_all(asked).await?.into_iter().flatten().collect();
        kinds.sort_unstable();
        kinds.dedup();
        let member_id = self.services.identity.member_id();
        let alarms = kinds
            .into_iter()
            .map(|alarm| AlarmMember { member_id, alarm })
            .collect();
        let header = Some(
            self.services
                .identity
                .response_header(self.order.head().get()),
        );
        Ok(AlarmResponse { header, alarms }.encode_to_vec().into())
    }

    async fn alarms_of(
        self,
        member: &ServingStore,
        request: &AlarmRequest,
    ) -> Result<Vec<i32>, Failure> {
        let message = Bytes::from(request.encode_to_vec());
        let answer = send(
            member,
            CallOptions::write(Rpc::Alarm),
            message,
            self.context,
        )
        .await?;
        let answer = AlarmResponse::decode(answer).map_err(|error| Failure::Nonsense {
            store: member.name.clone(),
            what: error.to_string(),
        })?;
        Ok(answer.alarms.into_iter().map(|alarm| alarm.alarm).collect())
    }
}
