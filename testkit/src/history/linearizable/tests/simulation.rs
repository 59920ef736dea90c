//! Concurrent clients on one etcd, in a random interleaving.

use super::Script;
use crate::{
    history::Outcome,
    program::{Chance, Generator, Group, Settings},
};

/// Runs generated programs of several clients on one etcd, each operation taking effect at some
/// time between its begin and its end, some with an unknown outcome.
pub(super) fn simulate(seed: u64, clients: u64, length: usize, unknown: usize) -> Script {
    let settings = Settings::new(vec![
        Group::numbered("/registry/pods/", 6),
        Group::numbered("/registry/secrets/", 4),
    ]);
    let settings = Settings {
        compactions: false,
        ..settings
    };
    let mut chance = Chance::new(seed);
    let mut script = Script::default();
    let generator = |client| Generator::new(seed ^ (client << 32), settings.clone());
    let mut generators: Vec<_> = (0..clients).map(generator).collect();
    // What each client waits for: the operation's place, and whether it took effect.
    let mut waits: Vec<Option<(usize, bool)>> = vec![None; generators.len()];
    let mut clock = 0;
    while script.operations.len() < length || waits.iter().any(Option::is_some) {
        clock += 1;
        let client = chance.below(waits.len());
        match waits[client] {
            None if script.operations.len() >= length => {}
            None => {
                waits[client] = Some((script.operations.len(), false));
                let step = generators[client].next_step();
                script.push(clock, None, step, Outcome::Unknown);
            }
            Some((at, false)) => {
                let lost = chance.percent(unknown);
                let happens = !lost || chance.percent(50);
                if happens {
                    let answer = script.etcd.apply(&script.operations[at].step);
                    let answer_or_status = answer.clone().map_err(Into::into);
                    generators[client].learn(&script.operations[at].step, &answer_or_status);
                    if !lost {
                        script.operations[at].outcome = match answer {
                            Ok(answer) => Outcome::Answered(answer),
                            Err(error) => Outcome::Refused(error),
                        };
                    }
                }
                waits[client] = Some((at, true));
            }
            Some((at, true)) => {
                if !matches!(script.operations[at].outcome, Outcome::Unknown) {
                    script.operations[at].returned = Some(clock);
                }
                waits[client] = None;
            }
        }
    }
    script
}
