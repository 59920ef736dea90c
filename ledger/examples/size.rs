//! Measures the ledger: bits per revision in memory and persisted, time and memory to load it, and
//! the time of lookups.
//!
//! `cargo run --release -p keyloom-ledger --example size -- 100000000`
//!
//! Each case is built in this process and written to a file; another process of the same program
//! loads that, so that its memory is the ledger's alone.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use keyloom_ledger::{Ledger, Mark, Restoring, Seal, StoreRev, StoreSlot, StoreStart, UnifiedRev};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Lookups per kind.
const LOOKUPS: u64 = 1_000_000;

struct Case {
    name: &'static str,
    stores: u16,
    /// How long a store goes on before another has its turn, on average.
    burst: u64,
    /// One in so many revisions of the default store is hidden.
    hidden: u64,
}

const CASES: [Case; 4] = [
    Case {
        name: "2 stores, random",
        stores: 2,
        burst: 1,
        hidden: 1000,
    },
    Case {
        name: "4 stores, random",
        stores: 4,
        burst: 1,
        hidden: 1000,
    },
    Case {
        name: "16 stores, random",
        stores: 16,
        burst: 1,
        hidden: 1000,
    },
    Case {
        name: "16 stores, bursts of 50",
        stores: 16,
        burst: 50,
        hidden: 1000,
    },
];

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [load, file] if load == "load" => measure_load(Path::new(file)),
        [revisions] => measure_all(revisions.parse()?),
        _ => measure_all(10_000_000),
    }
}

fn measure_all(revisions: i64) -> Outcome<()> {
    for case in &CASES {
        let ledger = build(case, revisions);
        let file = file_of(case);
        let persisted = persist(&ledger, &file)?;
        let bits = persisted as f64 * 8.0 / revisions as f64;
        say(&format!(
            "{}, {revisions} revisions: persisted {bits:.3} bits each",
            case.name
        ))?;
        drop(ledger);
        let status = Command::new(std::env::current_exe()?)
            .arg("load")
            .arg(&file)
            .status();
        fs::remove_file(&file)?;
        if !status?.success() {
            return Err("the loading process failed".into());
        }
    }
    Ok(())
}

fn file_of(case: &Case) -> PathBuf {
    let name = format!(
        "keyloom-ledger-{}-{}-{}",
        case.stores,
        case.burst,
        std::process::id()
    );
    std::env::temp_dir().join(name)
}

// === building ===

/// xorshift64
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }
}

fn build(case: &Case, revisions: i64) -> Ledger {
    let start = |i| StoreStart {
        name: format!("store {i}"),
        cluster_id: i,
        at: StoreRev::FIRST,
    };
    let stores: Vec<_> = (0..u64::from(case.stores)).map(start).collect();
    let mut ledger = Ledger::start(&stores);
    let mut at = vec![1_i64; stores.len()];
    let (mut random, mut turn) = (Random(0x9e37_79b9_7f4a_7c15), 0);
    while ledger.head().get() <= revisions {
        if random.next(case.burst) == 0 {
            turn = random.next(u64::from(case.stores)) as u16;
        }
        let Some(r) = at.get_mut(usize::from(turn)) else {
            continue;
        };
        *r += 1;
        if turn == 0 && random.next(case.hidden) == 0 {
            ledger.hide(StoreRev::new(*r));
        } else {
            ledger.observe(StoreSlot::new(turn), StoreRev::new(*r));
        }
    }
    ledger
}

/// Writes all records (length, then bytes) in the order of loading, and gives their size.
fn persist(ledger: &Ledger, file: &Path) -> Outcome<usize> {
    let mut mark = Mark::new();
    let mut records = Vec::new();
    loop {
        let flush = ledger.flush(&mark, &Seal::default());
        records.extend(flush.puts);
        mark = flush.mark;
        if flush.complete {
            break;
        }
    }
    records.sort_by_key(|(key, _)| (key != keyloom_ledger::HEAD, key.clone()));
    let mut out = BufWriter::new(File::create(file)?);
    for (key, record) in &records {
        for part in [key.as_bytes(), record] {
            out.write_all(&(part.len() as u64).to_le_bytes())?;
            out.write_all(part)?;
        }
    }
    out.flush()?;
    Ok(records
        .iter()
        .map(|(key, record)| key.len() + record.len())
        .sum())
}

// === loading ===

