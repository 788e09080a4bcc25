//! What systemd is told, and the watchdog: READY, STATUS, RELOADING, STOPPING, WATCHDOG.
//!
//! Without NOTIFY_SOCKET every call does nothing. The keep-alive is sent from the reactor's own
//! turn, at half the period that systemd asks for: a reactor that loops in a handler sends
//! none. That timer is the only one of an idle daemon.

use sd_notify::NotifyState;

use crate::reactor::Handle;
use crate::time::Duration;

/// How much longer systemd is to wait with each sign of life while draining.
const EXTENSION: Duration = Duration::from_secs(5);
/// How often it gets one.
const EXTEND_EVERY: Duration = Duration::from_secs(1);

/// Everything is bound; `status` says what.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins. In one datagram with the time, as systemd wants it since version 253.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(_) => send(&[NotifyState::Reloading]),
    }
}

/// The reload is over, whatever came of it; `status` says what.
pub fn reloaded(status: &str) {
    ready(status);
}

/// The stop has begun.
pub fn stopping(status: &str) {
    send(&[
        NotifyState::Stopping,
        NotifyState::Status(status),
        extension(),
    ]);
}

/// Asks for more time, once a second, as long as the process lives.
pub fn extend_while_stopping(reactor: &Handle) {
    let _ = reactor.call_later(EXTEND_EVERY, |reactor| {
        send(&[extension()]);
        extend_while_stopping(reactor);
    });
}

/// Feeds the watchdog at half its period, if there is one.
pub fn feed_watchdog(reactor: &Handle) {
    if let Some(period) = sd_notify::watchdog_enabled() {
        feed_every(reactor, period / 2);
    }
}

fn feed_every(reactor: &Handle, period: Duration) {
    let _ = reactor.call_later(period, move |reactor| {
        send(&[NotifyState::Watchdog]);
        feed_every(reactor, period);
    });
}

fn extension() -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(EXTENSION.as_micros() as u32)
}

/// A notification that cannot be sent changes nothing for the daemon.
fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(component = "daemon", %error, "cannot notify the service manager");
    }
}
