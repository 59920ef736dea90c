//! gRPC's framing: a stream of bytes, cut anywhere, against the plain reading of the whole.

use bytes::{Buf as _, Bytes};
use keyloom_etcd_api::framing::{Assembler, FramingError, Pieces, framed};

use crate::Entropy;

const LIMIT: usize = 300;

pub fn target(data: &[u8]) {
    let mut entropy = Entropy(data);
    // A zero cuts nothing; the lengths of the first pieces.
    let cuts: Vec<usize> = (0..8).map(|_| entropy.below(40)).collect();
    let whole = Bytes::copy_from_slice(entropy.0);
    let (expected, error, left) = plainly(&whole);
    let mut assembler = Assembler::up_to(LIMIT);
    let mut rest = whole;
    let mut found = Vec::new();
    let mut failed = None;
    for cut in cuts.into_iter().chain([usize::MAX]) {
        let piece = rest.split_to(cut.min(rest.len()));
        assembler.push(piece);
        while failed.is_none() {
            match assembler.take() {
                Ok(Some(message)) => found.push(again(message)),
                Ok(None) => break,
                Err(error) => failed = Some(error),
            }
        }
    }
    assert_eq!(found, expected);
    assert_eq!(failed, error);
    if failed.is_none() {
        assert_eq!(assembler.is_empty(), left == 0);
    }
}

/// Framed and read once more, it is what it was.
fn again(message: Pieces) -> Bytes {
    let (length, copied) = (message.len(), message.len() / 2);
    let bytes = message.clone().into_bytes();
    assert_eq!(bytes.len(), length);
    assert_eq!(message.framed(copied).into_bytes(), framed(&bytes));
    bytes
}

/// The messages, why there are no more, and how many bytes are left.
fn plainly(mut whole: &[u8]) -> (Vec<Bytes>, Option<FramingError>, usize) {
    let mut messages = Vec::new();
    while whole.len() >= 5 {
        let mut prefix = &whole[..5];
        let compressed = prefix.get_u8();
        let length = prefix.get_u32() as usize;
        if compressed != 0 {
            return (messages, Some(FramingError::Compressed), 0);
        }
        if length > LIMIT {
            return (messages, Some(FramingError::TooLong(length)), 0);
        }
        let Some(message) = whole[5..].get(..length) else {
            break;
        };
        messages.push(Bytes::copy_from_slice(message));
        whole = &whole[5 + length..];
    }
    (messages, None, whole.len())
}
