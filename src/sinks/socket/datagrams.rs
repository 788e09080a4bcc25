//! The datagram half of the `socket` sink: one event, one datagram.
//!
//! A datagram counts as delivered when the kernel has taken it; nothing more can be known. When
//! the kernel's buffer is full the rest of the part waits for [`FULL_RETRY`]. One that is too
//! long for the network is dropped and counted. The name is looked up and the socket made
//! anew, with back-off, when that failed.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::rc::{Rc, Weak};

use bytes::Bytes;

use crate::deferred::Failure;
use crate::pipeline::encode::{Encoder, Frame, Output};
use crate::pipeline::part::Part;
use crate::pipeline::port::Inlet;
use crate::reactor::TimerGuard;
use crate::sinks::outage::Outage;
use crate::telemetry::events::ConnectFailed;
use crate::time::Duration;
use crate::transport::{
    Address, Backoff, BackoffOptions, CloseReason, Datagram, DatagramOptions, DatagramSocket,
    Datagrams, Network,
};

/// Pause when the kernel's send buffer is full.
const FULL_RETRY: Duration = Duration::from_millis(2);
/// Most parts sent in one go, so that a backlog does not hold the reactor up.
const PARTS_PER_TURN: usize = 64;

/// Sends an inlet's events as datagrams.
pub(super) struct Sender(Rc<Post>);

impl Sender {
    /// Begins to look the address up and to send.
    pub(super) fn start(
        network: &Network,
        address: Address,
        encoder: Encoder,
        inlet: Inlet,
    ) -> Sender {
        let post = Rc::new_cyclic(|this| Post {
            this: this.clone(),
            component: format!("sink.{}", inlet.name()),
            network: network.clone(),
            address,
            encoder,
            inlet,
            output: RefCell::new(Output::new()),
            socket: RefCell::default(),
            under_way: RefCell::default(),
            timer: RefCell::default(),
            backoff: RefCell::new(Backoff::new(BackoffOptions::default(), network.next_seed())),
            outage: Outage::default(),
            is_stopped: Cell::new(false),
        });
        let weak = Rc::downgrade(&post);
        post.inlet.on_ready(move || run(&weak, Post::pump));
        post.dial();
        Sender(post)
    }

    /// Closes the socket; what was not sent by now goes back to the port.
    pub(super) fn stop(self) {
        let post = self.0;
        post.is_stopped.set(true);
        post.timer.borrow_mut().take();
        if let Some(socket) = post.socket.borrow_mut().take() {
            socket.close();
        }
        if let Some(open) = post.under_way.borrow_mut().take() {
            let Open { mut part, rest } = open;
            part.deliver_all_but(rest.len() as u64);
            post.inlet.give_back(std::iter::once(part));
        }
    }
}

struct Post {
    this: Weak<Post>,
    component: String,
    network: Network,
    address: Address,
    encoder: Encoder,
    inlet: Inlet,
    output: RefCell<Output>,
    socket: RefCell<Option<DatagramSocket>>,
    under_way: RefCell<Option<Open>>,
    timer: RefCell<Option<TimerGuard>>,
    backoff: RefCell<Backoff>,
    outage: Outage,
    is_stopped: Cell<bool>,
}

/// A part of which some datagrams are still to be sent.
struct Open {
    part: Part,
    rest: VecDeque<Bytes>,
}

fn run(weak: &Weak<Post>, call: impl Fn(&Post)) {
    if let Some(post) = weak.upgrade() {
        call(&post);
    }
}

impl Post {
    fn dial(&self) {
        let listener = Box::new(Deaf(self.this.clone()));
        let dialled =
            self.network
                .dial_datagrams(&self.address, DatagramOptions::default(), listener);
        let weak = self.this.clone();
        drop(dialled.add_both(move |result| run_with(&weak, result)));
    }

