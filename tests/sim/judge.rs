//! The judge: compares what the collectors got with what was promised.
//!
//! - A line that the daemon's kernel had taken, of a connection that was not reset, arrives at
//!   every required sink: at least once, and exactly once where no collector's connection was
//!   reset. That holds also where a collector died before it read what its kernel had
//!   acknowledged.
//! - On each connection of a collector the lines of one sender come in their order.
//!   In a file they do so over all of its rotations, each line once.
//! - Nothing arrives that nobody sent; what was cut off by a reset arrives as what it is.
//! - What a server sent to a fetch is one event; whole only where the server had ended it.
//! - The books say the same.

use std::collections::HashMap;
use std::rc::Rc;

use marline::sim::Fault;

use super::collector::Collector;
use super::files::Filing;
use super::plan::Sinking;
use super::sender::{Fate, Sender};
use super::server::{Outcome, Server, Visit};
use super::world::World;

/// What has come out of one sink.
struct Output {
    name: &'static str,
    is_required: bool,
    /// Nothing may have come twice.
    once: bool,
    /// One per connection, or all of a file.
    texts: Vec<Vec<u8>>,
}

/// Where a line comes from: the sender and the line's number.
type Origin = (usize, usize);

/// Fails with the first broken promise.
pub fn judge(world: &World) -> Result<(), String> {
    world.collectors.iter().for_each(|it| it.finish());
    world.servers.iter().for_each(|it| it.finish());
    let known = known(&world.senders);
    for output in outputs(world)? {
        let arrived = arrived(world, &output, &known);
        let judged = arrived.and_then(|arrived| {
            promises(world, &output, &arrived)?;
            books(world, &output)
        });
        judged.map_err(|why| format!("sink {}: {why}", output.name))?;
    }
    if !world.servers.is_empty() {
        let judged = fetched(world, &world.plan.fetched);
        judged.map_err(|why| format!("fetch: {why}"))?;
    }
    let pipelines = world.daemon.all_pipelines();
    let dropped: u64 = pipelines.iter().map(|it| it.ledger().dropped.total()).sum();
    require(dropped == 0, || {
        format!("the pipeline dropped {dropped} events")
    })?;
    let open = world.daemon.open_events();
    require(open == 0, || format!("{open} events are not settled"))
}

