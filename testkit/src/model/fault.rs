//! How a model store misbehaves on demand.

use bytes::{Buf as _, Bytes};
use keyloom_etcd_api::{Rpc, Status, etcdserverpb::ResponseHeader};
use prost::{
    DecodeError, Message as _,
    encoding::{DecodeContext, WireType, decode_key, encode_key, encode_varint, skip_field},
};
use tokio::sync::watch;

/// What happens to one call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The store answers with an error and does nothing.
    Refused(Status),
    /// The request never leaves.
    NotSent,
    /// The request is lost on its way.
    LostBeforeApply,
    /// The request takes effect and the answer is lost.
    LostAfterApply,
    /// The request waits at the gate before it takes effect.
    HangsBeforeApply(Gate),
    /// The request takes effect and the answer waits at the gate.
    HangsAfterApply(Gate),
    /// The request takes effect and the answer is not what it should be.
    Nonsense(Nonsense),
}

/// An answer that no etcd gives.
#[derive(Clone, Debug)]
pub enum Nonsense {
    /// Bytes that are no message at all.
    Garbage,
    /// These bytes.
    Bytes(Bytes),
    /// The true answer without its header.
    NoHeader,
    /// The true answer with another revision in its (outermost) header.
    HeaderRevision(i64),
    /// An empty message.
    Empty,
}

/// A fault waiting for its calls.
#[derive(Clone, Debug)]
struct Rule {
    rpc: Option<Rpc>,
    /// How many calls are left; `None` is all of them.
    left: Option<u64>,
    fault: Fault,
}

/// The faults that wait for their calls.
#[derive(Debug, Default)]
pub(super) struct Faults {
    rules: Vec<Rule>,
}

impl Faults {
    /// Of the faults that fit a call, the one injected first comes first.
    pub(super) fn inject(&mut self, rpc: Option<Rpc>, calls: Option<u64>, fault: Fault) {
        self.rules.push(Rule {
            rpc,
            left: calls,
            fault,
        });
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// What happens to this call.
    pub(super) fn take(&mut self, rpc: Rpc) -> Option<Fault> {
        let fits = |rule: &Rule| rule.rpc.is_none_or(|only| only == rpc);
        let at = self.rules.iter().position(fits)?;
        let rule = self.rules.get_mut(at)?;
        let fault = rule.fault.clone();
        if let Some(left) = &mut rule.left {
            *left = left.saturating_sub(1);
        }
        self.rules.retain(|rule| rule.left != Some(0));
        Some(fault)
    }
}

impl Nonsense {
    /// Puts nonsense in place of the true answer.
    pub(super) fn instead_of(&self, answer: Bytes) -> Bytes {
        match self {
            // Field number 0 does not exist.
            Self::Garbage => Bytes::from_static(b"\x00\xff\xff\xff\xff"),
            Self::Bytes(bytes) => bytes.clone(),
            Self::NoHeader => replace_header(&answer, |_| None).unwrap_or(answer),
            Self::HeaderRevision(revision) => replace_header(&answer, |header| {
                Some(ResponseHeader {
                    revision: *revision,
                    ..header
                })
            })
            .unwrap_or(answer),
            Self::Empty => Bytes::new(),
        }
    }
}

/// Every answer of etcd has its header in field 1.
fn replace_header(
    answer: &Bytes,
    with: impl Fn(ResponseHeader) -> Option<ResponseHeader>,
) -> Result<Bytes, DecodeError> {
    let mut rest = answer.clone();
    let mut replaced = Vec::new();
    while rest.has_remaining() {
        let whole = rest.clone();
        let (tag, wire_type) = decode_key(&mut rest)?;
        let mut value = rest.clone();
        skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
        if tag == 1 && wire_type == WireType::LengthDelimited {
            let header = ResponseHeader::decode_length_delimited(&mut value)?;
            if let Some(header) = with(header) {
                encode_key(1, WireType::LengthDelimited, &mut replaced);
                encode_varint(header.encoded_len() as u64, &mut replaced);
                header.encode_raw(&mut replaced);
            }
        } else {
            replaced.extend_from_slice(&whole.slice(..whole.len() - rest.len()));
        }
    }
    Ok(replaced.into())
}

/// Where calls wait until they are released.
#[derive(Clone, Debug)]
pub struct Gate {
    state: watch::Sender<GateState>,
}

#[derive(Clone, Copy, Debug, Default)]
struct GateState {
    arrived: u64,
    open: bool,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: watch::Sender::new(GateState::default()),
        }
    }

    /// Lets everybody through, for good.
    pub fn release(&self) {
        self.state.send_modify(|state| state.open = true);
    }

    /// How many have come to the gate so far.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.state.borrow().arrived
    }

    /// Waits until so many have come to the gate.
    pub async fn until_arrived(&self, calls: u64) {
        let mut state = self.state.subscribe();
        // The sender is ours, so the channel is open.
        drop(state.wait_for(|state| state.arrived >= calls).await);
    }

    /// Waits until the gate is open.
    pub(super) async fn pass(&self) {
        self.state.send_modify(|state| state.arrived += 1);
        let mut state = self.state.subscribe();
        drop(state.wait_for(|state| state.open).await);
    }
}
