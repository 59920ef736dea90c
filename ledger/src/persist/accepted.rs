//! The record of the accepted topology: its text, and the floors of the ranges that moved.

use prost::{Message, bytes::Bytes};

use super::record::{Damage, Kind, open, seal};

/// What was accepted last, as it is kept with the ledger.
#[derive(Clone, PartialEq, Message)]
pub struct AcceptedRecord {
    /// In the dialect of topology files, without passwords.
    #[prost(string, tag = "2")]
    pub text: String,
    /// The floor of every range.
    #[prost(int64, tag = "3")]
    pub floor_of_all: i64,
    #[prost(message, repeated, tag = "4")]
    pub changes: Vec<AcceptedChange>,
}

/// A change of routes: from `at` on what it names is read from where it is now.
#[derive(Clone, PartialEq, Message)]
pub struct AcceptedChange {
    #[prost(int64, tag = "1")]
    pub at: i64,
    /// The prefixes below which the namespaces are.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub bases: Vec<Bytes>,
    #[prost(string, repeated, tag = "3")]
    pub namespaces: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    pub ranges: Vec<AcceptedRange>,
}

/// As in a request of etcd's.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AcceptedRange {
    #[prost(bytes = "bytes", tag = "1")]
    pub start: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
}

/// Format 1 had no frame, and its own number as the first field.
#[derive(Clone, PartialEq, Message)]
struct Unframed {
    #[prost(uint32, tag = "1")]
    format: u32,
}

/// The tag of [`Unframed::format`], with which a record of format 1 begins. It is no kind.
const UNFRAMED: u8 = 1 << 3;

impl AcceptedRecord {
    pub fn to_record(&self) -> Vec<u8> {
        seal(Kind::Accepted, &self.encode_to_vec())
    }

    /// # Errors
    /// Where the record is damaged, or a newer program's.
    pub fn from_record(record: &[u8]) -> Result<Self, Damage> {
        let body = match record.first() {
            Some(&UNFRAMED) => unframed(record)?,
            _ => open(Kind::Accepted, record)?,
        };
        Self::decode(body).map_err(|_| Damage::Content)
    }
}

fn unframed(record: &[u8]) -> Result<&[u8], Damage> {
    let format = Unframed::decode(record)
        .map_err(|_| Damage::Content)?
        .format;
    match u8::try_from(format) {
        Ok(0 | 1) => Ok(record),
        found => Err(Damage::Newer {
            found: found.unwrap_or(u8::MAX),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::{record::FORMAT, test_access::reseal};

    fn accepted() -> AcceptedRecord {
        let range = AcceptedRange {
            start: "a".into(),
            range_end: "b".into(),
        };
        AcceptedRecord {
            text: "default: {endpoint: 'http://a:1'}".to_owned(),
            floor_of_all: 4,
            changes: vec![AcceptedChange {
                at: 7,
                bases: vec!["/registry/".into()],
                namespaces: vec!["a*".to_owned()],
                ranges: vec![range],
            }],
        }
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        for accepted in [accepted(), AcceptedRecord::default()] {
            assert_eq!(
                AcceptedRecord::from_record(&accepted.to_record()),
                Ok(accepted)
            );
        }
    }

    /// As the program of format 1 wrote it: `Record {format: 1, text, …}`.
    #[test]
    fn a_record_of_format_1_is_read() {
        let mut record = Unframed { format: 1 }.encode_to_vec();
        record.extend(accepted().encode_to_vec());
        assert_eq!(AcceptedRecord::from_record(&record), Ok(accepted()));
    }

    #[test]
    fn what_a_newer_program_wrote_and_what_is_damaged_is_refused() {
        let found = FORMAT + 1;
        let mut newer = accepted().to_record();
        newer[1] = found;
        reseal(&mut newer);
        let refused = Err(Damage::Newer { found });
        assert_eq!(AcceptedRecord::from_record(&newer), refused);
        let unframed = Unframed { format: 2 }.encode_to_vec();
        let refused = Err(Damage::Newer { found: 2 });
        assert_eq!(AcceptedRecord::from_record(&unframed), refused);
        for damaged in [&b"\xff\xff"[..], b"", &accepted().to_record()[..20]] {
            assert!(AcceptedRecord::from_record(damaged).is_err());
        }
    }
}