fn require(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

fn outputs(world: &World) -> Result<Vec<Output>, String> {
    let files = world.plan.sinks.iter().filter_map(|sink| match sink {
        Sinking::File(sink) => Some(sink),
        Sinking::Socket(_) | Sinking::Http(_) => None,
    });
    let files = files.map(|sink| {
        Ok(Output {
            name: sink.name,
            is_required: sink.is_required,
            once: true,
            texts: vec![sink.text(&world.storage)?],
        })
    });
    let sockets = world.collectors.iter().map(|collector| {
        Ok(Output {
            name: collector.plan.name,
            is_required: collector.plan.is_required,
            once: !was_disturbed(world, collector),
            texts: collector.texts(),
        })
    });
    files.chain(sockets).collect()
}

fn known(senders: &[Rc<Sender>]) -> HashMap<Vec<u8>, Origin> {
    let all = senders.iter().enumerate().flat_map(|(id, sender)| {
        let lines = sender.plan.lines.iter().enumerate();
        lines.map(move |(number, line)| (line.clone(), (id, number)))
    });
    all.collect()
}

/// How often each line has arrived, in the right order on each connection.
fn arrived(
    world: &World,
    output: &Output,
    known: &HashMap<Vec<u8>, Origin>,
) -> Result<HashMap<Origin, u64>, String> {
    let mut counts = HashMap::new();
    for text in &output.texts {
        let mut last: HashMap<usize, usize> = HashMap::new();
        let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        let rest = lines.pop().unwrap_or_default();
        let is_cut = is_part(rest, &world.senders, |_| true);
        require(is_cut, || format!("invented: {}", rest.escape_ascii()))?;
        for line in lines {
            let Some(&(sender, number)) = known.get(line) else {
                let is_cut = is_part(line, &world.senders, |id| is_cut_off(world, id));
                require(is_cut, || format!("invented: {}", line.escape_ascii()))?;
                continue;
            };
            *counts.entry((sender, number)).or_insert(0) += 1;
            let before = last.insert(sender, number);
            let is_ordered = before.is_none_or(|before| before < number)
                || world.fates[sender] == Fate::Sent
                || world.senders[sender].plan.is_datagram;
            require(is_ordered, || {
                format!("s{sender}-{number} came after s{sender}-{before:?}")
            })?;
        }
    }
    Ok(counts)
}

/// Whether the daemon may have seen a part only of a line of this sender.
fn is_cut_off(world: &World, sender: usize) -> bool {
    world.fates[sender] != Fate::Clean
}

fn is_part(piece: &[u8], senders: &[Rc<Sender>], may: impl Fn(usize) -> bool) -> bool {
    let mut lines = senders
        .iter()
        .enumerate()
        .filter(|(id, _)| may(*id))
        .flat_map(|(_, sender)| &sender.plan.lines);
    piece.is_empty() || lines.any(|line| line.starts_with(piece))
}

fn promises(world: &World, output: &Output, arrived: &HashMap<Origin, u64>) -> Result<(), String> {
    for (id, sender) in world.senders.iter().enumerate() {
        let mut end = 0;
        for (number, line) in sender.plan.lines.iter().enumerate() {
            end += line.len() + 1;
            let count = arrived.get(&(id, number)).copied().unwrap_or(0);
            let is_filtered = world.plan.filters && line.contains(&b'~');
            require(count == 0 || !is_filtered, || {
                format!("s{id}-{number} was not filtered")
            })?;
            require(count <= 1 || !output.once, || {
                format!("s{id}-{number} came {count} times")
            })?;
            let is_taken = match world.fates[id] {
                Fate::Clean => true,
                Fate::Open(bytes) => end <= bytes,
                Fate::Broken | Fate::Sent => false,
            };
            let is_owed = is_taken && !is_filtered && output.is_required;
            require(count > 0 || !is_owed, || {
                format!("s{id}-{number} is lost ({:?})", world.fates[id])
            })?;
        }
    }
    Ok(())
}

/// Whether some connection to a collector may have been reset.
fn was_disturbed(world: &World, collector: &Collector) -> bool {
    let faults = world.net.fault_counts();
    collector.reset_count.get() > 0
        || faults.of(Fault::Reset) > 0
        || faults.of(Fault::AcceptAborted) > 0
}

fn books(world: &World, output: &Output) -> Result<(), String> {
    let ports = world.daemon.ports();
    let port = ports.iter().find(|it| it.name() == output.name);
    let books = port.ok_or("has no port")?.ledger();
    let dropped = books.dropped.total();
    require(dropped == 0 || !output.is_required, || {
        format!("dropped {:?}", books.dropped.snapshot())
    })?;
    // An empty line is where a file of an earlier life could not be looked at.
    let is_line = |pair: &&[u8]| pair[1] == b'\n' && pair[0] != b'\n';
    let texts = output.texts.iter();
    let lines = texts.map(|text| text.windows(2).filter(is_line).count() as u64);
    let (came, delivered) = (lines.sum::<u64>(), books.delivered.get());
    let is_equal = came == delivered || (!output.once && came >= delivered);
    require(is_equal, || {
        format!("{delivered} lines are booked as delivered, {came} came")
    })
}

/// What was fetched: an event for each visit that brought anything, whole or marked.
fn fetched(world: &World, sink: &Filing) -> Result<(), String> {
    let text = sink.text(&world.storage)?;
    let output = Output {
        name: sink.name,
        is_required: true,
        once: true,
        texts: vec![text.clone()],
    };
    books(world, &output)?;
    let visits: Vec<Visit> = world.servers.iter().flat_map(visits_of).collect();
    let mut events = vec![0; visits.len()];
    // Pieces so short that they do not say whose they are.
    let mut nameless = 0;
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    for line in lines.filter(|line| line != b"\n") {
        match visit_of(line, &visits)? {
            Some(visit) => events[visit] += 1,
            None => nameless += 1,
        }
    }
    for (visit, count) in visits.iter().zip(events) {
        let may_lack = visit.outcome != Outcome::Whole || nameless > 0;
        let is_right = count == 1 || (count == 0 && may_lack);
        let begin = &visit.text[..visit.text.len().min(20)];
        require(is_right, || format!("{begin:?} came {count} times"))?;
    }
    Ok(())
}

/// Which visit a line of the file comes from, where it says so.
fn visit_of(line: &[u8], visits: &[Visit]) -> Result<Option<usize>, String> {
    let shown = || line.escape_ascii().to_string();
    let event: serde_json::Value =
        serde_json::from_slice(line).map_err(|error| format!("{error}: {}", shown()))?;
    let message = event["message"].as_str().ok_or_else(shown)?;
    let Some(reason) = event.get("incomplete") else {
        let found = visits.iter().position(|visit| visit.text == message);
        let found = found.ok_or_else(|| format!("invented: {}", shown()))?;
        let is_whole = visits[found].outcome != Outcome::Cut;
        require(is_whole, || format!("passed off as whole: {}", shown()))?;
        return Ok(Some(found));
    };
    // The daemon's limit may strike when everything is there but the end of the stream.
    let is_ours = reason == "the time limit passed" || reason == "the daemon stopped";
    let may = |visit: &&Visit| {
        visit.text.starts_with(message) && (is_ours || visit.outcome != Outcome::Whole)
    };
    require(visits.iter().any(|visit| may(&visit)), || {
        format!("cut off by nobody: {}", shown())
    })?;
    let mut begin_so = (0..visits.len()).filter(|it| visits[*it].text.starts_with(message));
    let (first, second) = (begin_so.next(), begin_so.next());
    Ok(first.filter(|_| second.is_none()))
}

fn visits_of(server: &Rc<Server>) -> Vec<Visit> {
    server.visits.borrow().clone()
}
