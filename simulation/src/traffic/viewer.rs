//! Clients that watch, lose their stream, and go on where they were, as etcd's client and
//! kube-apiserver do.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keyloom_etcd_api::{
    Rpc,
    etcdserverpb::{
        RangeRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
        WatchResponse, watch_create_request::FilterType, watch_request::RequestUnion,
    },
};
use keyloom_store::Answers;
use keyloom_testkit::{
    Answer, Step,
    history::{Connection, Wish},
};
use prost::Message as _;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use crate::{client::Client, stage::Phase, trace, truth::Follower};

/// How many revisions back a watch goes at most.
const BACK: i64 = 60;

/// What they watch, over all stores and on one.
const RANGES: [(&str, &str); 8] = [
    ("\0", "\0"),
    ("/registry/", "/registry0"),
    ("/registry/pods/", "/registry/pods0"),
    ("/registry/secrets/", "/registry/secrets0"),
    ("/registry/roles/", "/registry/roles0"),
    ("/registry/pods/default/", "/registry/pods/default0"),
    ("/registry/secrets/default/a", ""),
    ("compact_rev_key", ""),
];

/// One client and the watches that it wants to have.
pub(crate) struct Viewer {
    client: Client,
    wishes: Vec<Wish>,
    /// What came of each.
    followers: Vec<Follower>,
    /// It watches everything and leaves no stream by itself.
    steady: bool,
    /// How long it takes to read an answer, in milliseconds at most.
    slow: i64,
    changes: watch::Receiver<(Phase, usize)>,
    segment: usize,
}

impl Viewer {
    pub(crate) fn new(client: Client, steady: bool, slow: i64) -> Self {
        Self {
            changes: client.stage.changes(),
            client,
            wishes: Vec::new(),
            followers: Vec::new(),
            steady,
            slow,
            segment: 0,
        }
    }

    /// Watches until everything up to the last revision has come.
    pub(crate) async fn run(mut self) -> Vec<Follower> {
        loop {
            let Some(last) = self.until_work().await else {
                break;
            };
            let blind = self.steady && self.wishes.iter().any(|wish| wish.next.is_none());
            if last.is_some_and(|last| blind || self.is_complete(last)) {
                break;
            }
            if blind {
                // A new segment is about to begin.
                self.client.pause(100).await;
                continue;
            }
            self.connect().await;
            self.client.pause(300).await;
        }
        self.followers
    }

    /// Waits until there is something to watch. Gives back how far, where that is known.
    async fn until_work(&mut self) -> Option<Option<i64>> {
        let rests = |now: &(Phase, usize)| now.0 != Phase::Rest;
        let (phase, segment) = self.changes.wait_for(rests).await.ok().map(|now| *now)?;
        if segment != self.segment {
            self.segment = segment;
            self.new_segment();
        }
        match phase {
            Phase::Finish(last) => Some(Some(last)),
            Phase::Over => None,
            Phase::Work | Phase::Rest => Some(None),
        }
    }

    fn new_segment(&mut self) {
        if self.wishes.is_empty() {
            let count = if self.steady {
                1
            } else {
                1 + self.client.chance.below(3)
            };
            for at in 0..count {
                let wish = self.wish(at);
                let follower = Follower::new(self.client.id, &wish.request);
                self.followers.push(follower);
                self.wishes.push(wish);
            }
        }
        if self.steady {
            // It is what the others are held against, so that it begins where the segment does.
            let from = self.client.stage.from();
            for (wish, follower) in self.wishes.iter_mut().zip(&mut self.followers) {
                self.client.stage.witness(from);
                if wish.next != Some(from + 1) {
                    wish.next = Some(from + 1);
                    follower.begin_anew();
                }
            }
        }
    }

