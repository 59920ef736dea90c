//! Calls to the API of a Kubernetes, as JSON over plain HTTP.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, sleep},
};

/// How often a call that no apiserver took is made again, and how long between.
const ATTEMPTS: usize = 600;
const PAUSE: Duration = Duration::from_millis(200);

/// A client of one Kubernetes.
#[derive(Clone, Debug)]
pub struct Api {
    pool: Pool<HttpConnector, Full<Bytes>>,
    url: String,
}

/// What is said of an object that was found by a list in between.
pub const LISTED: &str = "LISTED";

/// One thing that a watch said: what, of whom, at which version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub kind: String,
    pub name: String,
    pub version: u64,
    /// When it was heard.
    pub at: Instant,
}

/// A watch that goes on until it is stopped.
#[derive(Debug)]
pub struct Watching {
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Watching {
    /// What it has said so far.
    pub async fn seen(&self) -> Vec<Seen> {
        self.seen.lock().await.clone()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Api {
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self {
            pool: Pool::builder(TokioExecutor::new()).build_http(),
            url: url.to_owned(),
        }
    }

    /// A page as text.
    ///
    /// # Errors
    /// Where nobody answers.
    pub async fn text(&self, path: &str) -> Result<(u16, String), String> {
        let (status, body) = self.ask(Method::GET, path, "", String::new()).await?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// One call.
    ///
    /// # Errors
    /// Where nobody answers, or something else than JSON.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), String> {
        let kind = if method == Method::PATCH {
            "application/apply-patch+yaml"
        } else {
            "application/json"
        };
        let body = body.map_or_else(String::new, Value::to_string);
        let (status, answer) = self.ask(method, path, kind, body).await?;
        let answer = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        Ok((status, answer))
    }

    /// A call that must succeed in the end: one that no healthy server took is made again. Only for
    /// what may be done twice.
    pub async fn done(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let exists = method == Method::POST;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.call(method.clone(), path, body).await {
                Ok((200..=202, answer)) => return answer,
                // The attempt before, whose answer was lost, made it.
                Ok((409, answer)) if exists && last.is_some() => return answer,
                Ok((404, answer)) if method == Method::DELETE && last.is_some() => return answer,
                Ok((status @ (400..=428 | 430..=499), answer)) => {
                    panic!("{method} {path}: {status}: {answer}")
                }
                other => last = Some(other),
            }
            sleep(PAUSE).await;
        }
        panic!("{method} {path}: {last:?}")
    }

    pub async fn get(&self, path: &str) -> Value {
        self.done(Method::GET, path, None).await
    }

    pub async fn create(&self, path: &str, object: &Value) -> Value {
        self.done(Method::POST, path, Some(object)).await
    }

    /// Server-side apply.
    pub async fn apply(&self, path: &str, object: &Value) -> Value {
        let path = format!("{path}?fieldManager=tester&force=true");
        self.done(Method::PATCH, &path, Some(object)).await
    }

    pub async fn delete(&self, path: &str) -> Value {
        self.done(Method::DELETE, path, None).await
    }

    /// A list in pages: `namespace/name` and version of each object, and how many pages it took.
    pub async fn pages(&self, path: &str, limit: usize) -> (Vec<(String, u64)>, usize) {
        let (mut items, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = self
                .get(&format!("{path}?limit={limit}&continue={token}"))
                .await;
            let of_page = page["items"].as_array().expect("items");
            assert!(
                of_page.len() <= limit,
                "{} on a page of {limit}",
                of_page.len()
            );
            items.extend(of_page.iter().map(name_and_version));
            pages += 1;
            match page["metadata"]["continue"].as_str() {
                Some(next) if !next.is_empty() => next.clone_into(&mut token),
                _ => return (items, pages),
            }
        }
    }

    /// Watches from now on. A watch that the server ends is opened again where it was.
    pub async fn watch(&self, path: &str) -> Watching {
        let list = self.get(&format!("{path}?limit=1")).await;
        let version = list["metadata"]["resourceVersion"]
            .as_str()
            .expect("a version");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (api, path, mut version) = (self.clone(), path.to_owned(), version.to_owned());
        let told = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                api.follow(&path, &mut version, &told).await;
                sleep(PAUSE).await;
            }
        });
        Watching { seen, task }
    }

    async fn follow(&self, path: &str, version: &mut String, told: &Mutex<Vec<Seen>>) {
        let url = format!("{}{path}?watch=1&resourceVersion={version}", self.url);
        let request = Request::get(url).body(Full::default()).expect("a request");
        let Ok(answer) = self.pool.request(request).await else {
            return;
        };
        if answer.status() != 200 {
            return;
        }
        let (mut body, mut buffer) = (answer.into_body(), Vec::new());
        while let Some(Ok(frame)) = body.frame().await {
            buffer.extend_from_slice(&frame.into_data().unwrap_or_default());
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<_> = buffer.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).expect("an event");
                let kind = event["type"].as_str().expect("a type");
                if kind == "ERROR" {
                    // As every client: what was missed is not said any more, so it lists again.
                    assert_eq!(event["object"]["code"], 410, "the watch of {path}: {event}");
                    *version = self.list_again(path, told).await;
                    return;
                }
                let (name, at) = name_and_version(&event["object"]);
                *version = at.to_string();
                let kind = kind.to_owned();
                told.lock().await.push(Seen {
                    kind,
                    name,
                    version: at,
                    at: Instant::now(),
                });
            }
        }
    }

    /// Puts down what is there now, and gives back the version of that.
    async fn list_again(&self, path: &str, told: &Mutex<Vec<Seen>>) -> String {
        let list = self.get(path).await;
        let items = list["items"].as_array().expect("items");
        let mut told = told.lock().await;
        told.extend(items.iter().map(|item| {
            let (name, version) = name_and_version(item);
            let kind = LISTED.to_owned();
            Seen {
                kind,
                name,
                version,
                at: Instant::now(),
            }
        }));
        let version = list["metadata"]["resourceVersion"].as_str();
        version.expect("a version").to_owned()
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: String,
    ) -> Result<(u16, Bytes), String> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("content-type", kind)
            .body(Full::from(body))
            .map_err(|error| error.to_string())?;
        let answer = self.pool.request(request).await;
        let answer = answer.map_err(|error| format!("{error:?}"))?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await;
        let body = body.map_err(|error| error.to_string())?;
        Ok((status, body.to_bytes()))
    }
}

pub(crate) fn name_and_version(object: &Value) -> (String, u64) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let version = text("resourceVersion").parse().expect("a version");
    (format!("{}/{}", text("namespace"), text("name")), version)
}
