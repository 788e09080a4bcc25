//! What only one may have: an address to listen on, a file to write.
//!
//! Which options claim something is said by their descriptors; here the claims of all
//! components are compared. Addresses are compared as far as text goes: `0.0.0.0`, `[::]` and
//! `*` take their port on every address, TLS and TCP share their ports, port 0 is never taken.

use super::Component;
use super::resolve::Resolver;
use crate::pipeline::descriptor::Claims;
use crate::pipeline::options::{Located, Place, Value};

/// One claim of one component.
struct Claim<'a> {
    claims: Claims,
    text: String,
    component: &'a Component,
    place: Place,
}

/// Reports every second taker of an address or a file, pointing at both.
pub fn check(sources: &[Component], sinks: &[Component], resolver: &mut Resolver<'_>) {
    let all: Vec<_> = sources.iter().chain(sinks).flat_map(claims_of).collect();
    for (index, second) in all.iter().enumerate() {
        let Some(first) = all[..index].iter().find(|first| clash(first, second)) else {
            continue;
        };
        let owner = &first.component.name;
        let same = std::ptr::eq(first.component, second.component);
        let message = match (second.claims, same) {
            (Claims::File, _) => {
                format!(
                    "sink `{}` writes to the file of sink `{owner}`",
                    second.component.name
                )
            }
            (_, true) => format!("`{}` is listened on twice", second.text),
            (_, false) => format!(
                "`{}` is already listened on by source `{owner}`",
                second.text
            ),
        };
        let finding = resolver.findings.error(second.place, message);
        finding.also(first.place, "first taken here");
        let fix = match second.claims {
            Claims::File => "let the pipelines name one sink",
            _ => "use another port, or let the pipelines name one source",
        };
        finding.help(fix);
    }
}

fn claims_of(component: &Component) -> Vec<Claim<'_>> {
    let mut all = Vec::new();
    for setting in component.options.settings() {
        let Some(located) = setting.value.as_ref().filter(|_| setting.given) else {
            continue;
        };
        if setting.opt.claims == Claims::Nothing {
            continue;
        }
        let items = match &located.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(located),
        };
        all.extend(items.iter().filter_map(|item| {
            let text = text_of(item)?;
            Some(Claim {
                claims: setting.opt.claims,
                text,
                component,
                place: inside(item.place),
            })
        }));
    }
    all
}

fn text_of(located: &Located) -> Option<String> {
    match &located.value {
        Value::Text(text) => Some(text.clone()),
        Value::Path(path) => Some(path.to_string_lossy().into_owned()),
        _ => None,
    }
}

fn inside(place: Place) -> Place {
    let quoted = place.end > place.start + 2;
    let cut = u32::from(quoted);
    Place {
        start: place.start + cut,
        end: place.end - cut,
        ..place
    }
}

fn clash(first: &Claim<'_>, second: &Claim<'_>) -> bool {
    if first.claims != second.claims {
        return false;
    }
    match first.claims {
        Claims::Nothing => false,
        Claims::File => first.text == second.text,
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
