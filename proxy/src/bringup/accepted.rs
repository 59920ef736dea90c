//! The accepted topology as it is kept with the ledger: what a start compares its file with.
//!
//! Its text is in the dialect of topology files, without passwords; beside it are the floors of
//! ranges that moved. A program refuses what a newer one wrote.

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;
use keyloom_ledger::{AcceptedChange, AcceptedRange, AcceptedRecord, Damage, UnifiedRev};
use keyloom_topology::{Moved, ParseOptions, Topology, parse};

use crate::snapshot::{Floors, KeptFloor};

/// A record that is larger would not fit into one write of the default store beside the ledger.
const LARGEST: usize = 768 << 10;

/// Why a record cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptedError {
    #[error("the accepted topology in the default store cannot be read: {0}")]
    Damaged(String),
    #[error(
        "the topology is too large to be kept with the ledger: merge routes of one store into lists"
    )]
    TooLarge,
    #[error("the accepted topology in the default store cannot be used: {0}")]
    Newer(Damage),
}

/// A topology that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) text: String,
    pub(crate) floors: Floors,
}

impl Accepted {
    pub(crate) fn of(topology: &Topology, floors: Floors) -> Self {
        Self {
            text: topology.to_text(),
            floors,
        }
    }

    /// The topology that it says.
    pub(crate) fn topology(&self) -> Result<Topology, AcceptedError> {
        match parse(&self.text, &ParseOptions::default()) {
            Ok(accepted) => Ok(accepted.topology),
            Err(refused) => {
                let problems = refused.in_file("the accepted topology").join("; ");
                Err(AcceptedError::Damaged(problems))
            }
        }
    }

    /// [`Self::of`], if its record fits into one write of the default store.
    ///
    /// # Errors
    /// [`AcceptedError::TooLarge`].
    pub(crate) fn fitting(topology: &Topology, floors: Floors) -> Result<Self, AcceptedError> {
        let accepted = Self::of(topology, floors);
        match accepted.encode().len() <= LARGEST {
            true => Ok(accepted),
            false => Err(AcceptedError::TooLarge),
        }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let changes = self.floors.kept().map(|kept| {
            let mut change = AcceptedChange {
                at: kept.at.get(),
                bases: kept.bases,
                ..AcceptedChange::default()
            };
            for moved in kept.moved {
                match moved {
                    Moved::Namespace(name) => change.namespaces.push(name),
                    Moved::Keys(range) => change.ranges.push(AcceptedRange {
                        range_end: range.range_end(),
                        start: range.start,
                    }),
                }
            }
            change
        });
        let record = AcceptedRecord {
            text: self.text.clone(),
            floor_of_all: self.floors.of_all().get(),
            changes: changes.collect(),
        };
        record.to_record().into()
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self, AcceptedError> {
        let record = AcceptedRecord::from_record(record).map_err(|damage| match damage {
            Damage::Newer { .. } => AcceptedError::Newer(damage),
            Damage::Checksum | Damage::Kind | Damage::Content => {
                AcceptedError::Damaged(damage.to_string())
            }
        })?;
        let kept = record.changes.into_iter().map(|change| {
            let namespaces = change.namespaces.into_iter().map(Moved::Namespace);
            let ranges = change
                .ranges
                .iter()
                .map(|range| Moved::Keys(KeyRange::from_request(&range.start, &range.range_end)));
            KeptFloor {
                at: UnifiedRev::new(change.at),
                moved: namespaces.chain(ranges).collect(),
                bases: change.bases,
            }
        });
        Ok(Self {
            floors: Floors::restored(UnifiedRev::new(record.floor_of_all), kept),
            text: record.text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted() -> Accepted {
        let text = "default: {endpoint: 'http://a:1'}";
        let topology = parse(text, &ParseOptions::default()).unwrap().topology;
        let mut floors = Floors::default();
        let moved = [
            Moved::Namespace("a*".to_owned()),
            Moved::Keys(KeyRange::key("x".into())),
            Moved::Keys(KeyRange::all()),
            Moved::Keys(KeyRange::prefix("/registry/pods".into())),
        ];
        floors.add(UnifiedRev::new(7), &moved, &[Bytes::from("/registry/")]);
        Accepted::of(&topology, floors)
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let accepted = accepted();
        let again = Accepted::decode(&accepted.encode()).unwrap();
        assert_eq!(again.text, accepted.text);
        let kept: Vec<_> = again.floors.kept().collect();
        let mut expected: Vec<_> = accepted.floors.kept().collect();
        for kept in &mut expected {
            kept.moved
                .sort_by_key(|moved| matches!(moved, Moved::Keys(_)));
        }
        assert_eq!(kept, expected);
        assert_eq!(again.topology().unwrap().stores().len(), 1);
    }

    #[test]
    fn what_a_newer_program_wrote_and_what_is_damaged_is_refused() {
        // A record without a frame says its format itself.
        let newer = Accepted::decode(&[1 << 3, 7]).unwrap_err();
        assert_eq!(newer, AcceptedError::Newer(Damage::Newer { found: 7 }));
        assert!(Accepted::decode(b"\xff\xff").is_err());
        let record = AcceptedRecord {
            text: "backends: 7".to_owned(),
            ..AcceptedRecord::default()
        };
        let read = Accepted::decode(&record.to_record()).unwrap();
        assert!(read.topology().is_err());
    }
}
