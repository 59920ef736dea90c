//! The pages before anything is served, and the listener's bounds.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::{
    body::to_bytes,
    http::{Request, header},
};
use futures_util::future::BoxFuture;
use keyloom_environment::{Address, OsRandom, TokioDial};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::{AcceptedConnection, Environment, FileChanges, TokioListen};

fn shared() -> Arc<Shared> {
    let environment = Environment {
        dial: Arc::new(TokioDial),
        listen: Arc::new(TokioListen),
        random: Arc::new(OsRandom),
        changes: FileChanges::default(),
        renew_on: crate::RenewOn::ThisRuntime,
        workers: crate::Workers::default(),
    };
    let mut registry = Registry::default();
    let stores = Stores::new(
        &environment,
        &mut registry,
        std::collections::BTreeMap::new(),
        Duration::from_secs(5),
    );
    Arc::new(Shared::new(
        registry,
        Arc::new(stores),
        FileStatus::default(),
    ))
}

async fn get(page: &str, accept: Option<&str>) -> (u16, String) {
    let mut request = Request::get(page);
    if let Some(accept) = accept {
        request = request.header(header::ACCEPT, accept);
    }
    let answer = router(shared()).oneshot(request.body(axum::body::Body::empty()).unwrap());
    let (head, body) = answer.await.unwrap().into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap().to_vec();
    (head.status.as_u16(), String::from_utf8(body).unwrap())
}

async fn json(page: &str) -> (u16, Value) {
    let (status, text) = get(page, Some("application/json")).await;
    (status, serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn while_it_starts_every_page_says_so_in_both_forms() {
    let reason = "starting: waiting for the stores or for the leadership";
    assert_eq!(get("/livez", None).await, (200, "ok\n".into()));
    assert_eq!(json("/livez").await, (200, json!({"live": true})));
    assert_eq!(get("/readyz", None).await, (503, format!("{reason}\n")));
    assert_eq!(
        json("/readyz").await,
        (503, json!({"ready": false, "reason": reason}))
    );
    for page in ["/topology", "/topology/status", "/topology/strays"] {
        assert_eq!(get(page, None).await, (503, "starting\n".into()), "{page}");
        assert_eq!(
            json(page).await,
            (503, json!({"error": "starting"})),
            "{page}"
        );
    }
    let (status, text) = get("/nothing", None).await;
    assert_eq!((status, &text[..14]), (404, "pages: /livez "));
    assert_eq!(json("/stores").await, (200, json!({"endpoints": []})));
    assert_eq!(json("/usage").await, (200, json!({"classes": []})));
}

#[tokio::test]
async fn the_form_is_asked_for_by_query_or_by_accept() {
    let text = (200, "ok\n".to_owned());
    let json = (200, "{\"live\":true}".to_owned());
    for (page, accept, expected) in [
        ("/livez", Some("text/html, application/json"), &text),
        ("/livez", Some("application/json;q=0.9, text/plain"), &json),
        ("/livez", Some("*/*"), &text),
        ("/livez?format=json", None, &json),
        ("/livez?format=text", Some("application/json"), &text),
        (
            "/livez?format=xml",
            None,
            &(400, "format= is text or json\n".to_owned()),
        ),
    ] {
        assert_eq!(get(page, accept).await, *expected, "{page} {accept:?}");
    }
}

/// Has no file descriptors left.
#[derive(Debug)]
struct Exhausted(Arc<AtomicUsize>);

impl Accept for Exhausted {
    fn accept(&self) -> BoxFuture<'_, io::Result<AcceptedConnection>> {
        let asked = self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            match asked {
                // Whoever asks so often in a second spins; the test must end all the same.
                1000.. => std::future::pending().await,
                _ => Err(io::Error::from_raw_os_error(24)),
            }
        })
    }

    fn address(&self) -> io::Result<Address> {
        Ok(Address::Unix("exhausted".into()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_without_file_descriptors_is_asked_again_after_a_pause() {
    let asked = Arc::new(AtomicUsize::new(0));
    let listener = Box::new(Exhausted(Arc::clone(&asked)));
    let served = serve(listener, shared(), CancellationToken::new());
    assert!(
        tokio::time::timeout(Duration::from_secs(1), served)
            .await
            .is_err()
    );
    let asked = asked.load(Ordering::Relaxed);
    assert!((2..=25).contains(&asked), "{asked} times in a second");
}

/// Gives out connections as fast as they are taken.
#[derive(Debug)]
struct Flood(
    Arc<AtomicUsize>,
    parking_lot::Mutex<Vec<tokio::io::DuplexStream>>,
);

impl Accept for Flood {
    fn accept(&self) -> BoxFuture<'_, io::Result<AcceptedConnection>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let (client, server) = tokio::io::duplex(64);
        self.1.lock().push(client);
        Box::pin(async move {
            Ok(AcceptedConnection {
                connection: Box::new(server),
                from: None,
            })
        })
    }

    fn address(&self) -> io::Result<Address> {
        Ok(Address::Unix("flood".into()))
    }
}

/// Clients that connect and say nothing are cut off after the time for headers.
#[tokio::test(start_paused = true)]
async fn connections_are_bounded_and_idle_ones_end() {
    let taken = Arc::new(AtomicUsize::new(0));
    let listener = Flood(Arc::clone(&taken), parking_lot::Mutex::default());
    let served = serve(Box::new(listener), shared(), CancellationToken::new());
    let mut served = std::pin::pin!(served);
    let second = tokio::time::timeout(Duration::from_secs(1), served.as_mut());
    assert!(second.await.is_err());
    assert_eq!(taken.load(Ordering::Relaxed), CONNECTIONS);
    let minute = tokio::time::timeout(Duration::from_secs(15), served.as_mut());
    assert!(minute.await.is_err());
    assert_eq!(taken.load(Ordering::Relaxed), 2 * CONNECTIONS);
}
