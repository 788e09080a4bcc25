//! A collector whose host is gone without a word: a network namespace behind a pair of virtual
//! Ethernet devices of which the far one is down. The kernel's time limit finds it out.
//!
//! The addresses are of 198.18.0.0/15, which is for tests of networks (RFC 2544).

use std::io::BufRead;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command};

use super::double::{FRAME_BYTES, Sending, accept, answer, answers, command, read_rest};
use super::{Death, Outcome, first_bytes, relay};
use crate::skips::skip;

const NAME: &str = "f_106_a_collector_whose_host_is_gone";

/// Bytes that the collector's kernel gets and its process does not read: less than any window.
const UNREAD_BYTES: u64 = 40_000;

/// Frames that are sent when the host is gone.
const REST_FRAMES: u64 = 10_000;

/// Another host: a namespace of the network, gone with the value.
struct Host {
    name: String,
    /// The device here, and the one there.
    devices: [String; 2],
    at: SocketAddr,
}

impl Host {
    /// The `index`th of this process; `None` where this machine does not let us make one.
    fn new(index: u8) -> Option<Host> {
        let process = std::process::id();
        let host = Host {
            name: format!("marline-{process}-{index}"),
            devices: [
                format!("ml{process}h{index}"),
                format!("ml{process}g{index}"),
            ],
            at: format!("198.18.{}.{}:7000", process % 250, index * 4 + 2)
                .parse()
                .unwrap(),
        };
        let [here, there] = &host.devices;
        let near = format!("198.18.{}.{}/30", process % 250, index * 4 + 1);
        let far = format!("{}/30", host.at.ip());
        let made = ip(&format!("netns add {}", host.name))
            && ip(&format!(
                "link add {here} type veth peer name {there} netns {}",
                host.name
            ))
            && ip(&format!("addr add {near} dev {here}"))
            && ip(&format!("link set {here} up"))
            && host.ip(&format!("addr add {far} dev {there}"))
            && host.ip(&format!("link set {there} up"));
        made.then_some(host)
    }

    /// Runs `ip` there.
    fn ip(&self, words: &str) -> bool {
        ip(&format!("-n {} {words}", self.name))
    }

    fn vanish(&self) {
        assert!(self.ip(&format!("link set {} down", self.devices[1])));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The pair of devices goes with the namespace of one.
        ip(&format!("link del {}", self.devices[0]));
        ip(&format!("netns del {}", self.name));
    }
}

fn ip(words: &str) -> bool {
    let run = Command::new("ip").args(words.split(' ')).output();
    run.is_ok_and(|output| output.status.success())
}

/// Killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail where the process has ended, which is what they are for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(host: &Host, replay: &'static str) -> Outcome {
    let first = first_bytes() / FRAME_BYTES;
    let within = ["ip", "netns", "exec", &host.name];
    let how = format!("{} {}", first * FRAME_BYTES, host.at);
    let mut process = Process(command(&within, &how).spawn().unwrap());
    let mut says = answers(&mut process.0);
    answer(&mut says, "listening ");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let daemon = relay(&[host.at, other.local_addr().unwrap()], replay);
    let source = daemon.tcp_address("source.in");
    let held = first + UNREAD_BYTES / FRAME_BYTES;
    Sending::start(source, 0..held).join();
    let death = Death {
        read_bytes: number(&mut says, "read "),
        unread_bytes: number(&mut says, "unread "),
    };
    assert_eq!(death.unread_bytes, UNREAD_BYTES);
    host.vanish();
    Sending::start(source, held..held + REST_FRAMES).join();
    let begin = read_rest(accept(&other), held + REST_FRAMES);
    let ended = daemon.stop();
    assert_eq!(ended.code(), 0);
    Outcome::new("host gone", replay, death, begin, &ended)
}

fn number(says: &mut impl BufRead, start: &str) -> u64 {
    answer(says, start).parse().unwrap()
}

#[test]
fn f_106_a_collector_whose_host_is_gone_is_found_out_and_nothing_is_lost() {
    let hosts = [Host::new(0), Host::new(1)];
    let [Some(first), Some(second)] = &hosts else {
        return skip(NAME, "network namespaces need root and `ip`");
    };
    std::thread::scope(|scope| {
        for (host, replay) in [(first, "auto"), (second, "off")] {
            scope.spawn(move || run(host, replay).check());
        }
    });
}
