//! Signals: delivered through a plain descriptor that the reactor watches.
//!
//! The handler, signal-hook's, sets a flag and writes a byte into a socket pair; the rest happens
//! in the turn. Equal signals that come before the turn looks are one. A watch that is dropped
//! receives no more, but the process keeps ignoring the signal: the system's default action
//! cannot be restored safely. The watch is the reactor's own source: shutdown does not close it,
//! so that a second SIGTERM is heard.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

use super::core::Exit;
use super::handle::Handle;
use super::poller::Pollable;
use super::source::{Handler, Progress};
use super::token::Token;
use crate::deferred::Failure;

/// The signals a daemon answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Stop: systemd's.
    Term,
    /// Stop: the terminal's.
    Int,
    /// Reload.
    Hup,
    /// For the daemon to choose.
    Usr1,
    /// For the daemon to choose.
    Usr2,
}

impl Signal {
    /// All of them.
    pub const ALL: [Signal; 5] = [
        Signal::Term,
        Signal::Int,
        Signal::Hup,
        Signal::Usr1,
        Signal::Usr2,
    ];

    /// The system's number.
    pub const fn number(self) -> i32 {
        match self {
            Signal::Term => SIGTERM,
            Signal::Int => SIGINT,
            Signal::Hup => SIGHUP,
            Signal::Usr1 => SIGUSR1,
            Signal::Usr2 => SIGUSR2,
        }
    }

    /// `SIGTERM` and so on.
    pub const fn name(self) -> &'static str {
        match self {
            Signal::Term => "SIGTERM",
            Signal::Int => "SIGINT",
            Signal::Hup => "SIGHUP",
            Signal::Usr1 => "SIGUSR1",
            Signal::Usr2 => "SIGUSR2",
        }
    }
}

/// Signals are received until this is dropped.
pub struct SignalWatch {
    reactor: Handle,
    token: Token,
}

impl Drop for SignalWatch {
    fn drop(&mut self) {
        self.reactor.deregister(self.token);
    }
}

impl Handle {
    /// Calls `on_signal` for each of `signals` that is delivered to the process, until the watch
    /// is dropped. Works with the pollers that watch descriptors.
    ///
    /// # Errors
    /// The system's, and that of a poller which watches no descriptors.
    #[track_caller]
    pub fn signals(
        &self,
        signals: &[Signal],
        on_signal: impl FnMut(&Handle, Signal) + 'static,
    ) -> io::Result<SignalWatch> {
        let token = self.watch_signals(signals, on_signal)?;
        Ok(SignalWatch {
            reactor: self.clone(),
            token,
        })
    }

    #[track_caller]
    fn watch_signals(
        &self,
        signals: &[Signal],
        on_signal: impl FnMut(&Handle, Signal) + 'static,
    ) -> io::Result<Token> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        sender.set_nonblocking(true)?;
        let receiver = Rc::new(OwnedFd::from(receiver));
        let mut hooks = Hooks::default();
        for signal in signals {
            hooks.install(*signal, &sender)?;
        }
        let handler = Box::new(SignalHandler {
            receiver: receiver.clone(),
            hooks,
            on_signal,
        });
        let source = Pollable::Fd(receiver);
        let token = self.register_as(&source, handler, true, Location::caller())?;
        self.add_reader(token);
        Ok(token)
    }

    /// The signals that stop: the first stops, the second cuts the phase that is going on short,
    /// the third ends the reactor as it is.
    pub(super) fn stop_on_signals(&self) -> io::Result<()> {
        let mut count = 0;
        let stop = move |reactor: &Handle, signal: Signal| {
            count += 1;
            tracing::info!(signal = signal.name(), count, "told to stop");
            if count >= 3 {
                reactor.abort();
            } else if !reactor.stop(Exit::Signal(signal.number())) {
                reactor.hasten();
            }
        };
        self.watch_signals(&[Signal::Term, Signal::Int], stop)
            .map(drop)
    }
}

/// What is installed for each signal; taken back when dropped.
#[derive(Default)]
struct Hooks(Vec<Hook>);

struct Hook {
    signal: Signal,
    delivered: Arc<AtomicBool>,
    ids: Vec<SigId>,
}

impl Hooks {
    fn install(&mut self, signal: Signal, sender: &UnixStream) -> io::Result<()> {
        let delivered = Arc::new(AtomicBool::new(false));
        let number = signal.number();
        self.0.push(Hook {
            signal,
            delivered: delivered.clone(),
            ids: Vec::new(),
        });
        // The flag is set before the byte is written: hooks run in the order of installation.
        let flag = signal_hook::flag::register(number, delivered)?;
        self.keep(flag);
        let byte = signal_hook::low_level::pipe::register(number, sender.try_clone()?)?;
        self.keep(byte);
        Ok(())
    }

    fn keep(&mut self, id: SigId) {
        if let Some(hook) = self.0.last_mut() {
            hook.ids.push(id);
        }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        for id in self.0.iter().flat_map(|hook| &hook.ids) {
            signal_hook::low_level::unregister(*id);
        }
    }
}

struct SignalHandler<F> {
    receiver: Rc<OwnedFd>,
    hooks: Hooks,
    on_signal: F,
}

impl<F: FnMut(&Handle, Signal)> Handler for SignalHandler<F> {
    fn readable(&mut self, reactor: &Handle) -> Progress {
        let mut bytes = [0_u8; 64];
        loop {
            match rustix::io::read(&*self.receiver, &mut bytes) {
                Ok(0) => return Progress::Dead(Failure::msg("the signal socket was closed")),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) if io::Error::from(error).kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Progress::Dead(Failure::new(io::Error::from(error))),
            }
        }
        for hook in &self.hooks.0 {
            if hook.delivered.swap(false, Ordering::SeqCst) {
                (self.on_signal)(reactor, hook.signal);
            }
        }
        Progress::Blocked
    }

    fn writable(&mut self, _reactor: &Handle) -> Progress {
        Progress::Blocked
    }

    fn lost(self: Box<Self>, reason: Failure, _reactor: &Handle) {
        tracing::error!(%reason, "signals are received no more");
    }
}
