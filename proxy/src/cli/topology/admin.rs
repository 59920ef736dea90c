//! What a running Keyloom says, over its administrators' pages.

use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use keyloom_topology::{ParseOptions, Topology, parse};
use tokio::net::TcpStream;

use crate::cli::say;

#[derive(Debug, Args)]
pub(in crate::cli) struct StraysCommand {
    /// The admin address of the running Keyloom
    #[arg(
        long,
        env = "KEYLOOM_ADMIN",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL"
    )]
    admin: String,
}

impl StraysCommand {
    /// `STORE TAB KEY TAB STORE THAT IT ROUTES TO` a line.
    pub(super) fn run(self) -> Result<ExitCode> {
        let mut page = "/topology/strays".to_owned();
        loop {
            let text = get(&self.admin, &page)?;
            let mut next = None;
            for line in text.lines() {
                match line.strip_prefix("next\t") {
                    Some(place) => next = Some(place.to_owned()),
                    None => say(line)?,
                }
            }
            match next {
                Some(place) => page = format!("/topology/strays?from={place}"),
                None => return Ok(ExitCode::SUCCESS),
            }
        }
    }
}

/// The topology that is served.
pub(super) fn topology(admin: &str) -> Result<Topology> {
    let text = get(admin, "/topology")?;
    match parse(&text, &ParseOptions::default()) {
        Ok(accepted) => Ok(accepted.topology),
        Err(refused) => bail!("{}", refused.in_file(admin).join("\n")),
    }
}

fn get(admin: &str, page: &str) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime
        .block_on(get_async(admin, page))
        .with_context(|| format!("asking {admin}{page}"))
}

async fn get_async(admin: &str, page: &str) -> Result<String> {
    let host = admin.strip_prefix("http://").unwrap_or(admin);
    let host = host.trim_end_matches('/');
    let stream = TcpStream::connect(host).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(page)
        .header(http::header::HOST, host)
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        let text = String::from_utf8(body.to_vec())?;
        match status.is_success() {
            true => Ok(text),
            false => Err(anyhow!("{status}: {}", text.trim_end())),
        }
    };
    tokio::select! {
        answer = exchange => answer,
        Err(error) = connection => Err(error.into()),
    }
}
