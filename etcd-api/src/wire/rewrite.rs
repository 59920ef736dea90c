//! The walk over a message that finds revisions and headers and asks for what replaces them.

use bytes::Bytes;

use super::{
    Comparison, KeysBeside, Message, RevisionField, Rewrite, WireError,
    edit::{Edit, Edits, Frame},
    header,
    read::{Field, Reader},
    schema::{self, Action, KeyFields, Schema},
};

pub(super) fn rewrite(
    schema: &'static Schema,
    encoded: &Bytes,
    with: &mut impl Rewrite,
) -> Result<Bytes, WireError> {
    edits(schema, encoded, with)?.apply(encoded)
}

/// What there is to change.
pub(super) fn edits(
    schema: &'static Schema,
    encoded: &[u8],
    with: &mut impl Rewrite,
) -> Result<Edits, WireError> {
    let mut walk = Walk {
        with,
        edits: Edits::default(),
    };
    walk.message(schema, Reader::new(encoded), None)?;
    Ok(walk.edits)
}

/// As [`rewrite`], in the message's own buffer where nobody else has it.
pub(super) fn rewrite_owned(
    schema: &'static Schema,
    encoded: Bytes,
    with: &mut impl Rewrite,
) -> Result<Bytes, WireError> {
    edits(schema, &encoded, with)?.apply_to(encoded)
}

/// The header of a response is its first field: the beginning of `encoded` up to its end with the
/// header replaced, and what follows it. `None` where the header is not all there.
pub(super) fn rewrite_head(
    encoded: &Bytes,
    with: &mut impl Rewrite,
) -> Result<Option<(Bytes, Bytes)>, WireError> {
    let Some(end) = header::end_of(encoded) else {
        return Ok(None);
    };
    let head = encoded.slice(..end);
    let head = rewrite(schema::of(Message::CompactionResponse), &head, with)?;
    Ok(Some((head, encoded.slice(end..))))
}

struct Walk<'w, R> {
    with: &'w mut R,
    edits: Edits,
}

impl<R: Rewrite> Walk<'_, R> {
    fn message(
        &mut self,
        schema: &'static Schema,
        mut reader: Reader<'_>,
        frame: Option<&Frame<'_>>,
    ) -> Result<(), WireError> {
        let keys = match &schema.keys {
            Some(fields) if R::WANTS_KEYS => Some(keys(fields, reader.clone())?),
            _ => None,
        };
        let mut seen = 0;
        while let Some(field) = reader.next()? {
            let Some(rule) = schema.rule(field.number) else {
                continue;
            };
            if seen & rule.once != 0 {
                return Err(WireError::Repeated);
            }
            seen |= rule.once;
            match rule.action {
                Action::Revision(kind) => self.revision(kind, keys, &field, frame)?,
                Action::Copy => {}
                Action::RangeEnd => spelled_out(&field)?,
                Action::Message(_) | Action::Header | Action::Compare => {
                    self.inner(rule.action, &reader, &field, frame)?;
                }
            }
        }
        Ok(())
    }

    /// The message that `field` holds.
    fn inner<'r>(
        &mut self,
        action: Action,
        reader: &Reader<'r>,
        field: &Field<'r>,
        parent: Option<&Frame<'_>>,
    ) -> Result<(), WireError> {
        let inner = reader.enter(field)?;
        let frame = self.edits.enter(parent, field)?;
        match action {
            Action::Message(schema) => self.message(schema, inner, Some(&frame))?,
            Action::Header => self.header(inner, &frame)?,
            Action::Compare => self.compare(inner, &frame)?,
            Action::Revision(_) | Action::RangeEnd | Action::Copy => {}
        }
        self.edits.leave(&frame)
    }

    fn revision(
        &mut self,
        kind: RevisionField,
        keys: Option<KeysBeside<'_>>,
        field: &Field<'_>,
        frame: Option<&Frame<'_>>,
    ) -> Result<(), WireError> {
        let old = field.int64()?;
        if old != 0 {
            let new = self.ask(keys, kind, old);
            if new != old {
                let edit = Edit::replace(field, new.cast_unsigned());
                self.edits.push(frame, edit);
            }
        }
        Ok(())
    }

    fn ask(&mut self, keys: Option<KeysBeside<'_>>, kind: RevisionField, old: i64) -> i64 {
        match R::WANTS_KEYS {
            true => self.with.revision_beside(keys, kind, old),
            false => self.with.revision(kind, old),
        }
    }

    fn header(&mut self, reader: Reader<'_>, frame: &Frame<'_>) -> Result<(), WireError> {
        let found = header::Found::read(reader)?;
        let old = found.header();
        let new = self.with.header(old);
        if new != old {
            for edit in found.edits(new) {
                self.edits.push(Some(frame), edit);
            }
        }
        Ok(())
    }

    /// The fields of a comparison may come in any order, so it is read whole first.
    fn compare(&mut self, mut reader: Reader<'_>, frame: &Frame<'_>) -> Result<(), WireError> {
        let keys = match R::WANTS_KEYS {
            true => Some(keys(&schema::COMPARE_KEYS, reader.clone())?),
            false => None,
        };
        let mut found = Compare::default();
        while let Some(field) = reader.next()? {
            found.read(field)?;
        }
        let Some((comparison, number)) = found.of_revisions() else {
            return Ok(());
        };
        let old = found.value.as_ref().map_or(Ok(0), Field::int64)?;
        let new = self.ask(keys, RevisionField::Compare(comparison), old);
        if new != old {
            let edit = match &found.value {
                Some(field) => Edit::replace(field, new.cast_unsigned()),
                None => Edit::append(reader.end(), number, new.cast_unsigned()),
            };
            self.edits.push(Some(frame), edit);
        }
        Ok(())
    }
}

