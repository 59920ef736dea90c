//! Leases granted and revoked.

use anyhow::{Result, ensure};
use bytes::Bytes;
use keyloom_etcd_api::etcdserverpb::{LeaseGrantResponse, LeaseRevokeResponse};
use prost::Message as _;

use super::Script;
use crate::request::Request;

/// Long enough that none expires within a run, short enough that none outlives it for long.
const TTL: i64 = 300;

/// One lease after the other.
#[derive(Debug, Default)]
pub(super) struct Lease {
    granted: Option<i64>,
}

impl Script for Lease {
    fn request(&mut self) -> Request {
        self.granted
            .map_or_else(|| Request::grant(TTL), Request::revoke)
    }

    fn answer(&mut self, answer: Bytes) -> Result<()> {
        if self.granted.take().is_some() {
            let answer = LeaseRevokeResponse::decode(answer)?;
            ensure!(answer.header.is_some(), "an answer without a header");
            return Ok(());
        }
        let answer = LeaseGrantResponse::decode(answer)?;
        ensure!(answer.error.is_empty(), "{}", answer.error);
        ensure!(
            answer.id != 0 && answer.ttl == TTL,
            "not the lease asked for"
        );
        self.granted = Some(answer.id);
        Ok(())
    }
}
