//! `http_poll`: fetches documents by HTTP, each URL at its own phase of a period.
//!
//! The document is an event, or the elements of an array in it are (`split`). A URL is asked
//! for soon after the start, within `every` and 5 s, then each `every` at a phase that comes of
//! the source's name and the URL: stable, and spread over the period. At most 64 requests of
//! a source are under way. A round is left out, and counted, while the one before is not over
//! (its delivery included), while the sinks are behind, and while the server asked for a pause
//! by `Retry-After` (obeyed up to an hour).
//!
//! `ETag` and `Last-Modified` are sent back once their document was delivered; a 304 makes no
//! event. Any other answer than 200, 204 and that 304 is a failure, as is a document that was
//! cut off: there are no events of part of a document. A failure is logged when it begins and
//! when it becomes another one, and when it ends.

mod poller;

use std::rc::Rc;

use crate::deferred::{Deferred, Failure};
use crate::http::{BodyLimits, Client, ClientOptions, Headers, Url};
use crate::pipeline::component::{Resources, Source};
use crate::pipeline::descriptor::{Build, Descriptor, Kind, Opt};
use crate::pipeline::facts::Facts;
use crate::pipeline::intake::Outlet;
use crate::pipeline::options::{Mistake, Options};
use crate::pipeline::shared_options;
use crate::pipeline::tls::{self, DIALLING_TLS};
use crate::time::Duration;
use crate::transport::Network;

use super::bodies;
use poller::{Plan, Poller, Round};

/// The component.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "http_poll",
    summary: "documents that are fetched by HTTP again and again",
    options: &[
        Opt::new(
            "url",
            "what to fetch: one http:// or https:// URL; or `urls`",
            Kind::Text(Some(check_url)),
        ),
        Opt::new(
            "urls",
            "what to fetch: http:// or https:// URLs, each on its own; or `url`",
            Kind::List(&Kind::Text(Some(check_url))),
        ),
        Opt::new(
            "every",
            "time between two requests for the same URL",
            Kind::DURATION,
        )
        .required(),
        Opt::new(
            "timeout",
            "limit of one request, from the look-up of the name to the last byte of the answer",
            Kind::DURATION,
        )
        .default("\"10s\""),
        Opt::new(
            "split",
            "where the document has an array whose elements are the events: \".items\", or \".\" \
             for the document itself; without it the document is one event",
            Kind::Text(Some(check_split)),
        ),
        Opt::new(
            "max_body",
            "largest document, in bytes, on the wire and decoded; a larger one is a failure",
            Kind::Size {
                min: 1 << 10,
                max: 1 << 30,
                words: &[],
            },
        )
        .default("\"16MiB\""),
    ],
    shared: &[shared_options::ASKING, DIALLING_TLS],
    example: "[source.status]\ntype  = \"http_poll\"\nevery = \"30s\"\n\
              urls  = [\"http://127.0.0.1:8080/status.json\"]\n",
    build: Build::Source(build),
};

fn check_url(text: &str) -> Result<(), Mistake> {
    parse_url(text).map(|_| ())
}

fn parse_url(text: &str) -> Result<Url, Mistake> {
    Url::parse(text).map_err(|error| {
        let length = text.len().saturating_sub(error.offset);
        Mistake::new(error.message)
            .at(error.offset, length)
            .help(error.help)
    })
}

fn check_split(text: &str) -> Result<(), Mistake> {
    keys(text).map(|_| ())
}

/// The keys of `.items.list`; none of `.`.
fn keys(text: &str) -> Result<Vec<String>, Mistake> {
    let help = "write \".\" or the keys down to the array, like \".data.items\"";
    let Some(rest) = text.strip_prefix('.') else {
        let mistake = Mistake::new("a place in a document begins with a dot");
        return Err(mistake.at(0, 1).help(help));
    };
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<String> = rest.split('.').map(str::to_owned).collect();
    if keys.iter().any(String::is_empty) {
        return Err(Mistake::new("a key is missing between two dots").help(help));
    }
    Ok(keys)
}

fn build(options: &Options) -> Result<Box<dyn Source>, Mistake> {
    let urls = options.one_or_many("url", "urls")?;
    let urls = urls.into_iter().map(parse_url);
    let urls: Vec<Url> = urls.collect::<Result<_, _>>().map_err(|e| e.of("urls"))?;
    let addresses: Vec<_> = urls.iter().map(Url::address).collect();
    let split = options.maybe_text("split").map(keys).transpose();
    Ok(Box::new(HttpPoll {
        urls,
        every: options.duration("every"),
        split: split.map_err(|mistake| mistake.of("split"))?,
        client: ClientOptions {
            timeout: options.duration("timeout"),
            connect_timeout: options.duration("timeout"),
            body: BodyLimits {
                bytes_max: options.size("max_body") as usize,
                ..BodyLimits::default()
            },
            tls: tls::dialling(options, &addresses, true)?,
            ..ClientOptions::default()
        },
        headers: headers(options)?,
        running: None,
    }))
}

fn headers(options: &Options) -> Result<Headers, Mistake> {
    let mut headers = Headers::default();
    shared_options::header_fields(options, |name, value| headers.set(name, value))?;
    Ok(headers)
}

struct HttpPoll {
    urls: Vec<Url>,
    every: Duration,
    split: Option<Vec<String>>,
    client: ClientOptions,
    headers: Headers,
    running: Option<Running>,
}

struct Running {
    client: Client,
    pollers: Vec<Rc<Poller>>,
}

impl Source for HttpPoll {
    fn start(&mut self, outlet: Outlet, resources: &Resources) -> Result<Vec<String>, Failure> {
        let network = resources.get::<Network>();
        let patience = ROOM_PATIENCE.min(self.client.timeout / 2);
        let budget = bodies::budget(&outlet, &self.client.body, patience);
        let client = Client::new(network, self.client.clone(), budget);
        let plan = Rc::new(Plan::new(
            network.reactor(),
            &outlet,
            self.every,
            self.split.clone(),
        ));
        let pollers: Vec<_> = self
            .urls
            .iter()
            .map(|url| Poller::new(&plan, &outlet, Round::new(&client, url, &self.headers)))
            .collect();
        pollers.iter().for_each(Poller::begin);
        let about = self.urls.iter().map(|url| {
            let every = self.every;
            format!("fetching {url} every {every:?}")
        });
        self.running = Some(Running { client, pollers });
        Ok(about.collect())
    }

    fn facts(&self) -> Facts {
        let mut counts = ["documents", "unchanged", "failures", "skipped_rounds"]
            .map(|name| (name, 0))
            .to_vec();
        let pollers = self.running.iter().flat_map(|running| &running.pollers);
        for poller in pollers {
            let more = poller.counts();
            counts
                .iter_mut()
                .zip(more)
                .for_each(|(sum, one)| sum.1 += one);
        }
        let running = self.running.as_ref();
        Facts {
            certificates: running.map_or_else(Vec::new, |it| it.client.certificates()),
            places: self.urls.iter().map(Url::to_string).collect(),
            counts,
            ..Facts::default()
        }
    }

    /// Requests under way are given up: what they would have brought is there for the next run.
    fn stop(&mut self) -> Deferred<()> {
        if let Some(running) = self.running.take() {
            running.pollers.iter().for_each(|poller| poller.stop());
            running.client.close_idle();
        }
        Deferred::ready(())
    }
}

/// How long a document that is being received waits while the daemon's memory is used up, at
/// most half of its time limit: then the round fails, and says why.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);
