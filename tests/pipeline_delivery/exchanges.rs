//! What a disk queue owes when it is exchanged, given parts back, or relieved of its events.
//!
//! Jobs end in the order that the test likes, as in `disk.rs`; nothing here is timed by a clock.

use marline::buffer::disk::{self, Durability, Settings};
use marline::buffer::memory::MemoryQueue;
use marline::pipeline::part::Stage;
use marline::pipeline::queue::WhenFull;
use marline::time::{Duration, WallTime};

use super::disk::{DiskWorld, folder};
use super::world::{batch, watch};

/// The last events of a disk buffer that is only emptied are damaged: what came into memory
/// behind them is delivered all the same.
#[test]
fn f_089_a_former_disk_buffer_whose_end_is_damaged_holds_nothing_up() {
    let world = DiskWorld::new(WhenFull::Block);
    let intake = world.intake(Stage::Received);
    for _ in 0..3 {
        drop(world.send(&intake).add_both(|_| ()));
        world.later.run();
        world.settle_but("disk buffer read");
    }
    let folder = folder(&world.storage);
    for name in folder.list().unwrap() {
        if name.ends_with(".seg") {
            folder.unlink(&name).unwrap();
        }
    }
    world.port.set_queue(Box::new(MemoryQueue::new(1 << 20)));
    let inlet = world.port.inlet();
    for _ in 0..20 {
        while let Some(part) = inlet.next() {
            part.delivered();
        }
        world.later.run();
        world.settle();
        world.later.fire_timers();
    }
    let books = world.port.ledger();
    assert!(books.dropped.total() > 0, "nothing was damaged");
    assert!(books.is_settled(), "{books:?}");
    drop(world.send(&intake).add_both(|_| ()));
    world.later.run();
    assert!(inlet.next().is_some(), "what came later stays for ever");
}

/// What was on its way to a disk that was exchanged for memory, and is given up there, never
/// counted in the memory.
#[test]
fn what_a_former_disk_buffer_gives_up_takes_no_room_from_the_memory() {
    let world = DiskWorld::new(WhenFull::Block);
    let intake = world.intake(Stage::Received);
    for _ in 0..2 {
        drop(intake.deliver(batch(256, 100)).add_both(|_| ()));
        world.later.run();
    }
    let former = world.port.queue();
    world.port.set_queue(Box::new(MemoryQueue::new(1 << 20)));
    drop(world.send(&intake).add_both(|_| ()));
    world.later.run();
    let held = world.port.held_bytes();
    assert!(held > 0);
    // One is being written; the other is given up.
    former.abandon(&world.port, "shutdown");
    assert_eq!(world.port.ledger().dropped.total(), 256);
    assert_eq!(world.port.held_bytes(), held);
    world.balanced();
}

/// However many commits there are to make: what was written is synced in the interval.
#[test]
fn f_057_a_buffer_that_is_never_idle_is_synced_in_its_interval() {
    let interval = Durability::Interval(Duration::from_millis(500));
    let world = DiskWorld::with(WhenFull::Block, interval);
    let intake = world.intake(Stage::Durable);
    for _ in 0..20 {
        // More comes in while a commit is under way.
        drop(intake.deliver(batch(1, 100)).add_both(|_| ()));
        world.later.run();
        world.later.fire_timers();
        if world.has_job("disk buffer sync") {
            return;
        }
        let commit = world.run("disk buffer commit").expect("there is a commit");
        drop(intake.deliver(batch(1, 100)).add_both(|_| ()));
        world.later.run();
        world.hear(commit);
    }
    panic!("twenty intervals, and nothing was synced");
}

/// The sink has events whose segment is evicted, and gives them back at the stop: they are on
/// no disk, and the books must not say that they are.
#[test]
fn f_057_what_was_evicted_from_under_the_sink_is_not_left_on_disk() {
    let world = DiskWorld::new(WhenFull::DropOldest);
    let intake = world.intake(Stage::Received);
    let inlet = world.port.inlet();
    let mut taken = None;
    for _ in 0..60 {
        drop(world.send(&intake).add_both(|_| ()));
        world.later.run();
        world.settle();
        taken = taken.or_else(|| inlet.next());
        if world.has_job("disk buffer eviction") {
            break;
        }
    }
    let part = taken.expect("the sink has the first part");
    let evicted = world.run("disk buffer eviction").expect("it is full");
    world.hear(evicted);
    world.settle();
    inlet.give_back([part].into_iter());
    world.balanced();
    drop(world.port.close().add_both(|_| ()));
    world.settle();
    world.balanced();
    let left = world.port.ledger().buffered.get();
    let settings = Settings::new(8 << 20, Durability::Commit, [7; 16]);
    let again = disk::open(folder(&world.storage), settings, WallTime::default()).unwrap();
    assert_eq!(left, again.recovered.events, "left in the disk buffer");
}

/// An event that was acknowledged because it is on disk stays there until its dead letter is
/// as safe.
#[test]
fn f_057_a_refused_event_is_on_disk_until_its_letter_is_settled() {
    let world = DiskWorld::new(WhenFull::Block);
    let intake = world.intake(Stage::Durable);
    let state = watch(world.send(&intake));
    world.later.run();
    world.settle();
    assert_eq!(state.get(), 1, "it is durable, and the sender knows");
    let part = world.port.inlet().next().unwrap();
    part.refused("answered 400");
    world.later.run();
    world.later.fire_timers();
    world.settle();
    assert_eq!(world.letters.ledger().buffered.get(), 256);
    assert!(
        !world.port.queue().is_empty(),
        "the letters are in memory, and the disk lets go of the events"
    );
    let letters = world.letters.inlet();
    while let Some(letter) = letters.next() {
        letter.delivered();
    }
    world.later.run();
    assert!(world.port.queue().is_empty());
    world.balanced();
}
