//! How the ledger is written to the default store and read back: encoding alone, somebody else sends.
//!
//! ```text
//! head        what is persisted: directory, head, reserved, which records belong to it
//! chunk/<n>   closed chunk n of the order, written once
//! hidden/<n>  closed chunk n of the default store's hidden revisions, written once
//! tail/<n>    runs of both since the last flush; written together again, and the old ones
//!             deleted, when a chunk closes or there are many
//! ```
//!
//! Beside them are two records with keys of their own: the [`Stamp`], which every own write puts, and
//! the accepted topology ([`AcceptedRecord`]).
//!
//! Rule 5 says why the ledger is small and who may read it. Each record has one frame (`record.rs`).
//! Numbers in keys have ten digits: the order of the keys is the order in which [`Restoring`] wants
//! them.
//!
//! Invariants:
//! 1. The head record is the commit point: what is restored is exactly what the ledger was at the last
//!    flush that was [`Flush::complete`]. Chunks that an unfinished flush wrote ahead are not looked at.
//! 2. The chunks that the head counts, then the tails that it names, follow each other without a gap.
//! 3. Hidden writes above the persisted frontier are known after a crash if each of them is a flush:
//!    the head record lists them, and its own revision is the last. (So a heartbeat carries a flush.)

mod accepted;
mod body;
mod flush;
mod head;
mod record;
mod restore;
mod stamp;

pub use accepted::{AcceptedChange, AcceptedRange, AcceptedRecord};
pub use flush::{Flush, HEAD, Mark, Seal};
pub use record::Damage;
pub use restore::{RestoreError, Restored, Restoring};
pub use stamp::Stamp;

#[cfg(test)]
pub(crate) mod test_access {
    //! What the tests of damage need of the frame.

    /// Makes a record's checksum good again.
    pub(crate) fn reseal(record: &mut Vec<u8>) {
        record.truncate(record.len() - 4);
        let crc = crc32fast::hash(record);
        record.extend(crc.to_le_bytes());
    }
}
