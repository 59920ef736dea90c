//! Requests that nobody should send: the answer is etcd's, and the process lives.

use bytes::Bytes;
use futures_util::future::join_all;
use keyloom_etcd_api::{Code, Rpc, Status, etcdserverpb::PutRequest};
use keyloom_testkit::{
    Step,
    program::{Chance, Generator, Settings},
};
use keyloom_tests::{
    Client, Etcd, Ground, Keyloom, Kind, Version,
    duel::{everyday_keys, seed, steps},
    ground,
    topology::{Matcher, Topology},
};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Bare etcd, and Keyloom in front of one or two more.
pub(crate) struct Stage {
    _etcds: Vec<Etcd>,
    _ground: Option<Ground>,
    reference: Client,
    keyloom: Keyloom,
    tested: Client,
}

impl Stage {
    async fn in_front_of_one() -> Self {
        let etcds = join_all([Version::V36; 2].map(Etcd::start)).await;
        let keyloom = Keyloom::in_front_of(&etcds[1].url()).await;
        Self::new(etcds, keyloom)
    }

    async fn in_front_of_two() -> Self {
        Self::over([Kind::Etcd(Version::V36); 2]).await
    }

    /// A file that is all there is.
    pub(crate) async fn with_a_file() -> Self {
        Self::new(
            vec![Etcd::start(Version::V36).await],
            Keyloom::alone().await,
        )
    }

    pub(crate) async fn over(stores: [Kind; 2]) -> Self {
        let (etcd, ground) = tokio::join!(Etcd::start(Version::V36), Ground::start(&stores));
        let topology = Topology::new(&[("events", Matcher::Prefix("events"))]);
        let keyloom = ground::serve(&topology.file(ground.endpoints())).await;
        Self {
            _ground: Some(ground),
            ..Self::new(vec![etcd], keyloom)
        }
    }

    fn new(etcds: Vec<Etcd>, keyloom: Keyloom) -> Self {
        let (reference, tested) = (etcds[0].client(), keyloom.client());
        Self {
            _etcds: etcds,
            _ground: None,
            reference,
            keyloom,
            tested,
        }
    }

    /// Sends the same bytes to both; their answers must have the same code.
    ///
    /// What Keyloom refuses by itself the reference does not get: a transaction that spans stores,
    /// and noise that Go's reader of protobuf would make something of (numbers of more than 64
    /// bits, for one).
    async fn same_code(&self, path: &'static str, message: Bytes) -> Result<(), Status> {
        let got = self.tested.raw(path, message.clone()).await;
        let own = |status: &Status| {
            status.message().contains("spans stores")
                || status.message().contains("error unmarshalling request")
        };
        if got.as_ref().is_err_and(own) {
            return got.map(drop);
        }
        let expected = self.reference.raw(path, message.clone()).await;
        let code = |answer: &Result<Bytes, Status>| match answer {
            Ok(_) => Code::Ok,
            Err(status) => status.code(),
        };
        let (wanted, given) = (code(&expected), code(&got));
        assert_eq!(given, wanted, "{path} {message:?}: {expected:?}, {got:?}");
        got.map(drop)
    }

    async fn still_serves(&mut self) {
        self.tested.put("still", "there").await;
        assert_eq!(self.tested.get("still").await.unwrap().value, "there");
        assert!(self.keyloom.runs());
    }
}

/// A request that was cut off, or of which a byte is another, or noise.
fn spoilt(chance: &mut Chance, message: &Bytes) -> Bytes {
    let mut spoilt = message.to_vec();
    match chance.below(3) {
        0 => spoilt.truncate(chance.below(message.len())),
        1 if !spoilt.is_empty() => {
            let at = chance.below(spoilt.len());
            spoilt[at] = chance.next_number().to_le_bytes()[0];
        }
        _ => {
            let length = chance.below(40);
            spoilt = (0..length)
                .map(|_| chance.next_number().to_le_bytes()[0])
                .collect();
        }
    }
    spoilt.into()
}

