//! One report of two: what several reactors have of the same component, as if one had it.
//!
//! Counts and bytes are summed, lists joined, of spans the longest is told, and of what only one
//! can be told (a trouble, a policy) that of the first report. The order is the first report's;
//! what only the other one has comes behind it. Since every account is a sum of accounts, merged
//! ledgers balance where each did.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::pipeline::blocked::Blocked;
use crate::pipeline::facts::{DialectFacts, Facts, SocketFacts};
use crate::reactor::Stats;

use super::super::assembly::Described;
use super::{
    BufferReport, FlowReport, Inside, LIST_MAX, PendingReport, PortReport, Report, TimersReport,
};

impl Report {
    /// This one and another, as one.
    pub fn merge(mut self, other: Report) -> Report {
        join(&mut self.sources, other.sources, name_of, add_described);
        let of_flow = |flow: &FlowReport| (flow.name.clone(), flow.is_former);
        join(&mut self.flows, other.flows, of_flow, FlowReport::add);
        join(
            &mut self.pipelines,
            other.pipelines,
            |pipeline| (pipeline.name.clone(), pipeline.is_former),
            |mine, theirs| mine.books.add(theirs.books),
        );
        join(&mut self.sinks, other.sinks, name_of, add_described);
        let of_port = |port: &PortReport| port.name.clone();
        join(&mut self.ports, other.ports, of_port, PortReport::add);
        self.reactor = both(self.reactor, other.reactor);
        self.inside = match (self.inside, other.inside) {
            (Some(mine), Some(theirs)) => Some(mine.merge(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
        self
    }
}

/// `theirs` come to `mine`: what has the key of one there is added to it, the rest goes behind.
fn join<T, K: Eq + Hash>(
    mine: &mut Vec<T>,
    theirs: Vec<T>,
    key: impl Fn(&T) -> K,
    add: impl Fn(&mut T, T),
) {
    let places = mine.iter().enumerate().map(|(at, one)| (key(one), at));
    let places: HashMap<K, usize> = places.collect();
    for one in theirs {
        match places.get(&key(&one)) {
            Some(at) => add(&mut mine[*at], one),
            None => mine.push(one),
        }
    }
}

fn name_of(one: &Described) -> Arc<str> {
    Arc::clone(&one.name)
}

fn add_described(mine: &mut Described, theirs: Described) {
    let Facts {
        places,
        connections,
        counts,
        refused,
        failed_handshakes,
        sockets,
        dialects,
        certificates,
    } = theirs.facts;
    let facts = &mut mine.facts;
    join(&mut facts.places, places, String::clone, |_, _| {});
    facts.connections = sum(facts.connections, connections);
    add_counts(&mut facts.counts, counts);
    add_counts(&mut facts.refused, refused);
    add_counts(&mut facts.failed_handshakes, failed_handshakes);
    let address = |socket: &SocketFacts| socket.address.clone();
    join(&mut facts.sockets, sockets, address, |mine, theirs| {
        mine.receive_buffer_bytes = sum(mine.receive_buffer_bytes, theirs.receive_buffer_bytes);
        mine.kernel_drops = sum(mine.kernel_drops, theirs.kernel_drops);
    });
    let sender = |dialect: &DialectFacts| dialect.sender.clone();
    join(&mut facts.dialects, dialects, sender, |mine, theirs| {
        add_counts(&mut mine.messages, theirs.messages);
    });
    for certificate in certificates {
        if !facts.certificates.contains(&certificate) {
            facts.certificates.push(certificate);
        }
    }
}

fn add_counts(mine: &mut Vec<(&'static str, u64)>, theirs: Vec<(&'static str, u64)>) {
    join(
        mine,
        theirs,
        |(name, _)| *name,
        |mine, theirs| mine.1 += theirs.1,
    );
}

/// `None` is said by who does not know.
fn sum(mine: Option<u64>, theirs: Option<u64>) -> Option<u64> {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) => Some(mine + theirs),
        (mine, theirs) => mine.or(theirs),
    }
}

impl FlowReport {
    fn add(&mut self, other: FlowReport) {
        self.received_events += other.received_events;
        self.outstanding_bytes += other.outstanding_bytes;
        self.waiting_batches += other.waiting_batches;
        let lasts = |blocked: &Option<Blocked>| blocked.as_ref().map(|it| it.lasts);
        if lasts(&other.blocked) > lasts(&self.blocked) {
            self.blocked = other.blocked;
        }
        let sink = |stopper: &(String, &'static str)| stopper.0.clone();
        join(&mut self.stoppers, other.stoppers, sink, |_, _| {});
    }
}

impl PortReport {
    fn add(&mut self, other: PortReport) {
        self.books.add(other.books);
        self.volatile_events += other.volatile_events;
        if other.is_relay {
            return;
        }
        self.buffer.add(other.buffer);
        self.trouble = self.trouble.take().or(other.trouble);
        if other.last_error.as_ref().map(|it| it.0) > self.last_error.as_ref().map(|it| it.0) {
            self.last_error = other.last_error;
        }
        self.lag = self.lag.max(other.lag);
    }
}

impl BufferReport {
    /// The policy is the configuration's, the same for all.
    fn add(&mut self, other: BufferReport) {
        self.is_disk |= other.is_disk;
        self.failure = self.failure.take().or(other.failure);
        self.held_bytes += other.held_bytes;
        self.capacity_bytes += other.capacity_bytes;
    }
}

/// Counts are summed; of what is late or deep the worst is told.
fn both(mine: Stats, theirs: Stats) -> Stats {
    Stats {
        turns: mine.turns + theirs.turns,
        dispatches: mine.dispatches + theirs.dispatches,
        dispatch_depth_peak: mine.dispatch_depth_peak.max(theirs.dispatch_depth_peak),
        timers_fired: mine.timers_fired + theirs.timers_fired,
        panics: mine.panics + theirs.panics,
        slow_callbacks: mine.slow_callbacks + theirs.slow_callbacks,
        lag: mine.lag.max(theirs.lag),
        lag_peak: mine.lag_peak.max(theirs.lag_peak),
        timer_late_peak: mine.timer_late_peak.max(theirs.timer_late_peak),
        sources: mine.sources + theirs.sources,
        ready: mine.ready + theirs.ready,
        timers: mine.timers + theirs.timers,
        tasks: mine.tasks + theirs.tasks,
        jobs: mine.jobs + theirs.jobs,
    }
}

impl Inside {
    fn merge(mut self, other: Inside) -> Inside {
        for (place, TimersReport { count, next }) in other.timers {
            let entry = self.timers.entry(place);
            let mine = entry.or_insert(TimersReport { count: 0, next });
            mine.count += count;
            mine.next = mine.next.min(next);
        }
        for (name, theirs) in other.pending {
            let mine: &mut PendingReport = self.pending.entry(name).or_default();
            mine.count += theirs.count;
            mine.oldest = mine.oldest.max(theirs.oldest);
            mine.failed = mine.failed.take().or(theirs.failed);
        }
        for (job, count) in other.jobs {
            *self.jobs.entry(job).or_default() += count;
        }
        self.peers.extend(other.peers);
        self.peers.truncate(LIST_MAX);
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{PipelineReport, TroubleReport};
    use super::*;
    use crate::pipeline::ledger::Tally;
    use crate::pipeline::part::Stage;
    use crate::pipeline::queue::WhenFull;
    use crate::service::books::{self, PipelineBooks, SinkBooks};
    use crate::time::{Duration, WallTime};
    use crate::transport::tls::{About, CertificateFacts};

    fn described(name: &str, facts: Facts) -> Described {
        let kind = "socket";
        let name = name.into();
        Described { name, kind, facts }
    }

    fn of_source(name: &str, facts: Facts) -> Report {
        Report {
            sources: vec![described(name, facts)],
            ..Report::default()
        }
    }

    fn merged_facts(one: Facts, other: Facts) -> Facts {
        let report = of_source("in", one).merge(of_source("in", other));
        let [source] = report.sources.try_into().unwrap();
        source.facts
    }

    fn flow(name: &str, blocked: Option<u64>) -> FlowReport {
        let sink = |seconds| Blocked {
            lasts: Duration::from_secs(seconds),
            sink: Some(format!("after {seconds}")),
            why: String::new(),
            held_bytes: 7,
        };
        FlowReport {
            name: name.into(),
            is_former: false,
            stage: Stage::Durable,
            received_events: 3,
            outstanding_bytes: 10,
            waiting_batches: 1,
            blocked: blocked.map(sink),
            stoppers: vec![("out".into(), "required")],
        }
    }

    fn of_flows(flows: Vec<FlowReport>) -> Report {
        Report {
            flows,
            ..Report::default()
        }
    }

    fn tally(counts: &[(&str, u64)]) -> Tally {
        let counts = counts.iter();
        counts
            .map(|(name, count)| ((*name).into(), *count))
            .collect()
    }

    /// A pipeline and a sink by the name `main` that have had so much, and lost some of it.
    fn of_books(received: u64, reason: &str, is_former: bool) -> Report {
        let pipeline = PipelineReport {
            name: "main".into(),
            is_former,
            books: PipelineBooks {
                received,
                produced: 4,
                passed: received - 6,
                filtered: tally(&[("main.1:drop_if", 3), (reason, 1)]),
                dropped: tally(&[(reason, 2)]),
                dead_lettered: 3,
                in_flight: 1,
                handed: 0,
                taken_over: 0,
                failed: tally(&[("main.2:parse", 9)]),
            },
        };
        Report {
            pipelines: vec![pipeline],
            ports: vec![port(SinkBooks {
                accepted: received,
                recovered: 5,
                delivered: received - 6,
                dropped: tally(&[(reason, 2)]),
                dead_lettered: 4,
                buffered: 3,
                in_flight: 2,
                handed: 0,
                taken_over: 0,
                delivered_bytes: 100,
                retries: 8,
                replayed: 9,
            })],
            ..Report::default()
        }
    }

    fn port(books: SinkBooks) -> PortReport {
        PortReport {
            name: "main".into(),
            books,
            buffer: BufferReport {
                is_disk: false,
                when_full: WhenFull::Block,
                failure: None,
                held_bytes: 11,
                capacity_bytes: 100,
            },
            trouble: None,
            last_error: None,
            lag: Duration::ZERO,
            volatile_events: 5,
            is_relay: false,
        }
    }

    fn merged_port(change: impl FnOnce(&mut PortReport, &mut PortReport)) -> PortReport {
        let mut one = port(SinkBooks::default());
        let mut other = port(SinkBooks::default());
        change(&mut one, &mut other);
        let of = |port| Report {
            ports: vec![port],
            ..Report::default()
        };
        let [merged] = of(one).merge(of(other)).ports.try_into().unwrap();
        merged
    }

    fn trouble(why: &str) -> Option<TroubleReport> {
        Some(TroubleReport {
            why: why.into(),
            lasts: Duration::from_secs(1),
            failures: 2,
            next_try: None,
        })
    }

    /// What a sink's owner has, and what another reactor has handed over to it, was about to, or
    /// still has: each event counts once, whether the other one has heard of it or not.
    #[test]
    fn what_was_handed_over_counts_once() {
        for heard in 0..=30 {
            let owner = SinkBooks {
                accepted: 100,
                delivered: 90,
                buffered: 10,
                taken_over: 30,
                ..SinkBooks::default()
            };
            let relay = SinkBooks {
                accepted: 37,
                buffered: 4,
                in_flight: 33 - heard,
                handed: heard,
                ..SinkBooks::default()
            };
            let mut whole = merged_port(|one, other| {
                one.books = owner.clone();
                (other.books, other.is_relay) = (relay.clone(), true);
            });
            whole.books.settle();
            let books = whole.books;
            assert_eq!((books.accepted, books.delivered), (107, 90));
            assert_eq!((books.buffered, books.in_flight), (14, 3), "{heard}");
            assert_eq!((books.handed, books.taken_over), (0, 0));
            assert_eq!(whole.buffer.capacity_bytes, 100, "the relay's is none");
        }
    }

    #[test]
    fn a_report_goes_to_another_thread() {
        fn is_send<T: Send>() {}
        is_send::<Report>();
    }

    #[test]
    fn the_order_is_the_first_one_s_and_what_only_the_other_has_comes_behind() {
        let of = |names: &[&str]| {
            let names = names.iter();
            Report {
                sources: names
                    .clone()
                    .map(|it| described(it, Facts::default()))
                    .collect(),
                sinks: names.map(|it| described(it, Facts::default())).collect(),
                ..Report::default()
            }
        };
        let merged = of(&["b", "a"]).merge(of(&["c", "a", "d"]));
        let names = |list: &[Described]| list.iter().map(|it| it.name.to_string()).collect();
        let (sources, sinks): (Vec<_>, Vec<_>) = (names(&merged.sources), names(&merged.sinks));
        assert_eq!(
            (&*sources, &*sinks),
            (&["b", "a", "c", "d"].map(String::from)[..], &*sources)
        );
    }

    #[test]
    fn what_a_component_counts_is_summed() {
        let facts = |open, more: &'static str| Facts {
            connections: open,
            counts: vec![("accepted", 2), (more, 1)],
            refused: vec![("max_connections", 3)],
            failed_handshakes: vec![("timeout", 4), (more, 1)],
            ..Facts::default()
        };
        let merged = merged_facts(facts(Some(5), "x"), facts(Some(6), "y"));
        assert_eq!(merged.connections, Some(11));
        assert_eq!(merged.counts, [("accepted", 4), ("x", 1), ("y", 1)]);
        assert_eq!(merged.refused, [("max_connections", 6)]);
        assert_eq!(
            merged.failed_handshakes,
            [("timeout", 8), ("x", 1), ("y", 1)]
        );
        let one_knows = merged_facts(facts(None, "x"), facts(Some(6), "x"));
        assert_eq!(one_knows.connections, Some(6));
        let nobody_knows = merged_facts(facts(None, "x"), facts(None, "x"));
        assert_eq!(nobody_knows.connections, None);
    }

