//! Whether two stores have the same keys, with the same values on the same leases.

use std::collections::VecDeque;

use anyhow::{Result, bail};
use keyloom_etcd_api::mvccpb::KeyValue;

use super::source::SourcePages;

/// What a comparison found. Where a key differs it ends instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verified {
    /// Keys that both have.
    pub(super) same: i64,
    /// Keys of the original on leases, which the copy has no more.
    pub(super) ended: i64,
    /// Keys that only the copy has.
    pub(super) more: i64,
}

/// Reads both in their order, side by side.
pub(super) async fn compare(original: SourcePages, copy: SourcePages) -> Result<Verified> {
    let (mut original, mut copy) = (Keys::new(original), Keys::new(copy));
    let mut verified = Verified::default();
    let mut kept = copy.next().await?;
    while let Some(wanted) = original.next().await? {
        while let Some(other) = kept.take_if(|kept| kept.key < wanted.key) {
            verified.more += 1;
            drop(other);
            kept = copy.next().await?;
        }
        match kept.take_if(|kept| kept.key == wanted.key) {
            Some(found) => {
                same(&wanted, &found)?;
                verified.same += 1;
                kept = copy.next().await?;
            }
            None if wanted.lease != 0 => verified.ended += 1,
            None => bail!("key {} is missing in the copy", wanted.key.escape_ascii()),
        }
    }
    while kept.is_some() {
        verified.more += 1;
        kept = copy.next().await?;
    }
    Ok(verified)
}

fn same(wanted: &KeyValue, found: &KeyValue) -> Result<()> {
    if wanted.value != found.value || wanted.lease != found.lease {
        bail!(
            "key {} differs in the copy: somebody else has written it",
            wanted.key.escape_ascii()
        );
    }
    Ok(())
}

/// The keys of pages, one by one.
struct Keys {
    pages: SourcePages,
    page: VecDeque<KeyValue>,
    done: bool,
}

impl Keys {
    fn new(pages: SourcePages) -> Self {
        Self {
            pages,
            page: VecDeque::new(),
            done: false,
        }
    }

    async fn next(&mut self) -> Result<Option<KeyValue>> {
        while self.page.is_empty() && !self.done {
            match self.pages.next().await? {
                Some(page) => self.page = page.kvs.into(),
                None => self.done = true,
            }
        }
        Ok(self.page.pop_front())
    }
}
