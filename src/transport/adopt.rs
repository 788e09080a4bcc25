//! Sockets that systemd opened for us (sd_listen_fds(3)), by their names.
//!
//! The environment is read once, at start, before anything else opens descriptors, and the
//! sockets are kept for whoever listens on `systemd:NAME`. They are ignored when they are
//! meant for another process or when there are not as many names as descriptors. Whatever
//! they are, they become non-blocking and are not inherited by children.

use std::io;
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use rustix::net::{SocketType, sockopt};

use super::store::is_stored_name;

/// Sockets handed over.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(String, OwnedFd)>,
}

impl Inherited {
    /// Takes what LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES describe, if it is meant for this
    /// process. Call it once: LISTEN_FDS and LISTEN_PID are gone afterwards.
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var(name).ok();
        let pid = variable("LISTEN_PID");
        let names = variable("LISTEN_FDNAMES");
        let mut handed = ListenFd::from_env();
        if pid != Some(std::process::id().to_string()) {
            return Inherited::default();
        }
        let Some(names) = names_of(names.as_deref(), handed.len()) else {
            tracing::warn!(
                event = "inherited_sockets_ignored",
                descriptors = handed.len(),
                names,
                "LISTEN_FDNAMES does not name as many sockets as LISTEN_FDS counts"
            );
            return Inherited::default();
        };
        let mut inherited = Inherited::default();
        for (index, name) in names.into_iter().enumerate() {
            match take(&mut handed, index) {
                Some(socket) => inherited.sockets.push((name, socket)),
                None => tracing::warn!(
                    event = "inherited_socket_ignored",
                    index,
                    name,
                    "neither a stream listener nor a datagram socket"
                ),
            }
        }
        inherited
    }

    /// Sockets under names of the caller's choice, as if systemd had opened them.
    pub fn of(sockets: impl IntoIterator<Item = (String, OwnedFd)>) -> Self {
        Inherited {
            sockets: sockets.into_iter().collect(),
        }
    }

    /// Takes out what a former process of this daemon has stored: it is nobody's by name.
    pub(super) fn take_stored(&mut self) -> Vec<(String, OwnedFd)> {
        let is_stored = |(name, _): &mut (String, OwnedFd)| is_stored_name(name);
        self.sockets.extract_if(.., is_stored).collect()
    }

    /// Duplicates of all sockets of that name that carry `what`, in their order. One socket unit
    /// may open both kinds under one name. The sockets themselves stay here: systemd gives them
    /// once, and a reload may ask again.
    pub(super) fn lend(&self, name: &str, what: Carries) -> io::Result<Vec<OwnedFd>> {
        let wanted = |(of, socket): &&(String, OwnedFd)| of == name && carries(socket) == what;
        let lent = self.sockets.iter().filter(wanted);
        lent.map(|(_, socket)| socket.try_clone()).collect()
    }

    /// Whether a socket of that name carries `what`.
    pub(super) fn has(&self, name: &str, what: Carries) -> bool {
        let mut of_name = self.sockets.iter().filter(|(of, _)| of == name);
        of_name.any(|(_, socket)| carries(socket) == what)
    }

    /// The names there are, each once.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.sockets.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// What a socket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carries {
    /// It listens for byte streams.
    Streams,
    /// It receives datagrams.
    Datagrams,
}

/// A socket that does not say what it is counts as a listener, which then refuses it.
fn carries(socket: &OwnedFd) -> Carries {
    match sockopt::socket_type(socket) {
        Ok(SocketType::DGRAM) => Carries::Datagrams,
        _ => Carries::Streams,
    }
}

/// The name of each of `count` descriptors; `None` when the counts differ. Without
/// LISTEN_FDNAMES every descriptor is called `unknown`, as sd_listen_fds_with_names(3) does.
fn names_of(names: Option<&str>, count: usize) -> Option<Vec<String>> {
    let Some(names) = names else {
        return Some(vec!["unknown".to_string(); count]);
    };
    let names: Vec<String> = names.split(':').map(str::to_string).collect();
    (names.len() == count).then_some(names)
}

/// The descriptor at `index`, which listenfd checks to be a socket and marks close-on-exec.
fn take(handed: &mut ListenFd, index: usize) -> Option<OwnedFd> {
    if let Ok(Some(socket)) = handed.take_tcp_listener(index) {
        return Some(socket.into());
    }
    if let Ok(Some(socket)) = handed.take_unix_listener(index) {
        return Some(socket.into());
    }
    if let Ok(Some(socket)) = handed.take_udp_socket(index) {
        return Some(socket.into());
    }
    match handed.take_unix_datagram(index) {
        Ok(Some(socket)) => Some(socket.into()),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn c_416_names_and_descriptors_are_matched_by_count() {
        let names = |text, count| names_of(text, count);
        assert_eq!(names(Some("a:b"), 2), Some(vec!["a".into(), "b".into()]));
        assert_eq!(names(Some("a:b"), 3), None);
        assert_eq!(names(Some("a"), 2), None);
        assert_eq!(names(None, 1), Some(vec!["unknown".into()]));
    }

    #[test]
    fn sockets_of_one_name_are_lent_together() {
        let socket = || std::os::unix::net::UnixDatagram::unbound().unwrap().into();
        let named = [("a", socket()), ("b", socket()), ("a", socket())];
        let all = Inherited::of(named.map(|(name, socket)| (name.to_string(), socket)));
        assert_eq!(all.names(), ["a", "b"]);
        assert!(all.has("a", Carries::Datagrams) && !all.has("a", Carries::Streams));
        assert_eq!(all.lend("a", Carries::Streams).unwrap().len(), 0);
        assert_eq!(all.lend("a", Carries::Datagrams).unwrap().len(), 2);
        assert_eq!(all.lend("a", Carries::Datagrams).unwrap().len(), 2);
        assert_eq!(all.names(), ["a", "b"]);
    }
}
