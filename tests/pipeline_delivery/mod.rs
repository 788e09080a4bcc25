//! Delivery: admission, windows, settling, and both ledgers at every instant.
//!
//! The pipeline runs on a scheduler that only queues: calls and timers run when the test says
//! so, which makes every interleaving of sources and sinks a sequence of method calls.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use marline::event::{Batch, Event, Span};
use marline::pipeline::graph::LabelledStep;
use marline::pipeline::intake::{CONNECTION_WINDOW_BYTES, Intake};
use marline::pipeline::part::{Part, Stage};
use marline::pipeline::step::{Step, StepReport};
use marline::telemetry::capture::Capture;
use marline::time::{Duration, Scheduler};

mod disk;
mod ends;
mod exchanges;
mod policies;
mod world;

use world::*;

#[test]
fn delivered_fires_when_the_last_required_sink_has_it() {
    let world = world(&[
        (1 << 20, true, None),
        (1 << 20, true, None),
        (1 << 20, false, None),
    ]);
    let state = watch(world.intake(Stage::Delivered).deliver(batch(3, 10)));
    world.take(0).unwrap().delivered();
    assert_eq!(state.get(), 0);
    world.balanced();
    world.take(1).unwrap().delivered();
    assert_eq!(state.get(), 1, "the third sink is not required");
    world.take(2).unwrap().delivered();
    world.balanced();
    assert!(world.engine.is_drained());
}

#[test]
fn received_fires_at_admission() {
    let world = world(&[(1 << 20, true, None)]);
    let state = watch(world.intake(Stage::Received).deliver(batch(3, 10)));
    assert_eq!(state.get(), 1);
    assert!(!world.engine.is_drained(), "it is in the buffer still");
    world.take(0).unwrap().delivered();
    assert!(world.engine.is_drained());
}

#[test]
fn one_sink_that_gives_up_fails_the_delivery_after_the_others_are_settled() {
    let world = world(&[(1 << 20, true, None), (1 << 20, true, None)]);
    let state = watch(world.intake(Stage::Delivered).deliver(batch(2, 10)));
    world.take(0).unwrap().dropped("refused");
    assert_eq!(state.get(), 0);
    world.take(1).unwrap().delivered();
    assert_eq!(state.get(), 2);
    assert_eq!(world.ports[0].ledger().dropped.total(), 2);
    world.balanced();
}

#[test]
fn a_part_that_nobody_settled_is_counted_and_fails() {
    let world = world(&[(1 << 20, true, None)]);
    let state = watch(world.intake(Stage::Delivered).deliver(batch(2, 10)));
    drop(world.take(0));
    assert_eq!(state.get(), 2);
    assert_eq!(
        world.ports[0].ledger().dropped.snapshot().get("unresolved"),
        Some(&2)
    );
    world.balanced();
}

#[test]
fn admission_is_all_or_nothing() {
    let world = world(&[(10_000, true, None), (10_000, true, None)]);
    let intake = world.intake(Stage::Delivered);
    let first = watch(intake.deliver(batch(1, 6_000)));
    world.take(0).unwrap().delivered();
    // Sink 0 has room again, sink 1 has not: the second batch must be in neither.
    let second = watch(intake.deliver(batch(1, 6_000)));
    world.later.run();
    assert!(world.take(0).is_none(), "half of a batch was admitted");
    assert_eq!(world.pipeline.ledger().in_flight.get(), 1);
    world.balanced();
    world.take(1).unwrap().delivered();
    assert_eq!(first.get(), 1);
    world.later.run();
    world.balanced();
    world.take(0).unwrap().delivered();
    world.take(1).unwrap().delivered();
    assert_eq!(second.get(), 1);
    assert!(world.engine.is_drained());
}

#[test]
fn batches_of_one_source_keep_their_order_while_waiting() {
    let world = world(&[(10_000, true, None)]);
    let intake = world.intake(Stage::Delivered);
    for length in [9_000, 8_000, 10] {
        drop(intake.deliver(batch(1, length)).add_both(|_| ()));
    }
    let mut seen = Vec::new();
    for _ in 0..3 {
        world.later.run();
        let part = world.take(0).unwrap();
        seen.push(part.batch().event_bytes());
        part.delivered();
    }
    assert_eq!(seen, [9_000, 8_000, 10], "the small one must not overtake");
}

#[test]
fn a_batch_larger_than_the_buffer_goes_through_an_empty_one() {
    let world = world(&[(1_000, true, None)]);
    let state = watch(world.intake(Stage::Delivered).deliver(batch(1, 50_000)));
    world.take(0).unwrap().delivered();
    assert_eq!(state.get(), 1);
}

