//! What a buffer does when it is full, and the ends a part may come to besides *delivered*.
//!
//! F-057: what is dropped is counted to the event, and its sender was not told otherwise.

use std::cell::RefCell;
use std::rc::Rc;

use marline::deferred::{Deferred, Failure};
use marline::pipeline::ledger::Tally;
use marline::pipeline::part::{Delivered, Part, Refused, Stage};
use marline::pipeline::port::Port;
use marline::pipeline::queue::WhenFull;
use marline::time::Duration;

use super::world::*;

fn dropped(port: &Port) -> Tally {
    port.ledger().dropped.snapshot()
}

fn count(port: &Port, reason: &str) -> u64 {
    dropped(port).get(reason).copied().unwrap_or(0)
}

/// The failure that a delivery came to.
fn failure(delivery: Deferred<Delivered>) -> Rc<RefCell<Option<Failure>>> {
    let seen = Rc::new(RefCell::new(None));
    let slot = Rc::clone(&seen);
    drop(delivery.add_both(move |result| *slot.borrow_mut() = result.err()));
    seen
}

#[test]
fn f_057_drop_newest_drops_what_comes_in_and_counts_it() {
    let world = world_of(&[(1_000, true, None)], Vec::new(), WhenFull::DropNewest);
    let intake = world.intake(Stage::Delivered);
    let first = watch(intake.deliver(batch(2, 400)));
    let second = watch(intake.deliver(batch(3, 300)));
    assert_eq!(
        (first.get(), second.get()),
        (0, 1),
        "nobody waits for what was dropped"
    );
    assert_eq!(count(&world.ports[0], "buffer_full"), 3);
    world.balanced();
    world.take(0).unwrap().delivered();
    assert_eq!(first.get(), 1);
    assert!(world.engine.is_drained());
}

/// A source that answers is told, and nothing of its batch is anywhere: also not in the sink
/// that had room.
#[test]
fn f_057_a_sender_that_is_answered_is_refused_whole_instead() {
    let sinks = [(1_000, true, None), (1 << 20, true, None)];
    let world = world_of(&sinks, Vec::new(), WhenFull::DropNewest);
    let intake = world.intake(Stage::Delivered);
    intake.outlet().answers_after(Duration::from_secs(5));
    let first = watch(intake.deliver(batch(2, 400)));
    let refused = failure(intake.deliver(batch(3, 300)));
    let refused = refused.borrow_mut().take().expect("it was refused");
    let sink = "sink0".to_owned();
    assert_eq!(refused.downcast_ref(), Some(&Refused::BufferFull { sink }));
    assert_eq!(world.ports[1].ledger().accepted.get(), 2);
    let books = world.pipeline.ledger();
    assert_eq!(books.dropped.snapshot().get("buffer_full"), Some(&3));
    world.balanced();
    world.take(0).unwrap().delivered();
    world.take(1).unwrap().delivered();
    assert_eq!(first.get(), 1);
}

#[test]
fn f_057_drop_oldest_drops_what_has_waited_longest() {
    let world = world_of(&[(2_000, true, None)], Vec::new(), WhenFull::DropOldest);
    let intake = world.intake(Stage::Delivered);
    let held = watch(intake.deliver(batch(1, 900)));
    let in_sink = world.take(0).unwrap();
    let oldest = watch(intake.deliver(batch(2, 400)));
    let newest = watch(intake.deliver(batch(3, 250)));
    assert_eq!((held.get(), oldest.get(), newest.get()), (0, 2, 0));
    assert_eq!(count(&world.ports[0], "evicted"), 2);
    world.balanced();
    // What the sink has cannot be evicted: with no room beside it, the newest is what goes.
    let too_much = watch(intake.deliver(batch(1, 1_500)));
    assert_eq!((newest.get(), too_much.get()), (2, 0));
    world.later.run();
    in_sink.delivered();
    world.later.run();
    assert_eq!(held.get(), 1);
    world.take(0).unwrap().delivered();
    assert_eq!(too_much.get(), 1);
    assert_eq!(count(&world.ports[0], "evicted"), 5);
    world.balanced();
    assert!(world.engine.is_drained());
}

/// F-094: a sender that is answered does not wait for ever for a buffer that blocks.
#[test]
fn f_094_a_batch_that_finds_no_room_for_long_is_refused_whole() {
    let sinks = [(1_000, true, None), (1 << 20, true, None)];
    let world = world_of(&sinks, Vec::new(), WhenFull::Block);
    let intake = world.intake(Stage::Delivered);
    intake.outlet().answers_after(Duration::from_secs(5));
    let first = watch(intake.deliver(batch(2, 400)));
    let refused = failure(intake.deliver(batch(3, 300)));
    let next = watch(intake.deliver(batch(1, 10)));
    assert!(refused.borrow().is_none() && next.get() == 0);
    world.later.fire_timers();
    let sink = "sink0".to_owned();
    let why = refused.borrow_mut().take().expect("it was refused");
    assert_eq!(why.downcast_ref(), Some(&Refused::BufferFull { sink }));
    assert_eq!(
        world.ports[1].ledger().accepted.get(),
        3,
        "the small one fits behind it"
    );
    world.balanced();
    for part in [0, 0, 1, 1].map(|sink| world.take(sink).unwrap()) {
        part.delivered();
    }
    assert_eq!((first.get(), next.get()), (1, 1));
    assert!(world.engine.is_drained());
}

