//! The frame of every record that Keyloom keeps in the default store, and the numbers in a body.
//!
//! ```text
//! kind     one byte: what the record is
//! format   one byte: of which version
//! body     the record's own fields
//! crc32    four bytes, little endian: over all before
//! ```
//!
//! The frame is the same in every format, so that a newer record and a damaged one can be told apart.
//!
//! Invariant: reading never trusts a length: each is checked against the bytes that are there.

/// The format that this program writes, and the newest that it reads. It reads all older ones.
///
/// 1: the stamp was a text, the accepted topology a message without a frame.
/// 2: both have the frame. The bodies of the ledger's own records are as before.
pub(crate) const FORMAT: u8 = 2;

/// kind, format, crc32
const FRAME: usize = 6;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Head = 1,
    Chunk = 2,
    Hidden = 3,
    Tail = 4,
    Stamp = 5,
    Accepted = 6,
}

/// Why a record cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    #[error("the checksum does not match")]
    Checksum,
    #[error("it is another kind of record")]
    Kind,
    #[error(
        "it was written in format {found} by a newer program; this one knows formats up to {}",
        FORMAT
    )]
    Newer { found: u8 },
    #[error("its content is invalid")]
    Content,
}

/// Puts a frame around a body.
pub(crate) fn seal(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(body.len() + FRAME);
    record.extend([kind as u8, FORMAT]);
    record.extend(body);
    let crc = crc32fast::hash(&record);
    record.extend(crc.to_le_bytes());
    record
}

/// Checks the frame and gives the body.
pub(crate) fn open(kind: Kind, record: &[u8]) -> Result<&[u8], Damage> {
    let (framed, crc) = record.split_last_chunk::<4>().ok_or(Damage::Checksum)?;
    if crc32fast::hash(framed) != u32::from_le_bytes(*crc) {
        return Err(Damage::Checksum);
    }
    match framed {
        [found, ..] if *found != kind as u8 => Err(Damage::Kind),
        [_, found, ..] if *found > FORMAT => Err(Damage::Newer { found: *found }),
        [_, _, body @ ..] => Ok(body),
        _ => Err(Damage::Content),
    }
}

pub(crate) fn put(out: &mut Vec<u8>, n: u64) {
    prost::encoding::encode_varint(n, out);
}

/// Reads a body from its beginning.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn number(&mut self) -> Result<u64, Damage> {
        prost::encoding::decode_varint(&mut self.0).map_err(|_| Damage::Content)
    }

    /// A number that a position or a length can be.
    pub(crate) fn position(&mut self) -> Result<i64, Damage> {
        i64::try_from(self.number()?).map_err(|_| Damage::Content)
    }

    /// How many things follow of which each takes at least a byte.
    pub(crate) fn count(&mut self) -> Result<usize, Damage> {
        let n = usize::try_from(self.number()?).map_err(|_| Damage::Content)?;
        if n > self.0.len() {
            Err(Damage::Content)
        } else {
            Ok(n)
        }
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn end(&self) -> Result<(), Damage> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Damage::Content)
        }
    }
}
