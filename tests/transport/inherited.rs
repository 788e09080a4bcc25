//! Sockets adopted from systemd: in a process of its own, for descriptors 3 and 4 and the
//! environment are the process's.
//!
//! The child is this test binary again, started by a shell that puts the descriptors in place.

use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use marline::reactor::PollerKind;
use marline::transport::*;

use super::world::*;

const CHILD: &str = "MARLINE_TEST_INHERITED";

/// Runs the test `name` in a child that has a TCP listener as descriptor 3 and a UDP socket as
/// descriptor 4, with these variables.
fn child(name: &str, variables: &str, tcp: &TcpListener, udp: &UdpSocket) -> String {
    let script = format!("exec 3<&0 4<&1 1>&2; {variables} exec \"$0\" --exact {name} --nocapture");
    let (tcp, udp): (OwnedFd, OwnedFd) = (
        tcp.try_clone().unwrap().into(),
        udp.try_clone().unwrap().into(),
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, tcp_port(&tcp))
        .stdin(Stdio::from(tcp))
        .stdout(Stdio::from(udp))
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    text
}

fn tcp_port(listener: &OwnedFd) -> String {
    TcpListener::from(listener.try_clone().unwrap())
        .local_addr()
        .unwrap()
        .port()
        .to_string()
}

fn sockets() -> (TcpListener, UdpSocket) {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    (TcpListener::bind("127.0.0.1:0").unwrap(), udp)
}

fn inherited_world() -> World {
    let options = NetworkOptions {
        inherited: Inherited::from_environment(),
        ..NetworkOptions::default()
    };
    World::with(PollerKind::Epoll, SysNet::new().unwrap(), options)
}

#[test]
fn c_416_sockets_meant_for_us_are_adopted_by_name_and_consumed() {
    let Ok(port) = std::env::var(CHILD) else {
        let (tcp, udp) = sockets();
        let variables = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=stream:gram";
        let name = "transport::inherited::\
                    c_416_sockets_meant_for_us_are_adopted_by_name_and_consumed";
        child(name, variables, &tcp, &udp);
        return;
    };
    let mut world = inherited_world();
    assert_eq!(world.network.unit_sockets(), ["gram", "stream"]);
    for gone in ["LISTEN_PID", "LISTEN_FDS"] {
        assert!(std::env::var_os(gone).is_none(), "{gone} is still set");
    }
    let accept = Tapes::new();
    let at: Address = "systemd:stream".parse().unwrap();
    let listen = |at: &Address| {
        world
            .network
            .listen(at, ListenOptions::default(), accept.clone())
    };
    let listeners = listen(&at).unwrap();
    let missing = listen(&"systemd:river".parse().unwrap());
    let missing = missing.unwrap_err().to_string();
    assert!(
        missing.contains("no socket named `river`; there are: gram, stream"),
        "{missing}"
    );
    let wrong = listen(&"systemd:gram".parse().unwrap())
        .unwrap_err()
        .to_string();
    assert!(wrong.contains("carries datagrams"), "{wrong}");
    let Endpoint::Ip(address) = *listeners[0].local_address() else {
        panic!("not TCP")
    };
    assert_eq!(address.port().to_string(), port);
    // A listener that blocks would hold this turn up for ever.
    world.turn(std::time::Duration::ZERO);
    let mut peer = TcpStream::connect(address).unwrap();
    peer.write_all(b"hello").unwrap();
    world.until("the data", || {
        accept.len() == 1 && accept.get(0).received_len() == 5
    });
    let flags = std::fs::read_to_string("/proc/self/fdinfo/3").unwrap();
    let flags = flags
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .unwrap();
    let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
    assert_eq!(
        flags & 0o2004000,
        0o2004000,
        "neither CLOEXEC nor non-blocking: {flags:o}"
    );
    drop(listeners[0].stop());
}

#[test]
fn c_416_sockets_for_another_process_or_with_too_few_names_are_ignored() {
    if std::env::var_os(CHILD).is_none() {
        let (tcp, udp) = sockets();
        let name = "transport::inherited::\
                    c_416_sockets_for_another_process_or_with_too_few_names_are_ignored";
        for variables in [
            "LISTEN_PID=1 LISTEN_FDS=2 LISTEN_FDNAMES=stream:gram",
            "LISTEN_FDS=2 LISTEN_FDNAMES=stream:gram",
            "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=stream",
            "LISTEN_PID=$$ LISTEN_FDS=x LISTEN_FDNAMES=stream:gram",
        ] {
            child(name, variables, &tcp, &udp);
        }
        return;
    }
    let world = inherited_world();
    assert!(world.network.unit_sockets().is_empty());
}