    fn wish(&mut self, at: usize) -> Wish {
        let chance = &mut self.client.chance;
        let everything = self.steady || (at == 0 && chance.percent(20));
        let range = if everything {
            0
        } else {
            chance.below(RANGES.len())
        };
        let (key, range_end) = RANGES.get(range).copied().unwrap_or_default();
        let mut request = WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            prev_kv: self.steady || chance.percent(60),
            progress_notify: chance.percent(50),
            fragment: chance.percent(30),
            ..WatchCreateRequest::default()
        };
        for filter in [FilterType::Noput, FilterType::Nodelete] {
            if !self.steady && chance.percent(8) {
                request.filters.push(filter.into());
            }
        }
        Wish::new(request)
    }

    fn is_complete(&self, last: i64) -> bool {
        self.wishes.iter().all(|wish| wish.is_complete(last))
    }

    /// A client that was away for long goes on at what it had seen.
    fn forget_some(&mut self) {
        let from = self.client.stage.from();
        for (wish, follower) in self.wishes.iter_mut().zip(&mut self.followers) {
            if let Some(next) = wish.next
                && self.client.chance.percent(15)
            {
                let back = self.client.chance.between(1, BACK);
                let earlier = (next - back).max(from + 1).min(next);
                if earlier != next {
                    wish.next = Some(earlier);
                    follower.begin_anew();
                }
            }
        }
    }

    /// One stream, from its opening to its end.
    async fn connect(&mut self) {
        if !self.steady && self.client.stage.phase() == Phase::Work {
            self.forget_some();
        }
        for at in 0..self.wishes.len() {
            if let Some(wish) = self.wishes.get_mut(at) {
                wish.id = None;
            }
            self.list_first(at).await;
        }
        let recording = self.client.stage.recorder().open(self.client.id);
        let (requests, mut queue) = mpsc::unbounded_channel();
        // Where the stream is broken the answers say so.
        let mut connection = Connection::new(recording, |request: WatchRequest| {
            drop(requests.send(Bytes::from(request.encode_to_vec())));
        });
        if self.client.stage.segment() != self.segment {
            return;
        }
        let finish = match self.client.stage.phase() {
            Phase::Finish(last) => Some(last),
            _ => None,
        };
        for (at, wish) in self.wishes.iter_mut().enumerate() {
            // Beside one that is complete already no progress might be told.
            if !finish.is_some_and(|last| wish.is_complete(last)) {
                connection.create(at, wish);
            }
        }
        let queue = stream::poll_fn(move |context| queue.poll_recv(context)).boxed();
        if let Some(answers) = self.client.stream(Rpc::Watch, queue).await {
            self.follow(&mut connection, answers).await;
        }
    }

    /// kube-apiserver's watches begin with a list.
    async fn list_first(&mut self, at: usize) {
        let Some(wish) = self.wishes.get(at) else {
            return;
        };
        if wish.next.is_some() || !self.client.chance.percent(80) {
            return;
        }
        let step = Step::Range(RangeRequest {
            key: wish.request.key.clone(),
            range_end: wish.request.range_end.clone(),
            ..RangeRequest::default()
        });
        let Phase::Work = self.client.stage.phase() else {
            return;
        };
        let Some(ticket) = self.client.stage.begin().await else {
            return;
        };
        let answer = self.client.record(&ticket, step).await;
        let place = self.wishes.get_mut(at).zip(self.followers.get_mut(at));
        if let (Some(Answer::Range(answer)), Some((wish, follower))) = (answer, place) {
            let revision = answer.header.as_ref().map_or(0, |header| header.revision);
            wish.next = Some(revision + 1);
            follower.listed(revision, &answer.kvs);
        }
    }

    async fn follow<S: Fn(WatchRequest)>(
        &mut self,
        connection: &mut Connection<S>,
        mut answers: Answers,
    ) {
        let lifetime = self.client.chance.between(200, 12_000).unsigned_abs();
        let end = Instant::now() + Duration::from_millis(lifetime);
        let mut ask = Instant::now();
        let mut changes = self.changes.clone();
        loop {
            let (phase, segment) = *changes.borrow_and_update();
            let finish = match phase {
                Phase::Finish(last) => Some(last),
                Phase::Over => return,
                Phase::Work | Phase::Rest => None,
            };
            if segment != self.segment || finish.is_some_and(|last| self.is_complete(last)) {
                return;
            }
            if finish.is_none() && !self.steady && Instant::now() > end {
                return;
            }
            if finish.is_some_and(|last| waits_for_more(&self.wishes, last)) {
                return;
            }
            tokio::select! {
                biased;
                answer = answers.next() => {
                    let Some(Ok(answer)) = answer else { return };
                    let Ok(answer) = WatchResponse::decode(answer) else { return };
                    connection.recording.told(&answer);
                    if !self.hear(connection, &answer) {
                        return;
                    }
                    if self.slow > 0 {
                        self.client.pause(self.slow).await;
                    }
                }
                () = sleep_until(ask) => {}
                _ = changes.changed() => {}
            }
            if Instant::now() >= ask {
                let wait = self.client.chance.between(100, 900).unsigned_abs();
                ask = Instant::now() + Duration::from_millis(wait);
                self.say_something(connection);
            }
        }
    }

    /// Asks for progress, and rarely ends a watch.
    fn say_something<S: Fn(WatchRequest)>(&mut self, connection: &Connection<S>) {
        if self.steady || self.client.chance.percent(70) {
            connection.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
        } else if self.client.chance.percent(3) {
            let at = self.client.chance.below(self.wishes.len());
            if let Some(watch_id) = self.wishes.get(at).and_then(|wish| wish.id) {
                connection.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
            }
        }
    }

    /// Takes a response in; `false` where a watch is over and the stream is to be left.
    fn hear<S: Fn(WatchRequest)>(
        &mut self,
        connection: &mut Connection<S>,
        answer: &WatchResponse,
    ) -> bool {
        trace::say(format_args!("client {} hears {answer:?}", self.client.id));
        let header = answer.header.as_ref();
        self.client
            .stage
            .gave(header.map_or(0, |header| header.revision));
        let heard = connection.hear(&mut self.wishes, answer);
        for (at, follower) in self.followers.iter_mut().enumerate() {
            if heard.told.contains(&at) {
                follower.told(&answer.events);
            }
            if heard.lost.contains(&at) {
                follower.begin_anew();
                if self.steady {
                    self.client.stage.lose_witness();
                }
            }
        }
        if self.steady
            && let Some(next) = self.wishes.first().and_then(|wish| wish.next)
        {
            self.client.stage.witness(next - 1);
        }
        !heard.over
    }
}

