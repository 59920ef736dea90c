//! The command line.

mod serve;
mod topology;
mod transfer;
mod work;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

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
    if let Err(error) = log_to_stderr(&arguments) {
        return fail(&format!("--log: {error}"));
    }
    let result = match arguments.command {
        Command::Serve(serve) => serve.run(),
        Command::Import(import) => import.run(),
        Command::Export(export) => export.run(),
        Command::Topology(command) => command.run(),
    };
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

fn log_to_stderr(arguments: &Arguments) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&arguments.log)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It would be told on standard error too, by a macro that panics where that cannot be written.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    match arguments.log_format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
