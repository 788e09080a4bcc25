//! One request until it has an outcome: made, judged, made again.
//!
//! Every attempt has the same body and the same key. Attempts are for ever, or for
//! `retry.give_up`; between them is the back-off, which begins anew when the server has taken
//! or refused something. One attempt is under way at a time, also while all of them fail. An
//! outage is told when it begins, when its reason changes and when it ends (F-099).

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::rc::Rc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::http::{Budget, Client, Headers};
use crate::pipeline::port::Inlet;
use crate::reactor::Handle;
use crate::reactor::worker::Pool;
use crate::sinks::outage::Outage;
use crate::telemetry::events::{PostFailed, PostRecovered};
use crate::time::{Duration, Instant};
use crate::transport::tls::CertificateFacts;
use crate::transport::{Backoff, BackoffOptions, Network};

use super::Plan;
use super::pulse::Pulse;
use super::verdict::{Cure, Failed, Verdict, sentence};

/// What became of a request.
pub(super) enum Outcome {
    Delivered,
    TooLarge(String),
    Refused(String),
    /// It failed for longer than `retry.give_up`.
    GivenUp(String),
    Stopped,
}

/// Makes requests.
pub(super) struct Poster {
    plan: Rc<Plan>,
    component: String,
    reactor: Handle,
    client: Client,
    inlet: Inlet,
    pulse: Rc<Pulse>,
    backoff: RefCell<Backoff>,
    /// For what time alone does not heal.
    slow_backoff: RefCell<Backoff>,
    outage: Outage,
    /// What the keys of this start begin with.
    key: String,
    keys: Cell<u64>,
    /// Requests made, again or not.
    requests: Cell<u64>,
}

impl Poster {
    pub(super) fn new(
        network: &Network,
        plan: &Rc<Plan>,
        inlet: &Inlet,
        pulse: &Rc<Pulse>,
    ) -> Poster {
        let budget = Budget::new(2 * plan.client.body.bytes_max);
        let slow = BackoffOptions {
            initial: plan.backoff.max,
            max: plan.backoff.max,
        };
        let backoff = |options| RefCell::new(Backoff::new(options, network.next_seed()));
        Poster {
            plan: Rc::clone(plan),
            component: format!("sink.{}", inlet.name()),
            reactor: network.reactor().clone(),
            client: Client::new(network, plan.client.clone(), budget),
            inlet: inlet.clone(),
            pulse: Rc::clone(pulse),
            backoff: backoff(plan.backoff),
            slow_backoff: backoff(slow),
            outage: Outage::default(),
            key: format!("{:016x}", network.next_seed()),
            keys: Cell::new(0),
            requests: Cell::new(0),
        }
    }

    /// Posts `body` until there is an outcome, under `key` or one that no other body has.
    pub(super) async fn post(&self, body: Bytes, key: Option<String>) -> Outcome {
        let mut headers = self.plan.headers.clone();
        let key = key.unwrap_or_else(|| self.next_key());
        headers.set("idempotency-key", key.as_bytes());
        let body = self.coded(body, &mut headers).await;
        let begin = self.reactor.now();
        while !self.pulse.is_stopped() {
            self.requests.set(self.requests.get() + 1);
            let url = &self.plan.url;
            let answer = self.client.post(url, &headers, body.clone()).await;
            if self.pulse.is_stopped() {
                break;
            }
            let outcome = match Verdict::of(answer, self.reactor.wall()) {
                Verdict::Delivered => Outcome::Delivered,
                Verdict::TooLarge(why) => Outcome::TooLarge(why),
                Verdict::Refused(why) => Outcome::Refused(why),
                Verdict::Failed(failed) => {
                    let Some(until) = self.failed(&failed, begin) else {
                        return Outcome::GivenUp(format!("given up: {}", failed.why));
                    };
                    self.pulse.sleep_until(until).await;
                    continue;
                }
            };
            self.works();
            return outcome;
        }
        Outcome::Stopped
    }

    /// Books a failure; says when to try again, or `None` for never.
    fn failed(&self, failed: &Failed, begin: Instant) -> Option<Instant> {
        let now = self.reactor.now();
        let left = self.plan.give_up.map(|limit| {
            let spent = now.since(begin);
            limit.saturating_sub(spent)
        });
        let pause = self.pause(&failed.cure).min(left.unwrap_or(Duration::MAX));
        let advice = match failed.cure {
            Cure::Config(advice) => advice,
            Cure::Time(_) => "",
        };
        self.inlet.ledger().retries.add(1);
        let text = sentence(&failed.why, &failed.excerpt);
        self.inlet.set_trouble(Some(&text));
        self.inlet.tries_again_in(pause);
        let record = PostFailed {
            component: &self.component,
            url: &self.plan.url,
            why: &failed.why,
            excerpt: &failed.excerpt,
            advice,
            retry_in: pause,
            is_news: self.outage.failed(&failed.why),
        };
        record.log();
        (left != Some(Duration::ZERO)).then(|| now + pause)
    }

    /// How long to wait. A server that names a time is left alone for that and the back-off's
    /// own, so that not all of its clients come back at once (F-109).
    fn pause(&self, cure: &Cure) -> Duration {
        match cure {
            Cure::Config(_) => self.slow_backoff.borrow_mut().delay(),
            Cure::Time(asked) => asked.unwrap_or_default() + self.backoff.borrow_mut().delay(),
        }
    }

    fn works(&self) {
        self.backoff.borrow_mut().reset();
        let failures = self.outage.over();
        if failures == 0 {
            return;
        }
        self.inlet.set_trouble(None);
        let record = PostRecovered {
            component: &self.component,
            url: &self.plan.url,
            failures,
        };
        record.log();
    }

    /// The body as it goes over the wire. Packing takes too long for the reactor's thread; where
    /// no thread can be had the body goes as it is.
    async fn coded(&self, body: Bytes, headers: &mut Headers) -> Bytes {
        if !self.plan.is_gzip {
            return body;
        }
        let plain = body.clone();
        let pack = move || {
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(&plain)?;
            Ok(Bytes::from(packed.finish()?))
        };
        let packed = self
            .reactor
            .defer_to_thread(Pool::General, "compress a request", pack);
        match packed.await {
            Ok(packed) => {
                headers.set("content-encoding", b"gzip");
                packed
            }
            Err(_) => body,
        }
    }

    /// A key that no two bodies have, over all starts.
    fn next_key(&self) -> String {
        let number = self.keys.get();
        self.keys.set(number + 1);
        format!("{}-{number}", self.key)
    }

    /// Closes the connection that waits for a request.
    pub(super) fn close_idle(&self) {
        self.client.close_idle();
    }

    /// Connections that are open.
    pub(super) fn connections(&self) -> u64 {
        self.client.connections()
    }

    /// The certificate that the server is shown.
    pub(super) fn certificates(&self) -> Vec<CertificateFacts> {
        self.client.certificates()
    }

    /// Requests made, again or not.
    pub(super) fn requests(&self) -> u64 {
        self.requests.get()
    }
}
