//! Puts, gets, guaranteed updates and deletes of single keys, each of one client's own: so every
//! compare must hold, and every read must find what was written.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use keyloom_etcd_api::etcdserverpb::{
    PutResponse, RangeResponse, TxnResponse, response_op::Response,
};
use prost::Message as _;

use super::{Script, answer::Revisions};
use crate::{
    connection::Connection,
    keyspace::{Keyspace, value},
    request::Request,
};

/// What is done to the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Put,
    Get,
    Update,
}

/// One key of the client.
#[derive(Debug)]
struct Own {
    key: Bytes,
    value: Bytes,
    /// Encoded once, where it does not depend on what was read.
    request: Option<Request>,
    /// Where it was last written.
    written_at: i64,
}

/// One request after the other, round the client's keys.
#[derive(Debug)]
pub(super) struct Single {
    verb: Verb,
    keys: Vec<Own>,
    turn: usize,
    revisions: Revisions,
}

impl Single {
    pub(super) fn new(verb: Verb, space: Keyspace, client: usize) -> Self {
        let own = |number| {
            let key = space.single(client, number);
            let value = value(&key, space.value_size);
            let request = match verb {
                Verb::Put => Some(Request::put(&key, &value)),
                Verb::Get => Some(Request::get(&key)),
                Verb::Update => None,
            };
            Own {
                key,
                value,
                request,
                written_at: 0,
            }
        };
        Self {
            verb,
            keys: (0..space.keys).map(own).collect(),
            turn: 0,
            revisions: Revisions::default(),
        }
    }

    /// Learns where each key was last written.
    ///
    /// # Errors
    /// Where a key is not there.
    pub(super) async fn read(&mut self, connection: &Connection) -> Result<()> {
        for own in &mut self.keys {
            let get = Request::get(&own.key);
            let answer = RangeResponse::decode(connection.unary(get.rpc, get.frame).await?)?;
            own.written_at = answer.kvs.first().context("no such key")?.mod_revision;
        }
        Ok(())
    }

    fn current(&mut self) -> Option<&mut Own> {
        let count = self.keys.len();
        self.keys.get_mut(self.turn.checked_rem(count)?)
    }
}

impl Script for Single {
    fn request(&mut self) -> Request {
        self.turn = self.turn.wrapping_add(1);
        match self.current() {
            Some(own) => own
                .request
                .clone()
                .unwrap_or_else(|| Request::update(&own.key, &own.value, own.written_at)),
            // A client has keys; the command line sees to it.
            None => Request::get(&Bytes::new()),
        }
    }

    fn answer(&mut self, answer: Bytes) -> Result<()> {
        let verb = self.verb;
        let revision = match verb {
            Verb::Get => self.revisions.read(&answer)?,
            Verb::Put | Verb::Update => self.revisions.wrote(&answer)?,
        };
        let own = self.current().context("a client without keys")?;
        match verb {
            Verb::Get => found(own, answer),
            Verb::Put => PutResponse::decode(answer).map(drop).map_err(Into::into),
            Verb::Update => {
                own.written_at = revision;
                updated(answer)
            }
        }
    }

    fn relearn<'a>(&'a mut self, connection: &'a Connection) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.read(connection))
    }
}

fn updated(answer: Bytes) -> Result<()> {
    let answer = TxnResponse::decode(answer)?;
    ensure!(answer.succeeded, "a compare failed that must hold");
    let first = answer.responses.into_iter().next();
    let first = first.and_then(|op| op.response);
    ensure!(
        matches!(first, Some(Response::ResponsePut(_))),
        "no put in the answer"
    );
    Ok(())
}

fn found(own: &Own, answer: Bytes) -> Result<()> {
    let answer = RangeResponse::decode(answer)?;
    ensure!(answer.count == 1, "count {} of one key", answer.count);
    let kv = answer.kvs.first().context("nothing found")?;
    ensure!(kv.key == own.key, "another key than was asked for");
    ensure!(kv.value == own.value, "another value than was written");
    Ok(())
}

