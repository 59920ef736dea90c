//! Many seeds, each in a process of its own, as many at a time as there are processors.

use std::{collections::BTreeMap, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use tokio::{process::Command, task::JoinSet, time::Instant};

/// How long a seed may take by the machine's clock; most take a twentieth of a second.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a process said of its seed.
#[derive(Debug)]
pub(crate) struct SeedReport {
    pub(crate) seed: u64,
    pub(crate) ok: bool,
    pub(crate) text: String,
}

impl SeedReport {
    /// The name of the first checker that found something.
    pub(crate) fn checker(&self) -> Option<&str> {
        if self.ok {
            return None;
        }
        let found = self.text.lines().nth(1)?;
        found.split_once(':').map(|(name, _)| name)
    }

    /// A number that follows a word on the first line.
    pub(crate) fn number(&self, word: &str) -> u64 {
        let line = self.text.lines().next().unwrap_or_default();
        let mut words = line.split(' ').skip_while(|it| *it != word);
        words.nth(1).and_then(|it| it.parse().ok()).unwrap_or(0)
    }
}

/// What is to be run.
#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    pub(crate) planted: Option<String>,
    /// At a time.
    pub(crate) jobs: usize,
    /// No seed begins after this.
    pub(crate) until: Option<Instant>,
}

impl Fleet {
    /// Runs seeds until there are no more, time is over, or `look` has seen enough: those that run
    /// then are ended, because one that hangs would be waited for until [`PATIENCE`] is over.
    pub(crate) async fn run(
        &self,
        seeds: impl IntoIterator<Item = u64>,
        mut look: impl FnMut(SeedReport) -> bool,
    ) -> Result<()> {
        let mut seeds = seeds.into_iter();
        let mut running = JoinSet::new();
        // What a process that is ended leaves behind goes with it.
        let place = Arc::new(tempfile::tempdir().context("making a folder for the runs")?);
        loop {
            while running.len() < self.jobs && self.is_time_left() {
                let Some(seed) = seeds.next() else { break };
                running.spawn(one(seed, self.planted.clone(), Arc::clone(&place)));
            }
            let Some(said) = running.join_next().await else {
                return Ok(());
            };
            if !look(said??) {
                running.shutdown().await;
                return Ok(());
            }
        }
    }

    fn is_time_left(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

async fn one(seed: u64, planted: Option<String>, place: Arc<TempDir>) -> Result<SeedReport> {
    let program = std::env::current_exe().context("this program's file")?;
    let mut command = Command::new(program);
    command.arg("one").arg(seed.to_string());
    if let Some(planted) = &planted {
        command.args(["--planted", planted]);
    }
    command.env("TMPDIR", place.path());
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    let Ok(output) = tokio::time::timeout(PATIENCE, command.output()).await else {
        return Ok(SeedReport {
            seed,
            ok: false,
            text: format!("seed {seed}\nhangs: no end after {PATIENCE:?}"),
        });
    };
    let output = output.context("running this program")?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.is_empty() {
        let error = String::from_utf8_lossy(&output.stderr);
        text = format!("seed {seed}\nprogram: {} {error}", output.status);
    }
    Ok(SeedReport {
        seed,
        ok: output.status.success(),
        text,
    })
}

/// Sums of what seeds said.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub(crate) seeds: u64,
    pub(crate) broken: Vec<u64>,
    numbers: BTreeMap<&'static str, u64>,
}

const WORDS: [&str; 5] = ["simulated", "operations", "answered", "events", "too-hard"];

impl Sums {
    pub(crate) fn add(&mut self, said: &SeedReport) {
        self.seeds += 1;
        if !said.ok {
            self.broken.push(said.seed);
        }
        for word in WORDS {
            *self.numbers.entry(word).or_default() += said.number(word);
        }
    }

    pub(crate) fn line(&self, took: Duration) -> String {
        let number = |word| self.numbers.get(word).copied().unwrap_or(0);
        let rate = self.seeds as f64 / took.as_secs_f64().max(0.001);
        format!(
            "{} seeds, {} with violations; {:.1} seeds/s; {} s simulated in {:.0} s; {} calls, {} answered, {} events; {} histories too hard to decide",
            self.seeds,
            self.broken.len(),
            rate,
            number("simulated") / 1000,
            took.as_secs_f64(),
            number("operations"),
            number("answered"),
            number("events"),
            number("too-hard")
        )
    }
}

/// The first lines of a text.
pub(crate) fn head_of(text: &str, lines: usize) -> String {
    let kept: Vec<_> = text.lines().take(lines).collect();
    kept.join("\n")
}
