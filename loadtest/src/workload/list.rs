//! Lists, page by page at the first page's revision, and counts. Nothing writes beside them, so
//! what each page holds is known.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use keyloom_etcd_api::etcdserverpb::RangeResponse;
use prost::Message as _;

use super::{Script, Shape, answer::Revisions};
use crate::{
    keyspace::{Keyspace, Resource, after, end_of, value},
    request::Request,
};

/// What one list goes over.
#[derive(Clone, Copy, Debug)]
enum Scope {
    /// One namespace after the other.
    Namespace(usize),
    All,
}

/// One page after the other.
#[derive(Debug)]
pub(super) struct List {
    shape: Shape,
    scope: Scope,
    /// How many objects of the current list were read.
    offset: usize,
    /// The first page's, which pins the others; 0 before it.
    revision: i64,
    revisions: Revisions,
}

impl List {
    pub(super) fn of_namespaces(shape: Shape, client: usize) -> Self {
        Self::new(shape, Scope::Namespace(client))
    }

    pub(super) fn of_all(shape: Shape) -> Self {
        Self::new(shape, Scope::All)
    }

    fn new(shape: Shape, scope: Scope) -> Self {
        Self {
            shape,
            scope,
            offset: 0,
            revision: 0,
            revisions: Revisions::default(),
        }
    }

    /// How many objects the whole list has.
    fn whole(&self) -> usize {
        let space = self.shape.keyspace;
        match self.scope {
            Scope::Namespace(_) => space.objects,
            Scope::All => space.objects * space.namespaces,
        }
    }

    /// How many objects the current page has.
    fn expected(&self) -> usize {
        let left = self.whole() - self.offset;
        match self.shape.page {
            0 => left,
            page => left.min(page),
        }
    }

    fn prefix(&self) -> String {
        match self.scope {
            Scope::Namespace(number) => {
                Resource::Lists.namespace(number % self.shape.keyspace.namespaces)
            }
            Scope::All => Resource::Lists.prefix(),
        }
    }

    fn key(&self, place: usize) -> Bytes {
        let space = self.shape.keyspace;
        match self.scope {
            Scope::Namespace(number) => space.object(number % space.namespaces, place),
            Scope::All => space.object_of_all(place),
        }
    }

    fn check(&self, answer: Bytes) -> Result<()> {
        let answer = RangeResponse::decode(answer)?;
        let (expected, left) = (self.expected(), self.whole() - self.offset);
        let (got, count) = (answer.kvs.len(), answer.count);
        ensure!(got == expected, "{got} objects, not {expected}");
        ensure!(
            usize::try_from(count) == Ok(left),
            "count {count}, not {left}"
        );
        ensure!(
            answer.more == (left > expected),
            "`more` is {}",
            answer.more
        );
        for (place, kv) in (self.offset..).zip(&answer.kvs) {
            let key = self.key(place);
            ensure!(kv.key == key, "{:?} instead of {key:?}", kv.key);
            let value = value(&key, self.shape.keyspace.object_size);
            ensure!(kv.value == value, "another value of {key:?}");
        }
        Ok(())
    }
}

impl Script for List {
    fn request(&mut self) -> Request {
        let prefix = self.prefix();
        let start = match self.offset {
            0 => prefix.clone().into(),
            offset => after(&self.key(offset - 1)),
        };
        Request::page(start, end_of(&prefix), self.shape.page, self.revision)
    }

    fn answer(&mut self, answer: Bytes) -> Result<()> {
        let expected = self.expected();
        let revision = self.revisions.read(&answer)?;
        if self.revision == 0 {
            self.revision = revision;
        }
        let least = expected * self.shape.keyspace.object_size;
        let length = answer.len();
        ensure!(length > least, "{length} bytes for {expected} objects");
        if self.revisions.closely() {
            self.check(answer)?;
        }
        self.offset += expected;
        if self.offset == self.whole() {
            self.offset = 0;
            self.revision = 0;
            if let Scope::Namespace(number) = &mut self.scope {
                *number += 1;
            }
        }
        Ok(())
    }
}

/// Counts of one namespace after the other.
#[derive(Debug)]
pub(super) struct Count {
    requests: Vec<Request>,
    objects: usize,
    turn: usize,
    revisions: Revisions,
}