    #[test]
    fn a_place_is_named_once_and_sockets_of_an_address_are_one() {
        let facts = |address: &str, drops| Facts {
            places: vec!["tcp://[::1]:1".into(), address.into()],
            sockets: vec![SocketFacts {
                address: address.into(),
                receive_buffer_bytes: Some(100),
                kernel_drops: drops,
            }],
            ..Facts::default()
        };
        let merged = merged_facts(facts("udp://a", Some(1)), facts("udp://a", Some(2)));
        assert_eq!(merged.places, ["tcp://[::1]:1", "udp://a"]);
        let [socket] = &*merged.sockets else {
            panic!("{merged:?}")
        };
        assert_eq!(
            (socket.receive_buffer_bytes, socket.kernel_drops),
            (Some(200), Some(3))
        );
        let merged = merged_facts(facts("udp://a", None), facts("udp://b", None));
        assert_eq!(merged.places, ["tcp://[::1]:1", "udp://a", "udp://b"]);
        let drops = merged.sockets.iter().map(|socket| socket.kernel_drops);
        assert_eq!(drops.collect::<Vec<_>>(), [None, None]);
    }

    #[test]
    fn a_sender_has_one_row_and_a_certificate_is_shown_once() {
        let dialect = |sender: &str, messages| DialectFacts {
            sender: sender.into(),
            messages,
        };
        let certificate = |path: &str| CertificateFacts {
            path: path.into(),
            about: About {
                subject: "CN=a".into(),
                serial: "1".into(),
                not_before: WallTime::from_micros(1),
                not_after: WallTime::from_micros(2),
            },
        };
        let one = Facts {
            dialects: vec![dialect("::1", vec![("rfc5424", 1)])],
            certificates: vec![certificate("a")],
            ..Facts::default()
        };
        let other = Facts {
            dialects: vec![
                dialect("::2", vec![("cisco", 5)]),
                dialect("::1", vec![("rfc3164", 2), ("rfc5424", 3)]),
            ],
            certificates: vec![certificate("b"), certificate("a")],
            ..Facts::default()
        };
        let merged = merged_facts(one, other);
        let rows: Vec<_> = merged
            .dialects
            .iter()
            .map(|it| (&*it.sender, &*it.messages))
            .collect();
        let expected: [(&str, &[_]); 2] = [
            ("::1", &[("rfc5424", 4), ("rfc3164", 2)]),
            ("::2", &[("cisco", 5)]),
        ];
        assert_eq!(rows, expected);
        assert_eq!(merged.certificates, [certificate("a"), certificate("b")]);
    }

