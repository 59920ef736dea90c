//! Varints of more than one byte.
//!
//! Most of the work in a header, whose two ids have nine or ten bytes each.

use std::num::NonZeroUsize;

/// The varint at the start of `bytes` and how long it is. At most ten bytes, of which the tenth
/// holds one bit; longer than need be is allowed.
pub(super) fn long(bytes: &[u8]) -> Option<(u64, NonZeroUsize)> {
    let (value, length) = match bytes.first_chunk() {
        Some(eight) => fast(*eight, bytes)?,
        None => slow(bytes)?,
    };
    Some((value, NonZeroUsize::new(length)?))
}

/// For bytes that begin with these eight.
#[inline]
fn fast(eight: [u8; 8], bytes: &[u8]) -> Option<(u64, usize)> {
    let word = u64::from_le_bytes(eight);
    // The lowest bit that says that nothing follows; none if all eight bytes go on.
    let last = !word & 0x8080_8080_8080_8080;
    if last != 0 {
        let kept = last ^ (last - 1);
        return Some((squeeze(word & kept), last.trailing_zeros() as usize / 8 + 1));
    }
    let value = squeeze(word);
    match (bytes.get(8)?, bytes.get(9)) {
        (&ninth @ 0..0x80, _) => Some((value | u64::from(ninth) << 56, 9)),
        (&ninth, Some(&tenth @ 0..2)) => {
            let ninth = u64::from(ninth & 0x7f) << 56;
            Some((value | ninth | u64::from(tenth) << 63, 10))
        }
        _ => None,
    }
}

/// Moves the seven low bits of each byte together, lowest byte first.
#[inline]
const fn squeeze(word: u64) -> u64 {
    let word = (word & 0x007f_007f_007f_007f) | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let word = (word & 0x0000_3fff_0000_3fff) | (word & 0x3fff_0000_3fff_0000) >> 2;
    (word & 0x0000_0000_0fff_ffff) | (word & 0x0fff_ffff_0000_0000) >> 4
}

/// For the last bytes of a message.
fn slow(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    // There are fewer than eight, so the shift stays in range.
    for (index, &byte) in bytes.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((value, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::encoding::decode_varint;

    use super::{NonZeroUsize, long};

    fn as_prost(bytes: &[u8]) -> Option<(u64, NonZeroUsize)> {
        let mut rest = bytes;
        let value = decode_varint(&mut rest).ok()?;
        Some((value, NonZeroUsize::new(bytes.len() - rest.len())?))
    }

    proptest! {
        #[test]
        fn read_as_prost_reads_them(
            going_on in proptest::collection::vec(0x80u8.., 0..11),
            last in 0..0x80u8,
            behind: Vec<u8>,
        ) {
            let bytes = [going_on.clone(), vec![last & 1], behind.clone()].concat();
            prop_assert_eq!(long(&bytes), as_prost(&bytes));
            let bytes = [going_on.clone(), vec![last], behind].concat();
            prop_assert_eq!(long(&bytes), as_prost(&bytes));
            prop_assert_eq!(long(&going_on), as_prost(&going_on));
        }
    }
}