/// The keys of a message, which may stand behind its revisions.
fn keys<'a>(fields: &KeyFields, mut reader: Reader<'a>) -> Result<KeysBeside<'a>, WireError> {
    let mut keys = KeysBeside {
        key: &[],
        range_end: &[],
    };
    while let Some(field) = reader.next()? {
        if field.number == fields.key {
            keys.key = field.content()?;
        } else if Some(field.number) == fields.range_end {
            keys.range_end = field.content()?;
        }
    }
    Ok(keys)
}

const CREATE_REVISION: u8 = 5;
const MOD_REVISION: u8 = 6;

/// Refuses a `range_end` that is there and empty.
fn spelled_out(range_end: &Field<'_>) -> Result<(), WireError> {
    if range_end.content()?.is_empty() {
        return Err(WireError::EmptyRangeEnd);
    }
    Ok(())
}

/// `etcdserverpb.Compare`.
#[derive(Default)]
struct Compare<'a> {
    result: u64,
    target: u64,
    /// The member of the oneof `target_union` that counts, which is the last.
    value: Option<Field<'a>>,
}

impl<'a> Compare<'a> {
    fn read(&mut self, field: Field<'a>) -> Result<(), WireError> {
        match field.number {
            1 => self.result = field.varint()?,
            2 => self.target = field.varint()?,
            4..=8 => self.value = Some(field),
            schema::COMPARE_RANGE_END => spelled_out(&field)?,
            _ => {}
        }
        Ok(())
    }

    /// How revisions are compared, and the number of the field that holds the one to compare with;
    /// `None` where that is not what this comparison does.
    ///
    /// etcd compares with 0 where the value is another than the target names, and a comparison
    /// with an unknown result or target holds always (`compareKV` in etcd's
    /// `server/etcdserver/txn/txn.go`).
    fn of_revisions(&self) -> Option<(Comparison, u8)> {
        // Enumerations are 32 bits wide: decoders drop what is above.
        let comparison = match self.result as u32 {
            0 => Comparison::Equal,
            1 => Comparison::Greater,
            2 => Comparison::Less,
            3 => Comparison::NotEqual,
            _ => return None,
        };
        let number = match self.target as u32 {
            1 => CREATE_REVISION,
            2 => MOD_REVISION,
            _ => return None,
        };
        let agrees = |field: &Field<'_>| field.number == u32::from(number);
        self.value
            .as_ref()
            .is_none_or(agrees)
            .then_some((comparison, number))
    }
}
