//! `etcdserverpb.ResponseHeader` in an encoded response.

use bytes::Bytes;

use super::{
    Header, WireError,
    edit::Edit,
    read::{Field, Reader},
};

/// The header of any response, where it has one. (A `RangeStreamResponse` has its own one level
/// down.)
///
/// Reads no further than the header, which every known server writes first: whether the rest of the
/// response is well formed is left to whoever reads the rest.
///
/// # Errors
/// Where `response` is malformed up to its header.
pub fn peek_header(response: &Bytes) -> Result<Option<Header>, WireError> {
    let mut reader = Reader::new(response);
    while let Some(field) = reader.next()? {
        if field.number == 1 {
            return read(reader.enter(&field)?).map(Some);
        }
    }
    Ok(None)
}

/// Where the header ends, if it is the first field and all there.
pub(super) fn end_of(beginning: &Bytes) -> Option<usize> {
    let mut reader = Reader::new(beginning);
    let first = reader.next().ok().flatten()?;
    first.content().ok()?;
    (first.number == 1).then_some(first.end)
}

/// The header that `reader` stands at.
pub(super) fn read(reader: Reader<'_>) -> Result<Header, WireError> {
    Found::read(reader).map(|found| found.header())
}

/// The fields of a header.
#[derive(Default)]
pub(super) struct Found {
    cluster_id: Known,
    member_id: Known,
    revision: Known,
    raft_term: Known,
    /// Where the header ends.
    end: usize,
}

/// One field of a header. Its last occurrence is the one that counts, and that is changed.
#[derive(Clone, Copy, Default)]
struct Known {
    value: u64,
    place: Option<(usize, usize)>,
}

impl Found {
    pub(super) fn read(mut reader: Reader<'_>) -> Result<Self, WireError> {
        let mut found = Self {
            end: reader.end(),
            ..Self::default()
        };
        while let Some(field) = reader.next()? {
            match field.number {
                1 => found.cluster_id.read(&field)?,
                2 => found.member_id.read(&field)?,
                3 => found.revision.read(&field)?,
                4 => found.raft_term.read(&field)?,
                _ => {}
            }
        }
        Ok(found)
    }

    pub(super) fn header(&self) -> Header {
        Header {
            cluster_id: self.cluster_id.value,
            member_id: self.member_id.value,
            revision: self.revision.value.cast_signed(),
            raft_term: self.raft_term.value,
        }
    }

    /// What makes this header `new`, in the order of the places.
    #[inline]
    pub(super) fn edits(&self, new: Header) -> impl Iterator<Item = Edit> + use<> {
        let mut edits = [
            self.cluster_id.edit(1, new.cluster_id, self.end),
            self.member_id.edit(2, new.member_id, self.end),
            self.revision
                .edit(3, new.revision.cast_unsigned(), self.end),
            self.raft_term.edit(4, new.raft_term, self.end),
        ];
        edits.sort_by_key(|edit| edit.map(|edit| edit.at));
        edits.into_iter().flatten()
    }
}

impl Known {
    fn read(&mut self, field: &Field<'_>) -> Result<(), WireError> {
        self.value = field.varint()?;
        self.place = Some((field.value_at, field.end));
        Ok(())
    }

    fn edit(self, number: u8, new: u64, header_end: usize) -> Option<Edit> {
        (new != self.value).then(|| match self.place {
            Some((at, end)) => Edit::over(at, end, new),
            None => Edit::append(header_end, number, new),
        })
    }
}
