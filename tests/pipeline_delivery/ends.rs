//! What a disk queue owes at its end, and where its device or a job of it fails.
//!
//! The next start is asked what it finds; nothing here is timed by a clock.

use std::rc::Rc;

use marline::buffer::disk::Durability;
use marline::buffer::memory::MemoryQueue;
use marline::pipeline::part::Stage;
use marline::pipeline::port::Port;
use marline::pipeline::queue::WhenFull;
use marline::sim::{Fault, FaultPlan};
use marline::time::{Duration, Scheduler};

use super::disk::DiskWorld;
use super::world::{batch, watch};

/// The eviction has given the oldest events up, and is heard of only when the queue has left
/// everything on the disk: they are not there.
#[test]
fn f_057_what_is_evicted_while_the_queue_closes_is_not_left_on_disk() {
    let world = DiskWorld::new(WhenFull::DropOldest);
    world.send_until_eviction(&world.intake(Stage::Received));
    let evicted = world.run("disk buffer eviction").unwrap();
    drop(world.port.close().add_both(|_| ()));
    world.hear(evicted);
    world.settle();
    world.balanced();
    let left = world.port.ledger().buffered.get();
    assert_eq!(left, world.reopened().recovered.events);
}

/// A stop gives up dead letters that are in memory. What they were made of was acknowledged and
/// is on a disk: the next start sends it again.
#[test]
fn f_057_a_stop_leaves_on_disk_what_its_dead_letters_were() {
    let world = DiskWorld::new(WhenFull::Block);
    let state = watch(world.send(&world.intake(Stage::Durable)));
    world.later.run();
    world.settle();
    assert_eq!(state.get(), 1, "it is durable, and the sender knows");
    world.port.inlet().next().unwrap().refused("answered 400");
    world.later.run();
    world.letters.abandon("shutdown");
    drop(world.port.close().add_both(|_| ()));
    world.settle();
    assert_eq!(world.letters.ledger().dropped.total(), 256);
    assert_eq!(world.reopened().recovered.events, 256, "acknowledged, lost");
}

/// The cursor cannot say that the second part was delivered and the first was not: so the next
/// start must not say that nothing comes twice.
#[test]
fn a_stop_with_a_hole_in_what_is_delivered_may_repeat_something() {
    let world = DiskWorld::new(WhenFull::Block);
    let intake = world.intake(Stage::Received);
    let inlet = world.port.inlet();
    let taken = [(), ()].map(|()| {
        drop(world.send(&intake).add_both(|_| ()));
        world.later.run();
        world.settle();
        inlet.next().unwrap()
    });
    let [first, second] = taken;
    second.delivered();
    inlet.give_back([first].into_iter());
    drop(world.port.close().add_both(|_| ()));
    world.settle();
    let found = world.reopened().recovered;
    assert_eq!((found.events, found.may_repeat), (512, 512));
}

/// As above, where some events of a part were delivered.
#[test]
fn a_stop_within_a_part_may_repeat_something() {
    let world = DiskWorld::new(WhenFull::Block);
    drop(world.send(&world.intake(Stage::Received)).add_both(|_| ()));
    world.later.run();
    world.settle();
    let inlet = world.port.inlet();
    let mut part = inlet.next().unwrap();
    part.deliver_some(100);
    inlet.give_back([part].into_iter());
    drop(world.port.close().add_both(|_| ()));
    world.settle();
    let found = world.reopened().recovered;
    assert_eq!((found.events, found.may_repeat), (256, 256));
}

/// An earlier process was killed and may have delivered something; the one after it delivered
/// nothing, and ends cleanly: that changes nothing about the former.
#[test]
fn a_clean_end_after_a_crash_does_not_vouch_for_the_crash() {
    let world = DiskWorld::new(WhenFull::Block);
    drop(world.send(&world.intake(Stage::Received)).add_both(|_| ()));
    world.later.run();
    world.settle();
    world.storage.kill();
    let scheduler = Rc::clone(&world.later) as Rc<dyn Scheduler>;
    let port = Port::new("out", WhenFull::Block, world.another(), scheduler);
    world.settle();
    drop(port.close().add_both(|_| ()));
    world.settle();
    let found = world.reopened().recovered;
    assert_eq!((found.events, found.may_repeat), (256, 256));
}