#[test]
fn a_sink_that_is_not_required_never_blocks_and_counts_what_it_refused() {
    let world = world(&[(1 << 20, true, None), (1_000, false, None)]);
    let intake = world.intake(Stage::Delivered);
    for _ in 0..3 {
        drop(intake.deliver(batch(2, 400)).add_both(|_| ()));
    }
    assert_eq!(world.ports[0].ledger().buffered.get(), 6);
    assert_eq!(world.ports[1].ledger().buffered.get(), 2);
    assert_eq!(
        world.ports[1]
            .ledger()
            .dropped
            .snapshot()
            .get("buffer_full"),
        Some(&4)
    );
    world.balanced();
}

#[test]
fn a_full_window_blocks_and_half_a_window_resumes_once() {
    let world = world(&[(usize::MAX, true, None)]);
    let intake = world.intake(Stage::Delivered);
    let resumed = Rc::new(Cell::new(0));
    let count = Rc::clone(&resumed);
    intake.on_resume(move || count.set(count.get() + 1));
    let quarter = CONNECTION_WINDOW_BYTES / 4;
    for _ in 0..4 {
        assert!(!intake.is_blocked());
        drop(intake.deliver(batch(1, quarter)).add_both(|_| ()));
    }
    assert!(intake.is_blocked() && intake.is_blocked());
    for expected in [0, 0, 1, 1] {
        world.take(0).unwrap().delivered();
        world.later.run();
        assert_eq!(resumed.get(), expected);
    }
    assert!(!intake.is_blocked());
}

#[test]
fn a_source_whose_blocked_connection_has_gone_is_not_said_to_be_blocked() {
    let capture = Capture::start();
    let world = world(&[(usize::MAX, true, None)]);
    for goes in [true, false] {
        let intake = world.intake(Stage::Delivered);
        let half = CONNECTION_WINDOW_BYTES / 2;
        for _ in 0..2 {
            drop(intake.deliver(batch(1, half)).add_both(|_| ()));
        }
        assert!(intake.is_blocked());
        let kept = (!goes).then_some(intake);
        if goes {
            for _ in 0..2 {
                world.take(0).unwrap().delivered();
            }
            world.later.run();
        }
        let later = world.later.now() + Duration::from_secs(120);
        world.later.now.set(later);
        world.later.fire_timers();
        let reports = capture.take("source_blocked").len();
        assert_eq!(reports, usize::from(kept.is_some()));
    }
}

#[test]
fn a_full_memory_budget_blocks_until_somebody_frees_it() {
    let world = world(&[(usize::MAX, true, None)]);
    let intake = world.intake(Stage::Delivered);
    let resumed = Rc::new(Cell::new(false));
    let seen = Rc::clone(&resumed);
    intake.on_resume(move || seen.set(true));
    world.memory.add(64 << 20);
    assert!(intake.is_blocked());
    world.later.run();
    assert!(!resumed.get());
    world.memory.sub(64 << 20);
    world.later.fire_timers();
    assert!(resumed.get(), "memory given back elsewhere must be noticed");
}

#[test]
fn abandoned_batches_are_dropped_with_their_reason() {
    let world = world(&[(10_000, true, None)]);
    let intake = world.intake(Stage::Delivered);
    let states: Vec<_> = (0..3)
        .map(|_| watch(intake.deliver(batch(1, 9_000))))
        .collect();
    world.engine.abandon("shutdown");
    assert!(states.iter().all(|state| state.get() == 2));
    assert_eq!(world.ports[0].ledger().dropped.total(), 1);
    assert_eq!(
        world.pipeline.ledger().dropped.snapshot().get("shutdown"),
        Some(&2)
    );
    world.balanced();
    assert!(world.engine.is_drained());
}

