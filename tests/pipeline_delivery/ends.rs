//! What a disk queue owes at its end, and where its device or a job of it fails.
//!
//! The next start is asked what it finds; nothing here is timed by a clock.

use marline::pipeline::part::Stage;
use marline::pipeline::queue::WhenFull;

use super::disk::DiskWorld;

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