/// Creates and deletes, in turn.
#[derive(Debug)]
pub(super) struct Churn {
    keys: Vec<(Bytes, Bytes)>,
    turn: usize,
    /// Where the current key was created; 0 while it is not there.
    created_at: i64,
    revisions: Revisions,
}

impl Churn {
    pub(super) fn new(space: Keyspace, client: usize) -> Self {
        // Beside the keys that others expect to be there.
        let key = |number| {
            let key = space.single(client, space.keys + number);
            let value = value(&key, space.value_size);
            (key, value)
        };
        Self {
            keys: (0..space.keys).map(key).collect(),
            turn: 0,
            created_at: 0,
            revisions: Revisions::default(),
        }
    }
}

impl Script for Churn {
    fn request(&mut self) -> Request {
        let (key, value) = self
            .turn
            .checked_rem(self.keys.len())
            .and_then(|turn| self.keys.get(turn).cloned())
            .unwrap_or_default();
        match self.created_at {
            0 => Request::create(&key, &value, 0),
            revision => Request::delete(&key, revision),
        }
    }

    fn answer(&mut self, answer: Bytes) -> Result<()> {
        let revision = self.revisions.wrote(&answer)?;
        ensure!(
            TxnResponse::decode(answer)?.succeeded,
            "a compare failed that must hold"
        );
        if self.created_at == 0 {
            self.created_at = revision;
        } else {
            self.created_at = 0;
            self.turn = self.turn.wrapping_add(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use keyloom_etcd_api::{
        etcdserverpb::{ResponseHeader, ResponseOp},
        mvccpb::KeyValue,
    };

    use super::*;

    const SPACE: Keyspace = Keyspace {
        namespaces: 2,
        keys: 3,
        value_size: 64,
        objects: 1,
        object_size: 1,
    };

    fn header(revision: i64) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        })
    }

    /// What a store answers to a client's first get.
    fn first_get(change: impl FnOnce(&mut RangeResponse)) -> Result<()> {
        let mut client = Single::new(Verb::Get, SPACE, 0);
        client.request();
        let key = SPACE.single(0, 1);
        let kv = KeyValue {
            value: value(&key, 64),
            key,
            ..KeyValue::default()
        };
        let mut answer = RangeResponse {
            header: header(5),
            kvs: vec![kv],
            count: 1,
            more: false,
        };
        change(&mut answer);
        client.answer(answer.encode_to_vec().into())
    }

    #[test]
    fn a_get_must_find_what_was_written() {
        first_get(|_| {}).unwrap();
        assert!(first_get(|answer| answer.kvs.clear()).is_err());
        assert!(first_get(|answer| answer.kvs[0].key = "other".into()).is_err());
        assert!(first_get(|answer| answer.kvs[0].value = "other".into()).is_err());
        assert!(first_get(|answer| answer.count = 2).is_err());
        assert!(first_get(|answer| answer.header = None).is_err());
    }

    fn txn(revision: i64, succeeded: bool) -> Bytes {
        let answer = TxnResponse {
            header: header(revision),
            succeeded,
            responses: vec![ResponseOp {
                response: Some(Response::ResponsePut(PutResponse::default())),
            }],
        };
        answer.encode_to_vec().into()
    }

    #[test]
    fn a_create_is_followed_by_its_delete() {
        let mut client = Churn::new(SPACE, 0);
        assert_eq!(client.request().kind, "create");
        client.answer(txn(7, true)).unwrap();
        assert_eq!(client.request().kind, "delete");
        client.answer(txn(8, true)).unwrap();
        assert_eq!(client.request().kind, "create");
        assert!(client.answer(txn(9, false)).is_err());
    }

    #[test]
    fn an_update_compares_with_the_last_one() {
        let mut client = Single::new(Verb::Update, SPACE, 0);
        client.request();
        client.answer(txn(7, true)).unwrap();
        client.request();
        assert!(client.answer(txn(7, true)).is_err(), "no new revision");
        client.request();
        assert!(client.answer(txn(8, false)).is_err(), "a failed compare");
    }
}
