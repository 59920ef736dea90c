//! A Keyloom that is killed at random moments under load, again and again.
//!
//! Here a few times; hundreds of times by
//! `KEYLOOM_KILLS=300 cargo xtask e2e kills -- --nocapture`, other moments with `KEYLOOM_SEED`.

use std::time::Duration;

use keyloom_testkit::program::Chance;
use keyloom_tests::{
    Keyloom,
    duel::seed,
    trial::{
        Trial,
        census::{Counts, Times, asked},
    },
};
use tokio::time::{Instant, sleep};

const TERM: &str = "1s";

/// What is counted.
#[derive(Default)]
struct Figures {
    kills: u64,
    amid_start: u64,
    ends: u64,
    relists: Counts,
    recovery: Times,
    restart: Times,
}

struct Run {
    trial: Trial,
    keyloom: Keyloom,
    chance: Chance,
    figures: Figures,
}

impl Run {
    async fn new(seed: u64) -> Self {
        let mut trial = Trial::new().await;
        let mut keyloom = Keyloom::launch_with(&trial.file, &["--term", TERM]);
        keyloom.ready().await;
        trial.begin(keyloom.url(), seed).await;
        Self {
            trial,
            keyloom,
            chance: Chance::new(seed),
            figures: Figures::default(),
        }
    }

    /// Lets the clients work: not a wait for anything, the moment is what is drawn.
    async fn some_time(&mut self, most: i64) {
        let time = self.chance.between(0, most).unsigned_abs();
        sleep(Duration::from_millis(time)).await;
    }

    /// How many of the caches list again because of what is done.
    async fn relists_of(&self, before: &[u64]) -> u64 {
        let after = self.trial.relists();
        let again = before.iter().zip(&after).filter(|(old, new)| new > old);
        u64::try_from(again.count()).expect("few")
    }

    async fn back(&mut self, begun: Instant) -> Duration {
        self.keyloom.ready().await;
        self.trial.board.move_to(self.keyloom.url());
        let ready = begun.elapsed();
        ready + self.trial.settled().await
    }

    async fn kill(&mut self) {
        let before = self.trial.relists();
        self.some_time(700).await;
        let begun = Instant::now();
        self.keyloom.kill().await;
        self.figures.kills += 1;
        self.keyloom.launch_again();
        if self.chance.percent(25) {
            // Amid waiting for the term, recovering, or taking up its work.
            self.some_time(1500).await;
            self.keyloom.kill().await;
            self.figures.kills += 1;
            self.figures.amid_start += 1;
            self.keyloom.launch_again();
            self.back(begun).await;
        } else {
            let took = self.back(begun).await;
            self.figures.recovery.add(took);
        }
        self.figures.relists.add(self.relists_of(&before).await);
    }

    /// Ends it in good order: nobody may have to list again.
    async fn end(&mut self) {
        let before = self.trial.relists();
        self.some_time(500).await;
        let begun = Instant::now();
        assert!(self.keyloom.terminate().await.success());
        self.keyloom.launch_again();
        let took = self.back(begun).await;
        self.figures.restart.add(took);
        self.figures.ends += 1;
        assert_eq!(
            self.relists_of(&before).await,
            0,
            "caches had to list again after an end in good order"
        );
    }
}

#[tokio::test]
async fn killed_at_random_moments_it_loses_and_repeats_nothing() {
    let kills = u64::try_from(asked("KEYLOOM_KILLS", 4)).expect("a number of kills");
    let mut run = Run::new(seed(801)).await;
    while run.figures.kills < kills {
        run.kill().await;
        if run.chance.percent(20) || run.figures.kills >= kills {
            run.end().await;
        }
        println!("{} kills so far", run.figures.kills);
    }
    let caches = run.trial.caches();
    let census = run.trial.finish().await;
    let figures = run.figures;
    println!(
        "{} kills ({} amid a start), {} ends in good order; term {TERM}",
        figures.kills, figures.amid_start, figures.ends
    );
    println!(
        "caches of {caches} that listed again: {} kills",
        figures.relists
    );
    println!("from a kill to the first answer: {}", figures.recovery);
    println!("from SIGTERM to the first answer: {}", figures.restart);
    println!("{census}");
}
