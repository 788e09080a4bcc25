//! The client half of the admin socket: how a command finds a running daemon and asks it.
//!
//! A command is a small program on a reactor of its own: one request over the Unix socket, one
//! answer. Which socket is known from the config that the daemon was started with, even while
//! that config has mistakes elsewhere, or from `--socket`.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;

use crate::deferred::Failure;
use crate::http::{BodyLimits, Budget, Client, ClientOptions, Headers, Response, Url};
use crate::reactor::{Options, PollerKind, Reactor, Seams};
use crate::time::Duration;
use crate::transport::{Address, Network, NetworkOptions, SysNet};

/// Why there is no answer.
#[derive(Debug)]
pub struct AskError {
    /// The socket that was asked last.
    pub socket: PathBuf,
    /// What happened.
    pub failure: Failure,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (socket, failure) = (self.socket.display(), &self.failure);
        write!(f, "no daemon answers at {socket}: {failure}")
    }
}

impl std::error::Error for AskError {}

/// Asks the first of `sockets` that is there for `target`, by GET; `timeout` is for everything.
///
/// # Errors
/// Nobody listens there, or who does gives no whole answer in time. A status that is no success
/// is an answer.
pub fn get(sockets: &[PathBuf], target: &str, timeout: Duration) -> Result<Response, AskError> {
    first(
        sockets,
        Question {
            target,
            timeout,
            is_post: false,
        },
    )
}

/// As [`get`], by POST without content.
///
/// # Errors
/// As [`get`].
pub fn post(sockets: &[PathBuf], target: &str, timeout: Duration) -> Result<Response, AskError> {
    first(
        sockets,
        Question {
            target,
            timeout,
            is_post: true,
        },
    )
}

/// What is asked.
struct Question<'a> {
    target: &'a str,
    timeout: Duration,
    is_post: bool,
}

fn first(sockets: &[PathBuf], question: Question<'_>) -> Result<Response, AskError> {
    let there = sockets.iter().find(|path| path.exists());
    let socket = there.or(sockets.last()).cloned().unwrap_or_default();
    let asked = ask(&socket, &question);
    asked.map_err(|failure| AskError { socket, failure })
}

fn ask(socket: &Path, question: &Question<'_>) -> Result<Response, Failure> {
    let seams = Seams::system(PollerKind::Epoll).map_err(Failure::new)?;
    let mut reactor = Reactor::new(seams, Options::default()).map_err(Failure::new)?;
    let net = Rc::new(SysNet::new().map_err(Failure::new)?);
    let network = Network::new(&reactor.handle(), net, NetworkOptions::default());
    let options = ClientOptions {
        timeout: question.timeout,
        body: BodyLimits {
            bytes_max: ANSWER_BYTES_MAX,
            ..BodyLimits::default()
        },
        dial: Some(Address::Unix(socket.into())),
        ..ClientOptions::default()
    };
    let client = Client::new(&network, options, Budget::new(ANSWER_BYTES_MAX));
    let url = Url::parse(&format!("http://localhost{}", question.target)).map_err(Failure::new)?;
    let answer = Rc::new(RefCell::new(None));
    let (slot, is_post) = (Rc::clone(&answer), question.is_post);
    let ended = reactor.run_main(move |_| {
        let headers = Headers::default();
        let answered = match is_post {
            true => client.post(&url, &headers, Bytes::new()),
            false => client.get(&url, &headers),
        };
        answered.add_both(move |result| {
            client.close_idle();
            *slot.borrow_mut() = Some(result);
        })
    });
    ended.map_err(Failure::new)?;
    let answer = answer.take();
    answer.unwrap_or_else(|| Err(Failure::msg("the command was stopped")))
}

/// What can be done where nobody answers.
pub fn advice(error: &AskError) -> &'static str {
    let text = error.failure.to_string();
    let denied = text.contains("denied");
    match (denied, error.socket.parent()) {
        (true, _) => "only the daemon's user and root may ask: try sudo",
        (_, Some(folder)) if folder.as_os_str() != OsStr::new("") && !folder.exists() => {
            "is the daemon running with this config? --socket PATH names its socket, which is in \
             the first lines of its log (admin_opened)"
        }
        _ => "is the daemon running? --config FILE names its config, --socket PATH its socket",
    }
}

/// The largest answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;
