//! Reading ranges: in the order of an index, stopping as soon as the reader has enough.

use keyloom_etcd_api::KeyRange;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{SqliteSession, blob, read_row, sql};
use crate::{
    session::{At, ChangeSeq, Marks, Sql, Values, Visit},
    statement::Statement,
};

/// After so many changes of one key in a row that the reader cannot use, it is cheaper to look
/// the next one up than to step there.
const STEPS_BEFORE_A_JUMP: u32 = 8;

/// Where a walk over the history goes on.
enum Walk {
    Done,
    /// At the first key that is not below this one.
    From(Vec<u8>),
}

impl SqliteSession {
    pub(super) fn scan_range(
        &self,
        range: &KeyRange,
        at: At,
        values: Values,
        visit: Visit<'_>,
    ) -> Sql<()> {
        if range.is_empty() {
            return Ok(());
        }
        match at {
            At::Now => self.timed(Statement::ScanCurrent, |connection| {
                scan_now(connection, range, values, visit)
            }),
            At::After(place) => self.timed(Statement::ScanHistory, |connection| {
                scan_after(connection, range, place, values, visit)
            }),
        }
    }

    pub(super) fn count_range(&self, range: &KeyRange, at: At) -> Sql<i64> {
        if range.is_empty() {
            return Ok(0);
        }
        match at {
            At::Now => self.timed(Statement::CountCurrent, |connection| {
                count_now(connection, range)
            }),
            At::After(place) => self.timed(Statement::ScanHistory, |connection| {
                let mut count = 0;
                walk(connection, range, place, &mut |_| {
                    count += 1;
                    Ok(true)
                })?;
                Ok(count)
            }),
        }
    }

    /// Finds the place of the last change at or below a revision: places are in the order of
    /// revisions, so that no index is needed.
    pub(super) fn bisect(&self, revision: i64, marks: &Marks) -> Sql<ChangeSeq> {
        let (mut low, mut high) = (0, marks.next_place.0 - 1);
        if revision >= marks.revision {
            return Ok(ChangeSeq(high));
        }
        self.timed(Statement::PlaceAt, |connection| {
            let mut probe = connection.prepare_cached(sql!("probe"))?;
            while low < high {
                let middle = low + (high - low + 1) / 2;
                let found: Option<(i64, i64)> = probe
                    .query_row([middle], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()?;
                match found {
                    Some((place, at)) if at <= revision => low = place,
                    _ => high = middle - 1,
                }
            }
            Ok(ChangeSeq(low))
        })
    }
}

fn is_behind(range: &KeyRange, key: &[u8]) -> bool {
    range.end.as_deref().is_some_and(|end| key >= end)
}

fn scan_now(
    connection: &Connection,
    range: &KeyRange,
    values: Values,
    visit: Visit<'_>,
) -> rusqlite::Result<()> {
    let sql = match values {
        Values::Read => sql!("scan_values"),
        Values::Leave => sql!("scan_keys"),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([&range.start[..]])?;
    while let Some(row) = rows.next()? {
        let row = read_row(row)?;
        if is_behind(range, row.key) || !visit(&row) {
            break;
        }
    }
    Ok(())
}

fn count_now(connection: &Connection, range: &KeyRange) -> rusqlite::Result<i64> {
    match &range.end {
        Some(end) => connection
            .prepare_cached(sql!("count"))?
            .query_row([&range.start[..], &end[..]], |row| row.get(0)),
        None => connection
            .prepare_cached(sql!("count_from"))?
            .query_row([&range.start[..]], |row| row.get(0)),
    }
}

fn scan_after(
    connection: &Connection,
    range: &KeyRange,
    place: ChangeSeq,
    values: Values,
    visit: Visit<'_>,
) -> rusqlite::Result<()> {
    let mut fetch = connection.prepare_cached(match values {
        Values::Read => sql!("row_at"),
        Values::Leave => sql!("key_row_at"),
    })?;
    walk(connection, range, place, &mut |place| {
        fetch.query_row([place], |row| Ok(visit(&read_row(row)?)))
    })
}

/// What to do with the place of each living key's last change; `false` ends the walk.
type OnFound<'f> = &'f mut dyn FnMut(i64) -> rusqlite::Result<bool>;

/// Finds the living keys of a range as they were after a place, by index alone.
fn walk(
    connection: &Connection,
    range: &KeyRange,
    place: ChangeSeq,
    found: OnFound<'_>,
) -> rusqlite::Result<()> {
    let mut from = range.start.to_vec();
    while let Walk::From(next) = walk_from(connection, &from, range, place, found)? {
        from = next;
    }
    Ok(())
}

fn walk_from(
    connection: &Connection,
    from: &[u8],
    range: &KeyRange,
    place: ChangeSeq,
    found: OnFound<'_>,
) -> rusqlite::Result<Walk> {
    let mut statement = connection.prepare_cached(sql!("scan_places"))?;
    let mut rows = statement.query([from])?;
    let mut key = Vec::new();
    // Whether the key's last change at the place was met, and how often the key was.
    let (mut settled, mut steps) = (true, 0);
    while let Some(row) = rows.next()? {
        let this = blob(row, 0)?;
        if is_behind(range, this) {
            return Ok(Walk::Done);
        }
        if this != key || steps == 0 {
            key.clear();
            key.extend_from_slice(this);
            (settled, steps) = (false, 0);
        }
        steps += 1;
        if !settled && row.get::<_, i64>(1)? <= place.0 {
            settled = true;
            if row.get::<_, i64>(2)? != 0 && !found(row.get(1)?)? {
                return Ok(Walk::Done);
            }
        }
        if steps > STEPS_BEFORE_A_JUMP {
            let go_on = settled || jump(connection, &key, place, found)?;
            key.push(0);
            return Ok(if go_on { Walk::From(key) } else { Walk::Done });
        }
    }
    Ok(Walk::Done)
}

/// Looks up one key's last change at a place.
fn jump(
    connection: &Connection,
    key: &[u8],
    place: ChangeSeq,
    found: OnFound<'_>,
) -> rusqlite::Result<bool> {
    let before = connection
        .prepare_cached(sql!("place_before"))?
        .query_row(params![key, place.0], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?))
        })
        .optional()?;
    match before {
        Some((place, version)) if version != 0 => found(place),
        _ => Ok(true),
    }
}
