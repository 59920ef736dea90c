//! One plain GET.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Gets a page: its status code and text.
///
/// # Errors
/// Where nobody answers.
pub async fn get(url: &str) -> Result<(u16, String), String> {
    try_get(url)
        .await
        .map_err(|error| format!("{url}: {error}"))
}

async fn try_get(url: &str) -> Result<(u16, String), Box<dyn std::error::Error>> {
    let rest = url.strip_prefix("http://").ok_or("not a plain URL")?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let stream = TcpStream::connect(host).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let path = if path.is_empty() { "/" } else { path };
    let request = Request::get(path)
        .header("host", host)
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::select! {
        answer = exchange => answer,
        Err(error) = connection => Err(error.into()),
    }
}