#[test]
fn routes_take_what_their_condition_holds_for() {
    let sinks: &[_] = &[
        (1 << 20, true, Some(r#".message == "xxx""#)),
        (
            1 << 20,
            true,
            Some(r#".message != "xxx" && .message != "x""#),
        ),
    ];
    let world = world(sinks);
    let mut mixed = batch(3, 3);
    mixed.events[1] = Event::Raw(Span::new(0, 2));
    mixed.events[2] = Event::Raw(Span::new(0, 1));
    let state = watch(world.intake(Stage::Delivered).deliver(mixed));
    let (first, second) = (world.take(0).unwrap(), world.take(1).unwrap());
    assert_eq!(first.selection(), Some(&[0][..]));
    assert_eq!(second.selection(), Some(&[1][..]));
    assert_eq!(
        world.pipeline.ledger().filtered.snapshot().get("to"),
        Some(&1)
    );
    world.balanced();
    first.delivered();
    second.delivered();
    assert_eq!(state.get(), 1);
}

#[test]
fn what_a_sink_gets_of_a_chunk_keeps_no_more_than_it_is() {
    let world = world(&[
        (1 << 20, true, None),
        (
            1 << 20,
            true,
            Some(r#"starts_with(string!(.message), "y")"#),
        ),
    ]);
    let mut chunk = vec![b'x'; 256 << 10];
    chunk[1000] = b'y';
    let mut mixed = batch(256, 1000);
    mixed.bytes = Bytes::from(chunk);
    let whole = mixed.weight_bytes();
    let state = watch(world.intake(Stage::Delivered).deliver(mixed));
    assert_eq!(world.ports[0].held_bytes(), whole as u64);
    assert!(world.ports[1].held_bytes() < 1100);
    let (first, second) = (world.take(0).unwrap(), world.take(1).unwrap());
    assert_eq!(second.batch().pinned_bytes(), 1000);
    assert_eq!(world.memory.used_bytes(), 1000, "the copy counts");
    let events: Vec<&Event> = second.events().collect();
    assert!(events.len() == 1 && second.batch().raw(events[0])[0] == b'y');
    world.balanced();
    first.delivered();
    second.delivered();
    assert_eq!(state.get(), 1);
    let ports = world.ports.iter();
    assert_eq!(ports.map(|port| port.held_bytes()).sum::<u64>(), 0);
    assert_eq!(world.memory.used_bytes(), 0);
}

/// Panics at a batch whose first byte is `b`; drops events that begin with `d`.
struct Touchy;

impl Step for Touchy {
    fn apply(&mut self, batch: &mut Batch, report: &mut StepReport) {
        let before = batch.events.len();
        let bytes = batch.bytes.clone();
        let first = |event: &Event| bytes[event.raw().start as usize];
        batch.events.retain(|event| first(event) != b'd');
        report.filtered += (before - batch.events.len()) as u64;
        assert!(bytes[0] != b'b', "a bug in a step");
    }
}

#[test]
fn f_009_a_step_that_panics_costs_its_batch_and_nothing_else() {
    let step = LabelledStep {
        label: "main.1:touchy".into(),
        step: Box::new(Touchy),
        has_failed: false,
    };
    let world = world_with(&[(1 << 20, true, None)], vec![step]);
    let intake = world.intake(Stage::Delivered);
    let of = |text: &'static [u8]| {
        let mut batch = batch(3, 1);
        batch.bytes = Bytes::from_static(text);
        batch
    };
    let before = watch(intake.deliver(of(b"xxd")));
    for _ in 0..3 {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            drop(intake.deliver(of(b"bdx")));
        }));
        assert!(caught.is_err());
        world.balanced();
    }
    let after = watch(intake.deliver(of(b"dyd")));
    let books = world.pipeline.ledger();
    assert_eq!(books.dropped.snapshot().get("panicked"), Some(&9));
    assert_eq!(books.filtered.total(), 3, "the step is still there");
    world.take(0).unwrap().delivered();
    world.take(0).unwrap().delivered();
    assert_eq!((before.get(), after.get()), (1, 1));
    assert!(world.engine.is_drained(), "nothing is outstanding");
    assert!(!intake.is_blocked());
    world.balanced();
}

/// Random deliveries and settlements: the books balance after every single one.
#[test]
fn the_ledgers_balance_at_every_instant() {
    for seed in 1..=200_u64 {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let world = world(&[
            (20_000, true, None),
            (5_000, true, None),
            (3_000, false, None),
        ]);
        let intake = world.intake(Stage::Delivered);
        let settled = Rc::new(Cell::new(0));
        let mut held: Vec<Part> = Vec::new();
        let mut delivered = 0;
        for _ in 0..300 {
            match chance.below(6) {
                0 | 1 => {
                    deliver_some(&intake, &mut chance, &settled);
                    delivered += 1;
                }
                2 | 3 => held.extend(world.take(chance.below(3))),
                4 if !held.is_empty() => {
                    let part = held.swap_remove(chance.below(held.len()));
                    settle_somehow(part, &mut chance);
                }
                _ => world.later.run(),
            }
            world.balanced();
        }
        world.drain(held);
        let drained = world.engine.is_drained();
        assert!(drained, "seed {seed}: something was left behind");
        let all = settled.get() == delivered;
        assert!(all, "seed {seed}: a delivery never fired");
    }
}

/// xorshift64: the same seed, the same run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

fn deliver_some(intake: &Intake, chance: &mut Chance, settled: &Rc<Cell<i32>>) {
    let count = Rc::clone(settled);
    let delivery = intake.deliver(batch(1 + chance.below(5), 1 + chance.below(900)));
    drop(delivery.add_both(move |_| count.set(count.get() + 1)));
}

fn settle_somehow(mut part: Part, chance: &mut Chance) {
    match chance.below(4) {
        0 => part.dropped("test"),
        1 => {
            part.drop_some("some", 1);
            part.delivered();
        }
        _ => part.delivered(),
    }
}

impl World {
    /// Settles what is held and what comes after it, until nothing comes any more.
    fn drain(&self, mut held: Vec<Part>) {
        for _ in 0..10_000 {
            self.later.run();
            held.extend((0..3).filter_map(|sink| self.take(sink)));
            if held.is_empty() {
                return;
            }
            held.drain(..).for_each(Part::delivered);
            self.balanced();
        }
        panic!("it never ends");
    }
}
