//! What the admin socket answers, and where it is opened.
//!
//! One [`Route`] per thing that can be asked. Where nobody named a place for the socket a daemon
//! that cannot have it says so and runs without; a place that the config names must be had.

use std::rc::Rc;

use crate::deferred::Failure;
use crate::http::{Response, ServiceFuture};
use crate::telemetry::events::{AdminOpened, AdminUnavailable};
use crate::transport::Network;

use super::admin::AdminSocket;
use super::cli::EXIT_CONFIG;
use super::desk::Route;
use super::paths::{Admin, Paths, make_state_dir};
use super::reload::{Outcome, Reloader};
use super::report::Report;
use super::status::{self, Status};
use super::{EXIT_CUT, EXIT_TEMPORARY};

/// Opens the admin socket where `paths` say; `None` where there is to be none, or none can be.
///
/// # Errors
/// The config names the place, and it cannot be had.
pub(super) fn open(
    network: &Network,
    paths: &Paths,
    routes: Vec<Route>,
) -> Result<Option<AdminSocket>, Failure> {
    let (path, is_given) = match &paths.admin {
        Admin::Off => return Ok(None),
        Admin::Default(path) => (path, false),
        Admin::Given(path) => (path, true),
    };
    if path.starts_with(&paths.state_dir)
        && let Err(error) = make_state_dir(&paths.state_dir)
    {
        let folder = paths.state_dir.display();
        let help = "make it, or name another one with daemon.state_dir";
        let why = Failure::msg(format!("cannot make the folder {folder}: {error}; {help}"));
        return without(is_given, why);
    }
    match AdminSocket::open(network, path, routes) {
        Ok(socket) => {
            AdminOpened {
                path: &path.display(),
            }
            .log();
            Ok(Some(socket))
        }
        Err(error) => without(is_given, error.into()),
    }
}

/// Goes on without the socket, or not.
fn without(is_given: bool, why: Failure) -> Result<Option<AdminSocket>, Failure> {
    if is_given {
        return Err(why.context("cannot open the admin socket (daemon.admin)"));
    }
    AdminUnavailable {
        why: &why.to_string(),
    }
    .log();
    Ok(None)
}

/// Everything that can be asked of a running daemon.
pub(super) fn all(status: Rc<Status>, reloader: Rc<Reloader>) -> Vec<Route> {
    let debug = Rc::clone(&status);
    vec![
        Route {
            method: "GET",
            path: "/status",
            about: "how the daemon, its sources, pipelines and sinks are",
            answer: Box::new(move || shown(&status, false)),
        },
        Route {
            method: "GET",
            path: "/status/debug",
            about: "the same, with timers, connections and what is pending",
            answer: Box::new(move || shown(&debug, true)),
        },
        Route {
            method: "POST",
            path: RELOAD,
            about: "reads the config again and goes over to it, or stays as it is",
            answer: Box::new(move || reloaded(&reloader)),
        },
    ]
}

fn reloaded(reloader: &Rc<Reloader>) -> ServiceFuture {
    let reloading = reloader.reload("marline reload");
    Box::pin(async move {
        let outcome = reloading.await;
        let Ok(Outcome { code, text }) = outcome else {
            return Response::new(500).because("the reload was given up");
        };
        let status = match code {
            0 => 200,
            EXIT_CONFIG => 422,
            EXIT_TEMPORARY => 503,
            _ => 500,
        };
        let mut response = Response::new(status).with("content-type", "text/plain; charset=utf-8");
        response.body = text.into();
        response
    })
}

/// The exit code that an answer of [`RELOAD`] stands for.
pub(super) fn reload_code(status: u16) -> u8 {
    match status {
        200 => 0,
        422 => EXIT_CONFIG,
        503 => EXIT_TEMPORARY,
        _ => EXIT_CUT,
    }
}

/// Where a reload is asked for.
pub(super) const RELOAD: &str = "/reload";

fn shown(status: &Rc<Status>, debug: bool) -> ServiceFuture {
    reported(status, debug, |status, report| {
        let text = status::text(&status.json(report));
        let mut response = Response::new(200).with("content-type", "application/json");
        response.body = text.into();
        response
    })
}

