//! systemd, as far as a service hears it and is heard by it.
//!
//! It owns the socket that NOTIFY_SOCKET names; what the daemon says comes in the order it was
//! said in, each wait bounded. It keeps the sockets that the service stores, as PID 1 does, and
//! gives them to the next process; messages about them are acted on and not told.

use std::cell::RefCell;
use std::io::{ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use super::PATIENCE;

/// The manager of one service.
pub struct Systemd {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
    store: RefCell<Vec<(String, OwnedFd)>>,
    removed: RefCell<Vec<String>>,
}

impl Systemd {
    pub fn new() -> Systemd {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        Systemd {
            folder,
            socket,
            store: RefCell::default(),
            removed: RefCell::default(),
        }
    }

    /// Makes the service tell it.
    pub fn manage(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
    }

    /// Makes the service tell it, and asks to be fed ten times a second.
    pub fn watch(&self, command: &mut Command) {
        self.manage(command);
        command.env("WATCHDOG_USEC", "200000");
    }

    /// Like [`Systemd::manage`], for a service that is started again: it gets what is stored,
    /// at most two sockets, by way of a shell that puts them where sd_listen_fds(3) says.
    pub fn start_again(&self, command: &mut Command) {
        self.manage(command);
        let store = self.store.borrow();
        let names: Vec<&str> = store.iter().map(|(name, _)| name.as_str()).collect();
        let places = ["3<&-", "3<&0 0</dev/null", "3<&0 4<&1 0</dev/null 1>&2"][names.len()];
        let script = format!(
            "exec {places}; LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={} exec \"$0\" \"$@\"",
            names.len(),
            names.join(":")
        );
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script);
        shell.arg(command.get_program()).args(command.get_args());
        shell.current_dir(command.get_current_dir().unwrap());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let handed = |index: usize| match store.get(index) {
            Some((_, socket)) => Stdio::from(socket.try_clone().unwrap()),
            None => Stdio::null(),
        };
        shell.stdin(handed(0)).stdout(handed(1));
        shell.stderr(Stdio::piped());
        *command = shell;
    }

    /// The names of what is stored, in the order it was stored in.
    pub fn stored(&self) -> Vec<String> {
        let store = self.store.borrow();
        store.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The names that were to be removed, as often as they were.
    pub fn removed(&self) -> Vec<String> {
        self.removed.borrow().clone()
    }

    /// A duplicate of the stored socket whose name begins so.
    pub fn stored_socket(&self, beginning: &str) -> OwnedFd {
        let store = self.store.borrow();
        let found = store.iter().find(|(name, _)| name.starts_with(beginning));
        found.unwrap().1.try_clone().unwrap()
    }

    /// The service is stopped for good: nothing is kept.
    pub fn empty_store(&self) {
        self.store.borrow_mut().clear();
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
        loop {
            let (text, sockets) = self.receive()?;
            let name = || {
                text.split("FDNAME=")
                    .nth(1)
                    .unwrap()
                    .lines()
                    .next()
                    .unwrap()
            };
            if text.starts_with("FDSTORE=1\n") {
                assert!(text.ends_with("\nFDPOLL=0\n"), "{text}");
                let named = sockets
                    .into_iter()
                    .map(|socket| (name().to_owned(), socket));
                self.store.borrow_mut().extend(named);
            } else if text.starts_with("FDSTOREREMOVE=1\n") {
                assert!(sockets.is_empty());
                self.removed.borrow_mut().push(name().to_owned());
                self.store.borrow_mut().retain(|(of, _)| of != name());
            } else if text != "BARRIER=1\n" {
                return Some(text);
            }
        }
    }

    fn receive(&self) -> Option<(String, Vec<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut text = [0; 1024];
        let into = &mut [IoSliceMut::new(&mut text)];
        let received =
            rustix::net::recvmsg(&self.socket, into, &mut control, RecvFlags::CMSG_CLOEXEC);
        let length = match received.map_err(std::io::Error::from) {
            Ok(received) => received.bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => panic!("{error}"),
        };
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                sockets.extend(descriptors);
            }
        }
        let text = String::from_utf8_lossy(&text[..length]).into_owned();
        Some((text, sockets))
    }

    /// What is heard next.
    pub fn hear(&self) -> String {
        self.hear_within(PATIENCE).expect("systemd hears something")
    }

    /// Hears on until a message holds `text`.
    pub fn hear_of(&self, text: &str) -> String {
        let mut heard = std::iter::repeat_with(|| self.hear());
        heard.find(|heard| heard.contains(text)).unwrap()
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
