//! A Range over several stores: a consistent cut, every store read at its place in it, one answer.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::try_join_all;
use keyloom_etcd_api::{
    etcdserverpb::RangeRequest,
    wire::{Place, RawKv, Rewrite, encode_range_answer},
};
use keyloom_ledger::StoreRev;
use keyloom_router::{Joined, PartAnswer, PartRead, ReadError, join, trim};
use keyloom_store::Lane;
use keyloom_topology::Part;

use super::{
    Request,
    forward::{Manner, disordered, known_revisions, send, unreadable},
    pages::Page,
    range::lane_of,
};
use crate::{
    failure::Failure,
    order::{Inward, Outward, Snapshot},
    world::Member,
};

/// How often a fresh list takes a new cut because a compaction overtook the one before.
const CUTS: usize = 4;

impl Request<'_> {
    /// Answers at the asked revision, or at the head.
    pub(super) async fn merged_range(
        self,
        request: &RangeRequest,
        parts: Vec<Part>,
    ) -> Result<Bytes, Failure> {
        let fresh = request.revision <= 0;
        let mut cuts = 0;
        loop {
            let cut = self.cut(request.revision, &parts)?;
            cuts += 1;
            match self.read_at(&cut, request, parts.clone()).await {
                // The cut was compacted between taking it and reading it.
                Err(error) if fresh && error.is_compacted() && cuts < CUTS => {}
                Err(error) => return Err(error),
                Ok(joined) => {
                    // As etcd's, the header has the newest revision also where an old one is read.
                    let revision = if fresh { cut.at } else { self.order.head() };
                    let header = self.services.identity.header(revision.get());
                    let Joined { kvs, more, count } = joined;
                    let kvs = kvs.into_iter().map(|kv| kv.encoded);
                    return Ok(encode_range_answer(header, kvs, more, count));
                }
            }
        }
    }

    /// A consistent cut through the stores of the parts.
    pub(super) fn cut(self, revision: i64, parts: &[Part]) -> Result<Snapshot, Failure> {
        let slots = parts
            .iter()
            .map(|part| Ok(self.member(part.store)?.slot))
            .collect::<Result<Vec<_>, Failure>>()?;
        let cut = self.order.snapshot(revision, slots)?;
        self.holds_at(cut.at)?;
        Ok(cut)
    }

    /// Reads every part at its revision in the cut, all at once, and joins what they hold. Only keys
    /// that are in the answer are given their unified revisions.
    pub(super) async fn read_at(
        self,
        cut: &Snapshot,
        request: &RangeRequest,
        parts: Vec<Part>,
    ) -> Result<Joined, Failure> {
        let page = Page {
            generation: self.world.generation,
            at: cut.at.get(),
            start: request.key.clone(),
            range_end: request.range_end.clone(),
        };
        let known = self.services.pages.count(&page);
        let want_count = known.is_none();
        let reads = parts
            .into_iter()
            .map(|part| self.read_part(cut, request, part, want_count));
        let mut answers = try_join_all(reads).await?;
        trim(&mut answers, request);
        let answers = answers.into_iter().map(|part| self.unified(part));
        let mut joined = join(answers.collect::<Result<_, _>>()?, request);
        if let Some(count) = known {
            joined.count = count;
        }
        self.remember_rest(page, request, &joined);
        Ok(joined)
    }

    async fn read_part(
        self,
        cut: &Snapshot,
        request: &RangeRequest,
        part: Part,
        want_count: bool,
    ) -> Result<PartAnswer, Failure> {
        let member = self.member(part.store)?;
        let revision = cut.of(member.slot).unwrap_or(StoreRev::new(1));
        let query = self.query_at(member, request, revision);
        let mut read = PartRead::new(part, &query, want_count);
        let lane = if want_count {
            lane_of(request)
        } else {
            Lane::Bulk
        };
        while let Some((rpc, message)) = read.next() {
            self.order
                .admit(member.slot)
                .map_err(|error| disordered(member, error))?;
            let manner = Manner::read(rpc, lane);
            let answer = send(member, manner, message, self.context).await?;
            self.at_least(member, &answer, revision)?;
            read.take(&answer, &self.world.topology)
                .map_err(|error| nonsense(member, &error))?;
        }
        read.finish().map_err(|error| nonsense(member, &error))
    }

    /// The request with the revisions of one store.
    fn query_at(self, member: &Member, request: &RangeRequest, at: StoreRev) -> RangeRequest {
        let mut inward = Inward::new(self.order, member.slot);
        let mut translate = |place, revision| inward.revision(place, revision);
        RangeRequest {
            revision: at.get(),
            min_mod_revision: translate(Place::AtLeast, request.min_mod_revision),
            max_mod_revision: translate(Place::AtMost, request.max_mod_revision),
            min_create_revision: translate(Place::AtLeast, request.min_create_revision),
            max_create_revision: translate(Place::AtMost, request.max_create_revision),
            // A member that lags behind may not have the revision of the cut yet.
            serializable: false,
            ..request.clone()
        }
    }

    /// A store that answers below the revision that was read lost data.
    fn at_least(self, member: &Member, answer: &Bytes, at: StoreRev) -> Result<(), Failure> {
        let header = keyloom_etcd_api::wire::peek_header(answer)
            .map_err(|error| unreadable(member, error))?
            .unwrap_or_default();
        self.recognise(member, header)?;
        if header.revision < at.get() {
            return Err(Failure::Nonsense {
                store: member.name.clone(),
                what: format!(
                    "it answered at revision {} a read at {}",
                    header.revision,
                    at.get()
                ),
            });
        }
        Ok(())
    }

    /// Gives the keys of a part their unified revisions.
    fn unified(self, mut part: PartAnswer) -> Result<PartAnswer, Failure> {
        let member = self.member(part.store)?;
        let mut outward = Outward::keys(self.order, &self.services.identity, member.slot);
        for kv in &mut part.kvs {
            let unified = kv.rewritten(&mut outward).and_then(RawKv::parse);
            *kv = unified.map_err(|error| unreadable(member, error))?;
        }
        known_revisions(member, &outward)?;
        Ok(part)
    }

    /// Remembers the count of what comes behind a page in key order.
    fn remember_rest(self, page: Page, request: &RangeRequest, joined: &Joined) {
        // What a filter left out is counted and not held.
        let Some(last) = joined
            .kvs
            .last()
            .filter(|_| is_plain(request) && joined.more)
        else {
            return;
        };
        let Ok(held) = i64::try_from(joined.kvs.len()) else {
            return;
        };
        let mut start = BytesMut::with_capacity(last.key.len() + 1);
        start.put_slice(&last.key);
        start.put_u8(0);
        let rest = Page {
            start: start.freeze(),
            ..page
        };
        self.services.pages.remember(rest, joined.count - held);
    }
}

/// Whether a page holds the first keys of its range, all of them.
fn is_plain(request: &RangeRequest) -> bool {
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    request.sort_order == 0 && request.sort_target == 0 && filters == [0; 4]
}

fn nonsense(member: &Member, error: &ReadError) -> Failure {
    Failure::Nonsense {
        store: member.name.clone(),
        what: error.to_string(),
    }
}
