//! What a process takes over time, and whether that grows.

use std::{cell::RefCell, env, fmt::Write as _, fs, path::PathBuf, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{keyloom::Keyloom, metrics::Metrics, poll::eventually};

/// One look at a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Seconds since its start.
    pub at: f64,
    /// Bytes.
    pub resident: f64,
    pub files: f64,
    pub tasks: f64,
    pub connections: f64,
    pub streams: f64,
    pub watchers: f64,
    pub in_flight: f64,
    /// Revisions kept in memory for watches.
    pub kept: f64,
}

impl Sample {
    fn of(at: Duration, metrics: &Metrics) -> Self {
        let sum = |name| metrics.sum(name, &[]);
        Self {
            at: at.as_secs_f64(),
            resident: sum("process_resident_memory_bytes"),
            files: sum("process_open_fds"),
            tasks: sum("keyloom_proxy_tasks"),
            connections: sum("keyloom_proxy_connections"),
            streams: sum("keyloom_proxy_watch_streams"),
            watchers: sum("keyloom_proxy_watchers"),
            in_flight: sum("keyloom_store_calls_in_flight"),
            kept: sum("keyloom_proxy_kept_revisions"),
        }
    }
}

/// All looks at one process.
#[derive(Debug)]
pub struct Samples {
    begun: Instant,
    all: RefCell<Vec<Sample>>,
    /// While no client is there.
    quiet: RefCell<Vec<Sample>>,
    /// Where they are written to, if anywhere.
    table: Option<PathBuf>,
}

/// How much more the last quarter may take than the second, of what the second takes and beside it.
/// What is bounded is full by then: [`super::fill`].
const MORE: f64 = 0.10;
const MORE_BYTES: f64 = 4.0 * 1024.0 * 1024.0;

/// A runtime's tasks and files differ by the connections to stores that are just open.
const MORE_TASKS: f64 = 16.0;
const MORE_FILES: f64 = 24.0;

/// As many quiet looks tell how much there is when nobody is there.
const FIRST: usize = 3;

impl Default for Samples {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            all: RefCell::default(),
            quiet: RefCell::default(),
            table: env::var_os("KEYLOOM_SAMPLES").map(PathBuf::from),
        }
    }
}

impl Samples {
    /// Looks again and again, and never ends.
    pub async fn take(&self, keyloom: &Keyloom, every: Duration) {
        loop {
            let sample = self.look(keyloom).await;
            self.all.borrow_mut().push(sample);
            sleep(every).await;
        }
    }

    async fn look(&self, keyloom: &Keyloom) -> Sample {
        Sample::of(self.begun.elapsed(), &keyloom.metrics().await)
    }

    /// To be called when no client is there: waits until nothing of theirs is left. What is beside
    /// it may not become more from one time to another.
    pub async fn must_be_quiet(&self, keyloom: &Keyloom) {
        let quiet = eventually("nothing of clients that are gone", || async {
            let sample = self.look(keyloom).await;
            let left = sample.connections + sample.streams + sample.watchers + sample.in_flight;
            if left == 0.0 && self.is_as_before(&sample) {
                Ok(sample)
            } else {
                Err(format!("{sample:?} after {:?}", self.quiet.borrow()))
            }
        })
        .await;
        self.quiet.borrow_mut().push(quiet);
        self.write();
    }

    fn is_as_before(&self, sample: &Sample) -> bool {
        let quiet = self.quiet.borrow();
        if quiet.len() < FIRST {
            return true;
        }
        let most = |of: fn(&Sample) -> f64| quiet[..FIRST].iter().map(of).fold(0.0, f64::max);
        sample.tasks <= most(|it| it.tasks) + MORE_TASKS
            && sample.files <= most(|it| it.files) + MORE_FILES
    }

    /// The medians of the memory in each quarter of the time.
    #[must_use]
    pub fn quarters(&self) -> [f64; 4] {
        quarters(&self.all.borrow())
    }

    /// Fails where the memory of the last quarter is more than that of the second.
    pub fn must_be_flat(&self) {
        let [_, second, _, last] = self.quarters();
        assert!(
            last <= second * (1.0 + MORE) + MORE_BYTES,
            "the memory grows: {}",
            self.report()
        );
    }

    /// For people.
    #[must_use]
    pub fn report(&self) -> String {
        let megabytes = self.quarters().map(|bytes| format!("{:.1}", bytes / 1e6));
        let quiet = self.quiet.borrow();
        let row = |sample: &Sample| {
            let Sample { tasks, files, .. } = sample;
            format!("{tasks} tasks and {files} files at {:.0} s", sample.at)
        };
        format!(
            "{} samples, resident memory in MB, median of each quarter: {}; without clients: \
             {} and {}",
            self.all.borrow().len(),
            megabytes.join(", "),
            quiet.first().map_or("-".to_owned(), row),
            quiet.last().map_or("-".to_owned(), row)
        )
    }

    /// Writes all of them to the table.
    fn write(&self) {
        let Some(table) = &self.table else { return };
        let mut text = String::from(
            "quiet\tseconds\tresident\tfiles\ttasks\tconnections\tstreams\twatchers\tin flight\tkept\n",
        );
        for (quiet, samples) in [(0, &self.all), (1, &self.quiet)] {
            for it in samples.borrow().iter() {
                writeln!(
                    text,
                    "{quiet}\t{:.1}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
                    it.at,
                    it.resident,
                    it.files,
                    it.tasks,
                    it.connections,
                    it.streams,
                    it.watchers,
                    it.in_flight,
                    it.kept
                )
                .expect("strings grow");
            }
        }
        fs::write(table, text).expect("a table that can be written");
    }
}

fn quarters(samples: &[Sample]) -> [f64; 4] {
    let end = samples.last().map_or(0.0, |last| last.at);
    [0.0, 0.25, 0.5, 0.75].map(|from| {
        let within = (end * from)..=(end * (from + 0.25));
        let mut of: Vec<_> = samples
            .iter()
            .filter(|sample| within.contains(&sample.at))
            .map(|sample| sample.resident)
            .collect();
        of.sort_unstable_by(f64::total_cmp);
        of.get(of.len() / 2).copied().unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(resident: impl Fn(f64) -> f64) -> Samples {
        let sample = |second: u32| Sample {
            at: f64::from(second),
            resident: resident(f64::from(second)),
            ..Sample::default()
        };
        Samples {
            all: RefCell::new((0..1_000).map(sample).collect()),
            table: None,
            ..Samples::default()
        }
    }

    #[tokio::test]
    async fn what_grows_only_at_first_is_flat() {
        let noise = |second: f64| (second % 7.0) * 1e6;
        samples(|second| 40e6 + second.min(200.0) * 1e5 + noise(second)).must_be_flat();
    }

    #[tokio::test]
    #[should_panic(expected = "the memory grows")]
    async fn what_grows_on_is_not() {
        samples(|second| 40e6 + second * 5e4).must_be_flat();
    }

    #[tokio::test]
    async fn more_tasks_than_at_first_are_not_as_before() {
        let samples = samples(|_| 0.0);
        let sample = |tasks| Sample {
            tasks,
            ..Sample::default()
        };
        samples.quiet.borrow_mut().extend([10.0, 12.0].map(sample));
        assert!(samples.is_as_before(&sample(1_000.0)), "too early to say");
        samples.quiet.borrow_mut().push(sample(11.0));
        assert!(samples.is_as_before(&sample(28.0)));
        assert!(!samples.is_as_before(&sample(29.0)));
    }
}
