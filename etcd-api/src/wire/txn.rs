//! What an encoded answer says about a write: whether there was one, and the answers inside.

use bytes::Bytes;

use super::{WireError, header, read::Reader};

const HEADER: u32 = 1;
/// `TxnResponse.responses`.
const RESPONSES: u32 = 3;
/// `DeleteRangeResponse.deleted`.
const DELETED: u32 = 2;

/// The members of `ResponseOp.response`.
const RANGE: u32 = 1;
const PUT: u32 = 2;
const DELETE_RANGE: u32 = 3;
const TXN: u32 = 4;

/// What became of a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxnOutcome {
    /// The revision in the header, or 0 where there is no header.
    pub header_revision: i64,
    /// Whether the transaction, or one nested in it, put a key or deleted at least one.
    pub wrote: bool,
}

/// Reads the outcome from an encoded `TxnResponse`.
///
/// # Errors
/// Where `response` is not one.
pub fn txn_outcome(response: &Bytes) -> Result<TxnOutcome, WireError> {
    outcome(Reader::new(response))
}

fn outcome(mut reader: Reader<'_>) -> Result<TxnOutcome, WireError> {
    let mut outcome = TxnOutcome::default();
    let mut header_seen = false;
    while let Some(field) = reader.next()? {
        match field.number {
            HEADER if header_seen => return Err(WireError::Repeated),
            HEADER => {
                header_seen = true;
                outcome.header_revision = header::read(reader.enter(&field)?)?.revision;
            }
            RESPONSES => outcome.wrote |= op_wrote(reader.enter(&field)?)?,
            _ => {}
        }
    }
    Ok(outcome)
}

fn op_wrote(reader: Reader<'_>) -> Result<bool, WireError> {
    match response_of(reader)? {
        Some((PUT, _)) => Ok(true),
        Some((DELETE_RANGE, response)) => read_deleted(response).map(|deleted| deleted > 0),
        Some((TXN, response)) => outcome(response).map(|outcome| outcome.wrote),
        _ => Ok(false),
    }
}

/// The one response in the `ResponseOp` that `reader` stands at, with its number.
fn response_of(mut reader: Reader<'_>) -> Result<Option<(u32, Reader<'_>)>, WireError> {
    let mut response = None;
    while let Some(field) = reader.next()? {
        if (RANGE..=TXN).contains(&field.number) {
            if response.is_some() {
                return Err(WireError::Repeated);
            }
            response = Some((field.number, reader.enter(&field)?));
        }
    }
    Ok(response)
}

/// How many keys an encoded `DeleteRangeResponse` says were deleted.
///
/// # Errors
/// Where `response` is not one.
pub fn deleted(response: &Bytes) -> Result<i64, WireError> {
    read_deleted(Reader::new(response))
}

fn read_deleted(mut reader: Reader<'_>) -> Result<i64, WireError> {
    let mut deleted = 0;
    while let Some(field) = reader.next()? {
        if field.number == DELETED {
            deleted = field.int64()?;
        }
    }
    Ok(deleted)
}

/// The encoded `RangeResponse`s in an encoded `TxnResponse` that only read, in their order. They
/// share its buffer.
///
/// # Errors
/// Where `response` is no `TxnResponse`, or one that holds anything but ranges.
pub fn range_responses_of_txn(response: &Bytes) -> Result<Vec<Bytes>, WireError> {
    let mut reader = Reader::new(response);
    let mut ranges = Vec::new();
    while let Some(field) = reader.next()? {
        if field.number == RESPONSES {
            match response_of(reader.enter(&field)?)? {
                Some((RANGE, range)) => ranges.push(range.rest(response)?),
                _ => return Err(WireError::Malformed),
            }
        }
    }
    Ok(ranges)
}