    #[test]
    fn of_two_standstills_the_longer_is_told() {
        let check = |one, other, expected: Option<u64>| {
            let merged = of_flows(vec![flow("in", one)]).merge(of_flows(vec![flow("in", other)]));
            let [flow] = merged.flows.try_into().unwrap();
            let sums = (
                flow.received_events,
                flow.outstanding_bytes,
                flow.waiting_batches,
            );
            assert_eq!(sums, (6, 20, 2));
            assert_eq!(flow.stoppers, [("out".to_owned(), "required")]);
            let blocked = flow.blocked.map(|it| it.lasts.as_secs());
            assert_eq!(blocked, expected);
        };
        check(None, None, None);
        check(Some(3), None, Some(3));
        check(None, Some(3), Some(3));
        check(Some(3), Some(9), Some(9));
        check(Some(9), Some(3), Some(9));
    }

    #[test]
    fn a_source_that_goes_is_not_the_one_that_took_its_place() {
        let of = || {
            let mut former = flow("in", None);
            former.is_former = true;
            of_flows(vec![former, flow("in", None)])
        };
        let merged = of().merge(of_flows(vec![flow("in", None)])).merge(of());
        let flows = merged.flows.iter();
        let flows: Vec<_> = flows.map(|it| (it.is_former, it.received_events)).collect();
        assert_eq!(flows, [(true, 6), (false, 9)]);
    }

