//! An address that outlives who answers behind it: connections are led on, and cut off when the
//! door leads elsewhere.

use std::net::Ipv4Addr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A listening address that leads to another.
#[derive(Debug)]
pub struct Doorway {
    port: u16,
    target: watch::Sender<String>,
    task: JoinHandle<()>,
}

impl Doorway {
    /// Leads to an `http://HOST:PORT`.
    pub async fn to(url: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (target, seen) = watch::channel(address(url));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(lead(client, seen.clone()));
            }
        });
        Self { port, target, task }
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on elsewhere; whoever is inside is cut off.
    pub fn lead_to(&self, url: &str) {
        self.target.send_replace(address(url));
    }
}

impl Drop for Doorway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn address(url: &str) -> String {
    url.trim_start_matches("http://").to_owned()
}

async fn lead(mut client: TcpStream, mut target: watch::Receiver<String>) {
    let address = target.borrow_and_update().clone();
    let Ok(mut server) = TcpStream::connect(address).await else {
        return;
    };
    tokio::select! {
        _ended = copy_bidirectional(&mut client, &mut server) => {}
        _changed = target.changed() => {}
    }
}
