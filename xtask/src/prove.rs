//! The long form of what continuous integration does shortly: everything that hunts for a counterexample,
//! in one command, for as long as is given.

use std::path::Path;

use crate::{
    e2e::{self, ALL},
    fuzz,
    process::{cargo, run},
    simulate,
    steps::Steps,
};

/// Minutes for each part that can take as long as it is given.
#[derive(Debug, PartialEq, Eq)]
struct Shares {
    seeds: u64,
    fuzz: u64,
    soak: u64,
}

impl Shares {
    /// Half is the soak's, which says after 30 minutes and more whether memory grows; a quarter the
    /// seeds', an eighth the fuzzing's. The rest is for building, the planted bugs and the matrix.
    fn of(minutes: u64) -> Self {
        Self {
            seeds: (minutes / 4).max(1),
            fuzz: (minutes / 8).max(1),
            soak: (minutes / 2).max(1),
        }
    }
}

/// `from` is the first seed.
pub(crate) fn prove(root: &Path, steps: &mut Steps, minutes: u64, from: u64) {
    let shares = Shares::of(minutes);
    steps.run("model", || {
        let program = ["run", "--release", "--locked", "--package", "keyloom-model"];
        run(&mut cargo(root, &program))
    });
    steps.run("simulation: planted bugs", || {
        simulate::command(root, &["planted".to_owned()])
    });
    steps.run("simulation: seeds", || {
        let many = format!("many --minutes {} --from {from}", shares.seeds);
        let arguments: Vec<_> = many.split(' ').map(str::to_owned).collect();
        simulate::command(root, &arguments)
    });
    e2e::matrix(root, steps, ALL);
    fuzz::fuzz(root, steps, shares.fuzz, None);
    e2e::soak(
        root,
        steps,
        e2e::Soak::of("nothing_breaks", shares.soak),
        &[],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_less_than_the_whole() {
        let Shares { seeds, fuzz, soak } = Shares::of(120);
        assert_eq!((seeds, fuzz, soak), (30, 15, 60));
        let least = Shares::of(0);
        assert!(
            [least.seeds, least.fuzz, least.soak]
                .iter()
                .all(|it| *it > 0)
        );
    }
}
