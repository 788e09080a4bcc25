//! What systemd is told, and the watchdog: READY, STATUS, RELOADING, STOPPING, WATCHDOG.
//!
//! Without NOTIFY_SOCKET every call does nothing. The keep-alive is sent from the reactor's own
//! turn, at half the period that systemd asks for, if the other reactors turn, too: while one
//! loops in a handler none is sent. That timer is the only one of an idle daemon. A manager that
//! reads nothing holds nobody up: what it has no room for is said again later.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use sd_notify::NotifyState;

use crate::reactor::Handle;
use crate::time::Duration;

/// How much longer systemd is to wait with each sign of life while draining.
const EXTENSION: Duration = Duration::from_secs(5);
/// How often it gets one.
const EXTEND_EVERY: Duration = Duration::from_secs(1);

/// What the manager has no room for is said again after this.
const SAY_AGAIN: Duration = Duration::from_millis(100);

/// Everything is bound; `status` says what.
pub fn ready(reactor: &Handle, status: &str) {
    insist(
        reactor,
        text(&[NotifyState::Ready, NotifyState::Status(status)]),
    );
}

/// A reload begins. In one datagram with the time, as systemd wants it since version 253.
pub fn reloading() {
    let text = match NotifyState::monotonic_usec_now() {
        Ok(now) => text(&[NotifyState::Reloading, now]),
        Err(_) => text(&[NotifyState::Reloading]),
    };
    // Not said again: then the reload may be over, and that it is so must come last.
    let _ = is_taken(&text);
}

/// The reload is over, whatever came of it; `status` says what.
pub fn reloaded(reactor: &Handle, status: &str) {
    ready(reactor, status);
}

/// The stop has begun.
pub fn stopping(reactor: &Handle, status: &str) {
    let states = [
        NotifyState::Stopping,
        NotifyState::Status(status),
        extension(),
    ];
    insist(reactor, text(&states));
}

/// Sends it until there is room for it.
fn insist(reactor: &Handle, text: String) {
    if !is_taken(&text) {
        let _ = reactor.call_later(SAY_AGAIN, move |reactor| insist(reactor, text));
    }
}

/// Asks for more time, once a second, as long as the process lives.
pub fn extend_while_stopping(reactor: &Handle) {
    let _ = reactor.call_later(EXTEND_EVERY, |reactor| {
        let _ = is_taken(&text(&[extension()])); // or the next one is
        extend_while_stopping(reactor);
    });
}

/// Feeds the watchdog at half its period, if there is one, as long as all reactors turn.
pub fn feed_watchdog(reactor: &Handle, all_turn: impl Fn() -> bool + 'static) {
    if let Some(period) = sd_notify::watchdog_enabled() {
        feed_every(reactor, period / 2, all_turn);
    }
}

fn feed_every(reactor: &Handle, period: Duration, all_turn: impl Fn() -> bool + 'static) {
    let _ = reactor.call_later(period, move |reactor| {
        if all_turn() {
            let _ = is_taken(&text(&[NotifyState::Watchdog])); // or the next one is
        }
        feed_every(reactor, period, all_turn);
    });
}

fn extension() -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(EXTENSION.as_micros() as u32)
}

fn text(states: &[NotifyState<'_>]) -> String {
    states.iter().fold(String::new(), |mut text, state| {
        let _ = writeln!(text, "{state}"); // a String takes everything
        text
    })
}

/// Sends one message; false where the manager has no room for it now. A notification that cannot
/// be sent for another reason changes nothing for the daemon.
fn is_taken(text: &str) -> bool {
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else {
        return true;
    };
    match send(&place, text) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
        Err(error) => {
            tracing::debug!(component = "daemon", %error, "cannot notify the service manager");
            true
        }
        Ok(()) => true,
    }
}

/// Never waits: a datagram socket of another process blocks whoever finds its queue full.
fn send(place: &OsStr, text: &str) -> io::Result<()> {
    let address = match place.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(place)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text.as_bytes(), &address).map(drop)
}
