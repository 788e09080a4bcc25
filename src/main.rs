//! The `marline` command: arguments in, exit code out.
//!
//! The only place that ends the process and the only one that reads its environment for the
//! configuration; everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    let env = |name: &str| std::env::var_os(name);
    ExitCode::from(marline::service::cli::main(std::env::args_os(), env))
}
