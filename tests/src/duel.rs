//! The same program against a reference and against what is tested: every answer must be the same.

use std::env;

use keyloom_etcd_api::{Status, etcdserverpb::LeaseGrantRequest};
use keyloom_testkit::{
    Answer, Step,
    program::{Generator, Group, Settings, Tolerance, same_answer},
};

use crate::client::Client;

/// An answer, or why there is none.
pub type Outcome = Result<Answer, Status>;

/// A program that two endpoints go through side by side.
#[derive(Debug)]
pub struct Duel {
    seed: u64,
    generator: Generator,
    tolerance: Tolerance,
    reference: Client,
    tested: Client,
    done: usize,
}

impl Duel {
    /// Endpoints that are equal now, up to who they are.
    #[must_use]
    pub fn new(seed: u64, settings: Settings, reference: Client, tested: Client) -> Self {
        let seed = self::seed(seed);
        let generator = Generator::new(seed, settings);
        let tolerance = Tolerance { cluster_id: true };
        Self {
            seed,
            generator,
            tolerance,
            reference,
            tested,
            done: 0,
        }
    }

    /// Goes on with another way to the tested endpoint.
    pub fn go_on_with(&mut self, tested: Client) {
        self.tested = tested;
    }

    /// Draws and compares so many steps.
    pub async fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            let step = self.next_step();
            self.compare(&step).await;
        }
    }

    /// Draws and compares so many steps, of those that change nothing.
    pub async fn run_reads(&mut self, steps: usize) {
        let mut left = steps;
        while left > 0 {
            let step = self.next_step();
            if step.only_reads() {
                self.compare(&step).await;
                left -= 1;
            }
        }
    }

    /// Draws so many steps for the reference alone.
    pub async fn run_alone(&mut self, steps: usize) {
        for _ in 0..steps {
            let step = self.next_step();
            let answer = self.reference.step(&step).await;
            self.generator.learn(&step, &answer);
        }
    }

    /// Sends one step to both and compares.
    pub async fn compare(&mut self, step: &Step) {
        let (expected, got) = tokio::join!(self.reference.step(step), self.tested.step(step));
        self.judge(step, &expected, &got);
    }

    /// The next step, for those who run it themselves and then [`Self::judge`] it.
    pub fn next_step(&mut self) -> Step {
        self.done += 1;
        self.generator.next_step()
    }

    /// Fails where the answers differ.
    pub fn judge(&mut self, step: &Step, expected: &Outcome, got: &Outcome) {
        self.generator.learn(step, expected);
        if let Err(difference) = same_answer(expected, got, self.tolerance) {
            panic!(
                "seed {}, step {}: {difference}\n{step:#?}",
                self.seed, self.done
            );
        }
    }

    #[must_use]
    pub fn reference(&self) -> &Client {
        &self.reference
    }

    #[must_use]
    pub fn tested(&self) -> &Client {
        &self.tested
    }
}

/// The seed of a test, moved by `KEYLOOM_SEED` where other programs are wanted.
#[must_use]
pub fn seed(usual: u64) -> u64 {
    let moved = env::var("KEYLOOM_SEED").map(|text| text.parse::<u64>());
    usual + moved.unwrap_or(Ok(0)).expect("KEYLOOM_SEED is a number")
}

/// How many steps a test makes: `KEYLOOM_STEPS`, or as many as a test of every day can afford.
#[must_use]
pub fn steps(usual: usize) -> usize {
    match env::var("KEYLOOM_STEPS") {
        Ok(text) => text.parse().expect("KEYLOOM_STEPS is a number"),
        Err(_) => usual,
    }
}

/// Keys as Kubernetes and others set them.
#[must_use]
pub fn everyday_keys() -> Vec<Group> {
    vec![
        Group::numbered("/registry/pods/", 8),
        Group::numbered("/registry/secrets/", 4),
        Group::new("/registry/minions/", &["node-1", "node-2"]),
        Group::new("compact_rev_key", &[""]),
        Group::new("a/", &["", "b", "b/c", "\u{ff}"]),
    ]
}

/// Grants the same leases at every endpoint, for longer than any test takes.
pub async fn grant_leases(endpoints: &[&Client]) -> Vec<i64> {
    let ids = vec![7_001, 7_002, 7_003];
    for endpoint in endpoints {
        for &id in &ids {
            let request = LeaseGrantRequest { ttl: 86_400, id };
            endpoint
                .lease()
                .lease_grant(request)
                .await
                .expect("a lease");
        }
    }
    ids
}