/// Nothing is given up for a batch that has to wait for another sink anyway.
#[test]
fn a_batch_that_waits_for_one_sink_evicts_nothing_in_another() {
    let world = world_of(&[(2_000, true, None)], Vec::new(), WhenFull::Block);
    let intake = world.intake(Stage::Delivered);
    let first = watch(intake.deliver(batch(1, 1_900)));
    let second = watch(intake.deliver(batch(1, 1_900)));
    assert_eq!((first.get(), second.get()), (0, 0));
    assert!(dropped(&world.ports[0]).is_empty());
    world.take(0).unwrap().delivered();
    world.later.run();
    world.take(0).unwrap().delivered();
    assert_eq!(second.get(), 1);
}

/// F-059: the poison goes to the dead letters with all that is known of it, and the delivery
/// waits for the letters.
#[test]
fn f_059_what_a_sink_refuses_goes_to_the_dead_letters() {
    let world = world_of(&[(1 << 20, true, None)], Vec::new(), WhenFull::Block);
    let state = watch(world.intake(Stage::Delivered).deliver(batch(4, 10)));
    let mut part = world.take(0).unwrap();
    part.deliver_some(1);
    part.refuse_some(&[0, 2], "status 400");
    assert_eq!((part.len(), part.events().count()), (1, 1));
    part.delivered();
    assert_eq!(state.get(), 0, "the letters are not delivered yet");
    world.balanced();
    let books = world.ports[0].ledger();
    assert_eq!((books.delivered.get(), books.dead_lettered.get()), (2, 2));
    let letters = world.take(1).unwrap();
    let text: Vec<String> = letters
        .events()
        .map(|event| {
            let mut text = Vec::new();
            marline::event::json::Writer::new(letters.batch()).write(event, &mut text);
            String::from_utf8(text).unwrap()
        })
        .collect();
    let expected =
        r#"{"reason":"status 400","source":"in","sink":"sink0","original":"xxxxxxxxxx"}"#;
    assert_eq!(text, [expected, expected]);
    // Letters have no letters: nobody has the events, and nobody is told that all is well.
    letters.refused("status 500");
    assert_eq!(state.get(), 2);
    assert_eq!(count(&world.ports[1], "refused"), 2);
    world.balanced();
}

#[test]
fn what_is_kept_is_delivered_and_still_takes_room() {
    let world = world_of(&[(1_000, true, None)], Vec::new(), WhenFull::Block);
    let intake = world.intake(Stage::Delivered);
    let first = watch(intake.deliver(batch(2, 400)));
    let second = watch(intake.deliver(batch(2, 400)));
    let kept = world.take(0).unwrap().delivered_keeping();
    assert_eq!((first.get(), kept.len()), (1, 2));
    world.later.run();
    assert!(world.take(0).is_none(), "there is no room yet");
    world.balanced();
    drop(kept);
    world.later.run();
    world.take(0).unwrap().delivered();
    assert_eq!(second.get(), 1);
}

#[test]
fn what_a_sink_gives_back_comes_again_in_its_order_without_what_has_arrived() {
    let world = world_of(&[(1 << 20, true, None)], Vec::new(), WhenFull::Block);
    let intake = world.intake(Stage::Delivered);
    let states: Vec<_> = (1..=3)
        .map(|events| watch(intake.deliver(batch(events, 10))))
        .collect();
    let mut parts: Vec<Part> = (0..2).map(|_| world.take(0).unwrap()).collect();
    parts[1].deliver_some(1);
    let inlet = world.ports[0].inlet();
    inlet.give_back(parts.into_iter());
    world.balanced();
    let again: Vec<Part> = std::iter::from_fn(|| world.take(0)).collect();
    let events: Vec<usize> = again.iter().map(|part| part.events().count()).collect();
    assert_eq!(events, [1, 1, 3]);
    again.into_iter().for_each(Part::delivered);
    assert!(states.iter().all(|state| state.get() == 1));
    assert_eq!(world.ports[0].ledger().delivered.get(), 6);
    world.balanced();
}

