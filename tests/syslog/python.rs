//! Python's `logging.handlers.SysLogHandler`, over every transport that it has.
//!
//! Over TCP it ends messages with a NUL, so the source is told so (`framing = "nul"`).

use std::process::Command;

use super::{check, events, has, receiver, run};

/// Sends two records with the handler that `handler` makes; the first argument is a place.
fn send(handler: &str, place: &str) {
    let script = format!(
        "import logging, logging.handlers, socket, sys\n\
         H = logging.handlers.SysLogHandler\n\
         host, _, port = sys.argv[1].rpartition(':')\n\
         handler = {handler}\n\
         handler.setFormatter(logging.Formatter('%(name)s[%(process)d]: %(message)s'))\n\
         log = logging.getLogger('web')\n\
         log.addHandler(handler)\n\
         log.warning('caf\\u00e9 is %s', 'closed')\n\
         log.error('and so is the bar')\n\
         handler.close()\n"
    );
    run(Command::new("python3").args(["-c", &script, place]));
}

fn check_both(all: &[serde_json::Value]) {
    let expected = [
        ("warning", "caf\u{e9} is closed"),
        ("err", "and so is the bar"),
    ];
    for (event, (severity, message)) in all.iter().zip(expected) {
        check(
            event,
            &[
                ("facility", Some("local0")),
                ("severity", Some(severity)),
                ("app", Some("web")),
                ("message", Some(message)),
                ("parse_error", None),
            ],
        );
        assert!(event["procid"].as_str().unwrap().parse::<u32>().is_ok());
    }
}

#[test]
fn pythons_handler_over_udp_tcp_and_a_local_socket() {
    if !has("python3", "pythons_handler_over_udp_tcp_and_a_local_socket") {
        return;
    }
    let daemon = receiver("\"udp://127.0.0.1:0\", \"unixgram://./log\"", "");
    let udp = daemon.address("source.in", "udp").to_string();
    send("H((host, int(port)), facility=H.LOG_LOCAL0)", &udp);
    check_both(&events(&daemon, 2));
    let path = daemon.path("log");
    send(
        "H(sys.argv[1], facility=H.LOG_LOCAL0)",
        path.to_str().unwrap(),
    );
    check_both(&events(&daemon, 4)[2..]);
    daemon.stop();
    // Over TCP it ends each message with a NUL and nothing else.
    let daemon = receiver("\"tcp://127.0.0.1:0\"", "framing = \"nul\"");
    let tcp = daemon.tcp_address("source.in").to_string();
    let handler = "H((host, int(port)), facility=H.LOG_LOCAL0, socktype=socket.SOCK_STREAM)";
    send(handler, &tcp);
    check_both(&events(&daemon, 2));
    daemon.stop();
}