    fn dialled(&self, result: Result<DatagramSocket, Failure>) {
        match result {
            Ok(socket) if self.is_stopped.get() => socket.close(),
            Ok(socket) => {
                self.inlet.set_trouble(None);
                self.outage.over();
                self.backoff.borrow_mut().reset();
                *self.socket.borrow_mut() = Some(socket);
                self.pump();
            }
            Err(failure) if !self.is_stopped.get() => self.retry(&failure),
            Err(_) => {}
        }
    }

    fn retry(&self, failure: &Failure) {
        let why = failure.to_string();
        self.inlet.set_trouble(Some(&why));
        let retry_in = self.backoff.borrow_mut().delay();
        self.inlet.tries_again_in(retry_in);
        let record = ConnectFailed {
            component: &self.component,
            address: &self.address,
            error: failure,
            retry_in,
            is_news: self.outage.failed(&why),
        };
        record.log();
        self.after(retry_in, Post::dial);
    }

    fn after(&self, delay: Duration, call: fn(&Post)) {
        let weak = self.this.clone();
        let reactor = self.network.reactor();
        let timer = reactor.call_later(delay, move |_| {
            run(&weak, |post| {
                post.timer.borrow_mut().take();
                call(post);
            });
        });
        *self.timer.borrow_mut() = Some(timer.guard());
    }

    fn pump(&self) {
        let Some(socket) = self.socket.borrow().clone() else {
            return;
        };
        if self.timer.borrow().is_some() {
            return;
        }
        for _ in 0..PARTS_PER_TURN {
            let Some(mut open) = self.next() else { return };
            if let Err(error) = send(&socket, &mut open) {
                *self.under_way.borrow_mut() = Some(open);
                return self.pause(&error);
            }
            open.part.delivered();
        }
        self.after(Duration::ZERO, Post::pump);
    }

    fn next(&self) -> Option<Open> {
        if let Some(open) = self.under_way.borrow_mut().take() {
            return Some(open);
        }
        let part = self.inlet.next()?;
        let mut output = self.output.borrow_mut();
        self.encoder
            .encode_part(&part, Frame::Datagram, &mut output);
        let rest = output.take().into();
        Some(Open { part, rest })
    }

    fn pause(&self, error: &io::Error) {
        if error.kind() == ErrorKind::WouldBlock {
            return self.after(FULL_RETRY, Post::pump);
        }
        let socket = self.socket.borrow_mut().take();
        if let Some(socket) = socket {
            socket.close();
        }
        self.retry(&Failure::msg(format!(
            "cannot send to {}: {error}",
            self.address
        )));
    }
}

fn run_with(weak: &Weak<Post>, result: Result<DatagramSocket, Failure>) {
    match weak.upgrade() {
        Some(post) => post.dialled(result),
        None => drop(result.map(|socket| socket.close())),
    }
}

/// Sends what is left of a part.
///
/// # Errors
/// The first datagram of the rest could not be sent, now or at all on this socket.
fn send(socket: &DatagramSocket, open: &mut Open) -> io::Result<()> {
    while let Some(payload) = open.rest.front() {
        match socket.send(payload, None) {
            Ok(()) => {}
            Err(error) if is_too_long(&error) => open.part.drop_some("datagram_too_long", 1),
            // The answer to an earlier datagram: nobody listens there now. This one is tried.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                if let Err(error) = socket.send(payload, None)
                    && error.kind() != ErrorKind::ConnectionRefused
                {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        open.rest.pop_front();
    }
    Ok(())
}

fn is_too_long(error: &io::Error) -> bool {
    rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::MSGSIZE)
}

/// Hears nothing: the collector's answers are not kept.
struct Deaf(Weak<Post>);

impl Datagrams for Deaf {
    fn received(&mut self, _: &DatagramSocket, _: Datagram) -> Result<(), Failure> {
        Ok(())
    }

    fn closed(self: Box<Self>, _: &CloseReason) {
        run(&self.0, |post| drop(post.socket.borrow_mut().take()));
    }
}
