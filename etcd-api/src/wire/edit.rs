//! The changes to one message, gathered while it is read and then applied in one copy.

use std::cell::Cell;

use bytes::{BufMut, Bytes};
use prost::encoding::{encode_varint, encoded_len_varint};

use super::{WireError, read::Field};

/// Replaces `old` bytes at `at` by `value` as a varint.
#[derive(Clone, Copy)]
pub(super) struct Edit {
    pub(super) at: usize,
    pub(super) old: u8,
    /// The tag to write before the value of a field that was absent; 0 is none.
    pub(super) tag: u8,
    pub(super) value: u64,
}

impl Edit {
    /// Puts `value` in place of the varint in `field`.
    pub(super) fn replace(field: &Field<'_>, value: u64) -> Self {
        Self::over(field.value_at, field.end, value)
    }

    /// Puts `value` in place of the varint at `at..end`.
    pub(super) fn over(at: usize, end: usize, value: u64) -> Self {
        Self {
            at,
            old: width(at, end),
            tag: 0,
            value,
        }
    }

    /// Adds an integer field where the message ends. `number` must be below 16.
    pub(super) fn append(end: usize, number: u8, value: u64) -> Self {
        Self {
            at: end,
            old: 0,
            tag: number << 3,
            value,
        }
    }

    fn new_len(self) -> usize {
        usize::from(self.tag != 0) + encoded_len_varint(self.value)
    }

    fn write(self, out: &mut Vec<u8>) {
        if self.tag != 0 {
            out.put_u8(self.tag);
        }
        encode_varint(self.value, out);
    }
}

/// The width of a varint, which is never more than ten.
fn width(at: usize, end: usize) -> u8 {
    u8::try_from(end.saturating_sub(at)).unwrap_or(u8::MAX)
}

/// A message inside another, whose length prefix changes with its content.
pub(super) struct Frame<'f> {
    parent: Option<&'f Frame<'f>>,
    /// The length prefix as it stands.
    prefix: Edit,
    /// What the edits had added when the message began.
    growth: isize,
    /// Where in the list the change of the prefix stands, once anything inside has changed.
    slot: Cell<Option<usize>>,
}

/// Edits in the order of their places.
///
/// The prefixes around a first change get their places in the list with it, before it, so that no
/// edit ever moves and a message without changes costs nothing.
#[derive(Default)]
pub(super) struct Edits {
    list: List,
    /// By how many bytes the message grows.
    growth: isize,
}

