//! Any client of etcd.

use keyloom_etcd_api::etcdserverpb::{CompactionRequest, CompactionResponse, ResponseHeader};
use keyloom_testkit::{
    Answer, Step,
    program::{Generator, highest_revision, name_leases, reads_below},
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
