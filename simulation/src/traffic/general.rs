//! Any client of etcd.

use keyloom_etcd_api::etcdserverpb::{
    CompactionRequest, CompactionResponse, RangeRequest, RequestOp, ResponseHeader, TxnRequest,
    request_op::Request,
};
use keyloom_testkit::{
    Answer, Step,
    program::{Generator, highest_revision},
};

use super::settings;
use crate::client::Client;

/// Runs random steps until there is nothing to do any more.
pub(crate) async fn run(mut client: Client, seed: u64, pause: i64) {
    let mut generator = Generator::new(seed, settings());
    let mut from = 0;
    loop {
        client.pause(pause).await;
        let Some(ticket) = client.stage.begin().await else {
            return;
        };
        if from != ticket.from {
            from = ticket.from;
            forget_before(&mut generator, from);
        }
        let mut step = generator.next_step();
        if highest_revision(&step) > ticket.given || reads_below(&step, from) {
            continue;
        }
        let leases = client.stage.leases();
        let newest = leases.len().saturating_sub(3);
        let newest = leases.get(newest..).unwrap_or_default();
        let lease = client.chance.pick(newest).copied().unwrap_or(0);
        name_leases(&mut step, lease);
        let answer = client.record(&ticket, step.clone()).await;
        if let Some(answer) = answer {
            generator.learn(&step, &Ok(answer));
        }
    }
}

/// As if all before had been compacted: it is not read then.
fn forget_before(generator: &mut Generator, revision: i64) {
    let compact = Step::Compact(CompactionRequest {
        revision,
        physical: false,
    });
    let header = Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    });
    let answer = Answer::Compact(CompactionResponse { header });
    generator.learn(&compact, &Ok(answer));
}

/// The generator writes 1 for a lease.
fn name_leases(step: &mut Step, lease: i64) {
    match step {
        Step::Put(put) if put.lease == 1 => put.lease = lease,
        Step::Txn(txn) => name_lease(txn, lease),
        _ => {}
    }
}

fn name_lease(txn: &mut TxnRequest, lease: i64) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestPut(put)) if put.lease == 1 => put.lease = lease,
            Some(Request::RequestTxn(txn)) => name_lease(txn, lease),
            _ => {}
        }
    }
}

/// Whether a step reads at a revision below this one.
fn reads_below(step: &Step, from: i64) -> bool {
    match step {
        Step::Range(range) => below(range, from),
        Step::Txn(txn) => txn_reads_below(txn, from),
        Step::Put(_) | Step::DeleteRange(_) | Step::Compact(_) => false,
    }
}

fn below(range: &RangeRequest, from: i64) -> bool {
    range.revision != 0 && range.revision < from
}

fn txn_reads_below(txn: &TxnRequest, from: i64) -> bool {
    let reads = |op: &RequestOp| match &op.request {
        Some(Request::RequestRange(range)) => below(range, from),
        Some(Request::RequestTxn(txn)) => txn_reads_below(txn, from),
        _ => false,
    };
    txn.success.iter().chain(&txn.failure).any(reads)
}
