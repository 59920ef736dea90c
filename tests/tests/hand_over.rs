//! A second Keyloom that takes over from the first: how long nobody answers, and who notices.
//!
//! `cargo xtask e2e hand_over -- --nocapture` prints the figures.

use std::time::Duration;

use keyloom_tests::{
    Keyloom,
    duel::seed,
    poll::eventually,
    trial::{
        Trial,
        census::{Times, asked},
    },
};
use tokio::time::Instant;

async fn waits(keyloom: &Keyloom) {
    eventually("the second's waiting", || async {
        if keyloom.log().contains("waiting") {
            Ok(())
        } else {
            Err(keyloom.log())
        }
    })
    .await;
}

/// A Keyloom at work, and another one that waits for its end; how long nobody answers.
async fn hand_over(trial: &mut Trial, first: &mut Keyloom, kill: bool) -> Duration {
    let mut second = Keyloom::launch_with(&trial.file, &[]);
    waits(&second).await;
    let begun = Instant::now();
    if kill {
        first.kill().await;
    } else {
        assert!(first.terminate().await.success());
    }
    second.ready().await;
    trial.board.move_to(second.url());
    let ready = begun.elapsed();
    let took = ready + trial.settled().await;
    *first = second;
    took
}

#[tokio::test]
async fn no_client_lists_again_after_a_hand_over_in_good_order() {
    let times = asked("KEYLOOM_HAND_OVERS", 3);
    let mut trial = Trial::new().await;
    let mut first = Keyloom::launch_with(&trial.file, &[]);
    first.ready().await;
    trial.begin(first.url(), seed(811)).await;
    let mut figures = Times::default();
    for _ in 0..times {
        figures.add(hand_over(&mut trial, &mut first, false).await);
        assert_eq!(trial.relists(), vec![0; trial.caches()]);
    }
    assert!(trial.resumed() > 0, "every watch was cut off");
    println!("from SIGTERM to the first answer of the second: {figures}");
    let took = hand_over(&mut trial, &mut first, true).await;
    println!("from SIGKILL to the first answer of the second, term 5 s: {took:?}");
    println!("{}", trial.finish().await);
}
