//! What an answer must be, whatever was asked.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use keyloom_etcd_api::wire::peek_header;

use super::CLOSELY;

/// The revisions that one client sees: they never go back, and each of its writes has a new one.
#[derive(Debug, Default)]
pub(super) struct Revisions {
    last: i64,
    seen: u64,
}

impl Revisions {
    /// The revision of an answer that wrote.
    ///
    /// # Errors
    /// Where it is not above every one before: `u` grows with real time.
    pub(super) fn wrote(&mut self, answer: &Bytes) -> Result<i64> {
        let revision = revision_of(answer)?;
        let last = self.last;
        ensure!(revision > last, "a write at {revision} after {last}");
        self.last = revision;
        Ok(revision)
    }

    /// The revision of an answer that only read.
    ///
    /// # Errors
    /// Where it goes back.
    pub(super) fn read(&mut self, answer: &Bytes) -> Result<i64> {
        let revision = revision_of(answer)?;
        let last = self.last;
        ensure!(revision >= last, "a read at {revision} after {last}");
        self.last = revision;
        Ok(revision)
    }

    /// Whether this answer's turn has come to be decoded.
    pub(super) fn closely(&mut self) -> bool {
        self.seen += 1;
        self.seen % CLOSELY == 1
    }
}

fn revision_of(answer: &Bytes) -> Result<i64> {
    let header = peek_header(answer)?.context("an answer without a header")?;
    ensure!(header.revision > 0, "an answer at no revision");
    Ok(header.revision)
}

#[cfg(test)]
mod tests {
    use keyloom_etcd_api::etcdserverpb::{PutResponse, ResponseHeader};
    use prost::Message as _;

    use super::*;

    fn at(revision: i64) -> Bytes {
        let header = ResponseHeader {
            revision,
            ..ResponseHeader::default()
        };
        let answer = PutResponse {
            header: Some(header),
            prev_kv: None,
        };
        answer.encode_to_vec().into()
    }

    #[test]
    fn revisions_never_go_back_and_writes_go_on() {
        let mut revisions = Revisions::default();
        assert!(revisions.wrote(&at(3)).is_ok());
        assert!(revisions.wrote(&at(3)).is_err());
        assert!(revisions.read(&at(3)).is_ok());
        assert!(revisions.read(&at(2)).is_err());
        assert_eq!(revisions.wrote(&at(4)).unwrap(), 4);
    }

    #[test]
    fn an_answer_has_a_revision() {
        assert!(Revisions::default().read(&Bytes::new()).is_err());
        assert!(Revisions::default().read(&at(0)).is_err());
    }

    #[test]
    fn the_first_answer_is_looked_at_closely() {
        let mut revisions = Revisions::default();
        let closely: Vec<_> = (0..=CLOSELY).filter(|_| revisions.closely()).collect();
        assert_eq!(closely, [0, CLOSELY]);
    }
}
