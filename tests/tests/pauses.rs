//! The first of two Keylooms is stopped in its tracks for random times, so that the second takes
//! over or not, and then goes on.
//!
//! Here a few times; hundreds of times by
//! `KEYLOOM_PAUSES=300 cargo xtask e2e pauses -- --nocapture`, other moments with `KEYLOOM_SEED`.
//!
//! What may not leave the first is told by cause, not by time: a request that begins after the
//! second serves must not be answered by the first, and a write through the second not delivered.

use std::{cell::RefCell, time::Duration};

use futures_util::future::join_all;
use keyloom_etcd_api::etcdserverpb::{PutRequest, RangeRequest};
use keyloom_testkit::program::Chance;
use keyloom_tests::{
    Client, Keyloom,
    duel::seed,
    poll::{self, eventually},
    split::everything,
    stage::{KEYS, range},
    trial::{
        Trial,
        census::{Counts, Times, asked},
        witness::Witness,
        writer,
    },
};
use tokio::time::{Instant, sleep, timeout};

/// Milliseconds.
const TERM: i64 = 1000;

/// Keys that nobody may have written in the end.
const LATE: &str = "/registry/pods/default/late-";

#[derive(Default)]
struct Figures {
    pauses: u64,
    taken_over: u64,
    relists: Counts,
    silence: Times,
}

struct Run {
    trial: Trial,
    first: Keyloom,
    second: Keyloom,
    chance: Chance,
    figures: Figures,
}

fn launch(trial: &Trial) -> Keyloom {
    Keyloom::launch_with(&trial.file, &["--term", &format!("{TERM}ms")])
}

impl Run {
    async fn new(seed: u64) -> Self {
        let mut trial = Trial::new().await;
        let mut first = launch(&trial);
        first.ready().await;
        let second = launch(&trial);
        trial.begin(first.url(), seed).await;
        Self {
            trial,
            first,
            second,
            chance: Chance::new(seed),
            figures: Figures::default(),
        }
    }

    /// The second waits for the first's term. On a slow machine it may have taken over by itself.
    async fn two(&mut self) {
        let this = RefCell::new(&mut *self);
        eventually("a second that waits", || async {
            let mut this = this.borrow_mut();
            if this.second.log().contains("waiting") || this.second.is_ready() {
                Ok(())
            } else {
                Err(this.second.log())
            }
        })
        .await;
    }

    /// Stops the first for a random time, and sees who serves then.
    async fn pause(&mut self) {
        self.two().await;
        let relists = self.trial.relists();
        // Not a wait for anything: the moments are what is drawn.
        let load = self.chance.between(0, 400).unsigned_abs();
        sleep(Duration::from_millis(load)).await;
        let witness = Witness::begin(&self.first.client(), &self.trial.book).await;
        self.first.pause();
        self.figures.pauses += 1;
        let begun = Instant::now();
        let most = if self.chance.percent(60) { 25 } else { 12 };
        let time = self.chance.between(TERM / 10, TERM * most / 10);
        sleep(Duration::from_millis(time.unsigned_abs())).await;
        if time > TERM * 13 / 10 {
            self.second.ready().await;
        }
        if self.second.is_ready() || self.second_is_faster().await {
            self.taken_over(begun, witness).await;
        } else {
            self.figures.silence.add(begun.elapsed());
        }
        let after = self.trial.relists();
        let again = relists.iter().zip(&after).filter(|(old, new)| new > old);
        let again = u64::try_from(again.count()).expect("few");
        self.figures.relists.add(again);
    }

