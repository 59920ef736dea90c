//! gRPC's length-prefixed messages, in and out.
//!
//! Done here rather than by tonic because tonic's client hides what this program must know: whether
//! a status came from the store or was made up on this side, and whether a request ever left. It
//! also copies every message; here a message that lies in one DATA frame is not copied.
//! Source: `PROTOCOL-HTTP2.md` of gRPC.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

/// A flag for compression and the message's length, before every message.
const PREFIX: usize = 5;

/// A message with its prefix, in one piece.
#[must_use]
pub fn framed(message: &[u8]) -> Bytes {
    let mut frame = begin_frame(message.len(), message.len());
    frame.put_slice(message);
    frame.freeze()
}

/// A message in the pieces in which it arrived: a long one is then never copied whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    /// All of most messages.
    pub first: Bytes,
    pub rest: Vec<Bytes>,
}

impl Pieces {
    /// How long the message is.
    #[must_use]
    pub fn len(&self) -> usize {
        self.first.len() + self.rest.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether the message is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message in one piece, copied if it has more.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() {
            return self.first;
        }
        let mut whole = BytesMut::with_capacity(self.len());
        whole.put_slice(&self.first);
        for piece in &self.rest {
            whole.put_slice(piece);
        }
        whole.freeze()
    }

    /// The message with its prefix. The prefix and up to `copied` bytes of the message are copied
    /// into the first piece, the others stay as they are.
    #[must_use]
    pub fn framed(self, copied: usize) -> Self {
        let length = self.len();
        let mut first = begin_frame(length, length.min(copied));
        let mut rest = Vec::new();
        for mut piece in std::iter::once(self.first).chain(self.rest) {
            let room = (PREFIX + copied).saturating_sub(first.len());
            first.put_slice(&piece.split_to(room.min(piece.len())));
            if !piece.is_empty() {
                rest.push(piece);
            }
        }
        Self {
            first: first.freeze(),
            rest,
        }
    }
}

impl From<Bytes> for Pieces {
    fn from(whole: Bytes) -> Self {
        Self {
            first: whole,
            rest: Vec::new(),
        }
    }
}

/// The prefix of a message, with room for the beginning of the message. Messages of 4 GiB do not
/// exist: requests are bounded far below, and so are answers.
#[must_use]
pub fn begin_frame(length: usize, room: usize) -> BytesMut {
    let mut frame = BytesMut::with_capacity(PREFIX + room);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame
}

/// Bytes that are no gRPC message of a call without compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    #[error("a compressed message, though none was asked for")]
    Compressed,
    #[error("a message of {0} bytes")]
    TooLong(usize),
}

/// Finds messages in the pieces in which they arrive.
#[derive(Debug)]
pub struct Assembler {
    /// The longest message that is taken.
    limit: usize,
    /// What has not been taken, without empty pieces.
    pieces: VecDeque<Bytes>,
    length: usize,
}

