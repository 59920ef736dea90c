//! The same random programs against the model of etcd, step by step, with leases, a moved clock,
//! and reopening in the middle.

use bytes::Bytes;
use keyloom_etcd_api::{
    Rpc, Status,
    etcdserverpb::{
        CompactionRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseLeasesRequest,
        LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest,
        LeaseTimeToLiveResponse, RangeRequest, ResponseHeader,
    },
};
use keyloom_sqlstore::SqliteStore;
use keyloom_store::CallError;
use keyloom_testkit::{
    Step,
    model::Etcd,
    program::{Chance, Generator, Group, Settings, Tolerance, same_answer},
};

use crate::support::{Place, all, call, list, step};

const LEASES: [i64; 4] = [7, -9, 1 << 40, 12];

/// Keys with the bytes that other stores cannot keep.
fn settings() -> Settings {
    let odd = Group {
        prefix: Bytes::from_static(b"\0odd"),
        keys: [&b"\0odd"[..], b"\0odd\0", b"\0odd\xff\xff", b"\0odd'%_"]
            .map(Bytes::copy_from_slice)
            .to_vec(),
    };
    let mut settings = Settings::new(vec![
        Group::numbered("/registry/pods/", 6),
        Group::numbered("/registry/stable.example.com/widgets/", 4),
        odd,
        Group::new("compact_rev_key", &[""]),
    ]);
    settings.leases = LEASES.to_vec();
    settings
}

struct Both {
    place: Place,
    store: SqliteStore,
    model: Etcd,
    chance: Chance,
}

impl Both {
    async fn new(seed: u64) -> Self {
        let place = Place::new();
        let store = place.open().await;
        Self {
            place,
            store,
            model: Etcd::default(),
            chance: Chance::new(seed ^ 0x5eed),
        }
    }

    async fn run(&mut self, seed: u64, steps: usize) {
        let mut generator = Generator::new(seed, settings());
        for at in 0..steps {
            let next = generator.next_step();
            let expected = self.model.apply(&next).map_err(Status::from);
            let got = step(&self.store, &next).await;
            generator.learn(&next, &expected);
            let same = same_answer(&expected, &got, Tolerance { cluster_id: true });
            assert!(
                same.is_ok(),
                "seed {seed} step {at}: {next:#?}\n{}",
                same.unwrap_err()
            );
            match self.chance.below(40) {
                0 => self.grant().await,
                1 => self.revoke().await,
                2 => self.look_at_leases().await,
                3 => self.move_clock().await,
                4 if self.chance.percent(20) => self.reopen().await,
                5 => self.compare_everything(seed, at).await,
                _ => {}
            }
        }
        self.reopen().await;
        self.compare_everything(seed, steps).await;
    }

    fn lease(&mut self) -> i64 {
        *self.chance.pick(&LEASES).unwrap()
    }

    async fn grant(&mut self) {
        let request = LeaseGrantRequest {
            id: self.lease(),
            ttl: self.chance.between(-1, 20),
        };
        let expected = self.model.lease_grant(&request).map_err(Status::from);
        let got = call(&self.store, Rpc::LeaseGrant, &request).await;
        same(expected, got, |answer: &mut LeaseGrantResponse| {
            &mut answer.header
        });
    }

    async fn revoke(&mut self) {
        let request = LeaseRevokeRequest { id: self.lease() };
        let expected = self.model.lease_revoke(&request).map_err(Status::from);
        let got = call(&self.store, Rpc::LeaseRevoke, &request).await;
        same(expected, got, |answer: &mut LeaseRevokeResponse| {
            &mut answer.header
        });
    }

