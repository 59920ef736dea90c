//! The `keyloom` program: arguments, logging, signals; everything else is the library's.

use std::process::ExitCode;

fn main() -> ExitCode {
    keyloom_proxy::cli::main()
}
