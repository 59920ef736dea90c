//! What a proxy costs that is written the plain way: tonic's generated server in front of tonic's
//! generated client, every message decoded and encoded again. Beside the raw forwarder it shows
//! what handling messages as bytes is worth.
//!
//! `keyloom-floor-tonic LISTEN STORE`, both as ADDRESS:PORT; for measurements, on the loopback only.

use std::{env, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use futures_util::stream::BoxStream;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use keyloom_etcd_api::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};
use keyloom_etcd_client::etcdserverpb::{
    kv_client::KvClient,
    kv_server::{Kv, KvServer},
};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};

struct Forward(KvClient<Channel>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Kv for Forward {
    async fn range(&self, request: Request<RangeRequest>) -> Answer<RangeResponse> {
        self.0.clone().range(request.into_inner()).await
    }

    type RangeStreamStream = BoxStream<'static, Result<RangeStreamResponse, Status>>;

    async fn range_stream(&self, _: Request<RangeRequest>) -> Answer<Self::RangeStreamStream> {
        Err(Status::unimplemented("not measured"))
    }

    async fn put(&self, request: Request<PutRequest>) -> Answer<PutResponse> {
        self.0.clone().put(request.into_inner()).await
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Answer<DeleteRangeResponse> {
        self.0.clone().delete_range(request.into_inner()).await
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Answer<TxnResponse> {
        self.0.clone().txn(request.into_inner()).await
    }

    async fn compact(&self, request: Request<CompactionRequest>) -> Answer<CompactionResponse> {
        self.0.clone().compact(request.into_inner()).await
    }
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve())
}

async fn serve() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let mut address = |what: &str| -> Result<SocketAddr> {
        let text = arguments.next().with_context(|| what.to_owned())?;
        text.parse()
            .with_context(|| format!("{text}: not ADDRESS:PORT"))
    };
    let (listen, store) = (address("where to listen")?, address("where the store is")?);
    ensure!(listen.ip().is_loopback(), "it listens on the loopback only");
    let channel = Endpoint::from_shared(format!("http://{store}"))?
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .connect()
        .await?;
    let client = KvClient::new(channel).max_decoding_message_size(i32::MAX as usize);
    let service = KvServer::new(Forward(client)).max_encoding_message_size(i32::MAX as usize);
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = TowerToHyperService::new(service.clone());
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http2()
            .max_concurrent_streams(16_384)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20);
        // A connection that breaks is the client's affair.
        tokio::spawn(async move {
            drop(
                builder
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}
