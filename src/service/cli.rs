//! The command line: what each subcommand does, its output and its exit code.
//!
//! `marline run | check | status | reload | list | explain NAME | buffer ... | bench | version`.
//! Exit codes are those of sysexits where they fit: 0 good, 2 usage, 78 a mistake in the
//! configuration. Reports of mistakes go to standard error, answers to standard output.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Environment, Loaded, Purpose, Registry};
use crate::pipeline::condition::Condition;
use crate::telemetry::escape;
use crate::time::Duration;
use crate::{sinks, sources, steps};

use super::bench::BenchArguments;
use super::buffer_cli::BufferCommand;
use super::paths::Paths;
use super::reload::ReadEnvironment;
use super::{ask, routes, status_table};

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
    /// Show how a running daemon is: its sources, pipelines and sinks
    Status(StatusArguments),
    /// Have a running daemon read its configuration again; prints what has changed
    Reload(DaemonArgument),
    /// List all sources, steps and sinks
    List,
    /// Show the options, defaults and an example of a component or option
    Explain(ExplainArguments),
    /// See and move what lies in disk buffers
    #[command(subcommand)]
    Buffer(BufferCommand),
    /// Measure what this machine can do: lines a second, processor time and latency
    Bench(BenchArguments),
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
struct StatusArguments {
    #[command(flatten)]
    daemon: DaemonArgument,
    /// Print JSON (docs/STATUS.md) in place of a table
    #[arg(long)]
    json: bool,
    /// Add timers, connections, jobs, and whatever is pending
    #[arg(long)]
    debug: bool,
}

/// Which running daemon.
#[derive(Args, Debug)]
struct DaemonArgument {
    /// The configuration that the daemon was started with; default as for `run`
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    config: Option<PathBuf>,
    /// The daemon's admin socket
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
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
pub fn main(arguments: impl IntoIterator<Item = OsString>, env: ReadEnvironment) -> u8 {
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
        Command::Check(argument) => check(argument.config, &env),
        Command::Status(arguments) => status(arguments, &env),
        Command::Reload(argument) => reload(argument, &env),
        Command::List => answer(&config::explain::list(&registry())),
        Command::Explain(arguments) => explain(&arguments),
        Command::Buffer(command) => super::buffer_cli::main(&command, &env),
        Command::Bench(arguments) => super::bench::main(&arguments, &env),
        Command::Version => answer(concat!("marline ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

fn run(path: Option<PathBuf>, env: ReadEnvironment) -> u8 {
    let (path, loaded) = match load(path, &env, Purpose::Run) {
        Ok(found) => found,
        Err(code) => return code,
    };
    match loaded.config {
        Some((config, parts)) => {
            complain(&loaded.report);
            super::run(&path, config, parts, env)
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

fn status(arguments: StatusArguments, env: Environment<'_>) -> u8 {
    let target = match arguments.debug {
        true => "/status/debug",
        false => "/status",
    };
    let text = match ask_daemon(arguments.daemon, target, env) {
        Ok(text) => text,
        Err(code) => return code,
    };
    if arguments.json {
        return answer(&text);
    }
    match serde_json::from_str(&text) {
        Ok(report) => answer(&status_table::table(&report)),
        Err(error) => {
            complain(&format!("error: the daemon's answer is no JSON: {error}\n"));
            super::EXIT_CUT
        }
    }
}

/// Asks a running daemon for `target`; its answer, or the exit code where there is none.
fn ask_daemon(daemon: DaemonArgument, target: &str, env: Environment<'_>) -> Result<String, u8> {
    let sockets = sockets(daemon, env)?;
    let answer = ask::get(&sockets, target, ANSWER_TIMEOUT).map_err(|error| unanswered(&error))?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    if answer.status != 200 {
        let mut plain = String::new();
        escape::plain(text.trim_end(), &mut plain);
        let status = answer.status;
        complain(&format!("error: the daemon answers {status}: {plain}\n"));
        return Err(super::EXIT_CUT);
    }
    Ok(text)
}

/// The daemon reads the configuration that it was started with, and answers when it runs by it.
fn reload(daemon: DaemonArgument, env: Environment<'_>) -> u8 {
    let sockets = match sockets(daemon, env) {
        Ok(sockets) => sockets,
        Err(code) => return code,
    };
    let answered = match ask::post(&sockets, routes::RELOAD, RELOAD_TIMEOUT) {
        Ok(answered) => answered,
        Err(error) => return unanswered(&error),
    };
    let mut text = String::new();
    for line in String::from_utf8_lossy(&answered.body).lines() {
        escape::plain(line, &mut text);
        text.push('\n');
    }
    let code = routes::reload_code(answered.status);
    match code {
        0 => drop(answer(&text)),
        _ => complain(&format!("{text}error: nothing was reloaded\n")),
    }
    code
}

/// Says that no daemon answers, and gives the exit code.
fn unanswered(error: &ask::AskError) -> u8 {
    let help = ask::advice(error);
    complain(&format!("error: {error}\n  = help: {help}\n"));
    super::EXIT_CUT
}

/// Where the daemon has its admin socket. Mistakes elsewhere in its configuration are of no
/// interest here: it may be about to be changed.
fn sockets(daemon: DaemonArgument, env: Environment<'_>) -> Result<Vec<PathBuf>, u8> {
    if let Some(socket) = daemon.socket {
        return Ok(vec![socket]);
    }
    let (path, loaded) = load(daemon.config, env, Purpose::Check)?;
    let Some(daemon) = loaded.daemon else {
        complain(&loaded.report);
        return Err(EXIT_CONFIG);
    };
    let is_root = nix::unistd::geteuid().is_root();
    let sockets = Paths::of(&daemon, env, is_root).admin_candidates(&path);
    if sockets.is_empty() {
        let path = path.display();
        let help = "a daemon that runs with another one may be named by --socket PATH";
        complain(&format!(
            "error: {path} has no admin socket (daemon.admin = \"off\")\n  = help: {help}\n"
        ));
        return Err(EXIT_CONFIG);
    }
    Ok(sockets)
}

/// How long a daemon may take to say how it is: it may have a long turn behind it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a reload may take: disk buffers may have to be opened, on a disk that is busy.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Finds the configuration and loads it. Where none is named and none of the default paths
/// exists, it says which were tried.
pub(super) fn load(
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
pub(super) fn answer(text: &str) -> u8 {
    let _ = std::io::stdout().write_all(text.as_bytes());
    0
}

pub(super) fn complain(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
