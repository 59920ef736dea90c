//! The accepted topology as it is kept with the ledger: what a start compares its file with.
//!
//! Its text is in the dialect of topology files, without passwords; beside it are the floors of
//! ranges that moved. A program refuses what a newer one wrote.

use bytes::Bytes;
use keyloom_etcd_api::KeyRange;
use keyloom_ledger::UnifiedRev;
use keyloom_topology::{Moved, ParseOptions, Topology, parse};
use prost::Message;

use crate::snapshot::{Floors, KeptFloor};

/// A record with a larger one is not understood.
const FORMAT: u32 = 1;

/// A record that is larger would not fit into one write of the default store beside the ledger.
const LARGEST: usize = 768 << 10;

/// Why a record cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptedError {
    #[error("the accepted topology in the default store cannot be read: {0}")]
    Damaged(String),
    #[error("the topology is larger than its record may be: merge routes of one store into lists")]
    TooLarge,
    #[error(
        "the accepted topology in the default store has format {found}, and this program knows \
         {FORMAT}: it was written by a newer one"
    )]
    Newer { found: u32 },
}

/// A topology that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) text: String,
    pub(crate) floors: Floors,
}

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, tag = "2")]
    text: String,
    #[prost(int64, tag = "3")]
    floor_of_all: i64,
    #[prost(message, repeated, tag = "4")]
    changes: Vec<Change>,
}

#[derive(Clone, PartialEq, Message)]
struct Change {
    #[prost(int64, tag = "1")]
    at: i64,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    bases: Vec<Bytes>,
    #[prost(string, repeated, tag = "3")]
    namespaces: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    ranges: Vec<Range>,
}

#[derive(Clone, PartialEq, Message)]
struct Range {
    #[prost(bytes = "bytes", tag = "1")]
    start: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    range_end: Bytes,
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
            let mut change = Change {
                at: kept.at.get(),
                bases: kept.bases,
                ..Change::default()
            };
            for moved in kept.moved {
                match moved {
                    Moved::Namespace(name) => change.namespaces.push(name),
                    Moved::Keys(range) => change.ranges.push(Range {
                        range_end: range.range_end(),
                        start: range.start,
                    }),
                }
            }
            change
        });
        let record = Record {
            format: FORMAT,
            text: self.text.clone(),
            floor_of_all: self.floors.of_all().get(),
            changes: changes.collect(),
        };
        record.encode_to_vec().into()
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self, AcceptedError> {
        let record =
            Record::decode(record).map_err(|error| AcceptedError::Damaged(error.to_string()))?;
        if record.format > FORMAT {
            return Err(AcceptedError::Newer {
                found: record.format,
            });
        }
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
        let record = Record {
            format: FORMAT + 1,
            ..Record::default()
        };
        let found = FORMAT + 1;
        let newer = Accepted::decode(&record.encode_to_vec()).unwrap_err();
        assert_eq!(newer, AcceptedError::Newer { found });
        assert!(Accepted::decode(b"\xff\xff").is_err());
        let record = Record {
            text: "backends: 7".to_owned(),
            ..Record::default()
        };
        let read = Accepted::decode(&record.encode_to_vec()).unwrap();
        assert!(read.topology().is_err());
    }
}