impl Count {
    pub(super) fn new(space: Keyspace, client: usize) -> Self {
        let count = |number| {
            let prefix = Resource::Lists.namespace(number);
            Request::count(prefix.clone().into(), end_of(&prefix), 0)
        };
        Self {
            requests: (0..space.namespaces).map(count).collect(),
            objects: space.objects,
            turn: client,
            revisions: Revisions::default(),
        }
    }
}

impl Script for Count {
    fn request(&mut self) -> Request {
        self.turn = self.turn.wrapping_add(1);
        self.turn
            .checked_rem(self.requests.len())
            .and_then(|turn| self.requests.get(turn).cloned())
            // There is at least one namespace.
            .unwrap_or_else(|| Request::count(Bytes::new(), Bytes::new(), 0))
    }

    fn answer(&mut self, answer: Bytes) -> Result<()> {
        self.revisions.read(&answer)?;
        let count = RangeResponse::decode(answer)?.count;
        let count = usize::try_from(count).context("a negative count")?;
        ensure!(count == self.objects, "count {count}, not {}", self.objects);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use keyloom_etcd_api::{
        etcdserverpb::{RangeRequest, ResponseHeader},
        mvccpb::KeyValue,
    };

    use super::*;

    const SHAPE: Shape = Shape {
        keyspace: Keyspace {
            namespaces: 2,
            keys: 1,
            value_size: 1,
            objects: 3,
            object_size: 32,
        },
        page: 2,
    };

    /// The message of a framed request.
    fn sent(request: &Request) -> RangeRequest {
        RangeRequest::decode(request.frame.slice(5..)).unwrap()
    }

    /// What a store that holds the objects answers.
    fn answer(list: &mut List) -> RangeResponse {
        let request = sent(&list.request());
        let space = SHAPE.keyspace;
        let all = (0..6).map(|place| space.object_of_all(place));
        let found: Vec<_> = all
            .filter(|key| *key >= request.key && *key < request.range_end)
            .collect();
        let limit = usize::try_from(request.limit).unwrap();
        let kvs = found.iter().take(limit).map(|key| KeyValue {
            key: key.clone(),
            value: value(key, 32),
            ..KeyValue::default()
        });
        RangeResponse {
            header: Some(ResponseHeader {
                revision: 9,
                ..ResponseHeader::default()
            }),
            kvs: kvs.collect(),
            more: found.len() > limit,
            count: i64::try_from(found.len()).unwrap(),
        }
    }

    fn take(list: &mut List, answer: &RangeResponse) -> Result<()> {
        list.answer(answer.encode_to_vec().into())
    }

    #[test]
    fn pages_follow_each_other_at_one_revision() {
        let mut list = List::of_all(SHAPE);
        for (revision, expected) in [(0, 2), (9, 2), (9, 2), (0, 2)] {
            assert_eq!(sent(&list.request()).revision, revision);
            let page = answer(&mut list);
            assert_eq!(page.kvs.len(), expected);
            list.check(page.encode_to_vec().into()).unwrap();
            take(&mut list, &page).unwrap();
        }
    }

    #[test]
    fn a_namespace_s_last_page_is_shorter() {
        let mut list = List::of_namespaces(SHAPE, 1);
        for expected in [2, 1, 2, 1] {
            let page = answer(&mut list);
            assert_eq!(page.kvs.len(), expected);
            list.check(page.encode_to_vec().into()).unwrap();
            take(&mut list, &page).unwrap();
        }
    }

    #[test]
    fn a_page_with_something_amiss_is_wrong() {
        let faults: [fn(&mut RangeResponse); 6] = [
            |answer| answer.more = false,
            |answer| answer.count = 5,
            |answer| answer.kvs.swap(0, 1),
            |answer| answer.kvs[1].value = value(b"x", 32),
            |answer| drop(answer.kvs.pop()),
            |answer| answer.header = None,
        ];
        for fault in faults {
            let mut list = List::of_all(SHAPE);
            let mut page = answer(&mut list);
            fault(&mut page);
            assert!(take(&mut list, &page).is_err());
        }
    }
}