    #[test]
    fn ledgers_that_balance_balance_together() {
        let total = |tally: &Tally| tally.values().sum::<u64>();
        let merged = of_books(20, "give_up", false).merge(of_books(31, "shutdown", false));
        let [pipeline] = &*merged.pipelines else {
            panic!("{merged:?}")
        };
        let books = &pipeline.books;
        assert_eq!(books.received, 51);
        let accounted = books.passed
            + total(&books.filtered)
            + total(&books.dropped)
            + books.dead_lettered
            + books.in_flight;
        assert_eq!(books.received + books.produced, accounted);
        assert_eq!(books.filtered["main.1:drop_if"], 6);
        assert_eq!(
            (books.dropped["give_up"], books.dropped["shutdown"]),
            (2, 2)
        );
        assert_eq!(books.failed["main.2:parse"], 18);
        let [port] = &*merged.ports else {
            panic!("{merged:?}")
        };
        let sink = &port.books;
        let accounted = sink.delivered
            + total(&sink.dropped)
            + sink.dead_lettered
            + sink.buffered
            + sink.in_flight;
        assert_eq!(sink.accepted + sink.recovered, accounted);
        let beside = (sink.delivered_bytes, sink.retries, sink.replayed);
        assert_eq!(beside, (200, 16, 18));
        assert_eq!(
            merged.open_events(),
            12,
            "what is volatile, and waits in pipelines"
        );
        assert_eq!(books::cut_off(&merged), 4);
    }