impl Edits {
    /// Begins the message that `field` holds.
    pub(super) fn enter<'f>(
        &self,
        parent: Option<&'f Frame<'f>>,
        field: &Field<'_>,
    ) -> Result<Frame<'f>, WireError> {
        let length = field.content()?.len();
        let content_at = field.end.saturating_sub(length);
        Ok(Frame {
            parent,
            prefix: Edit {
                at: field.value_at,
                old: width(field.value_at, content_at),
                tag: 0,
                value: length as u64,
            },
            growth: self.growth,
            slot: Cell::new(None),
        })
    }

    /// Ends the message of `frame`.
    pub(super) fn leave(&mut self, frame: &Frame<'_>) -> Result<(), WireError> {
        let grown = self.growth - frame.growth;
        let Some(slot) = frame.slot.get().filter(|_| grown != 0) else {
            return Ok(());
        };
        let value = frame.prefix.value.checked_add_signed(grown as i64);
        let edit = Edit {
            value: value.ok_or(WireError::Malformed)?,
            ..frame.prefix
        };
        self.growth += growth_of(edit);
        *self.list.get_mut(slot).ok_or(WireError::Malformed)? = edit;
        Ok(())
    }

    /// Adds a change inside the message of `frame`, behind every change so far.
    pub(super) fn push(&mut self, frame: Option<&Frame<'_>>, edit: Edit) {
        if let Some(frame) = frame {
            self.reserve(frame);
        }
        self.growth += growth_of(edit);
        self.list.push(edit);
    }

    /// Gives the prefix of `frame` and of every message around it a place in the list.
    fn reserve(&mut self, frame: &Frame<'_>) {
        if frame.slot.get().is_some() {
            return;
        }
        if let Some(parent) = frame.parent {
            self.reserve(parent);
        }
        frame.slot.set(Some(self.list.len()));
        self.list.push(UNCHANGED);
    }

    /// As [`Self::apply`]. Revisions that are as wide as those before them take their places where
    /// they stand: a long list is then not copied.
    pub(super) fn apply_to(&self, encoded: Bytes) -> Result<Bytes, WireError> {
        if !self.list.iter().all(|edit| growth_of(*edit) == 0) {
            return self.apply(&encoded);
        }
        let mut own = match encoded.try_into_mut() {
            Ok(own) => own,
            Err(shared) => return self.apply(&shared),
        };
        for edit in self.list.iter().filter(|edit| edit.at != UNCHANGED.at) {
            let place = own.get_mut(edit.at..edit.at + usize::from(edit.old));
            // None has a tag: a field that was absent makes the message longer.
            encode_varint(edit.value, &mut place.ok_or(WireError::Malformed)?);
        }
        Ok(own.freeze())
    }

    pub(super) fn apply(&self, encoded: &Bytes) -> Result<Bytes, WireError> {
        if self.list.len() == 0 {
            return Ok(encoded.clone());
        }
        let mut out = Vec::with_capacity(self.new_len(encoded)?);
        self.apply_into(encoded, &mut out)?;
        Ok(Bytes::from(out))
    }

    /// How long the message becomes.
    pub(super) fn new_len(&self, encoded: &[u8]) -> Result<usize, WireError> {
        let size = encoded.len().checked_add_signed(self.growth);
        size.ok_or(WireError::Malformed)
    }

    /// Appends the changed message.
    pub(super) fn apply_into(&self, encoded: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
        let mut copied = 0;
        for edit in self.list.iter().filter(|edit| edit.at != UNCHANGED.at) {
            out.extend_from_slice(encoded.get(copied..edit.at).ok_or(WireError::Malformed)?);
            edit.write(out);
            copied = edit.at + usize::from(edit.old);
        }
        out.extend_from_slice(encoded.get(copied..).ok_or(WireError::Malformed)?);
        Ok(())
    }
}

/// As many edits as most messages have that are not lists.
const FEW: usize = 10;

/// A list that is allocated only when it becomes long.
struct List {
    few: [Edit; FEW],
    more: Vec<Edit>,
    len: usize,
}

impl Default for List {
    fn default() -> Self {
        Self {
            few: [UNCHANGED; FEW],
            more: Vec::new(),
            len: 0,
        }
    }
}

impl List {
    fn len(&self) -> usize {
        self.len
    }

    fn push(&mut self, edit: Edit) {
        match self.few.get_mut(self.len) {
            Some(place) => *place = edit,
            None => self.more.push(edit),
        }
        self.len += 1;
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut Edit> {
        match index.checked_sub(FEW) {
            None => self.few.get_mut(index),
            Some(index) => self.more.get_mut(index),
        }
    }

    /// Every edit, among others that are [`UNCHANGED`].
    fn iter(&self) -> impl Iterator<Item = &Edit> {
        self.few.iter().chain(&self.more)
    }
}

/// A prefix whose message changes but not in length. No edit stands at 0, where there is always a
/// tag.
const UNCHANGED: Edit = Edit {
    at: 0,
    old: 0,
    tag: 0,
    value: 0,
};

/// By how many bytes an edit makes the message longer; 0 for [`UNCHANGED`].
fn growth_of(edit: Edit) -> isize {
    if edit.at == UNCHANGED.at {
        return 0;
    }
    edit.new_len() as isize - isize::from(edit.old)
}
