//! Clients that work at the same time, each with a program of its own, and what they saw.
//!
//! They name only revisions that they were given. What a revision means that nobody has yet is
//! settled on the way to a store, and may have been given to somebody when the store answers.

use futures_util::future::join_all;
use keyloom_testkit::{
    Answer,
    history::{History, Recorder, Rules, Verdict, check_linearizable},
    program::{Generator, Settings, highest_revision},
};

use crate::{client::Client, duel};

/// Several clients that share a history.
#[derive(Debug)]
pub struct Crowd {
    recorder: Recorder,
    generators: Vec<Generator>,
}

impl Crowd {
    /// So many clients; each draws from a seed of its own.
    #[must_use]
    pub fn new(clients: u64, seed: u64, settings: &Settings) -> Self {
        let seed = duel::seed(seed) * 1_000;
        let generator = |client| Generator::new(seed + client, settings.clone());
        Self {
            recorder: Recorder::default(),
            generators: (0..clients).map(generator).collect(),
        }
    }

    /// Every client makes so many steps, all at the same time, on connections of their own.
    pub async fn run(&mut self, url: &str, steps: usize) {
        let clients = self.generators.iter_mut().zip(0..).map(|(generator, id)| {
            let recorder = self.recorder.clone();
            async move {
                let client = Client::new(url);
                let mut given = 1;
                for _ in 0..steps {
                    let step = generator.next_step();
                    if highest_revision(&step) > given {
                        continue;
                    }
                    let recording = recorder.begin(id, step.clone());
                    let answer = client.step(&step).await;
                    generator.learn(&step, &answer);
                    given = given.max(answer.as_ref().map_or(0, Answer::revision));
                    recording.end(answer);
                }
            }
        });
        join_all(clients).await;
    }

    #[must_use]
    pub fn history(&self) -> History {
        self.recorder.history()
    }

    /// Fails where no single etcd could have given these answers.
    pub fn check(&self) {
        match check_linearizable(&self.history(), &Rules::default()) {
            Verdict::Linearizable => {}
            Verdict::Violation(violation) => panic!("{violation}"),
            Verdict::TooHard { placed, of } => panic!("too hard: {placed} of {of} in order"),
        }
    }
}