/// etcd says only of few what it found; how many were refused shows that the noise is noise.
pub(crate) async fn spoilt_requests_get_etcds_code(mut stage: Stage, start: u64, count: usize) {
    let mut chance = Chance::new(seed(start));
    let mut generator = Generator::new(seed(start), Settings::new(everyday_keys()));
    let mut refused = 0;
    for _ in 0..count {
        let step: Step = generator.next_step();
        let message = spoilt(&mut chance, &step.encode());
        refused += usize::from(stage.same_code(step.rpc().path(), message).await.is_err());
    }
    assert!(refused > count / 4, "{refused} of {count}");
    stage.still_serves().await;
}

#[tokio::test]
async fn spoilt_requests_get_etcds_code_in_front_of_one_store() {
    spoilt_requests_get_etcds_code(Stage::in_front_of_one().await, 501, steps(2_000)).await;
}

#[tokio::test]
async fn spoilt_requests_get_etcds_code_in_front_of_two_stores() {
    spoilt_requests_get_etcds_code(Stage::in_front_of_two().await, 502, steps(2_000)).await;
}

pub(crate) async fn oversized_requests_get_etcds_code(mut stage: Stage) {
    for size in [1_400_000, 1_600_000, 2_000_000, 2_200_000, 5_000_000] {
        let put = PutRequest {
            key: "large".into(),
            value: vec![b'x'; size].into(),
            ..PutRequest::default()
        };
        let refused = stage
            .same_code(Rpc::Put.path(), put.encode_to_vec().into())
            .await;
        assert_eq!(refused.is_err(), size > 1_500_000, "{size}: {refused:?}");
    }
    stage.still_serves().await;
}

#[tokio::test]
async fn oversized_requests_get_etcds_code_in_front_of_etcds() {
    oversized_requests_get_etcds_code(Stage::in_front_of_one().await).await;
    oversized_requests_get_etcds_code(Stage::in_front_of_two().await).await;
}

#[tokio::test]
async fn calls_that_do_not_exist_get_etcds_code() {
    let mut stage = Stage::in_front_of_two().await;
    for path in [
        "/etcdserverpb.KV/Nothing",
        "/etcdserverpb.Nothing/Range",
        "/Range",
        "/",
        "/a.b/c",
    ] {
        let refused = stage.same_code(path, Bytes::new()).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unimplemented, "{path}");
    }
    stage.still_serves().await;
}

/// What several stores cannot do, or not yet, is said and not half done.
#[tokio::test]
async fn calls_that_are_not_there_over_several_stores_are_unimplemented() {
    let mut stage = Stage::in_front_of_two().await;
    for rpc in [
        Rpc::RangeStream,
        Rpc::MoveLeader,
        Rpc::Downgrade,
        Rpc::MemberAdd,
        Rpc::MemberRemove,
        Rpc::MemberUpdate,
        Rpc::MemberPromote,
        Rpc::Authenticate,
        Rpc::AuthEnable,
        Rpc::AuthUserList,
    ] {
        let refused = stage.tested.call(rpc, Bytes::new()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "{rpc:?}: {refused:?}");
    }
    stage.still_serves().await;
}

/// Noise, half a preface, HTTP/1: none of it is gRPC, and none of it ends the process.
#[tokio::test]
async fn other_protocols_are_turned_away() {
    let mut stage = Stage::in_front_of_one().await;
    let host = stage.keyloom.url().trim_start_matches("http://").to_owned();
    let mut noise = Chance::new(seed(503));
    let noise: Vec<_> = (0..500)
        .map(|_| noise.next_number().to_le_bytes()[0])
        .collect();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let texts: [&[u8]; 5] = [
        &noise,
        &preface[..10],
        &[&preface[..], &noise].concat(),
        b"GET /etcdserverpb.KV/Range HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /etcdserverpb.KV/Range HTTP/1.1\r\ncontent-length: 999999999999\r\n\r\n",
    ];
    for text in texts {
        let mut stream = TcpStream::connect(&host).await.unwrap();
        stream.write_all(text).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is an answer too.
        drop(stream.read_to_end(&mut answer).await);
    }
    stage.still_serves().await;
}
