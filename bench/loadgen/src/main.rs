//! Load tools for side-by-side measurements: one process, one subcommand each.
//!
//! Every subcommand prints one JSON object on stdout when it is done; those that listen print
//! `ready` on stderr when they do. Blocking sockets and threads: the tools have to be simple
//! and faster than what they measure, not frugal.

mod conns;
mod corpus;
mod latency;
mod receive;
mod send;
mod serve;

use std::net::TcpStream;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

const USAGE: &str = "\
loadgen corpus KIND BYTES FILE [SEED]        unique lines: syslog5424 syslog3164 json apache plain
loadgen sum FILE                             lines and a sum over them, whatever their order
loadgen send-tcp ADDR FILE REPEAT CONNS [LINES_PER_S]
loadgen send-udp ADDR FILE LINES LINES_PER_S
loadgen send-http ADDR PATH FILE LINES_PER_REQUEST CONNS
loadgen recv-tcp ADDR EXPECT_LINES IDLE_S [verify]
loadgen recv-http ADDR EXPECT_LINES IDLE_S
loadgen conns ADDR COUNT HOLD_S LINES_PER_S_EACH
loadgen latency LISTEN_ADDR SEND_ADDR LINES_PER_S SECONDS syslog|plain
loadgen relay LISTEN_ADDR TO_ADDR            the floor: copies bytes, looks at nothing
loadgen poetry ADDR FILE BYTES_PER_CHUNK DELAY_MS    a slow server
";

/// What goes wrong is said once and ends the run: a measurement has no second try.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The arguments after the subcommand.
struct Arguments(Vec<String>);

impl Arguments {
    fn text(&self, index: usize) -> Result<&str, String> {
        self.0
            .get(index)
            .map(String::as_str)
            .ok_or_else(|| format!("argument {} missing", index + 1))
    }

    fn number<T: FromStr>(&self, index: usize) -> Result<T, String> {
        let text = self.text(index)?;
        text.parse()
            .map_err(|_| format!("argument {} is no number: {text}", index + 1))
    }

    fn number_or<T: FromStr>(&self, index: usize, default: T) -> Result<T, String> {
        if self.0.len() > index {
            self.number(index)
        } else {
            Ok(default)
        }
    }
}

fn run(command: &str, given: &Arguments) -> Outcome {
    match command {
        "corpus" => {
            let (kind, file) = (given.text(0)?, given.text(2)?);
            corpus::write(kind, given.number(1)?, file, given.number_or(3, 1)?)
        }
        "sum" => corpus::sum(given.text(0)?),
        "send-tcp" => send::tcp(&send::Tcp {
            address: given.text(0)?.to_owned(),
            file: given.text(1)?.to_owned(),
            repeat: given.number(2)?,
            connections: given.number(3)?,
            lines_per_second: given.number_or(4, 0.0)?,
        }),
        "send-udp" => send::udp(
            given.text(0)?,
            given.text(1)?,
            given.number(2)?,
            given.number(3)?,
        ),
        "send-http" => send::http(&send::Http {
            address: given.text(0)?.to_owned(),
            path: given.text(1)?.to_owned(),
            file: given.text(2)?.to_owned(),
            lines_per_request: given.number(3)?,
            connections: given.number(4)?,
        }),
        "recv-tcp" => {
            let verify = given.0.get(3).is_some_and(|word| word == "verify");
            receive::tcp(given.text(0)?, given.number(1)?, given.number(2)?, verify)
        }
        "recv-http" => receive::http(given.text(0)?, given.number(1)?, given.number(2)?),
        "conns" => conns::hold(
            given.text(0)?.parse()?,
            given.number(1)?,
            given.number(2)?,
            given.number(3)?,
        ),
        "latency" => latency::measure(&latency::Run {
            listen: given.text(0)?.to_owned(),
            send: given.text(1)?.to_owned(),
            lines_per_second: given.number(2)?,
            seconds: given.number(3)?,
            is_syslog: given.text(4)? == "syslog",
        }),
        "relay" => serve::relay(given.text(0)?, given.text(1)?),
        "poetry" => serve::poetry(
            given.text(0)?,
            given.text(1)?,
            given.number(2)?,
            given.number(3)?,
        ),
        _ => Err(USAGE.into()),
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    match run(&command, &Arguments(words.collect())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadgen {command}: {error}");
            ExitCode::from(2)
        }
    }
}

/// How long a subject may take until it listens.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// Connects, and tries again while nobody listens yet.
fn connect(address: &str) -> std::io::Result<TcpStream> {
    let start = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) if start.elapsed() > CONNECT_LIMIT => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Sleeps until `sent` lines are due at `rate` lines per second since `start`.
fn pace(start: Instant, sent: u64, rate: f64) {
    let due = Duration::from_secs_f64(sent as f64 / rate);
    let elapsed = start.elapsed();
    if due > elapsed {
        std::thread::sleep(due - elapsed);
    }
}
