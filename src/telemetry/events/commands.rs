//! What sources say that read what they are given, or what a command prints.
//!
//! A run of a command is debug; that it fails is said once, and again when it fails in another
//! way or works again.

use super::DisplayDebug;

/// The input of a source is at its end.
#[derive(Debug)]
pub struct InputEnded<'a> {
    /// The source.
    pub component: &'a str,
    /// Whether the daemon stops for it.
    pub stops: bool,
}

impl InputEnded<'_> {
    /// Logs it.
    pub fn log(&self) {
        let InputEnded { component, stops } = self;
        let follows = match stops {
            true => "; the daemon stops when everything is delivered (at_end)",
            false => "",
        };
        tracing::info!(
            component,
            event = "input_ended",
            stops,
            "the input has ended{follows}"
        );
    }
}

/// The input of a source cannot be read.
#[derive(Debug)]
pub struct InputFailed<'a> {
    /// The source.
    pub component: &'a str,
    /// Why not.
    pub error: &'a dyn DisplayDebug,
}

impl InputFailed<'_> {
    /// Logs it.
    pub fn log(&self) {
        let InputFailed { component, error } = self;
        tracing::error!(component, event = "input_failed", error = %error,
            "the input cannot be read: {error}");
    }
}

/// How far a source has come cannot be read or written.
#[derive(Debug)]
pub struct CheckpointFailed<'a> {
    /// The source.
    pub component: &'a str,
    /// Where its checkpoint is.
    pub folder: &'a dyn DisplayDebug,
    /// What is wrong.
    pub error: &'a dyn DisplayDebug,
}

impl CheckpointFailed<'_> {
    /// Logs it.
    pub fn log(&self) {
        let CheckpointFailed {
            component,
            folder,
            error,
        } = self;
        tracing::error!(component, event = "checkpoint_failed", folder = %folder, error = %error,
            "the checkpoint in {folder}: {error}");
    }
}

/// A command runs.
#[derive(Debug)]
pub struct CommandStarted<'a> {
    /// The source.
    pub component: &'a str,
    /// The program.
    pub program: &'a dyn DisplayDebug,
    /// Its process.
    pub pid: u32,
}

impl CommandStarted<'_> {
    /// Logs it.
    pub fn log(&self) {
        let CommandStarted {
            component,
            program,
            pid,
        } = self;
        tracing::debug!(component, event = "command_started", program = %program, pid,
            "{program} runs");
    }
}

/// A command has ended.
#[derive(Debug)]
pub struct CommandEnded<'a> {
    /// The source.
    pub component: &'a str,
    /// Its process.
    pub pid: u32,
    /// How it ended.
    pub ending: &'a dyn DisplayDebug,
}

impl CommandEnded<'_> {
    /// Logs it.
    pub fn log(&self) {
        let CommandEnded {
            component,
            pid,
            ending,
        } = self;
        tracing::debug!(component, event = "command_ended", pid, ending = %ending,
            "the command ended: {ending}");
    }
}

/// A command fails, or fails in another way than before.
#[derive(Debug)]
pub struct CommandFailed<'a> {
    /// The source.
    pub component: &'a str,
    /// The program.
    pub program: &'a dyn DisplayDebug,
    /// How.
    pub why: &'a str,
    /// Runs that failed one after the other, this one included.
    pub failures: u64,
}

impl CommandFailed<'_> {
    /// Logs it.
    pub fn log(&self) {
        let CommandFailed {
            component,
            program,
            why,
            failures,
        } = self;
        tracing::warn!(component, event = "command_failed", program = %program, reason = why,
            failures, "{program}: {why}");
    }
}

/// A command works again.
#[derive(Debug)]
pub struct CommandRecovered<'a> {
    /// The source.
    pub component: &'a str,
    /// The program.
    pub program: &'a dyn DisplayDebug,
    /// Runs that failed before.
    pub failures: u64,
}

impl CommandRecovered<'_> {
    /// Logs it.
    pub fn log(&self) {
        let CommandRecovered {
            component,
            program,
            failures,
        } = self;
        tracing::info!(component, event = "command_recovered", program = %program, failures,
            "{program} works again, after {failures} failures");
    }
}

/// A run is left out, because the one before is not over.
#[derive(Debug)]
pub struct CommandSkipped<'a> {
    /// The source.
    pub component: &'a str,
    /// Runs left out so far.
    pub skipped: u64,
}

impl CommandSkipped<'_> {
    /// Logs it.
    pub fn log(&self) {
        let CommandSkipped { component, skipped } = self;
        tracing::warn!(
            component,
            event = "command_skipped",
            skipped,
            "the run before is not over; this one is left out"
        );
    }
}

/// A line that a command wrote to its standard error.
#[derive(Debug)]
pub struct CommandSaid<'a> {
    /// The source.
    pub component: &'a str,
    /// The line.
    pub line: &'a str,
}

impl CommandSaid<'_> {
    /// Logs it.
    pub fn log(&self) {
        let CommandSaid { component, line } = self;
        tracing::info!(component, event = "command_said", "{line}");
    }
}

/// What became of the runs of a command.
#[derive(Debug)]
pub struct CommandCounts<'a> {
    /// The source's name, without `source.`.
    pub source: &'a str,
    /// Runs that were started.
    pub runs: u64,
    /// Runs that could not be started, or ended in another way than with status 0.
    pub failures: u64,
    /// Runs left out.
    pub skipped: u64,
    /// Lines on standard error that were logged.
    pub stderr_lines: u64,
}

impl CommandCounts<'_> {
    /// Logs it.
    pub fn log(&self) {
        let CommandCounts {
            source,
            runs,
            failures,
            skipped,
            stderr_lines,
        } = self;
        tracing::info!(
            component = format!("source.{source}"),
            event = "command_counts",
            source,
            runs,
            failures,
            skipped,
            stderr_lines,
            "runs"
        );
    }
}