/// Answers with what `show` makes of the report of all reactors, once it is there.
pub(super) fn reported(
    status: &Rc<Status>,
    debug: bool,
    show: impl FnOnce(&Status, &Report) -> Response + 'static,
) -> ServiceFuture {
    // Who asked may be gone by the time that there is no answer: that is nobody's failure then.
    let gathered = status.gathered(debug).add_both(Ok);
    let status = Rc::clone(status);
    Box::pin(async move {
        match gathered.await.flatten() {
            Ok(report) => show(&status, &report),
            Err(why) => Response::new(503).because(&format!("a reactor does not answer: {why}")),
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::deferred::{self, Deferred, try_join_all};
    use crate::pipeline::memory::Memory;
    use crate::reactor::{Options, PoolSizes, Reactor, Seams, Threads};
    use crate::service::report::{Ask, Report};
    use crate::service::status::REPORT_LIMIT;
    use crate::sim::{SimIo, SimPoller, VirtualClock};
    use crate::time::{Duration, Instant, WallTime};

    /// The code and the text of the answer to GET /status, of reactors that are asked like this.
    fn check(asked: Vec<Ask>, after: Duration, expected: Option<(u16, &str)>) {
        let clock = VirtualClock::new();
        let seams = Seams {
            clock: Rc::new(clock.clone()),
            poller: Box::new(SimPoller::new(clock.clone(), SimIo::new())),
            worker: Rc::new(Threads::new(PoolSizes::default())),
        };
        let mut reactor = Reactor::new(seams, Options::default()).unwrap();
        let status = Rc::new(Status {
            gather: all(asked),
            reactor: reactor.handle(),
            memory: Memory::new(1 << 20),
            last_errors: Default::default(),
            config: "marline.toml".into(),
            started: (Instant::ZERO, WallTime::default()),
            workers: 2,
            is_stopping: Box::new(|| false),
        });
        let answer = shown(&status, false);
        let answer = deferred::spawn(async move { Ok(answer.await) });
        clock.drive(&mut reactor, after).unwrap();
        let answer = answer.now_or_pending();
        let answer = answer.map(|answer| answer.unwrap());
        let (code, text) = expected.unzip();
        assert_eq!(answer.as_ref().map(|answer| answer.status), code);
        let body = answer.map_or_else(Default::default, |answer| answer.body);
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains(text.unwrap_or("")), "{body}");
    }

    /// Asks all of them, as a crew does.
    fn all(asked: Vec<Ask>) -> Ask {
        Box::new(move |debug| {
            let reports = try_join_all(asked.iter().map(|ask| ask(debug)));
            let whole = reports.add_callback(|reports| {
                let whole = reports.into_iter().reduce(Report::merge);
                Ok(whole.unwrap_or_default())
            });
            whole.named("report of all reactors")
        })
    }

    /// A reactor that tells of itself at once.
    fn awake() -> Ask {
        Box::new(|_| Deferred::ready(Report::default()))
    }

    /// One that is stuck.
    fn stuck() -> Ask {
        let promises = RefCell::new(Vec::new());
        Box::new(move |_| {
            let (promise, deferred) = Deferred::new();
            promises.borrow_mut().push(promise);
            deferred
        })
    }

    #[test]
    fn who_asks_while_a_reactor_is_stuck_is_told_so_in_time() {
        let late = "a reactor does not answer: report of all reactors timed out after 2s";
        let short = Duration::from_millis(1);
        check(vec![awake()], short, Some((200, "\"schema\": 1")));
        check(vec![awake(), stuck()], REPORT_LIMIT - short, None);
        check(vec![awake(), stuck()], REPORT_LIMIT, Some((503, late)));
        check(vec![stuck()], REPORT_LIMIT, Some((503, late)));
        let gone: Ask = Box::new(|_| Deferred::failed(deferred::Failure::msg("it has ended")));
        check(vec![gone, awake()], short, Some((503, "it has ended")));
    }
}
