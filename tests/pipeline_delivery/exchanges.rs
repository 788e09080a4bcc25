//! What a disk queue owes when it is exchanged, given parts back, or relieved of its events.

use marline::buffer::memory::MemoryQueue;
use marline::pipeline::part::Stage;
use marline::pipeline::queue::WhenFull;

use super::disk::{DiskWorld, folder};

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
