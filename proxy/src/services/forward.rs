//! The way of a message that concerns one store: on as bytes, only its revisions rewritten.

use bytes::Bytes;
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::RangeRequest,
    framing::Pieces,
    wire::{self, Header, Message, WireError},
};
use keyloom_ledger::{StoreRev, StoreSlot};
use keyloom_store::{Call, CallError, Lane};
use keyloom_topology::StoreIndex;
use prost::Message as _;
use tracing::Span;

use super::{Context, Request, Services, range::lane_of};
use crate::{
    failure::Failure,
    order::{Answered, Inward, Native, OrderError, Outward, Sequenced},
    snapshot::{ServingSnapshot, ServingStore},
    telemetry,
};

/// What a call is to the store that gets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallOptions {
    pub(super) rpc: Rpc,
    pub(super) lane: Lane,
    /// Whether the call changes nothing.
    pub(super) reads: bool,
    /// Whether the answer shows everything that was acknowledged before the call.
    pub(super) linearizable: bool,
}

impl CallOptions {
    /// A call that may write.
    pub(super) fn write(rpc: Rpc) -> Self {
        Self {
            rpc,
            lane: Lane::Unary,
            reads: false,
            linearizable: true,
        }
    }

    /// A call that changes nothing.
    pub(super) fn read(rpc: Rpc, lane: Lane) -> Self {
        Self {
            rpc,
            lane,
            reads: true,
            linearizable: true,
        }
    }
}

/// A store's answer, which has its place in the order.
#[derive(Debug)]
pub(super) struct SequencedAnswer {
    pub(super) sequenced: Sequenced,
    /// As the store sent it.
    pub(super) answer: Bytes,
}

impl Services {
    /// With one store: calls go through with what travels beside them, nothing of them is decoded.
    pub(super) async fn pass(
        &self,
        snapshot: &ServingSnapshot,
        rpc: Rpc,
        message: Bytes,
        context: &Context,
    ) -> Result<keyloom_store::Answer, Failure> {
        let Some(member) = snapshot.default_member() else {
            return Err(Failure::Unimplemented(rpc.name()));
        };
        let options = match rpc {
            Rpc::Range => CallOptions::read(rpc, lane_of(&RangeRequest::decode(message.clone())?)),
            _ => CallOptions::write(rpc),
        };
        let span = telemetry::store_call(&member.name, rpc.path());
        let call = call_of(options, message, context, &span);
        let answer = telemetry::answered(span, member.store.call_in_pieces(call));
        let answer = answer.await.map_err(|error| unanswered(member, error))?;
        let mut native = Native(&self.identity);
        let message = match rpc {
            // Headers within.
            Rpc::Txn => {
                let message = answer.message.into_bytes();
                wire::rewrite_owned(Message::TxnResponse, message, &mut native).map(Pieces::from)
            }
            // Every answer of etcd's begins with its header.
            _ => wire::rewrite_header(answer.message, &mut native),
        };
        let message = message.map_err(|error| unreadable(member, error))?;
        Ok(keyloom_store::Answer { message, ..answer })
    }
}