    #[test]
    fn former_pipelines_stay_apart_from_those_of_today() {
        let both = || {
            let mut report = of_books(20, "x", false);
            report.pipelines.extend(of_books(20, "x", true).pipelines);
            report
        };
        let merged = both().merge(both());
        let pipelines = merged.pipelines.iter();
        let pipelines: Vec<_> = pipelines
            .map(|it| (it.is_former, it.books.received))
            .collect();
        assert_eq!(pipelines, [(false, 40), (true, 40)]);
    }

    #[test]
    fn of_sinks_in_trouble_the_first_is_told_of() {
        let merged = merged_port(|one, other| {
            one.trouble = trouble("refused");
            other.trouble = trouble("no route");
        });
        assert_eq!(merged.trouble.unwrap().why, "refused");
        let merged = merged_port(|_, other| other.trouble = trouble("no route"));
        assert!(!merged.is_up());
        assert_eq!(merged.trouble.unwrap().why, "no route");
        let at = |micros, why: &str| Some((WallTime::from_micros(micros), why.to_owned()));
        let merged = merged_port(|one, other| {
            one.last_error = at(1, "first");
            other.last_error = at(2, "last");
        });
        assert_eq!(merged.last_error, at(2, "last"));
        let merged = merged_port(|one, _| one.last_error = at(1, "first"));
        assert_eq!(merged.last_error, at(1, "first"));
    }