impl Assembler {
    /// Takes messages of up to `limit` bytes.
    #[must_use]
    pub fn up_to(limit: usize) -> Self {
        Self {
            limit,
            pieces: VecDeque::new(),
            length: 0,
        }
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.length += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// The next whole message, if there is one.
    ///
    /// # Errors
    /// Where the bytes are none. The rest of the stream makes no sense then.
    pub fn take(&mut self) -> Result<Option<Pieces>, FramingError> {
        let Some(length) = self.next_length()? else {
            return Ok(None);
        };
        if self.length < PREFIX + length {
            return Ok(None);
        }
        self.cut(PREFIX);
        Ok(Some(self.cut(length)))
    }

    /// Whether every byte was part of a message that was taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The length of the next message, once its prefix is there.
    fn next_length(&self) -> Result<Option<usize>, FramingError> {
        if self.length < PREFIX {
            return Ok(None);
        }
        let mut prefix = [0; PREFIX];
        for (place, byte) in prefix.iter_mut().zip(self.pieces.iter().flatten()) {
            *place = *byte;
        }
        let [compressed, length @ ..] = prefix;
        if compressed != 0 {
            return Err(FramingError::Compressed);
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(FramingError::TooLong(length));
        }
        Ok(Some(length))
    }

    /// Cuts off the first `length` bytes, which are there.
    fn cut(&mut self, length: usize) -> Pieces {
        let mut cut = Pieces::default();
        let mut missing = length;
        while missing > 0 {
            let Some(piece) = self.pieces.front_mut() else {
                break;
            };
            let part = match piece.len() <= missing {
                true => self.pieces.pop_front().unwrap_or_default(),
                false => piece.split_to(missing),
            };
            missing -= part.len();
            match cut.first.is_empty() {
                true => cut.first = part,
                false => cut.rest.push(part),
            }
        }
        self.length -= length - missing;
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, FramingError> {
        let mut assembler = Assembler::up_to(i32::MAX as usize);
        let mut messages = Vec::new();
        for piece in pieces {
            assembler.push(Bytes::copy_from_slice(piece));
            while let Some(message) = assembler.take()? {
                messages.push(message.into_bytes().to_vec());
            }
        }
        assert!(assembler.is_empty());
        Ok(messages)
    }

    #[test]
    fn messages_come_out_whole_wherever_the_pieces_are_cut() {
        let messages: Vec<Vec<u8>> = vec![vec![], vec![1], vec![2; 7], vec![], vec![3; 300]];
        let whole: Vec<u8> = messages.iter().flat_map(|m| framed(m).to_vec()).collect();
        for length in 1..=whole.len() {
            let pieces: Vec<&[u8]> = whole.chunks(length).collect();
            assert_eq!(taken(&pieces).unwrap(), messages, "pieces of {length}");
        }
    }

    #[test]
    fn pieces_are_not_copied() {
        let whole = framed(&[7; 300]);
        let mut assembler = Assembler::up_to(300);
        for piece in [whole.slice(..3), whole.slice(3..40), whole.slice(40..)] {
            assert_eq!(assembler.take(), Ok(None));
            assembler.push(piece);
        }
        let message = assembler.take().unwrap().unwrap();
        assert_eq!(message.len(), 300);
        assert_eq!(message.first.as_ptr(), whole[PREFIX..].as_ptr());
        assert_eq!(message.rest, [whole.slice(40..)]);
        assert_eq!(message.rest[0].as_ptr(), whole[40..].as_ptr());
        assert!(assembler.is_empty());
    }

    #[test]
    fn framed_pieces_are_the_framed_message() {
        let message = Bytes::from((0..=255).collect::<Vec<u8>>());
        let cuts: [&[usize]; 4] = [&[], &[1], &[100, 200], &[0, 10, 20]];
        for cut in cuts {
            let mut rest = message.clone();
            let mut parts: Vec<_> = cut
                .iter()
                .map(|at| rest.split_to(*at - (256 - rest.len())))
                .collect();
            parts.push(rest);
            for copied in [0, 1, 99, 256, 1000] {
                let pieces = Pieces {
                    first: parts[0].clone(),
                    rest: parts[1..].to_vec(),
                };
                let framed_pieces = pieces.framed(copied);
                assert_eq!(
                    framed_pieces.rest.is_empty(),
                    copied >= 256,
                    "{cut:?} {copied}"
                );
                assert_eq!(
                    framed_pieces.into_bytes(),
                    framed(&message),
                    "{cut:?} {copied}"
                );
            }
        }
        assert_eq!(Pieces::default().framed(9).into_bytes(), framed(b""));
    }

    #[test]
    fn a_message_above_the_limit_is_an_error() {
        let mut assembler = Assembler::up_to(4);
        assembler.push(framed(b"four"));
        assert_eq!(
            assembler.take(),
            Ok(Some(Bytes::from_static(b"four").into()))
        );
        assembler.push(Bytes::from_static(&[0, 0, 0, 0, 5]));
        assert_eq!(assembler.take(), Err(FramingError::TooLong(5)));
    }

    #[test]
    fn nonsense_is_an_error() {
        assert_eq!(taken(&[&[1, 0, 0, 0, 0]]), Err(FramingError::Compressed));
        assert_eq!(
            taken(&[&[0, 0x80, 0, 0, 0]]),
            Err(FramingError::TooLong(1 << 31))
        );
        assert_eq!(
            taken(&[&[0, 0xff], &[0xff, 0xff, 0xff]]),
            Err(FramingError::TooLong((1 << 32) - 1))
        );
    }
}