    /// Lets the first go on, and waits until one of the two serves.
    async fn second_is_faster(&mut self) -> bool {
        self.first.resume();
        let client = self.first.client();
        let this = RefCell::new(&mut *self);
        eventually("one of the two", || async {
            if this.borrow_mut().second.is_ready() {
                return Ok(true);
            }
            match timeout(Duration::from_millis(500), range(&client, get(KEYS[0]))).await {
                Ok(Ok(_)) => Ok(false),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// The second serves; the first is stopped, or just goes on.
    async fn taken_over(&mut self, begun: Instant, witness: Option<Witness>) {
        self.figures.taken_over += 1;
        self.trial.board.move_to(self.second.url());
        let ready = begun.elapsed();
        let settled = self.trial.settled().await;
        self.figures.silence.add(ready + settled);
        let written = self.write_through_the_second().await;
        // Asked while it is stopped, and again while it wakes up.
        let number = self.figures.taken_over;
        let early = tokio::spawn(probe(self.first.client(), 2 * number));
        if let Some(witness) = &witness {
            witness.ask();
        }
        tokio::task::yield_now().await;
        self.first.resume();
        let late = probe(self.first.client(), 2 * number + 1).await;
        let early = early.await.expect("the probes end");
        let mut said: Vec<_> = early.into_iter().chain(late).collect();
        if let Some(witness) = witness {
            said.extend(witness.read(&written).await);
        }
        assert!(
            said.is_empty(),
            "it answered beside its successor: {said:#?}"
        );
        assert!(!self.first.ended().await.success());
        let third = launch(&self.trial);
        self.first = std::mem::replace(&mut self.second, third);
    }

    /// What a watch of the first must not deliver.
    async fn write_through_the_second(&mut self) -> Vec<String> {
        let client = self.second.client();
        let mut values = Vec::new();
        for (at, key) in KEYS.iter().enumerate() {
            let value = format!("mark of the second, {at}-{}", self.figures.taken_over);
            eventually("a write of the second", || async {
                let written = writer::mark(&client, &self.trial.book, key, &value).await;
                written.map_err(|status| status.to_string())
            })
            .await;
            values.push(value);
        }
        values
    }

    /// Ends the second, so that the first is alone.
    async fn alone(&mut self) {
        self.two().await;
        if self.second.is_ready() {
            self.trial.board.move_to(self.second.url());
            std::mem::swap(&mut self.first, &mut self.second);
        }
        self.second.kill().await;
        let client = self.first.client();
        let this = RefCell::new(&mut *self);
        let ended = eventually("the first's answer or its end", || async {
            if !this.borrow_mut().first.runs() {
                return Ok(true);
            }
            range(&client, get(KEYS[0])).await.map(|_| false)
        })
        .await;
        if ended {
            self.first.start_again().await;
            self.trial.board.move_to(self.first.url());
        }
    }
}

fn get(key: &'static str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    }
}

/// Requests that begin now; gives back what was answered other than by an error.
async fn probe(client: Client, number: u64) -> Vec<String> {
    let asked = [everything(0), get(KEYS[0]), get(KEYS[1]), get(KEYS[2])];
    let reads = asked.map(|request| {
        let client = client.clone();
        async move {
            let answer = timeout(poll::LONG, range(&client, request)).await;
            Some(format!("a read at {:?}", answer.ok()?.ok()?.header))
        }
    });
    let put = async {
        let request = PutRequest {
            key: format!("{LATE}{number}").into(),
            ..PutRequest::default()
        };
        let mut kv = client.kv();
        let answer = timeout(poll::LONG, kv.put(request)).await.ok()?.ok()?;
        Some(format!("a write at {:?}", answer.into_inner().header))
    };
    let (mut answers, put) = tokio::join!(join_all(reads), put);
    answers.push(put);
    answers.into_iter().flatten().collect()
}

#[tokio::test]
async fn paused_for_random_times_it_says_nothing_beside_its_successor() {
    let pauses = u64::try_from(asked("KEYLOOM_PAUSES", 4)).expect("a number of pauses");
    let mut run = Run::new(seed(821)).await;
    while run.figures.pauses < pauses || run.figures.taken_over < pauses / 2 {
        run.pause().await;
        println!("{} pauses so far", run.figures.pauses);
    }
    run.alone().await;
    let (caches, figures) = (run.trial.caches(), run.figures);
    let late = RangeRequest {
        key: LATE.into(),
        range_end: LATE.replace('-', ".").into(),
        ..RangeRequest::default()
    };
    let late = range(&run.first.client(), late).await.unwrap();
    assert_eq!(late.kvs, [], "a write that began too late happened");
    let census = run.trial.finish().await;
    println!(
        "{} pauses, {} taken over by the second; term {TERM} ms",
        figures.pauses, figures.taken_over
    );
    println!(
        "caches of {caches} that listed again: {} pauses",
        figures.relists
    );
    println!("from the pause to the next answer: {}", figures.silence);
    println!("{census}");
}
