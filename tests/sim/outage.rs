//! A sink that is down for an hour of virtual time: how often it is tried, what is said of it,
//! and that everything arrives when it is back.
//!
//! The daemon is a whole one; the hour takes a moment.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use marline::pipeline::component::Resources;
use marline::pipeline::memory::Memory;
use marline::service::assembly::{Daemon, World};
use marline::service::workers::Crew;
use marline::sim::{FaultPlan, Random};
use marline::telemetry::capture::Capture;
use marline::telemetry::record::{Level, Record};
use marline::time::{Clock, Instant};
use marline::transport::{BindOptions, Endpoint, Net, Network, NetworkOptions, SocketId};

use super::world::{Outside, buffers_on, load, make_with};

const CONFIG: &str = "[source.in]\ntype = \"generate\"\nrate = \"1/s\"\ncount = 1000\n\
     [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
     [sink.out]\ntype = \"socket\"\naddress = \"tcp://127.0.0.1:7000\"\n";

const OUTAGE: Duration = Duration::from_secs(3600);

/// Bytes that came by now.
fn read_all(outside: &Outside, socket: SocketId, text: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = outside.net.read(socket, &mut buffer) {
        text.extend(&buffer[..count]);
    }
}

#[test]
fn f_099_a_sink_that_is_down_for_an_hour_is_tried_calmly_and_told_once() {
    let capture = Capture::start();
    let (mut reactor, outside) = make_with(FaultPlan::quiet(), &mut Random::new(1));
    let (config, parts) = load(CONFIG).unwrap();
    let handle = reactor.handle();
    let mut resources = Resources::default();
    let net = Rc::new(outside.net.clone());
    resources.lend(Network::new(&handle, net, NetworkOptions::default()));
    resources.lend(handle.clone());
    let world = World {
        memory: Memory::new(1 << 20),
        scheduler: Rc::new(handle.clone()),
        buffers: buffers_on(&handle, Arc::new(outside.storage.clone()), 1),
        resources: RefCell::new(resources),
        crew: Crew::alone(),
    };
    let daemon = Daemon::new(config, parts, world).unwrap();
    daemon.start().map_err(|it| it.failure).unwrap();
    while outside.clock.now() < Instant::ZERO + OUTAGE {
        reactor.turn(Some(Duration::from_secs(60))).unwrap();
    }
    let failed = capture.take("connect_failed");
    let is_loud = |record: &&Record| matches!(record.level, Level::Warn | Level::Error);
    assert_eq!(
        failed.iter().filter(is_loud).count(),
        1,
        "told more than once"
    );
    // Pauses of 15 to 30 s once the cap is reached.
    assert!(
        (120..=260).contains(&failed.len()),
        "{} attempts",
        failed.len()
    );

    let at = Endpoint::Ip("127.0.0.1:7000".parse().unwrap());
    let listener = outside.net.listen(&at, &BindOptions::default()).unwrap();
    let back_at = outside.clock.now();
    let (mut socket, mut text) = (None, Vec::new());
    while text.iter().filter(|byte| **byte == b'\n').count() < 1000 {
        let took = outside.clock.now().since(back_at);
        assert!(took < Duration::from_secs(60), "{} bytes came", text.len());
        reactor.turn(Some(Duration::from_millis(100))).unwrap();
        socket = socket.or_else(|| outside.net.accept(listener).ok().map(|(socket, _)| socket));
        if let Some(socket) = socket {
            read_all(&outside, socket, &mut text);
        }
    }
    assert_eq!(capture.take("connected").len(), 1);
    assert!(daemon.balances());
    outside.io.end();
}
