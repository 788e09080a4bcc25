//! The server's limits, made short: slow heads, slow bodies, silence, and connections that are
//! in use for longer than any of them.
//!
//! The server answers from a service of the test's own, on sockets of this machine.

use std::rc::Rc;
use std::time::{Duration, Instant};

use marline::http::{
    BodyError, BodyLimits, Budget, Request, Response, Server, ServerOptions, Service, ServiceFuture,
};
use marline::reactor::Handle;
use marline::time::Timers;
use marline::transport::{Endpoint, ListenOptions};

use super::world::{Client, World, post};

const HEAD: Duration = Duration::from_millis(150);
const IDLE: Duration = Duration::from_millis(400);

/// Reads the body; on `/slow` takes 300 ms more to answer.
struct Reader {
    limits: BodyLimits,
    budget: Rc<Budget>,
    reactor: Handle,
}

impl Service for Reader {
    fn serve(&self, request: Request) -> ServiceFuture {
        let (limits, budget) = (self.limits.clone(), Rc::clone(&self.budget));
        let reactor = self.reactor.clone();
        Box::pin(async move {
            if request.path == "/slow" {
                let (promise, later) = marline::deferred::Deferred::<()>::new();
                let fire = move || {
                    promise.callback(());
                };
                drop(reactor.call_after(Duration::from_millis(300), Box::new(fire)));
                let _ = later.await;
            }
            match request.body.read(&limits, &budget).await {
                Ok(_) => Response::new(200),
                Err(BodyError::TooSlow) => Response::new(408),
                Err(_) => Response::new(400),
            }
        })
    }
}

fn world() -> (World, Server, std::net::SocketAddr) {
    let world = World::new("", "");
    let reactor = world.reactor.handle();
    let service = Reader {
        limits: BodyLimits {
            window: Duration::from_millis(200),
            window_bytes_min: 100,
            ..BodyLimits::default()
        },
        budget: Budget::new(1 << 20),
        reactor: reactor.clone(),
    };
    let options = ServerOptions {
        head_timeout: HEAD,
        idle_timeout: IDLE,
        ..ServerOptions::default()
    };
    let server = Server::new(&reactor, "source.test".into(), options, Rc::new(service));
    let at = "tcp://127.0.0.1:0".parse().unwrap();
    let accept = Rc::new(server.clone());
    let listeners = world.network.listen(&at, ListenOptions::default(), accept);
    let Endpoint::Ip(address) = *listeners.unwrap()[0].local_address() else {
        panic!("not a TCP listener")
    };
    (world, server, address)
}

/// Checks that the server closes after about `limit`, without a word.
fn closes_after(world: &mut World, client: &mut Client, limit: Duration) {
    let start = Instant::now();
    assert!(client.closes_silently(world));
    let took = start.elapsed();
    assert!(
        took > limit / 2 && took < limit * 8,
        "{took:?} for {limit:?}"
    );
}

#[test]
fn who_says_nothing_or_too_little_is_closed() {
    let (mut world, server, address) = world();
    let mut silent = Client::to(address);
    closes_after(&mut world, &mut silent, HEAD);
    let mut slow = Client::to(address);
    slow.send(&mut world, b"POST / HTTP/1.1\r\nHos");
    closes_after(&mut world, &mut slow, HEAD);
    world.until("the end", |_| server.connections() == 0);
}

#[test]
fn a_head_that_drips_is_closed() {
    let (mut world, _, address) = world();
    let mut client = Client::to(address);
    let start = Instant::now();
    for byte in b"POST / HTTP/1.1\r\nHost: this-is-a-very-long-name\r\n".iter() {
        client.send(&mut world, &[*byte]);
        world.run_for(Duration::from_millis(20));
        client.look();
        if client.is_closed {
            break;
        }
    }
    assert!(client.is_closed && start.elapsed() < HEAD * 5);
}

#[test]
fn a_body_that_drips_is_answered_408() {
    let (mut world, _, address) = world();
    let mut client = Client::to(address);
    client.send(
        &mut world,
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n",
    );
    for _ in 0..8 {
        client.send(&mut world, b"x");
        world.run_for(Duration::from_millis(40));
    }
    let answer = client.answer(&mut world);
    assert!(answer.status == 408 && answer.closes());
    // One that is fast enough may take longer than the window.
    let mut client = Client::to(address);
    client.send(
        &mut world,
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
    );
    for _ in 0..10 {
        client.send(&mut world, &[b'x'; 100]);
        world.run_for(Duration::from_millis(50));
    }
    assert_eq!(client.answer(&mut world).status, 200);
}

#[test]
fn a_connection_in_use_outlives_every_limit() {
    let (mut world, _, address) = world();
    let mut client = Client::to(address);
    let start = Instant::now();
    while start.elapsed() < (HEAD + IDLE) * 2 {
        client.send(&mut world, &post(b"again", ""));
        assert_eq!(client.answer(&mut world).status, 200);
        world.run_for(IDLE / 4);
    }
    // While it waits for an answer no limit holds.
    let slow = String::from_utf8(post(b"x", "")).unwrap();
    client.send(&mut world, slow.replace("/in", "/slow").as_bytes());
    assert_eq!(client.answer(&mut world).status, 200);
    closes_after(&mut world, &mut client, IDLE);
}