    async fn look_at_leases(&mut self) {
        let request = LeaseTimeToLiveRequest {
            id: self.lease(),
            keys: true,
        };
        let expected = Ok(self.model.lease_time_to_live(&request));
        let got = call(&self.store, Rpc::LeaseTimeToLive, &request).await;
        same(expected, got, |answer: &mut LeaseTimeToLiveResponse| {
            &mut answer.header
        });
        let expected = Ok(self.model.lease_leases());
        let got = call(&self.store, Rpc::LeaseLeases, &LeaseLeasesRequest {}).await;
        same(expected, got, |answer: &mut LeaseLeasesResponse| {
            &mut answer.header
        });
    }

    async fn move_clock(&mut self) {
        let seconds = self.chance.between(1, 6);
        self.model.advance(seconds);
        self.place.clock.advance(seconds);
        let expected = self.model.lease_leases().leases;
        loop {
            let got: LeaseLeasesResponse =
                call(&self.store, Rpc::LeaseLeases, &LeaseLeasesRequest {})
                    .await
                    .unwrap();
            if got.leases == expected {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn reopen(&mut self) {
        let identity = self.store.identity();
        self.store.clone().close().await;
        self.store = self.place.open().await;
        assert_eq!(self.store.identity(), identity);
        assert_eq!(self.store.revision(), self.model.revision());
    }

    /// Every key at every revision that can still be read, some counts and pages of them.
    async fn compare_everything(&mut self, seed: u64, at: usize) {
        let first = self.model.compacted().max(1);
        let revision = self.chance.between(first, self.model.revision());
        let limit = self.chance.between(0, 5);
        for request in [
            RangeRequest { revision, ..all() },
            RangeRequest {
                revision,
                limit,
                keys_only: true,
                ..all()
            },
            RangeRequest {
                revision,
                count_only: true,
                ..all()
            },
        ] {
            let expected = self.model.range(&request).unwrap();
            let got = list(&self.store, request.clone()).await;
            assert_eq!(got.kvs, expected.kvs, "seed {seed} step {at} {request:?}");
            assert_eq!((got.count, got.more), (expected.count, expected.more));
        }
    }
}

#[track_caller]
fn same<A: PartialEq + std::fmt::Debug>(
    expected: Result<A, Status>,
    got: Result<A, CallError>,
    header: impl Fn(&mut A) -> &mut Option<ResponseHeader>,
) {
    let blur = |mut answer: A| {
        if let Some(header) = header(&mut answer) {
            *header = ResponseHeader {
                revision: header.revision,
                ..ResponseHeader::default()
            };
        }
        answer
    };
    let text = |status: Status| (status.code(), status.message().to_owned());
    let got = got.map_err(|error| match error {
        CallError::Refused(status) => status,
        error => panic!("{error:?}"),
    });
    assert_eq!(
        got.map(&blur).map_err(text),
        expected.map(&blur).map_err(text)
    );
}

/// `KEYLOOM_STEPS` makes it longer.
#[tokio::test]
async fn programs_have_the_models_answers() {
    let steps: usize =
        std::env::var("KEYLOOM_STEPS").map_or(20_000, |steps| steps.parse().unwrap());
    for seed in 0..u64::try_from(steps.div_ceil(1000)).unwrap() {
        Both::new(seed).await.run(seed, 1000).await;
    }
}

/// Compacting again and again leaves no row that a reader could miss, and no garbage.
#[tokio::test]
async fn after_a_compaction_nothing_superseded_is_left() {
    let mut both = Both::new(1).await;
    both.run(1, 600).await;
    // Beyond the last change, so that deletions too are behind the compacted revision.
    let end = crate::support::put(&both.store, "end", "").await.unwrap();
    let request = CompactionRequest {
        revision: end,
        physical: true,
    };
    let compact = Step::Compact(request);
    step(&both.store, &compact).await.unwrap();
    let living = list(&both.store, all()).await.count;
    both.store.close().await;
    let database = rusqlite::Connection::open(both.place.path()).unwrap();
    let count = |sql| {
        database
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!(count("SELECT count(*) FROM history"), living);
    assert_eq!(count("SELECT count(*) FROM current"), living);
}
