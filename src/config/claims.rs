//! What only one may have: an address to listen on, a file to write, standard input.
//!
//! Which options claim something is said by their descriptors; here the claims of all
//! components are compared. Addresses are compared as far as text goes: `0.0.0.0`, `[::]` and
//! `*` take their port on every address, TLS and TCP share their ports, port 0 is never taken.

use super::findings::Findings;
use crate::pipeline::descriptor::Claims;
use crate::pipeline::options::Place;

/// One claim of one component.
#[derive(Debug)]
pub struct Claim {
    /// Of what kind.
    pub claims: Claims,
    /// The address or path as written.
    pub text: String,
    /// The component: `source.in`.
    pub owner: String,
    /// Where the text stands.
    pub place: Place,
}

/// Reports every second taker of an address or a file, pointing at both.
pub fn check(claims: &[Claim], findings: &mut Findings) {
    for (index, second) in claims.iter().enumerate() {
        let Some(first) = claims[..index].iter().find(|first| clash(first, second)) else {
            continue;
        };
        let message = match second.claims {
            Claims::File => {
                format!(
                    "{} writes to the same file as {}",
                    spoken(second),
                    spoken(first)
                )
            }
            Claims::StandardInput => format!("{} reads standard input already", spoken(first)),
            _ if first.owner == second.owner => format!("`{}` is listened on twice", second.text),
            _ => format!(
                "`{}` is already listened on by {}",
                second.text,
                spoken(first)
            ),
        };
        let finding = findings.error(second.place, message);
        finding.also(first.place, "first taken here");
        finding.help(match second.claims {
            Claims::File => "let the pipelines name one sink",
            Claims::StandardInput => "let the pipelines name one source",
            _ if first.owner == second.owner => "once is enough",
            _ => "use another port, or let the pipelines name one source",
        });
    }
}

/// `source.in` as words: ``source `in` ``.
fn spoken(claim: &Claim) -> String {
    match claim.owner.split_once('.') {
        Some((role, name)) => format!("{role} `{name}`"),
        None => claim.owner.clone(),
    }
}

fn clash(first: &Claim, second: &Claim) -> bool {
    if first.claims != second.claims {
        return false;
    }
    match first.claims {
        Claims::Nothing => false,
        Claims::File => first.text == second.text,
        Claims::StandardInput => true,
        Claims::Listener => same_listener(&first.text, &second.text),
    }
}

fn same_listener(first: &str, second: &str) -> bool {
    let (Some(a), Some(b)) = (Port::of(first), Port::of(second)) else {
        return first == second;
    };
    a.stream == b.stream
        && a.port == b.port
        && a.port != "0"
        && (a.host == b.host || a.any() || b.any())
}

/// An address with a port.
struct Port<'a> {
    stream: bool,
    host: &'a str,
    port: &'a str,
}

impl<'a> Port<'a> {
    fn of(text: &'a str) -> Option<Port<'a>> {
        let (scheme, rest) = text.split_once("://")?;
        let stream = match scheme {
            "tcp" | "tls" | "http" | "https" => true,
            "udp" => false,
            _ => return None,
        };
        let (host, port) = rest.rsplit_once(':')?;
        Some(Port { stream, host, port })
    }

    fn any(&self) -> bool {
        matches!(self.host, "0.0.0.0" | "[::]" | "*" | "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_that_cannot_stand_side_by_side() {
        let check = |a, b, clash| assert_eq!(same_listener(a, b), clash, "{a} {b}");
        check("tcp://127.0.0.1:1", "tcp://127.0.0.1:1", true);
        check("tcp://127.0.0.1:1", "udp://127.0.0.1:1", false);
        check("tcp://127.0.0.1:1", "tls://127.0.0.1:1", true);
        check("tcp://0.0.0.0:1", "tcp://127.0.0.1:1", true);
        check("tcp://127.0.0.2:1", "tcp://127.0.0.1:1", false);
        check("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", false);
        check("tcp://[::]:1", "tcp://[::1]:1", true);
        check("unix:///a", "unix:///a", true);
        check("unix:///a", "unix:///b", false);
        check("systemd:syslog", "systemd:syslog", true);
    }
}