    #[test]
    fn buffers_are_one_buffer_and_disk_wins() {
        let merged = merged_port(|one, other| {
            one.lag = Duration::from_secs(2);
            other.buffer.is_disk = true;
            other.buffer.failure = Some("no room".into());
            other.lag = Duration::from_secs(1);
        });
        assert!(merged.buffer.is_disk && !merged.is_up());
        assert_eq!(merged.buffer.failure.as_deref(), Some("no room"));
        let (held, capacity) = (merged.buffer.held_bytes, merged.buffer.capacity_bytes);
        assert_eq!(
            (held, capacity, merged.lag),
            (22, 200, Duration::from_secs(2))
        );
    }

    #[test]
    fn of_reactors_work_is_summed_and_lag_is_the_worst() {
        let of = |turns, lag| Report {
            reactor: Stats {
                turns,
                tasks: 2,
                lag: Duration::from_millis(lag),
                lag_peak: Duration::from_millis(lag + 1),
                dispatch_depth_peak: 1,
                ..Stats::default()
            },
            ..Report::default()
        };
        for (one, other) in [(of(5, 30), of(7, 20)), (of(7, 20), of(5, 30))] {
            let stats = one.merge(other).reactor;
            let sums = (stats.turns, stats.tasks, stats.dispatch_depth_peak);
            assert_eq!(sums, (12, 4, 1));
            let lags = (stats.lag.as_millis(), stats.lag_peak.as_millis());
            assert_eq!(lags, (30, 31));
        }
    }

    #[test]
    fn what_goes_on_inside_is_joined_by_name_and_place() {
        let inside = |next, failed: Option<&str>, peers| {
            let next = Duration::from_secs(next);
            let timers = TimersReport { count: 2, next };
            let pending = PendingReport {
                count: 1,
                oldest: next,
                failed: failed.map(str::to_owned),
            };
            let peer = ("source.in".to_owned(), "[::1]:1".to_owned());
            Inside {
                timers: [("a.rs:1".to_owned(), timers)].into(),
                pending: [(("drain".to_owned(), "b.rs:2".to_owned()), pending)].into(),
                jobs: [(("disk".to_owned(), "sync"), 3)].into(),
                peers: vec![peer; peers],
            }
        };
        let of = |inside| Report {
            inside,
            ..Report::default()
        };
        let one = of(Some(inside(4, None, LIST_MAX - 1)));
        let merged = one
            .merge(of(Some(inside(3, Some("oops"), 5))))
            .merge(of(None));
        let merged = merged.inside.unwrap();
        let timers = &merged.timers["a.rs:1"];
        assert_eq!((timers.count, timers.next.as_secs()), (4, 3));
        let pending = merged.pending.values().next().unwrap();
        assert_eq!((pending.count, pending.oldest.as_secs()), (2, 4));
        assert_eq!(pending.failed.as_deref(), Some("oops"));
        assert_eq!(merged.jobs[&("disk".to_owned(), "sync")], 6);
        assert_eq!(merged.peers.len(), LIST_MAX);
        let alone = of(None).merge(of(Some(inside(1, None, 1))));
        assert!(alone.inside.is_some());
    }
}