impl<'a> Request<'a> {
    /// The store behind an index of this request's topology.
    pub(super) fn member(self, index: StoreIndex) -> Result<&'a ServingStore, Failure> {
        self.snapshot
            .member(index)
            .ok_or_else(|| Failure::Nonsense {
                store: index.0.to_string(),
                what: "the topology names a store that is not there".to_owned(),
            })
    }

    /// Hands a message on to the one store that it concerns and gives back the answer that the
    /// client gets.
    pub(super) async fn forward(
        self,
        index: StoreIndex,
        options: CallOptions,
        message: Bytes,
    ) -> Result<Bytes, Failure> {
        let member = self.member(index)?;
        let (asks, answers) =
            messages_of(options.rpc).ok_or(Failure::Unimplemented(options.rpc.name()))?;
        let message = match asks {
            None => message,
            Some(kind) => self.inward(member.slot, kind, &message)?,
        };
        let SequencedAnswer { sequenced, answer } =
            match self.call_sequenced(member, options, message).await {
                Err(failure) if failure.shows_what_is_there() => {
                    Box::pin(self.sequence_present(member)).await?;
                    return Err(failure);
                }
                sequenced => sequenced?,
            };
        if options.reads {
            self.holds_at(sequenced.unified)?;
        }
        self.outward(member, sequenced, answers, answer)
    }

    /// Gives a place to everything that the store has now. An error says what it found and not at
    /// which revision: without this, a list that is asked for after it could show an earlier state.
    pub(super) async fn sequence_present(self, member: &ServingStore) -> Result<(), Failure> {
        let nothing = RangeRequest {
            key: Bytes::from_static(b"\0"),
            count_only: true,
            ..RangeRequest::default()
        };
        let message = Bytes::from(nothing.encode_to_vec());
        let options = CallOptions::read(Rpc::Range, Lane::Unary);
        self.call_sequenced(member, options, message)
            .await
            .map(drop)
    }

    /// Translates the revisions of a request to those of the store.
    fn inward(self, slot: StoreSlot, kind: Message, message: &Bytes) -> Result<Bytes, Failure> {
        let in_txn = kind == Message::TxnRequest;
        let mut inward = Inward::new(self.order, slot).in_txn(in_txn);
        let message = wire::rewrite(kind, message, &mut inward)?;
        match inward.refused() {
            Some(error) => Err(error.into()),
            None => Ok(message),
        }
    }

    /// Sends a message whose revisions are the store's own, and waits until the answer has its
    /// place in the order.
    pub(super) async fn call_sequenced(
        self,
        member: &ServingStore,
        options: CallOptions,
        message: Bytes,
    ) -> Result<SequencedAnswer, Failure> {
        let known = self
            .order
            .admit(member.slot)
            .map_err(|error| disordered(member, error))?;
        let answer = send(member, options, message, self.context).await?;
        let (header, wrote) =
            outcome(options.rpc, &answer).map_err(|error| unreadable(member, error))?;
        self.recognise(member, header)?;
        let answered = Answered {
            slot: member.slot,
            revision: StoreRev::new(header.revision),
            wrote,
            known: options.linearizable.then_some(known),
            is_delivery: false,
        };
        let sequenced = self
            .order
            .sequence(answered)
            .await
            .map_err(|error| disordered(member, error))?;
        Ok(SequencedAnswer { sequenced, answer })
    }

    /// Translates the revisions of an answer to unified ones.
    pub(super) fn outward(
        self,
        member: &ServingStore,
        sequenced: Sequenced,
        kind: Message,
        answer: Bytes,
    ) -> Result<Bytes, Failure> {
        let mut outward = Outward::answer(self.order, &self.services.identity, sequenced);
        let answer = wire::rewrite_owned(kind, answer, &mut outward)
            .map_err(|error| unreadable(member, error))?;
        known_revisions(member, &outward)?;
        Ok(answer)
    }

    /// Believes only the cluster that was there when the store joined the ledger.
    pub(super) fn recognise(self, member: &ServingStore, header: Header) -> Result<(), Failure> {
        if header.cluster_id != member.cluster_id {
            let error = OrderError::Stranger {
                known: member.cluster_id,
                answered: header.cluster_id,
            };
            self.order.shut_out(member.slot, error.clone());
            return Err(disordered(member, error));
        }
        if member.slot == StoreSlot::DEFAULT {
            self.services.identity.saw_term(header.raft_term);
        }
        Ok(())
    }
}

/// Calls a store.
pub(super) async fn send(
    member: &ServingStore,
    options: CallOptions,
    message: Bytes,
    context: &Context,
) -> Result<Bytes, Failure> {
    let span = telemetry::store_call(&member.name, options.rpc.path());
    let call = call_of(options, message, context, &span);
    let answer = telemetry::answered(span, member.store.call(call));
    answer.await.map_err(|error| unanswered(member, error))
}

fn call_of(options: CallOptions, message: Bytes, context: &Context, span: &Span) -> Call {
    // Empty over several stores (`Services::metadata`).
    let mut metadata = context.metadata.clone();
    telemetry::hand_on(span, &mut metadata);
    Call {
        rpc: options.rpc,
        message,
        lane: options.lane,
        deadline: context.deadline.map(tokio::time::Instant::into_std),
        idempotent: options.reads,
        metadata,
    }
}

pub(super) fn unanswered(member: &ServingStore, error: CallError) -> Failure {
    Failure::Store {
        store: member.name.clone(),
        error,
    }
}

/// A store's revision that the ledger does not know cannot be sent to a client.
pub(super) fn known_revisions(member: &ServingStore, outward: &Outward<'_>) -> Result<(), Failure> {
    match outward.unknown() {
        None => Ok(()),
        Some(revision) => Err(Failure::Nonsense {
            store: member.name.clone(),
            what: format!("it holds revision {revision}, which it never reached"),
        }),
    }
}

pub(super) fn disordered(member: &ServingStore, error: OrderError) -> Failure {
    Failure::Order {
        store: member.name.clone(),
        error,
    }
}

pub(super) fn unreadable(member: &ServingStore, error: WireError) -> Failure {
    Failure::Nonsense {
        store: member.name.clone(),
        what: error.to_string(),
    }
}

/// The header of an answer, and whether the call took a revision of its own.
fn outcome(rpc: Rpc, answer: &Bytes) -> Result<(Header, bool), WireError> {
    let header = wire::peek_header(answer)?.unwrap_or_default();
    let wrote = match rpc {
        Rpc::Put => true,
        Rpc::DeleteRange => wire::deleted(answer)? > 0,
        Rpc::Txn => wire::txn_outcome(answer)?.wrote,
        _ => false,
    };
    Ok((header, wrote))
}

/// The kinds of a call's request and answer, for the calls that go through to a store.
///
/// `None` is a request in which there is nothing to rewrite.
fn messages_of(rpc: Rpc) -> Option<(Option<Message>, Message)> {
    Some(match rpc {
        Rpc::Range => (Some(Message::RangeRequest), Message::RangeResponse),
        Rpc::Put => (None, Message::PutResponse),
        Rpc::DeleteRange => (
            Some(Message::DeleteRangeRequest),
            Message::DeleteRangeResponse,
        ),
        Rpc::Txn => (Some(Message::TxnRequest), Message::TxnResponse),
        Rpc::Compact => (
            Some(Message::CompactionRequest),
            Message::CompactionResponse,
        ),
        _ => return None,
    })
}
