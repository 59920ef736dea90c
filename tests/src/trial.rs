//! Clients that go on working while Keylooms are killed, paused and replaced, and what they may
//! hold against them.
//!
//! | module | what for |
//! |---|---|
//! | [`board`] | where the clients connect now |
//! | [`book`] | what every unified revision was told to mean, and what was wrong |
//! | [`writer`] | writes, deletes, transactions and optimistic counters, their outcomes kept |
//! | [`cache`] | a list kept up to date by a watch, as a reflector does it |
//! | [`witness`] | a watch on a Keyloom that is to be stopped |
//! | [`census`] | figures for a report |
//!
//! What is held against Keyloom, whatever happens to it:
//! - no revision is told to mean two different writes;
//! - what began after an answer has a higher revision than it, or reads no older state;
//! - no cache is sent an event twice, out of order, torn or not at all, unless it was told
//!   `compacted` and listed again;
//! - no acknowledged write is lost, and no counter is counted past what was acknowledged or unknown.

pub mod board;
pub mod book;
pub mod writer;
pub mod cache;
pub mod witness;
pub mod census;

use std::{fmt, sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use crate::{
    etcd::{Etcd, Version},
    poll::eventually,
    split::everything,
    stage::{KEYS, range},
    topology::{Matcher, Topology},
};
use board::Board;
use book::Book;
use cache::{Cache, Shown};
use writer::Writer;

const WRITERS: usize = 4;

/// Which keys lie on which of the three.
#[must_use]
pub fn topology() -> Topology {
    Topology::new(&[
        ("tenant", Matcher::Namespaces(&["tenant-a"])),
        ("pods", Matcher::Prefix("pods")),
    ])
}

/// Three stores, and the clients of whoever serves them.
#[derive(Debug)]
pub struct Trial {
    pub stores: Vec<Etcd>,
    /// The topology that Keylooms are to serve.
    pub file: String,
    pub board: Board,
    pub book: Arc<Book>,
    caches: Vec<Arc<Shown>>,
    working: Vec<JoinHandle<()>>,
    writers: Vec<JoinHandle<Writer>>,
    marks: u64,
}

impl Trial {
    /// Starts the stores. Clients come with [`Self::begin`].
    pub async fn new() -> Self {
        let versions = [Version::V36, Version::V34, Version::V36];
        let stores: [Etcd; 3] = Etcd::start_all(versions).await;
        let urls: Vec<_> = stores.iter().map(Etcd::url).collect();
        let file = topology().file(&urls);
        Self {
            stores: stores.into(),
            ..Self::over(file)
        }
    }

    /// Over stores of somebody else's, that have nothing below `/registry/`.
    #[must_use]
    pub fn over(file: String) -> Self {
        Self {
            stores: Vec::new(),
            file,
            board: Board::default(),
            book: Arc::default(),
            caches: Vec::new(),
            working: Vec::new(),
            writers: Vec::new(),
            marks: 0,
        }
    }

    /// Sets the clients to work at an endpoint, and waits until every cache is up to date.
    pub async fn begin(&mut self, url: &str, seed: u64) {
        self.board.move_to(url);
        for number in 0..WRITERS {
            let writer = Writer::new(number, seed, self.board.line(), Arc::clone(&self.book));
            self.writers.push(tokio::spawn(writer.work()));
        }
        for (number, (from, to)) in cache::RANGES.iter().enumerate() {
            let (line, book) = (self.board.line(), Arc::clone(&self.book));
            let cache = Cache::new(number, from, to, line, book);
            self.caches.push(cache.shown());
            let chance = seed + 1000 + u64::try_from(number).expect("few");
            self.working.push(tokio::spawn(cache.work(chance)));
        }
        self.settled().await;
    }

    /// How many caches there are.
    #[must_use]
    pub fn caches(&self) -> usize {
        self.caches.len()
    }

    /// How often each cache had to list again.
    #[must_use]
    pub fn relists(&self) -> Vec<u64> {
        self.caches.iter().map(|cache| cache.relists()).collect()
    }

    /// How often a watch was opened where another one had ended.
    #[must_use]
    pub fn resumed(&self) -> u64 {
        self.caches.iter().map(|cache| cache.resumed()).sum()
    }

    /// Puts a mark on every store and waits until every cache shows it. Gives back how long it took
    /// from the call to the first answer.
    pub async fn settled(&mut self) -> Duration {
        let begun = tokio::time::Instant::now();
        let mut answered = None;
        self.marks += 1;
        let value = format!("mark-{}", self.marks);
        for key in KEYS {
            let key = format!("{key}/mark");
            eventually("a mark", || async {
                let mut line = self.board.line();
                let client = line.connected().await.ok_or("closed".to_owned())?;
                writer::mark(&client, &self.book, &key, &value)
                    .await
                    .map_err(|status| status.to_string())
            })
            .await;
            answered.get_or_insert_with(|| begun.elapsed());
        }
        for cache in &self.caches {
            eventually("every cache's mark", || async {
                self.book.must_be_right();
                if cache.shows_marks(&value) {
                    Ok(())
                } else {
                    Err(cache.describe())
                }
            })
            .await;
        }
        answered.unwrap_or_default()
    }

    /// Ends the clients, and holds what they know against what is there.
    pub async fn finish(mut self) -> Census {
        let mut census = Census::default();
        self.board.hold();
        for writer in std::mem::take(&mut self.writers) {
            census.writers.push(writer.await.expect("a writer ends"));
        }
        self.settled().await;
        let mut line = self.board.line();
        let client = line.connected().await.expect("an endpoint");
        let now = range(&client, everything(0)).await.expect("a list");
        for cache in &self.caches {
            cache.must_equal(&now.kvs, &self.book);
        }
        writer::judge(&census.writers, &now.kvs, &self.book);
        self.board.close();
        for cache in self.working {
            cache.await.expect("a cache ends");
        }
        self.book.must_be_right();
        census.moved = self.book.moved();
        census.events = self.caches.iter().map(|cache| cache.events()).sum();
        census
    }
}

/// What a trial did.
#[derive(Debug, Default)]
pub struct Census {
    pub writers: Vec<Writer>,
    /// Writes that had to get another revision than the one that was told first.
    pub moved: usize,
    pub events: u64,
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |of: fn(&Writer) -> u64| self.writers.iter().map(of).sum::<u64>();
        write!(
            f,
            "{} writes acknowledged, {} unknown; {} counts acknowledged, {} unknown, {} conflicts; \
             {} events seen; {} writes got another revision than they were first told",
            sum(|writer| writer.acknowledged),
            sum(|writer| writer.unknown),
            sum(|writer| writer.counted),
            sum(|writer| writer.maybe_counted),
            sum(|writer| writer.conflicts),
            self.events,
            self.moved,
        )
    }
}
