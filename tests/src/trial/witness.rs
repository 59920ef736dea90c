//! A watch on a Keyloom that is to be stopped, and what it may not deliver once another one serves.

use std::sync::Arc;

use futures_util::stream;
use keyloom_etcd_api::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
    watch_request::RequestUnion,
};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::{book::Book, cache::tell};
use crate::client::Client;

/// An open watch over everything.
#[derive(Debug)]
pub struct Witness {
    requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
    book: Arc<Book>,
}

impl Witness {
    /// Opens the watch; `None` where the endpoint does not answer.
    pub async fn begin(client: &Client, book: &Arc<Book>) -> Option<Self> {
        let (requests, inbox) = mpsc::channel(4);
        let create = WatchCreateRequest {
            key: "/registry/".into(),
            range_end: "/registry0".into(),
            ..WatchCreateRequest::default()
        };
        let request = RequestUnion::CreateRequest(create);
        drop(requests.try_send(asking(request)));
        let inbox = stream::unfold(inbox, |mut inbox| async {
            Some((inbox.recv().await?, inbox))
        });
        let answers = client.watch().watch(inbox).await.ok()?.into_inner();
        Some(Self {
            requests,
            answers,
            book: Arc::clone(book),
        })
    }

    /// Asks how far it is: the only time that it is asked, so that whatever answers it answers this.
    pub fn ask(&self) {
        let ask = RequestUnion::ProgressRequest(WatchProgressRequest {});
        drop(self.requests.try_send(asking(ask)));
    }

    /// Reads to the end; gives back what must not have been sent: an answer to [`Self::ask`], and
    /// writes that the first was not there for.
    pub async fn read(mut self, not_there_for: &[String]) -> Vec<String> {
        let mut wrong = Vec::new();
        while let Ok(Some(response)) = self.answers.message().await {
            if response.watch_id < 0 {
                wrong.push(format!("progress {:?}", response.header));
            }
            for kv in response.events.into_iter().filter_map(|event| event.kv) {
                let value = String::from_utf8_lossy(&kv.value).into_owned();
                if not_there_for.contains(&value) {
                    wrong.push(format!("event {value:?}"));
                }
                // A delete says nothing of what it ended here.
                if kv.version > 0 {
                    tell(&self.book, &kv, "the witness");
                }
            }
        }
        wrong
    }
}

fn asking(request: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(request),
    }
}