/// Whether progress up to a revision is never announced on the stream: as long as one of its watches
/// is to begin later than the newest revision etcd is silent, even where that watch would be told
/// nothing more than the next one.
fn waits_for_more(wishes: &[Wish], last: i64) -> bool {
    wishes
        .iter()
        .any(|wish| wish.id.is_some() && wish.start > last)
}

#[cfg(test)]
mod tests {
    use keyloom_etcd_api::etcdserverpb::PutRequest;
    use keyloom_testkit::model::{Etcd, Identity, WatchStream};

    use super::*;

    fn request(union: RequestUnion) -> WatchRequest {
        WatchRequest {
            request_union: Some(union),
        }
    }

    #[test]
    fn nobody_waits_for_progress_where_etcd_tells_none() {
        let mut etcd = Etcd::new(Identity::default());
        for _ in 0..3 {
            let put = PutRequest {
                key: "a".into(),
                ..PutRequest::default()
            };
            etcd.put(&put).expect("a write");
        }
        let last = etcd.revision();
        for start in 0..last + 3 {
            let mut wish = Wish::new(WatchCreateRequest {
                start_revision: start,
                ..WatchCreateRequest::default()
            });
            (wish.start, wish.id) = (start, Some(0));
            let mut stream = WatchStream::default();
            stream.request(
                &etcd,
                request(RequestUnion::CreateRequest(wish.request.clone())),
            );
            let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
            let is_told = !stream.request(&etcd, request(progress)).is_empty();
            assert_eq!(waits_for_more(&[wish], last), !is_told, "from {start}");
        }
    }
}
