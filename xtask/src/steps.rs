//! The steps of a long chore: each is timed, a failed one does not keep the independent ones from
//! running, and a table at the end says how long each took.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    took: Duration,
    passed: bool,
}

impl Steps {
    /// Runs one step; `None` when it failed, for the steps that build on it.
    #[expect(clippy::disallowed_methods, reason = "a chore has no simulated clock")]
    pub(crate) fn run<T>(
        &mut self,
        name: &'static str,
        step: impl FnOnce() -> Result<T>,
    ) -> Option<T> {
        println!("--- {name}");
        let start = Instant::now();
        let result = step();
        let took = start.elapsed();
        if let Err(error) = &result {
            println!("--- {name}: FAILED: {error:#}");
        }
        self.done.push(Step {
            name,
            took,
            passed: result.is_ok(),
        });
        result.ok()
    }

    /// Prints the table.
    ///
    /// # Errors
    /// When a step failed.
    pub(crate) fn finish(self) -> Result<()> {
        println!("\n{}", self.table());
        let failed: Vec<_> = self
            .done
            .iter()
            .filter(|step| !step.passed)
            .map(|step| step.name)
            .collect();
        ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
        Ok(())
    }

    fn table(&self) -> String {
        let row = |name: &str, took: Duration, result: &str| {
            format!("{name:<24}{:>9.1} s  {result}\n", took.as_secs_f64())
        };
        let rows = self.done.iter().map(|step| {
            row(
                step.name,
                step.took,
                if step.passed { "ok" } else { "FAILED" },
            )
        });
        let total = self.done.iter().map(|step| step.took).sum();
        rows.chain([row("total", total, "")]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn a_failed_step_fails_the_whole_and_stops_no_other() {
        let mut steps = Steps::default();
        assert_eq!(steps.run("bad", || -> Result<()> { bail!("no") }), None);
        assert_eq!(steps.run("good", || Ok(7)), Some(7));
        let table = steps.table();
        let rows: Vec<_> = table.lines().collect();
        assert!(
            rows[0].starts_with("bad ") && rows[0].ends_with("FAILED"),
            "{table}"
        );
        assert!(
            rows[1].starts_with("good ") && rows[1].ends_with("ok"),
            "{table}"
        );
        assert!(rows[2].starts_with("total "), "{table}");
        assert_eq!(steps.finish().unwrap_err().to_string(), "failed: bad");
    }

    #[test]
    fn steps_that_passed_pass() {
        let mut steps = Steps::default();
        assert_eq!(steps.run("good", || Ok(())), Some(()));
        steps.finish().unwrap();
    }
}
