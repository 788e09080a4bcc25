//! What the admin socket answers, and where it is opened.
//!
//! One [`Route`] per thing that can be asked. Where nobody named a place for the socket a daemon
//! that cannot have it says so and runs without; a place that the config names must be had.

use std::rc::Rc;

use crate::deferred::Failure;
use crate::http::Response;
use crate::telemetry::events::{AdminOpened, AdminUnavailable};
use crate::transport::Network;

use super::admin::AdminSocket;
use super::cli::EXIT_CONFIG;
use super::desk::Route;
use super::paths::{Admin, Paths, make_state_dir};
use super::reload::{Outcome, Reloader};
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

fn reloaded(reloader: &Rc<Reloader>) -> crate::http::ServiceFuture {
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

fn shown(status: &Status, debug: bool) -> crate::http::ServiceFuture {
    let text = status::text(&status.report(debug));
    let mut response = Response::new(200).with("content-type", "application/json");
    response.body = text.into();
    Box::pin(std::future::ready(response))
}
