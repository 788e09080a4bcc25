//! `fetch`: dials each of its addresses and takes what is sent until it closes.
//!
//! All addresses are dialled at once, so that many slow servers take as long as the slowest.
//! Once, or every so often; a round that is still going on at an address is not disturbed, the
//! next one is skipped there and counted. With `framing = "whole"` all that one server sends is
//! one event. What a reset or the time limit cuts off is an event marked `incomplete` with the
//! reason; it is never passed off as whole.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use bytes::Bytes;

use crate::deferred::{CancelHandle, Cancelled, Deferred, Failure, Promise, join_all};
use crate::pipeline::addresses;
use crate::pipeline::component::{Resources, Source};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt};
use crate::pipeline::facts::Facts;
use crate::pipeline::intake::Outlet;
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::shared_options;
use crate::pipeline::tls::{self, DIALLING_TLS};
use crate::protocol::Framing;
use crate::reactor::TimerGuard;
use crate::telemetry::events::{FetchCut, FetchFailed, FetchSkipped};
use crate::time::{Duration, Instant};
use crate::transport::tls::{ClientSpec, ClientTls};
use crate::transport::{
    Address, CloseReason, ConnectOptions, Connection, ConnectionOptions, Network, Protocol,
};

use super::framed::{FramedInput, InputShared};

/// The component.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "fetch",
    summary: "what servers send to whoever connects, from many at once",
    options: &[
        Opt::new(
            "addresses",
            "whom to dial: tcp://, tls:// or unix://",
            addresses::DIAL_STREAM_LIST,
        )
        .required(),
        Opt::new(
            "every",
            "time between two rounds; without it there is one round",
            Kind::DURATION,
        ),
        Opt::new(
            "timeout",
            "limit for one server, from dialling to the end of its content; \"off\" reads for ever",
            Kind::Duration { words: &["off"] },
        )
        .default("\"60s\""),
        Opt::new(
            "framing",
            "how the content is cut into events; \"whole\" makes all of it one",
            Kind::Word(&[
                "whole",
                "auto",
                "lines",
                "nul",
                "octet_counted",
                "length_u32",
                "netstring",
            ]),
        )
        .default("\"whole\""),
        shared_options::MAX_MESSAGE,
        Opt::new(
            "max_body",
            "longest content with framing \"whole\"; of a longer one the first part is kept and \
             marked `truncated`",
            Kind::Size {
                min: 16,
                max: 1 << 30,
                words: &[],
            },
        )
        .default("\"16MiB\""),
    ],
    shared: &[DIALLING_TLS],
    example: "[source.poets]\ntype      = \"fetch\"\naddresses = [\"tcp://127.0.0.1:10001\"]\n\
              framing   = \"whole\"\n",
    build: Build::Source(build),
};

fn build(options: &Options) -> Result<Box<dyn Source>, Mistake> {
    let addresses = options.texts("addresses");
    let addresses = addresses.into_iter().map(addresses::parse);
    let addresses: Vec<Address> = addresses
        .collect::<Result<_, _>>()
        .map_err(|mistake| mistake.of("addresses"))?;
    let framing = options.word("framing").parse().unwrap_or(Framing::Whole);
    let limit = match framing {
        Framing::Whole => "max_body",
        _ => "max_message",
    };
    Ok(Box::new(Fetch {
        tls: tls::dialling(options, &addresses, false)?,
        addresses,
        every: options.maybe_duration("every"),
        timeout: options.maybe_duration("timeout"),
        framing,
        max_bytes: options.size(limit) as usize,
        targets: Vec::new(),
    }))
}

struct Fetch {
    addresses: Vec<Address>,
    every: Option<Duration>,
    timeout: Option<Duration>,
    framing: Framing,
    max_bytes: usize,
    tls: Option<ClientSpec>,
    targets: Vec<Rc<Target>>,
}

impl Source for Fetch {
    fn start(&mut self, outlet: Outlet, resources: &Resources) -> Result<Vec<String>, Failure> {
        let network = resources.get::<Network>();
        let component = format!("source.{}", outlet.name());
        let tls = self.tls.clone();
        let tls = tls.map(|spec| ClientTls::new(network.tls(), spec));
        let input = InputShared::new(outlet, self.framing, self.max_bytes, None);
        for address in &self.addresses {
            let target = Rc::new_cyclic(|this| Target {
                this: this.clone(),
                component: component.clone(),
                network: network.clone(),
                input: Rc::clone(&input),
                address: address.clone(),
                every: self.every,
                timeout: self.timeout,
                tls: tls.clone(),
                state: RefCell::new(State::Idle),
                round: RefCell::default(),
                skipped: Cell::new(0),
                ended: RefCell::default(),
            });
            target.begin_round();
            self.targets.push(target);
        }
        let how_often = match self.every {
            None => "once".to_owned(),
            Some(every) => format!("every {every:?}"),
        };
        let line = |address: &Address| format!("fetching {address} {how_often}");
        Ok(self.addresses.iter().map(line).collect())
    }

    fn facts(&self) -> Facts {
        let targets = self.targets.iter();
        let reading = |target: &&Rc<Target>| matches!(*target.state.borrow(), State::Reading(_));
        let mut facts = self
            .targets
            .first()
            .map_or_else(Facts::default, |target| target.input.facts());
        let skipped = targets.clone().map(|target| target.skipped.get()).sum();
        facts.counts.push(("skipped_rounds", skipped));
        let tls = self.targets.first().and_then(|target| target.tls.as_ref());
        Facts {
            certificates: tls.map_or_else(Vec::new, |tls| tls.certificates()),
            places: self.addresses.iter().map(Address::to_string).collect(),
            connections: Some(targets.filter(reading).count() as u64),
            ..facts
        }
    }

