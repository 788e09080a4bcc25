//! A collector that is there and reads nothing for an hour of virtual time: its connection is
//! kept, nothing is sent twice, and when everything has arrived no timer is left.
//! The hour takes a moment.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use marline::pipeline::component::Resources;
use marline::pipeline::memory::Memory;
use marline::service::assembly::{Daemon, World};
use marline::service::workers::Crew;
use marline::sim::{FaultPlan, Random};
use marline::time::{Clock, Instant};
use marline::transport::{BindOptions, Endpoint, Net, Network, NetworkOptions, SocketId};

use super::world::{Outside, buffers_on, load, make_with};

/// More than the buffers of both ends hold.
const LINES: usize = 4000;

const CONFIG: &str = "[source.in]\ntype = \"generate\"\nrate = \"1000/s\"\ncount = 4000\n\
     [pipeline.main]\nfrom = [\"in\"]\nto = [\"out\"]\n\
     [sink.out]\ntype = \"socket\"\naddress = \"tcp://127.0.0.1:7000\"\n";

fn accept(outside: &Outside, listener: SocketId) -> Option<SocketId> {
    outside.net.accept(listener).ok().map(|(socket, _)| socket)
}

#[test]
fn a_collector_that_reads_nothing_for_an_hour_keeps_its_connection() {
    let (mut reactor, outside) = make_with(FaultPlan::quiet(), &mut Random::new(1));
    let at = Endpoint::Ip("127.0.0.1:7000".parse().unwrap());
    let listener = outside.net.listen(&at, &BindOptions::default()).unwrap();
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
    while outside.clock.now() < Instant::ZERO + Duration::from_secs(3600) {
        reactor.turn(Some(Duration::from_secs(60))).unwrap();
    }
    let socket = accept(&outside, listener).expect("it has connected");
    assert_eq!(accept(&outside, listener), None, "it has connected twice");
    let before = daemon.ports()[0].ledger().delivered.get();
    assert!((1..LINES as u64).contains(&before), "{before} have arrived");

    let (mut text, mut buffer) = (Vec::<u8>::new(), [0; 4096]);
    let back_at = outside.clock.now();
    while text.iter().filter(|byte| **byte == b'\n').count() < LINES {
        let took = outside.clock.now().since(back_at);
        assert!(took < Duration::from_secs(60), "{} bytes came", text.len());
        reactor.turn(Some(Duration::from_millis(100))).unwrap();
        while let Ok(count @ 1..) = outside.net.read(socket, &mut buffer) {
            text.extend(&buffer[..count]);
        }
    }
    for _ in 0..10 {
        reactor.turn(Some(Duration::from_millis(100))).unwrap();
    }
    assert_eq!(accept(&outside, listener), None, "it has connected again");
    assert_eq!(daemon.ports()[0].ledger().replayed.get(), 0);
    assert_eq!(handle.stats().timers, 0, "a timer is left");
    assert!(daemon.balances());
    outside.io.end();
}
