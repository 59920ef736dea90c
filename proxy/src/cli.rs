//! The command line.

mod serve;
mod topology;
mod transfer;
mod work;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum};
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, layer::SubscriberExt as _, registry::LookupSpan, util::SubscriberInitExt as _,
};

use crate::telemetry::TraceExport;

/// One etcd v3 endpoint over many stores.
#[derive(Debug, Parser)]
#[command(name = "keyloom", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// What to log: error, warn, info, debug or trace, or levels by module such as
    /// info,keyloom_proxy=debug
    #[arg(long, global = true, default_value = "info", env = "KEYLOOM_LOG")]
    log: String,
    /// The format of the log, on standard error
    #[arg(
        long,
        global = true,
        default_value = "text",
        env = "KEYLOOM_LOG_FORMAT"
    )]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve one etcd endpoint over the stores of a topology
    Serve(serve::Serve),
    /// Copy a whole etcd, kine or Keyloom into a new SQLite file: keys, versions, leases
    Import(transfer::Import),
    /// Write everything that a store has into an empty etcd
    Export(transfer::Export),
    /// Check a topology, and see where keys live
    #[command(subcommand)]
    Topology(topology::TopologyCommand),
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let export = match start_log(&arguments) {
        Ok(export) => export,
        Err(error) => return fail(&format!("{error:#}")),
    };
    let result = match arguments.command {
        Command::Serve(serve) => serve.run(),
        Command::Import(import) => import.run(),
        Command::Export(export) => export.run(),
        Command::Topology(command) => command.run(),
    };
    if let Some(export) = export {
        export.finish();
    }
    match result {
        Ok(code) => code,
        Err(error) => fail(&format!("{error:#}")),
    }
}

/// Errors of use are 64 (`EX_USAGE` of sysexits.h), all others 1.
const USAGE: u8 = 64;

fn fail(text: &str) -> ExitCode {
    // Nothing can be done where standard error is closed.
    drop(writeln!(io::stderr(), "keyloom: {text}"));
    ExitCode::FAILURE
}

/// Writes one line to standard output.
///
/// # Errors
/// Where nobody reads it.
fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Logs to standard error, and exports traces where the environment asks for it.
fn start_log(arguments: &Arguments) -> Result<Option<TraceExport>> {
    let filter = EnvFilter::try_new(&arguments.log).context("--log")?;
    // Other commands answer no calls.
    let export = match &arguments.command {
        Command::Serve(_) => TraceExport::from_environment().context("the export of traces")?,
        _ => None,
    };
    let format = arguments.log_format;
    match &export {
        // One filter for all costs less than one for each layer.
        None => tracing_subscriber::registry()
            .with(filter)
            .with(log_layer(format))
            .init(),
        Some(export) => tracing_subscriber::registry()
            .with(log_layer(format).with_filter(filter))
            .with(export.layer())
            .init(),
    }
    Ok(export)
}

fn log_layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer()
        // It would be told on standard error too, by a macro that panics where that cannot be written.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => layer.with_ansi(false).boxed(),
        LogFormat::Json => layer.json().boxed(),
    }
}