fn measure_load(file: &Path) -> Outcome<()> {
    let empty = resident()?;
    let clock = Clock::start();
    let ledger = load(file)?;
    let seconds = clock.seconds();
    let bytes = resident()?.saturating_sub(empty);
    let revisions = ledger.head().get();
    say(&format!(
        "  loaded in {seconds:.2} s; {:.1} MB resident, {:.3} bits each",
        bytes as f64 / 1e6,
        bytes as f64 * 8.0 / revisions as f64
    ))?;
    measure_lookups(&ledger)
}

fn load(file: &Path) -> Outcome<Ledger> {
    let mut input = BufReader::new(File::open(file)?);
    let mut restoring = None;
    while let Some((key, record)) = read_part(&mut input)?.zip(read_part(&mut input)?) {
        let key = String::from_utf8(key)?;
        match &mut restoring {
            None => restoring = Some(Restoring::new(&record, StoreRev::FIRST)?),
            Some(restoring) => restoring.add(&key, &record)?,
        }
    }
    let restored = restoring.ok_or("no records")?.finish()?;
    Ok(restored.ledger)
}

fn read_part(input: &mut impl Read) -> Outcome<Option<Vec<u8>>> {
    let mut len = [0; 8];
    match input.read_exact(&mut len) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut part = vec![0; u64::from_le_bytes(len) as usize];
    input.read_exact(&mut part)?;
    Ok(Some(part))
}

/// Resident memory in bytes, as the kernel counts it.
fn resident() -> Outcome<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

// === lookups ===

/// Over all of the ledger, where each misses the caches, and over its newest million, as in service.
fn measure_lookups(ledger: &Ledger) -> Outcome<()> {
    let head = ledger.head().get();
    for (what, window) in [
        ("everywhere", head),
        ("newest million", head.min(1_000_000)),
    ] {
        let from = head - window;
        let share = |slot| ledger.store_at(slot, UnifiedRev::new(from)).get();
        let u_of = |at: u64| UnifiedRev::new(from + 1 + at as i64 % window);
        let r_of = |slot, at: u64| {
            let (low, high) = (share(slot), ledger.frontier(slot).get());
            StoreRev::new(low + at as i64 % (high - low).max(1))
        };
        let revisions: Vec<_> = points(ledger).map(|(s, at)| (s, r_of(s, at))).collect();
        let uniteds: Vec<_> = points(ledger).map(|(s, at)| (s, u_of(at))).collect();
        let at = time(&uniteds, |s, u| ledger.store_at(s, u).get())?;
        let exact = time(&uniteds, |s, u| {
            ledger.store_exact(s, u).map_or(0, StoreRev::get)
        })?;
        let unified = time(&revisions, |s, r| {
            ledger.unified(s, r).map_or(0, UnifiedRev::get)
        })?;
        let next = time(&revisions, |s, r| ledger.below_next(s, r).get())?;
        say(&format!(
            "  ns, {what}: store_at {at:.0}, store_exact {exact:.0}, unified {unified:.0}, \
             below_next {next:.0}"
        ))?;
    }
    Ok(())
}

fn points(ledger: &Ledger) -> impl Iterator<Item = (StoreSlot, u64)> {
    let stores = ledger.stores().count() as u64;
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    (0..LOOKUPS).map(move |_| {
        (
            StoreSlot::new(random.next(stores) as u16),
            random.next(u64::MAX >> 1),
        )
    })
}

/// Nanoseconds per lookup in the best of some rounds: what else the machine does is not measured.
fn time<T: Copy>(points: &[(StoreSlot, T)], look_up: impl Fn(StoreSlot, T) -> i64) -> Outcome<f64> {
    let round = || -> Outcome<f64> {
        let before = on_cpu()?;
        let sum = points
            .iter()
            .fold(0, |sum: i64, (s, at)| sum.wrapping_add(look_up(*s, *at)));
        std::hint::black_box(sum);
        Ok((on_cpu()? - before) / points.len() as f64)
    };
    (0..15)
        .map(|_| round())
        .try_fold(f64::INFINITY, |best, round| Ok(best.min(round?)))
}

/// Nanoseconds that this thread was on a processor.
fn on_cpu() -> Outcome<f64> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().unwrap_or_default().parse()?)
}

/// The machine's clock: a measurement is not a test.
struct Clock(std::time::Instant);

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "no runtime here, and real time is the point"
    )]
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}
