//! What a run did: a run that did nothing finds nothing.

use std::fmt;

use keyloom_testkit::history::{History, Outcome};

use super::{leases::Lease, viewer::Viewer};

/// Sums over all rounds.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub rounds: u64,
    pub operations: u64,
    pub answered: u64,
    pub refused: u64,
    /// It is not known whether they took effect.
    pub unknown: u64,
    pub revisions: i64,
    pub compactions: u64,
    /// Deletes that several stores had a part in.
    pub sweeps: u64,
    pub leases: u64,
    pub revoked: u64,
    pub expired: u64,
    /// Keys that went with their lease.
    pub keys_ended: u64,
    pub watches: u64,
    pub reconnects: u64,
    pub broken_streams: u64,
    pub compacted_watches: u64,
    pub canceled_watches: u64,
    pub events: u64,
    pub progress: u64,
    /// Changes of which somebody was told without the value before, which was there.
    pub lost_values: u64,
}

impl Counts {
    pub(super) fn add_calls(&mut self, history: &History) {
        for operation in &history.operations {
            self.operations += 1;
            match operation.outcome {
                Outcome::Answered(_) => self.answered += 1,
                Outcome::Refused(_) | Outcome::Never => self.refused += 1,
                Outcome::Unknown => self.unknown += 1,
            }
        }
    }

    pub(super) fn add_leases(&mut self, leases: &[Lease]) {
        self.leases += leases.len() as u64;
        let revoked = leases.iter().filter(|lease| lease.revoked).count() as u64;
        self.revoked += revoked;
        self.expired += leases.len() as u64 - revoked;
    }

    pub(super) fn viewed(&mut self, viewer: &mut Viewer) {
        let done = std::mem::take(&mut viewer.done);
        self.reconnects += done.reconnects;
        self.broken_streams += done.broken_streams;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rounds, {} revisions; {} operations ({} answered, {} refused, {} unknown), {} \
             compactions, {} deletes \
             over several stores; {} leases ({} revoked, {} expired), {} keys ended with them; {} watches \
             ({} reconnects, {} broken streams, {} canceled as compacted, {} on request), {} \
             events and {} announcements of progress delivered, {} values before lost",
            self.rounds,
            self.revisions,
            self.operations,
            self.answered,
            self.refused,
            self.unknown,
            self.compactions,
            self.sweeps,
            self.leases,
            self.revoked,
            self.expired,
            self.keys_ended,
            self.watches,
            self.reconnects,
            self.broken_streams,
            self.compacted_watches,
            self.canceled_watches,
            self.events,
            self.progress,
            self.lost_values
        )
    }
}
