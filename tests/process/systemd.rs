//! systemd, as far as a service hears it and is heard by it.
//!
//! It owns the socket that NOTIFY_SOCKET names; what the daemon says comes in the order it was
//! said in, each wait bounded.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use super::PATIENCE;

/// The manager of one service.
pub struct Systemd {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Systemd {
    pub fn new() -> Systemd {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        Systemd { folder, socket }
    }

    /// Makes the service tell it, and asks to be fed ten times a second.
    pub fn watch(&self, command: &mut Command) {
        command
            .env("NOTIFY_SOCKET", self.folder.path().join("notify"))
            .env("WATCHDOG_USEC", "200000");
    }

    /// Leaves no room for anything more to be said until something is heard.
    pub fn fill(&self) {
        let other = UnixDatagram::unbound().unwrap();
        other.set_nonblocking(true).unwrap();
        let path = self.folder.path().join("notify");
        while other.send_to(b"of another service", &path).is_ok() {}
    }

    /// What is heard next; `None` when nothing is for so long.
    pub fn hear_within(&self, limit: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(limit)).unwrap();
        let mut text = [0; 1024];
        match self.socket.recv(&mut text) {
            Ok(length) => Some(String::from_utf8_lossy(&text[..length]).into_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// What is heard next.
    pub fn hear(&self) -> String {
        self.hear_within(PATIENCE).expect("systemd hears something")
    }

    /// Hears that the service is up, and its status with it.
    pub fn hear_ready(&self) -> String {
        let heard = self.hear();
        assert!(heard.starts_with("READY=1"), "{heard}");
        heard
    }

    /// Hears nothing but the watchdog being fed, so many times.
    pub fn hear_watchdog(&self, times: usize) {
        for _ in 0..times {
            assert_eq!(self.hear().trim(), "WATCHDOG=1");
        }
    }
}