    fn stop(&mut self) -> Deferred<()> {
        let ended: Vec<_> = self.targets.iter().map(|target| target.stop()).collect();
        join_all(ended).add_both(|_| ())
    }

    fn log_counts(&self) {
        if let Some(target) = self.targets.first() {
            target.input.log_counts();
        }
    }

    fn close(&mut self) {
        for target in &self.targets {
            if let State::Reading(connection) = &*target.state.borrow() {
                connection.abort();
            }
        }
    }
}

/// One address, and how far this round has come there.
struct Target {
    this: Weak<Target>,
    component: String,
    network: Network,
    input: Rc<InputShared>,
    address: Address,
    every: Option<Duration>,
    timeout: Option<Duration>,
    tls: Option<Rc<ClientTls>>,
    state: RefCell<State>,
    /// The timer of the next round.
    round: RefCell<Option<TimerGuard>>,
    /// Rounds left out because the one before was still going on.
    skipped: Cell<u64>,
    /// Fired when nothing goes on here any more.
    ended: RefCell<Option<Promise<()>>>,
}

enum State {
    Idle,
    Dialling(CancelHandle),
    Reading(Connection),
}

impl Target {
    /// Dials, unless the last round is still going on, and plans the next one.
    fn begin_round(&self) {
        self.plan_next();
        if !matches!(*self.state.borrow(), State::Idle) {
            self.skipped.set(self.skipped.get() + 1);
            let record = FetchSkipped {
                component: &self.component,
                address: &self.address,
                skipped: self.skipped.get(),
            };
            return record.log();
        }
        let reader = Box::new(Reader {
            target: self.this.clone(),
            input: self.input.input(&self.address.to_string()),
            began: self.network.reactor().now(),
        });
        let dialled = self
            .network
            .connect(&self.address, self.connect_options(), reader);
        *self.state.borrow_mut() = State::Dialling(dialled.canceller());
        let weak = self.this.clone();
        let failed = move |failure: Failure| {
            if let Some(target) = weak.upgrade() {
                target.failed(&failure);
            }
        };
        drop(dialled.add_callbacks(|_| (), failed));
    }

    fn plan_next(&self) {
        let Some(every) = self.every else { return };
        let weak = self.this.clone();
        let timer = self.network.reactor().call_later(every, move |_| {
            if let Some(target) = weak.upgrade() {
                target.begin_round();
            }
        });
        *self.round.borrow_mut() = Some(timer.guard());
    }

    fn connect_options(&self) -> ConnectOptions {
        let defaults = ConnectOptions::default();
        let timeout = self
            .timeout
            .map_or(defaults.timeout, |limit| limit.min(defaults.timeout));
        let connection = Rc::new(ConnectionOptions::default());
        ConnectOptions {
            timeout,
            connection,
            tls: self.tls.clone(),
        }
    }

    /// There was no connection in this round.
    fn failed(&self, failure: &Failure) {
        if !failure.is::<Cancelled>() {
            let (component, address) = (&self.component, &self.address);
            let record = FetchFailed {
                component,
                address,
                failure,
            };
            record.log();
        }
        self.round_over();
    }

    fn round_over(&self) {
        drop(self.state.replace(State::Idle));
        let promise = self.ended.borrow_mut().take();
        promise.map(|promise| promise.callback(()));
    }

    /// No more rounds. What is being read is cut off and marked so.
    fn stop(&self) -> Deferred<()> {
        self.round.borrow_mut().take();
        let (promise, deferred) = Deferred::new();
        *self.ended.borrow_mut() = Some(promise);
        match self.state.replace(State::Idle) {
            State::Idle => self.round_over(),
            // Ends as a failure of this round, which ends the round.
            State::Dialling(dialled) => dialled.cancel(),
            State::Reading(connection) => {
                connection.close();
                *self.state.borrow_mut() = State::Reading(connection);
            }
        }
        deferred
    }
}

/// What one server sends in one round.
struct Reader {
    target: Weak<Target>,
    input: FramedInput,
    began: Instant,
}

impl Protocol for Reader {
    fn connected(&mut self, connection: &Connection) -> Result<(), Failure> {
        let Some(target) = self.target.upgrade() else {
            connection.abort();
            return Ok(());
        };
        let spent = target.network.reactor().now().since(self.began);
        connection.set_deadline(target.timeout.map(|limit| limit.saturating_sub(spent)));
        *target.state.borrow_mut() = State::Reading(connection.clone());
        Ok(())
    }

    fn received(&mut self, connection: &Connection, bytes: Bytes) -> Result<(), Failure> {
        self.input.receive(connection, bytes)
    }

    fn eof(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.input.end(connection);
        Ok(())
    }

    fn closed(mut self: Box<Self>, reason: &CloseReason) {
        let has_ended = self.input.close(reason);
        let Some(target) = self.target.upgrade() else {
            return;
        };
        if !has_ended {
            let (component, address) = (&target.component, &target.address);
            let record = FetchCut {
                component,
                address,
                reason,
            };
            record.log();
        }
        target.round_over();
    }
}
