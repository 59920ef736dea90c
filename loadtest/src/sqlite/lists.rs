//! Pages and counts of a large table, one at a time, from many places of it.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use keyloom_etcd_api::etcdserverpb::RangeResponse;
use prost::Message as _;
use tokio::time::Instant;

use super::{
    database::Database,
    fill::{Pass, key, version, write},
};
use crate::{
    connection::Connection,
    keyspace::{Resource, end_of},
    request::Request,
    round::{Load, Meter, Tally, describe},
    run::{Outcome, Subject},
    stats::Figures,
};

/// One object in so many was written again after the old revision.
const CHANGED: usize = 4;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    objects: usize,
    size: usize,
    /// Objects of a page; none where only the count is asked for.
    page: Option<usize>,
    /// At the revision before the changes.
    old: bool,
}

/// Every question to a table of so many objects.
pub(super) fn questions(objects: usize, size: usize, pages: &[usize]) -> Vec<Question> {
    let pages = pages.iter().map(|page| Some(*page)).chain([None]);
    let each = |page| {
        [false, true].map(|old| Question {
            objects,
            size,
            page,
            old,
        })
    };
    pages.flat_map(each).collect()
}

/// Fills the databases and asks every question of each of them in turn.
pub(super) async fn measure(
    databases: &mut [Database],
    questions: &[Question],
    rounds: usize,
    load: &Load,
) -> Result<Vec<Outcome>> {
    let Some(first) = questions.first() else {
        return Ok(Vec::new());
    };
    let mut targets = Vec::new();
    for database in databases {
        let name = database.kind.name();
        let old = first.fill(database).await;
        let old = old.with_context(|| format!("filling {name}"))?;
        targets.push((database.subject()?, old, database.connect().await?));
        let mib = database.mib()?;
        sizes_say(name, first.objects, mib);
    }
    let mut outcomes = Vec::new();
    for question in questions {
        let mut outcome = Outcome {
            workload: question.name(),
            clients: 1,
            targets: Vec::new(),
        };
        let names = targets.iter().map(|(subject, ..)| &subject.target.name);
        outcome.targets = names.map(|name| (name.clone(), Vec::new())).collect();
        for _ in 0..rounds {
            for ((subject, old, connection), (name, rounds)) in
                targets.iter().zip(&mut outcome.targets)
            {
                let figures = question.round(subject, *old, connection, load).await;
                rounds.push(figures.with_context(|| format!("{name}: {}", question.name()))?);
            }
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Long before the tables, one wants to know that something happens.
fn sizes_say(name: &str, objects: usize, mib: f64) {
    use std::io::Write as _;
    let mut out = std::io::stderr();
    drop(writeln!(out, "{name}: {objects} objects, {mib:.0} MiB"));
}

impl Question {
    fn name(&self) -> String {
        let what = match self.page {
            Some(page) => format!("list of {page}"),
            None => "count".to_owned(),
        };
        let at = if self.old {
            "an old revision"
        } else {
            "the newest"
        };
        format!("{what} of {} at {at}", self.objects)
    }

    /// Writes the objects, and one in so many of them again; the revision in between.
    async fn fill(&self, database: &mut Database) -> Result<i64> {
        let pass = |every, version| Pass {
            objects: self.objects,
            every,
            version,
            size: self.size,
        };
        let old = write(database, pass(1, 0)).await?;
        write(database, pass(CHANGED, 1)).await?;
        Ok(old)
    }

    async fn round(
        &self,
        subject: &Subject,
        old: i64,
        connection: &Connection,
        load: &Load,
    ) -> Result<Figures> {
        let revision = if self.old { old } else { 0 };
        // The first answer is checked too, and not measured: it finds caches empty.
        self.ask(0, revision, connection).await?;
        let mut tally = Tally::default();
        let meter = Meter::start(&subject.processes, 0)?;
        let began = Instant::now();
        let mut asked: usize = 0;
        while asked == 0 || began.elapsed() < load.duration {
            asked += 1;
            let took = self.ask(asked, revision, connection).await?;
            tally.record("range", took);
        }
        let mut figures = meter.stop(asked as u64)?;
        describe(&tally, &mut figures);
        Ok(figures)
    }

    /// Asks once, from one place or another, and looks at the whole answer.
    async fn ask(
        &self,
        number: usize,
        revision: i64,
        connection: &Connection,
    ) -> Result<tokio::time::Duration> {
        let end = end_of(&Resource::Lists.namespace(0));
        let start = self.start(number);
        let request = match self.page {
            Some(page) => Request::page(key(start), end, page, revision),
            None => Request::count(key(start), end, revision),
        };
        let began = Instant::now();
        let answer = connection.unary(request.rpc, request.frame).await?;
        let took = began.elapsed();
        self.check(start, answer)?;
        Ok(took)
    }

    /// Where a page begins: all over the table, and at its begin every other time, as the first
    /// pages of lists do.
    fn start(&self, number: usize) -> usize {
        let last = self.objects.saturating_sub(self.page.unwrap_or(0)).max(1);
        match number % 2 {
            0 => 0,
            _ => number * 7919 % last,
        }
    }

    fn check(&self, start: usize, answer: Bytes) -> Result<()> {
        let answer = RangeResponse::decode(answer)?;
        let left = self.objects - start;
        let (count, got) = (answer.count, answer.kvs.len());
        ensure!(
            usize::try_from(count) == Ok(left),
            "count {count}, not {left}"
        );
        let expected = self.page.unwrap_or(0).min(left);
        ensure!(got == expected, "{got} objects, not {expected}");
        for (place, kv) in (start..).zip(&answer.kvs) {
            let key = key(place);
            ensure!(kv.key == key, "{:?} instead of {key:?}", kv.key);
            let number = usize::from(!self.old && place % CHANGED == 0);
            let value = version(&key, number, self.size);
            ensure!(
                kv.value == value,
                "another version of {key:?} than asked for"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use keyloom_etcd_api::mvccpb::KeyValue;

    use super::*;

    const ASKED: Question = Question {
        objects: 9,
        size: 32,
        page: Some(5),
        old: false,
    };

    fn page(changed: usize) -> RangeResponse {
        let kv = |place| {
            let key = key(place);
            let number = if place % CHANGED == 0 { changed } else { 0 };
            KeyValue {
                value: version(&key, number, 32),
                key,
                ..KeyValue::default()
            }
        };
        RangeResponse {
            kvs: (2..7).map(kv).collect(),
            count: 7,
            ..RangeResponse::default()
        }
    }

    fn check(question: Question, page: &RangeResponse) -> Result<()> {
        question.check(2, page.encode_to_vec().into())
    }

    #[test]
    fn every_object_is_looked_at() {
        check(ASKED, &page(1)).unwrap();
        assert!(check(ASKED, &page(0)).is_err(), "an old version");
        let mut short = page(1);
        short.kvs.pop();
        assert!(check(ASKED, &short).is_err());
        let miscounted = RangeResponse {
            count: 8,
            ..page(1)
        };
        assert!(check(ASKED, &miscounted).is_err());
        let old = Question { old: true, ..ASKED };
        check(old, &page(0)).unwrap();
        assert!(check(old, &page(1)).is_err(), "a version of later");
    }
}
