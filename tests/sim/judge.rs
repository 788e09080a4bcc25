//! The judge: compares what the collectors got with what was promised.
//!
//! - A line that the daemon's kernel had taken, of a connection that was not reset, arrives at
//!   every required sink: at least once, and exactly once where no collector's connection was
//!   reset.
//! - On each connection of a collector the lines of one sender come in their order.
//! - Nothing arrives that nobody sent; what was cut off by a reset arrives as what it is.
//! - The books say the same.

use std::collections::HashMap;
use std::rc::Rc;

use marline::sim::Fault;

use super::collector::Collector;
use super::sender::{Fate, Sender};
use super::world::World;

/// Where a line comes from: the sender and the line's number.
type Origin = (usize, usize);

/// Fails with the first broken promise.
pub fn judge(world: &World) -> Result<(), String> {
    world.collectors.iter().for_each(|it| it.finish());
    let known = known(&world.senders);
    for collector in &world.collectors {
        let sink = collector.plan.name;
        let arrived = arrived(world, collector, &known);
        let arrived = arrived.map_err(|why| format!("sink {sink}: {why}"))?;
        let judged = promises(world, collector, &arrived).and_then(|()| books(world, collector));
        judged.map_err(|why| format!("sink {sink}: {why}"))?;
    }
    let dropped = world.daemon.pipelines().iter();
    let dropped: u64 = dropped.map(|it| it.ledger().dropped.total()).sum();
    require(dropped == 0, || {
        format!("the pipeline dropped {dropped} events")
    })?;
    let open = world.daemon.open_events();
    require(open == 0, || format!("{open} events are not settled"))
}

fn require(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
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
    collector: &Collector,
    known: &HashMap<Vec<u8>, Origin>,
) -> Result<HashMap<Origin, u64>, String> {
    let mut counts = HashMap::new();
    for text in collector.texts.borrow().iter() {
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

fn promises(
    world: &World,
    collector: &Collector,
    arrived: &HashMap<Origin, u64>,
) -> Result<(), String> {
    let once = !was_disturbed(world, collector);
    for (id, sender) in world.senders.iter().enumerate() {
        let mut end = 0;
        for (number, line) in sender.plan.lines.iter().enumerate() {
            end += line.len() + 1;
            let count = arrived.get(&(id, number)).copied().unwrap_or(0);
            let is_filtered = world.plan.filters && line.contains(&b'~');
            require(count == 0 || !is_filtered, || {
                format!("s{id}-{number} was not filtered")
            })?;
            require(count <= 1 || !once, || {
                format!("s{id}-{number} came {count} times")
            })?;
            let is_taken = match world.fates[id] {
                Fate::Clean => true,
                Fate::Open(bytes) => end <= bytes,
                Fate::Broken | Fate::Sent => false,
            };
            let is_owed = is_taken && !is_filtered && collector.plan.is_required;
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

fn books(world: &World, collector: &Collector) -> Result<(), String> {
    let ports = world.daemon.ports();
    let port = ports.iter().find(|it| it.name() == collector.plan.name);
    let books = port.ok_or("has no port")?.ledger();
    let dropped = books.dropped.total();
    require(dropped == 0 || !collector.plan.is_required, || {
        format!("dropped {:?}", books.dropped.snapshot())
    })?;
    let texts = collector.texts.borrow();
    let newlines = texts.iter().flatten().filter(|byte| **byte == b'\n');
    let (came, delivered) = (newlines.count() as u64, books.delivered.get());
    let is_equal = came == delivered || (was_disturbed(world, collector) && came >= delivered);
    require(is_equal, || {
        format!("{delivered} lines are booked as delivered, {came} came")
    })
}
