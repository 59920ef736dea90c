//! A Range over several stores: a consistent cut, every store read at its place in it, one answer.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::try_join_all;
use keyloom_etcd_api::{
    KeyRange, Rpc,
    etcdserverpb::RangeRequest,
    wire::{self, EncodedList, Message, RawKv, RevisionField, Rewrite},
};
use keyloom_ledger::StoreRev;
use keyloom_router::{
    Joined, PartAnswer, PartRead, ReadError, join, trim,
    turns::{self, Known},
};
use keyloom_store::Lane;
use keyloom_topology::Part;

use super::{
    Request,
    forward::{CallOptions, disordered, known_revisions, send, unreadable},
    pages::Page,
    range::lane_of,
};
use crate::{
    failure::Failure,
    order::{Cut, Inward, Outward, reserved_prefix},
    snapshot::ServingStore,
};

/// How often a fresh list takes a new cut because a compaction overtook the one before.
const CUTS: usize = 4;

impl Request<'_> {
    /// Answers at the asked revision, or at the head.
    pub(super) async fn merged_range(
        self,
        request: &RangeRequest,
        parts: Vec<Part>,
    ) -> Result<EncodedList, Failure> {
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
                    let kvs = kvs.into_iter().map(|kv| kv.encoded).collect();
                    return Ok(EncodedList::new(header, kvs, more, count));
                }
            }
        }
    }

    /// A consistent cut through the stores of the parts.
    pub(super) fn cut(self, revision: i64, parts: &[Part]) -> Result<Cut, Failure> {
        let slots = parts
            .iter()
            .map(|part| Ok(self.member(part.store)?.slot))
            .collect::<Result<Vec<_>, Failure>>()?;
        let cut = self.order.cut(revision, slots)?;
        self.holds_at(cut.at)?;
        Ok(cut)
    }

    /// Reads the parts at their revisions in the cut, and joins what they hold.
    pub(super) async fn read_at(
        self,
        cut: &Cut,
        request: &RangeRequest,
        parts: Vec<Part>,
    ) -> Result<Joined, Failure> {
        let page = Page {
            generation: self.snapshot.generation,
            at: cut.at.get(),
            start: request.key.clone(),
            range_end: request.range_end.clone(),
        };
        let known = self.services.pages.count(&page);
        let mut answers = self.read_parts(cut, request, parts, known).await?;
        trim(&mut answers, request);
        let mut joined = join(answers, request);
        if let Some(count) = known {
            joined.count = count;
        }
        self.remember_rest(page, request, &joined);
        Ok(joined)
    }

    /// Of a page only the parts that have its keys; of other lists, and of a last page, all parts at
    /// once.
    async fn read_parts(
        self,
        cut: &Cut,
        request: &RangeRequest,
        parts: Vec<Part>,
        known: Option<i64>,
    ) -> Result<Vec<PartAnswer>, Failure> {
        let want_count = known.is_none();
        let is_last = known.is_some_and(|count| count <= request.limit);
        let first = turns::first_part(&parts, request).filter(|_| !is_last);
        let Some(first) = first else {
            let reads = parts.iter();
            let reads = reads.map(|part| self.read_part(cut, request, part, want_count));
            return try_join_all(reads).await;
        };
        let peek = &turns::first_keys(request);
        let reads = parts.iter().enumerate().map(|(place, part)| async move {
            let whole = place == first;
            let query = if whole { request } else { peek };
            let answer = self.read_part(cut, query, part, want_count).await?;
            Ok::<_, Failure>(Known { answer, whole })
        });
        let mut known: Vec<Known> = try_join_all(reads).await?;
        // Mostly the rest of a page lies on one more store.
        for at_once in [1, usize::MAX] {
            let wanted = turns::wanted(&known, request).into_iter().take(at_once);
            let reads = wanted.filter_map(|place| Some((place, parts.get(place)?)));
            let reads = reads.map(|(place, part)| async move {
                let answer = self.read_part(cut, request, part, false).await?;
                Ok::<_, Failure>((place, answer))
            });
            for (place, answer) in try_join_all(reads).await? {
                if let Some(known) = known.get_mut(place) {
                    known.whole = true;
                    known.answer.kvs = answer.kvs;
                }
            }
        }
        Ok(known.into_iter().map(|known| known.answer).collect())
    }

    async fn read_part(
        self,
        cut: &Cut,
        request: &RangeRequest,
        part: &Part,
        want_count: bool,
    ) -> Result<PartAnswer, Failure> {
        let member = self.member(part.store)?;
        let revision = cut.of(member.slot).unwrap_or(StoreRev::new(1));
        let query = self.query_at(member, request, revision);
        // Keyloom's own keys have no unified revisions. They are strays, and may come along.
        let own = KeyRange::prefix(reserved_prefix());
        let holds_own = part.hull.intersection(&own).is_some();
        let mut read = PartRead::new(part.clone(), &query, want_count);
        let lane = if want_count {
            lane_of(request)
        } else {
            Lane::Bulk
        };
        while let Some((rpc, message)) = read.next() {
            self.order
                .admit(member.slot)
                .map_err(|error| disordered(member, error))?;
            let options = CallOptions::read(rpc, lane);
            let answer = send(member, options, message, self.context).await?;
            self.at_least(member, &answer, revision)?;
            let answer = match holds_own {
                true => answer,
                false => self.unified(member, rpc, answer)?,
            };
            read.take(&answer, &self.snapshot.topology)
                .map_err(|error| nonsense(member, &error))?;
        }
        let answer = read.finish().map_err(|error| nonsense(member, &error))?;
        match holds_own {
            true => self.unified_one_by_one(member, answer),
            false => Ok(answer),
        }
    }

    /// The request with the revisions of one store.
    fn query_at(self, member: &ServingStore, request: &RangeRequest, at: StoreRev) -> RangeRequest {
        let mut inward = Inward::new(self.order, member.slot);
        let mut translate = |place, revision| inward.revision(place, revision);
        RangeRequest {
            revision: at.get(),
            min_mod_revision: translate(RevisionField::AtLeast, request.min_mod_revision),
            max_mod_revision: translate(RevisionField::AtMost, request.max_mod_revision),
            min_create_revision: translate(RevisionField::AtLeast, request.min_create_revision),
            max_create_revision: translate(RevisionField::AtMost, request.max_create_revision),
            // A member that lags behind may not have the revision of the cut yet.
            serializable: false,
            ..request.clone()
        }
    }

    /// A store that answers below the revision that was read lost data.
    fn at_least(self, member: &ServingStore, answer: &Bytes, at: StoreRev) -> Result<(), Failure> {
        let header = wire::peek_header(answer)
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
    fn unified_one_by_one(
        self,
        member: &ServingStore,
        mut part: PartAnswer,
    ) -> Result<PartAnswer, Failure> {
        let mut outward = Outward::keys(self.order, &self.services.identity, member.slot);
        for kv in &mut part.kvs {
            let unified = kv.rewritten(&mut outward).and_then(RawKv::parse);
            *kv = unified.map_err(|error| unreadable(member, error))?;
        }
        known_revisions(member, &outward)?;
        Ok(part)
    }

    /// Gives all keys of an answer their unified revisions, mostly where they stand.
    fn unified(self, member: &ServingStore, rpc: Rpc, answer: Bytes) -> Result<Bytes, Failure> {
        let kind = match rpc {
            Rpc::Txn => Message::TxnResponse,
            _ => Message::RangeResponse,
        };
        let mut outward = Outward::keys(self.order, &self.services.identity, member.slot);
        let answer = wire::rewrite_owned(kind, answer, &mut outward)
            .map_err(|error| unreadable(member, error))?;
        known_revisions(member, &outward)?;
        Ok(answer)
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
        self.services.pages.remember(&rest, joined.count - held);
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

fn nonsense(member: &ServingStore, error: &ReadError) -> Failure {
    Failure::Nonsense {
        store: member.name.clone(),
        what: error.to_string(),
    }
}
