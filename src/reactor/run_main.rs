//! `run_main`: a program that is one Deferred.
//!
//! For tools and examples; the daemon has its own life cycle.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::core::Exit;
use super::handle::Handle;
use super::triggers::Phase;
use super::{Reactor, ReactorError};
use crate::deferred::{Deferred, Failure, Link};

/// An error that is an exit code and nothing to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitWith(pub u8);

impl fmt::Display for ExitWith {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit with {}", self.0)
    }
}

impl std::error::Error for ExitWith {}

impl Exit {
    /// The process's exit code: 0 for an orderly end, by a signal too; 1 for a panic or an abort.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Stopped | Exit::Signal(_) => 0,
            Exit::Code(code) => code,
            Exit::Panicked | Exit::Aborted => 1,
        }
    }
}

impl Reactor {
    /// Runs `main` and stops when it is done: with 0, with 1 when it fails (which is logged), or
    /// with the code of an [`ExitWith`] that it fails with. When the reactor is stopped first,
    /// `main` is cancelled and the reason of the stop counts.
    ///
    /// # Errors
    /// Those of [`Reactor::run`].
    pub fn run_main<L: Link<Out = ()> + 'static>(
        &mut self,
        main: impl FnOnce(&Handle) -> L + 'static,
    ) -> Result<Exit, ReactorError> {
        self.handle().call_when_running(move |reactor| {
            let handle = reactor.clone();
            let done = Deferred::call(|| main(reactor)).add_both(move |result| {
                handle.stop(Exit::Code(code(&handle, result)));
            });
            let slot = Rc::new(RefCell::new(Some(done)));
            reactor.on_shutdown(Phase::Before, "main", move |_| {
                if let Some(done) = slot.take() {
                    done.cancel();
                }
                Deferred::ready(())
            });
        });
        self.run()
    }
}

fn code(reactor: &Handle, result: Result<(), Failure>) -> u8 {
    let Err(failure) = result else {
        return 0;
    };
    if let Some(ExitWith(code)) = failure.downcast_ref() {
        return *code;
    }
    if reactor.stopping().is_none() {
        tracing::error!(%failure, "the main task failed");
    }
    1
}
