//! Answers without events.

use keyloom_etcd_api::etcdserverpb::{ResponseHeader, WatchResponse};

use super::NO_ID;

/// An answer without events, whose header is still to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Of the header.
    pub revision: i64,
    watch_id: i64,
    created: bool,
    canceled: bool,
    compact_revision: i64,
    reason: &'static str,
}

impl Reply {
    /// A watch began that hears of nothing up to `revision`.
    #[must_use]
    pub fn created(watch_id: i64, revision: i64) -> Self {
        Self {
            revision,
            watch_id,
            created: true,
            ..Self::default()
        }
    }

    /// A watch was refused for a reason of [`super::Watches::admit`]. In the header etcd has the
    /// newest revision.
    #[must_use]
    pub fn refused(reason: &'static str, head: i64) -> Self {
        Self {
            revision: head,
            watch_id: NO_ID,
            created: true,
            canceled: true,
            reason,
            ..Self::default()
        }
    }

    /// The history that a watch needs is gone below `compact_revision`. etcd leaves the revision of
    /// this header at 0.
    #[must_use]
    pub fn compacted(watch_id: i64, compact_revision: i64) -> Self {
        Self {
            watch_id,
            canceled: true,
            compact_revision,
            ..Self::default()
        }
    }

    /// The client's cancellation of a watch that has everything up to `revision`.
    #[must_use]
    pub fn canceled(watch_id: i64, revision: i64) -> Self {
        Self {
            revision,
            watch_id,
            canceled: true,
            ..Self::default()
        }
    }

    /// A watch has everything up to `revision`.
    #[must_use]
    pub fn progress(watch_id: i64, revision: i64) -> Self {
        Self {
            revision,
            watch_id,
            ..Self::default()
        }
    }

    /// Every watch of the stream has everything up to `revision`.
    #[must_use]
    pub fn progress_of_all(revision: i64) -> Self {
        Self::progress(NO_ID, revision)
    }

    /// The message, its header made of [`Self::revision`].
    #[must_use]
    pub fn response(self, header: impl FnOnce(i64) -> ResponseHeader) -> WatchResponse {
        WatchResponse {
            header: Some(header(self.revision)),
            watch_id: self.watch_id,
            created: self.created,
            canceled: self.canceled,
            compact_revision: self.compact_revision,
            cancel_reason: self.reason.to_owned(),
            ..WatchResponse::default()
        }
    }
}