/// A part that may have to be sent again is settled for everybody else: its source has its
/// answer and the drain does not wait. Its bytes fill the buffer until the sink lets go of it.
#[test]
fn what_is_kept_is_delivered_and_still_counts_in_the_buffer() {
    let world = world_of(&[(2_000, true, None)], Vec::new(), WhenFull::Block);
    let intake = world.intake(Stage::Delivered);
    let first = watch(intake.deliver(batch(2, 400)));
    let mut part = world.take(0).unwrap();
    part.deliver_some(1);
    let kept = part.delivered_keeping();
    world.later.run();
    let bytes = kept.bytes() as u64;
    assert_eq!((first.get(), kept.len(), kept.events().count()), (1, 1, 1));
    assert_eq!(world.ports[0].held_bytes(), bytes);
    assert!(world.engine.is_drained());
    let beside = watch(intake.deliver(batch(1, 1_000)));
    let waits = watch(intake.deliver(batch(1, 900)));
    let beside_it = world.take(0).unwrap();
    assert!(world.take(0).is_none(), "there was no room");
    drop(kept);
    world.later.run();
    beside_it.delivered();
    world.take(0).unwrap().delivered();
    assert_eq!((beside.get(), waits.get()), (1, 1));
    assert_eq!(world.ports[0].held_bytes(), 0);
    world.balanced();
}

/// What is kept goes only when more comes, so it must not keep out what does not fit beside it.
#[test]
fn a_part_that_does_not_fit_beside_what_is_kept_comes_in_alone() {
    for when_full in [WhenFull::Block, WhenFull::DropOldest] {
        let world = world_of(&[(1_000, true, None)], Vec::new(), when_full);
        let intake = world.intake(Stage::Delivered);
        drop(watch(intake.deliver(batch(1, 400))));
        let kept = world.take(0).unwrap().delivered_keeping();
        let large = watch(intake.deliver(batch(1, 900)));
        world.take(0).expect("it came in").delivered();
        assert_eq!(large.get(), 1, "{when_full:?}");
        assert_eq!(world.ports[0].held_bytes(), kept.bytes() as u64);
        drop(kept);
        assert_eq!(world.ports[0].held_bytes(), 0);
        world.balanced();
    }
}

/// The sinks' share of the memory bounds what one keeps, and half of its buffer does.
#[test]
fn a_sink_keeps_at_most_half_of_its_buffer_and_its_share_of_the_memory() {
    let world = world_of(&[(1_000, true, None)], Vec::new(), WhenFull::Block);
    let port = &world.ports[0];
    assert_eq!(port.inlet().keep_bytes_max(), 500);
    port.limit_kept(300);
    assert_eq!(port.inlet().keep_bytes_max(), 300);
    port.limit_kept(1 << 20);
    assert_eq!(port.inlet().keep_bytes_max(), 500);
}

/// An answer of 200 is no answer for a batch of which a required sink has dropped its share, also
/// where the batch had to wait for another sink first.
#[test]
fn f_057_a_share_that_is_dropped_after_a_wait_fails_the_delivery() {
    let sinks = [(1_000, true, None), (2_000, true, None)];
    let world = world_of(&sinks, Vec::new(), WhenFull::DropNewest);
    // The first blocks; the second drops.
    world.ports[0].set_buffer(WhenFull::Block, 1_000, None);
    let intake = world.intake(Stage::Delivered);
    intake.outlet().answers_after(Duration::from_secs(5));
    drop(intake.deliver(batch(1, 900)).add_both(|_| ()));
    let waits = failure(intake.deliver(batch(1, 800)));
    assert!(waits.borrow().is_none());
    // Meanwhile the second fills, by another source.
    let other = world.intake(Stage::Delivered);
    world.take(1).unwrap().delivered();
    world.ports[0].set_buffer(WhenFull::Block, 10_000, None);
    drop(other.deliver(batch(1, 1_500)).add_both(|_| ()));
    world.later.run();
    while let Some(part) = world.take(0) {
        part.delivered();
    }
    while let Some(part) = world.take(1) {
        part.delivered();
    }
    let why = waits
        .borrow_mut()
        .take()
        .expect("its second share was dropped");
    let sink = "sink1".to_owned();
    assert_eq!(why.downcast_ref(), Some(&Refused::BufferFull { sink }));
    world.balanced();
}

/// A part of which some events were dropped somewhere comes again whole, and the books say so.
#[test]
fn a_part_given_back_has_as_many_events_as_it_says() {
    let world = world_of(&[(1 << 20, true, None)], Vec::new(), WhenFull::Block);
    let state = watch(world.intake(Stage::Delivered).deliver(batch(5, 10)));
    let mut part = world.take(0).unwrap();
    part.deliver_some(1);
    part.drop_some("bad_path", 1);
    let inlet = world.ports[0].inlet();
    inlet.give_back(std::iter::once(part));
    world.balanced();
    let part = world.take(0).unwrap();
    assert_eq!((part.len(), part.events().count()), (4, 4));
    part.delivered();
    world.balanced();
    assert_eq!(state.get(), 2, "one event was dropped");
}