/// Only what was written shows that the device is well again.
#[test]
fn a_segment_that_is_not_made_heals_nothing() {
    let world = DiskWorld::new(WhenFull::Block);
    let intake = world.intake(Stage::Received);
    for _ in 0..2 {
        drop(world.send(&intake).add_both(|_| ()));
        world.later.run();
        world.settle();
    }
    let broken = FaultPlan::quiet().with(Fault::DiskFailed, 1_000);
    world.storage.plan_faults(broken);
    drop(world.send(&intake).add_both(|_| ()));
    world.later.run();
    for _ in 0..2 {
        let ran = world.run("disk buffer commit").expect("it is tried again");
        world.hear(ran);
    }
    assert!(world.port.queue().failure().is_some());
    world.port.abandon("shutdown");
    world.later.fire_timers();
    world.settle();
    let failure = world.port.queue().failure();
    assert!(failure.is_some(), "nothing was written, and all is well");
}

/// A device that failed and then is full: when what found no room is dropped, nothing is left
/// that could be written, and the senders that are answered would be refused for ever.
#[test]
fn f_039_a_device_that_failed_and_is_full_is_tried_again() {
    let world = DiskWorld::new(WhenFull::DropNewest);
    let intake = world.intake(Stage::Durable);
    intake.outlet().answers_after(Duration::from_secs(5));
    let send = || watch(intake.deliver(batch(1, 100)));
    let fine = send();
    world.later.run();
    world.settle();
    assert_eq!(fine.get(), 1);
    let broken = FaultPlan::quiet().with(Fault::SyncBroken, 1_000);
    world.storage.plan_faults(broken);
    let refused = send();
    world.later.run();
    world.settle();
    assert_eq!(refused.get(), 2);
    let full = FaultPlan::quiet().with(Fault::DiskFull, 1_000);
    world.storage.plan_faults(full);
    world.later.fire_timers();
    world.settle();
    world.storage.plan_faults(FaultPlan::quiet());
    for _ in 0..3 {
        world.later.fire_timers();
        world.settle();
    }
    let again = send();
    world.later.run();
    world.settle();
    assert_eq!(again.get(), 1, "{:?}", world.port.queue().failure());
}

/// A job that is lost takes the writer with it: nobody may wait for what will never be.
#[test]
fn f_009_nobody_waits_for_a_disk_whose_writer_is_lost() {
    for stage in [Stage::Durable, Stage::Delivered] {
        let world = DiskWorld::new(WhenFull::Block);
        let state = watch(world.send(&world.intake(stage)));
        world.later.run();
        world.lose("disk buffer commit");
        assert_eq!(state.get(), 2, "{stage:?}: the sender waits for ever");
    }
}

/// The same for a batch that waited for another sink meanwhile; nobody has got a part of it.
#[test]
fn f_009_a_batch_that_waited_is_refused_by_a_disk_that_failed_meanwhile() {
    let interval = Durability::Interval(Duration::from_millis(500));
    let world = DiskWorld::with(WhenFull::Block, interval);
    let intake = world.intake_to_both(Stage::Durable);
    intake.outlet().answers_after(Duration::from_secs(5));
    // As much as the other sink holds.
    let first = watch(intake.deliver(batch(256, 4096)));
    world.later.run();
    let ran = world.run("disk buffer commit").unwrap();
    world.hear(ran);
    world.later.fire_timers();
    let second = watch(intake.deliver(batch(1, 100)));
    world.later.run();
    assert_eq!((first.get(), second.get()), (0, 0));
    world.lose("disk buffer sync");
    let letters = world.letters.inlet();
    letters.next().unwrap().delivered();
    world.later.run();
    world.settle();
    assert_eq!(first.get(), 1);
    assert_eq!(second.get(), 2, "the sender waits for ever");
    assert!(letters.next().is_none(), "half of it was taken");
    world.balanced();
}

/// From memory to the disk and back while a sink has parts of the first memory: they never
/// counted in the second.
#[test]
fn a_late_sink_s_parts_take_no_room_from_another_memory() {
    for is_given_back in [false, true] {
        let world = DiskWorld::new(WhenFull::Block);
        let memory = || Box::new(MemoryQueue::new(1 << 20));
        world.port.set_queue(memory());
        world.settle();
        let intake = world.intake(Stage::Received);
        drop(world.send(&intake).add_both(|_| ()));
        world.later.run();
        let inlet = world.port.inlet();
        let late = inlet.next().unwrap();
        world.port.set_queue(world.another());
        world.settle();
        world.port.set_queue(memory());
        world.settle();
        drop(intake.deliver(batch(1, 100)).add_both(|_| ()));
        world.later.run();
        let held = world.port.held_bytes();
        if is_given_back {
            let bytes = late.bytes() as u64;
            inlet.give_back([late].into_iter());
            assert_eq!(world.port.held_bytes(), held + bytes);
            world.port.inlet().next().unwrap().delivered();
        } else {
            late.delivered();
        }
        assert_eq!(world.port.held_bytes(), held);
        world.balanced();
    }
}
