//! The command line: what each subcommand does, its output and its exit code.
//!
//! `marline run | check | list | explain NAME | version`. Exit codes are those of sysexits
//! where they fit: 0 good, 2 usage, 78 a mistake in the configuration. Reports of mistakes go
//! to standard error, answers to standard output.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Environment, Loaded, Purpose, Registry};
use crate::pipeline::condition::Condition;
use crate::{sinks, sources, steps};

/// The configuration has a mistake, or is not there (EX_CONFIG).
pub const EXIT_CONFIG: u8 = 78;
/// The command line has a mistake.
pub const EXIT_USAGE: u8 = 2;

/// Where a configuration is looked for when none is named, in this order.
pub const DEFAULT_PATHS: &[&str] = &["/etc/marline/marline.toml", "config/marline.toml"];

/// Many sockets watched at once, fetched, transformed, forwarded.
#[derive(Parser, Debug)]
#[command(name = "marline", version, subcommand_required = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the daemon
    Run(ConfigArgument),
    /// Check a configuration: everything that a start does short of touching anything
    Check(ConfigArgument),
    /// List all sources, steps and sinks
    List,
    /// Show the options, defaults and an example of a component or option
    Explain(ExplainArguments),
    /// Print the version
    Version,
}

#[derive(Args, Debug)]
struct ConfigArgument {
    /// The configuration; without it /etc/marline/marline.toml, else config/marline.toml here
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct ExplainArguments {
    /// A component (`socket`, `sink.socket`), `pipeline`, `daemon`, or an option
    #[arg(required_unless_present_any = ["reference", "schema"])]
    name: Option<String>,
    /// Print config/reference.toml: every option of everything
    #[arg(long, conflicts_with_all = ["name", "schema"])]
    reference: bool,
    /// Print the JSON schema of a configuration
    #[arg(long, conflicts_with = "name")]
    schema: bool,
}

/// Everything that there is to configure.
pub fn registry() -> Registry {
    Registry {
        sources: sources::ALL,
        steps: steps::ALL,
        sinks: sinks::ALL,
        condition: |text| Condition::compile(text).map(drop),
    }
}

/// Runs the command that `arguments` (the program's name first) ask for; gives the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>, env: Environment<'_>) -> u8 {
    let command = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments.command,
        Err(error) => {
            // A closed standard output is not worth a word; the exit code stands.
            let _ = error.print();
            return if error.use_stderr() { EXIT_USAGE } else { 0 };
        }
    };
    match command {
        Command::Run(argument) => run(argument.config, env),
        Command::Check(argument) => check(argument.config, env),
        Command::List => answer(&config::explain::list(&registry())),
        Command::Explain(arguments) => explain(&arguments),
        Command::Version => answer(concat!("marline ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

fn run(path: Option<PathBuf>, env: Environment<'_>) -> u8 {
    let (path, loaded) = match load(path, env, Purpose::Run) {
        Ok(found) => found,
        Err(code) => return code,
    };
    match loaded.config {
        Some((config, parts)) => {
            complain(&loaded.report);
            super::run(&path, config, parts)
        }
        None => {
            complain(&loaded.report);
            EXIT_CONFIG
        }
    }
}

fn check(path: Option<PathBuf>, env: Environment<'_>) -> u8 {
    let (_, loaded) = match load(path, env, Purpose::Check) {
        Ok(found) => found,
        Err(code) => return code,
    };
    complain(&loaded.report);
    match loaded.config {
        Some((config, _)) => answer(&config::summary::summary(&config)),
        None => EXIT_CONFIG,
    }
}

/// Finds the configuration and loads it. Where none is named and none of the default paths
/// exists, it says which were tried.
fn load(
    path: Option<PathBuf>,
    env: Environment<'_>,
    purpose: Purpose,
) -> Result<(PathBuf, Loaded), u8> {
    let found = path.or_else(|| {
        let defaults = DEFAULT_PATHS.iter().map(Path::new);
        defaults
            .into_iter()
            .find(|path| path.exists())
            .map(Path::to_owned)
    });
    let Some(path) = found else {
        let message = "error: there is no configuration";
        let help = "name one with --config FILE";
        complain(&format!(
            "{message}: tried {}\n  = help: {help}\n",
            DEFAULT_PATHS.join(" and ")
        ));
        return Err(EXIT_CONFIG);
    };
    let loaded = config::load(&path, &registry(), env, purpose);
    Ok((path, loaded))
}

fn explain(arguments: &ExplainArguments) -> u8 {
    let registry = registry();
    if arguments.reference {
        return answer(&config::explain::reference(&registry));
    }
    if arguments.schema {
        return answer(&config::schema::schema(&registry));
    }
    let name = arguments.name.as_deref().unwrap_or_default();
    match config::explain::explain(name, &registry) {
        Ok(text) => answer(&text),
        Err(message) => {
            complain(&format!("error: {message}\n"));
            EXIT_USAGE
        }
    }
}

/// Writes to standard output. A reader that went away (`| head`) is no failure.
fn answer(text: &str) -> u8 {
    let _ = std::io::stdout().write_all(text.as_bytes());
    0
}

pub(super) fn complain(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
