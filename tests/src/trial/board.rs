//! Where the clients connect now: one endpoint at a time, until another one takes its place.

use std::{future::Future, sync::Arc};

use tokio::sync::watch;

use crate::client::Client;

/// What the clients are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Notice {
    url: Option<String>,
    /// Writers end their work.
    hold: bool,
    /// Everybody ends.
    closed: bool,
}

/// Tells the clients where to connect.
#[derive(Clone, Debug, Default)]
pub struct Board {
    notice: Arc<watch::Sender<Notice>>,
}

impl Board {
    /// From now on clients connect there; what waits elsewhere is given up.
    pub fn move_to(&self, url: &str) {
        self.notice
            .send_modify(|notice| notice.url = Some(url.to_owned()));
    }

    /// Lets writers end.
    pub fn hold(&self) {
        self.notice.send_modify(|notice| notice.hold = true);
    }

    /// Lets everybody end.
    pub fn close(&self) {
        self.notice.send_modify(|notice| notice.closed = true);
    }

    /// One client's view.
    #[must_use]
    pub fn line(&self) -> Line {
        Line {
            notice: self.notice.subscribe(),
            client: None,
        }
    }
}

/// One client's way to whoever serves.
#[derive(Debug)]
pub struct Line {
    notice: watch::Receiver<Notice>,
    client: Option<(String, Client)>,
}

impl Line {
    /// A connection to the endpoint of the moment; `None` when everybody is to end.
    pub async fn connected(&mut self) -> Option<Client> {
        let notice = self
            .notice
            .wait_for(|notice| notice.closed || notice.url.is_some())
            .await
            .ok()?
            .clone();
        self.notice.mark_unchanged();
        let url = notice.url.filter(|_| !notice.closed)?;
        match &self.client {
            Some((known, client)) if *known == url => Some(client.clone()),
            _ => {
                let client = Client::new(&url);
                self.client = Some((url, client.clone()));
                Some(client)
            }
        }
    }

    /// The outcome of a call; `None` where the clients were moved before it came.
    pub async fn unless_moved<T>(&mut self, call: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            outcome = call => Some(outcome),
            _ = self.notice.changed() => None,
        }
    }

    /// Whether writers are to end.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let notice = self.notice.borrow();
        notice.hold || notice.closed
    }
}
