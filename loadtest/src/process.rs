//! What a process of this machine has used, read from `/proc`.

use std::fs;

use anyhow::{Context as _, Result};

/// A process by its name in the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

/// What it has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// CPU time of all its threads, those that ended included.
    pub(crate) cpu_us: f64,
    /// Resident memory.
    pub(crate) rss_bytes: u64,
}

/// `USER_HZ`, the unit of times in `/proc/PID/stat`: 100 on every architecture we run on.
const TICK_US: f64 = 10_000.0;
/// Every kernel that we measure on has pages of this size.
const PAGE: u64 = 4096;

impl std::str::FromStr for Process {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, pid) = text.split_once('=').context("not NAME=PID")?;
        Ok(Self {
            name: name.to_owned(),
            pid: pid.parse().context("not NAME=PID")?,
        })
    }
}

impl Process {
    /// Reads it.
    ///
    /// # Errors
    /// Where there is no such process.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let path = format!("/proc/{}/stat", self.pid);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        parse(&text).with_context(|| format!("{path} has another shape than it had"))
    }
}

/// For how long the cores of this machine have worked so far, all together, in us.
///
/// # Errors
/// Where the kernel does not say.
pub(crate) fn cores_busy_us() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    busy(&text).context("/proc/stat has another shape than it had")
}

/// proc(5): user, nice, system, idle, iowait, irq, softirq; what follows is others' work.
fn busy(stat: &str) -> Option<f64> {
    let all = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks = all.split_whitespace().map(str::parse::<u64>);
    let ticks = ticks.collect::<Result<Vec<_>, _>>().ok()?;
    let &[user, nice, system, _, _, irq, softirq, ..] = &ticks[..] else {
        return None;
    };
    #[expect(clippy::cast_precision_loss, reason = "exact for 28 million years")]
    let busy = (user + nice + system + irq + softirq) as f64;
    Some(busy * TICK_US)
}

/// proc(5): the second field is a name in brackets, which may hold anything; utime and stime are
/// the fields 14 and 15, rss is 24.
fn parse(stat: &str) -> Option<Usage> {
    let (_, rest) = stat.rsplit_once(')')?;
    let field = |number: usize| rest.split_whitespace().nth(number - 3)?.parse::<u64>().ok();
    #[expect(clippy::cast_precision_loss, reason = "exact for 28 million years")]
    let ticks = (field(14)? + field(15)?) as f64;
    Some(Usage {
        cpu_us: ticks * TICK_US,
        rss_bytes: field(24)? * PAGE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_proc_is_read() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194304 1 0 0 0 150 25 0 0 20 0 9 0 77 1000 3 184 1";
        let usage = parse(stat).unwrap();
        assert_eq!(
            usage,
            Usage {
                cpu_us: 1_750_000.0,
                rss_bytes: 3 * 4096
            }
        );
        assert_eq!(parse("42 (short) S 1"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn the_work_of_all_cores_is_read() {
        let stat = "cpu  10 1 5 900 30 2 3 7 0 0\ncpu0 5 0 0 0 0 0 0 0 0 0\n";
        assert_eq!(busy(stat), Some(210_000.0));
        assert_eq!(busy("cpu 1 2"), None);
        assert!(cores_busy_us().unwrap() > 0.0);
    }

    #[test]
    fn this_process_can_be_read() {
        let own = Process {
            name: "own".to_owned(),
            pid: std::process::id(),
        };
        assert!(own.usage().unwrap().rss_bytes > 0);
    }

    #[test]
    fn processes_are_named() {
        let process: Process = "keyloom=12".parse().unwrap();
        assert_eq!((process.name.as_str(), process.pid), ("keyloom", 12));
        assert!("keyloom".parse::<Process>().is_err());
        assert!("keyloom=x".parse::<Process>().is_err());
    }
}
