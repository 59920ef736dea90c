//! A client: connections to every instance, and calls that are recorded.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use keyloom_environment::SeededRandom;
use keyloom_etcd_api::{Metadata, Rpc, Status};
use keyloom_etcd_store::{Environment, EtcdEndpoint, EtcdStore, EtcdStoreConfig, Metrics};
use keyloom_store::{Answers, Call, CallError, Lane, Requests, Store as _};
use keyloom_testkit::{Answer, Step, program::Chance};
use prometheus_client::registry::Registry;
use prost::Message;
use tokio::time::{Instant, timeout};

use crate::{
    net::Net,
    stage::{Stage, Ticket},
    trace,
};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_millis(2500);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The other side said so.
    Refused(Status),
    /// It certainly did not leave.
    NotSent,
    /// Nothing is known.
    Unknown,
}

/// One client.
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) stage: Stage,
    pub(crate) chance: Chance,
    instances: Vec<EtcdStore>,
    /// Where it calls, until that fails.
    at: usize,
}

impl Client {
    pub(crate) fn new(id: u64, seed: u64, stage: &Stage, net: &Net) -> Result<Self> {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let environment = Environment {
            dial: Arc::new(net.of(&format!("client-{id}"))),
            random: Arc::new(SeededRandom::new(seed)),
        };
        let open = |host: &String| -> Result<EtcdStore> {
            let endpoint = EtcdEndpoint::parse(&format!("http://{host}:2379"))?;
            let config = EtcdStoreConfig::new(host, vec![endpoint]);
            Ok(EtcdStore::new(config, &environment, &metrics)?)
        };
        Ok(Self {
            id,
            stage: stage.clone(),
            chance: Chance::new(seed),
            instances: stage.hosts().iter().map(open).collect::<Result<_>>()?,
            at: 0,
        })
    }

    /// A pause of so many milliseconds at most.
    pub(crate) async fn pause(&mut self, most: i64) {
        let time = self.chance.between(1, most).unsigned_abs();
        tokio::time::sleep(Duration::from_millis(time)).await;
    }

    fn instance(&self) -> Option<&EtcdStore> {
        self.instances.get(self.at)
    }

    /// Another instance may answer where this one does not.
    fn look_elsewhere(&mut self) {
        self.at = (self.at + 1) % self.instances.len().max(1);
    }

    /// A call that is not recorded.
    pub(crate) async fn call(&mut self, rpc: Rpc, message: Bytes) -> Result<Bytes, Failed> {
        let Some(instance) = self.instance() else {
            return Err(Failed::NotSent);
        };
        let call = Call {
            metadata: Metadata::default(),
            rpc,
            message,
            lane: Lane::Unary,
            deadline: Some((Instant::now() + PATIENCE).into_std()),
            idempotent: false,
        };
        let failed = match timeout(PATIENCE, instance.call(call)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(CallError::Refused(status))) => Failed::Refused(status),
            Ok(Err(CallError::NotSent(_))) => Failed::NotSent,
            Ok(Err(CallError::Unknown(_) | CallError::TimedOut)) | Err(_) => Failed::Unknown,
        };
        let is_down = match &failed {
            Failed::Refused(status) => status.code() == keyloom_etcd_api::Code::Unavailable,
            Failed::NotSent | Failed::Unknown => true,
        };
        if is_down && self.chance.percent(60) {
            self.look_elsewhere();
        }
        Err(failed)
    }

    /// A call of which the answer is decoded.
    pub(crate) async fn ask<A: Message + Default>(
        &mut self,
        rpc: Rpc,
        request: &impl Message,
    ) -> Result<A, Failed> {
        let answer = self.call(rpc, request.encode_to_vec().into()).await?;
        A::decode(answer).map_err(|_| Failed::Unknown)
    }

    /// A call that is not recorded, of the KV service.
    pub(crate) async fn step(&mut self, step: &Step) -> Result<Answer, Failed> {
        let answer = self.call(step.rpc(), step.encode()).await?;
        let decoded = Answer::decode(step.rpc(), answer);
        decoded.and_then(Result::ok).ok_or(Failed::Unknown)
    }

    /// A call that is recorded.
    pub(crate) async fn record(&mut self, ticket: &Ticket, step: Step) -> Option<Answer> {
        let recording = ticket.recorder.begin(self.id, step.clone());
        let answer = self.step(&step).await;
        trace::say(format_args!("client {} asks {step:?}: {answer:?}", self.id));
        match answer {
            Ok(answer) => {
                recording.end(Ok(answer.clone()));
                self.stage.gave(answer.revision());
                Some(answer)
            }
            Err(Failed::Refused(status)) => {
                recording.end(Err(status));
                None
            }
            Err(Failed::NotSent) => {
                recording.never_happened();
                None
            }
            Err(Failed::Unknown) => {
                // An operation that is not ended has an unknown outcome.
                drop(recording);
                None
            }
        }
    }

    /// Opens a stream.
    pub(crate) async fn stream(&mut self, rpc: Rpc, requests: Requests) -> Option<Answers> {
        let opened = match self.instance() {
            Some(instance) => timeout(PATIENCE, instance.stream(rpc, requests)).await,
            None => return None,
        };
        match opened {
            Ok(Ok(answers)) => Some(answers),
            Ok(Err(_)) | Err(_) => {
                self.look_elsewhere();
                None
            }
        }
    }

    /// One request on a stream of its own, and the first answer.
    pub(crate) async fn first<A: Message + Default>(
        &mut self,
        rpc: Rpc,
        request: &impl Message,
    ) -> Option<A> {
        let request: Bytes = request.encode_to_vec().into();
        let requests = stream::iter([request]).chain(stream::pending()).boxed();
        let mut answers = self.stream(rpc, requests).await?;
        let answer = timeout(PATIENCE, answers.next()).await.ok()??;
        A::decode(answer.ok()?).ok()
    }
}
