//! Sources and readiness, on every poller: conformance group R.
//!
//! The streams are socket pairs of the system or of the simulator; what is checked is which
//! handler is called when, and that no edge is lost.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use marline::deferred::Failure;
use marline::reactor::{Exit, Pollable, Progress, Status, Token};

use crate::each_poller;
use crate::reactor_support::{Kind, Log, Source, Stream, World, ms, read_all};

/// Enough turns for what was caused to arrive and be served.
const ENOUGH: usize = 6;

/// A source whose reading is paused and that has three bytes to read: its edge is consumed, both
/// directions have been reported and not been served.
fn unread_while_paused(world: &mut World, log: &Log) -> (Stream, Stream, Token) {
    let (near, far) = world.streams();
    let token = Source::new(&near, log, "near").register_reader(&world.handle);
    world.turns(ENOUGH);
    world.handle.remove_reader(token);
    far.write(b"abc").unwrap();
    world.turns(ENOUGH);
    log.expect(&[]);
    (near, far, token)
}

each_poller! {
    fn c_256_a_byte_calls_the_reader(world: &mut World) {
        let log = Log::default();
        let (near, far) = world.streams();
        Source::new(&near, &log, "near").register_reader(&world.handle);
        world.turns(ENOUGH);
        log.expect(&[]);
        far.write(b"x").unwrap();
        world.turns(ENOUGH);
        log.expect(&["near read 1"]);
        far.write(b"yz").unwrap();
        world.turns(ENOUGH);
        log.expect(&["near read 1", "near read 2"]);
    }

    fn c_257_a_removed_source_is_not_called(world: &mut World) {
        let log = Log::default();
        let (near, far) = world.streams();
        let token = Source::new(&near, &log, "near").register_reader(&world.handle);
        far.write(b"x").unwrap();
        world.turns(ENOUGH);
        assert!(world.handle.deregister(token));
        assert!(!world.handle.deregister(token));
        far.write(b"y").unwrap();
        world.turns(ENOUGH);
        log.expect(&["near read 1"]); // and not told of a loss
    }

    fn c_258_adding_twice_is_adding_once(world: &mut World) {
        let log = Log::default();
        let (near, far) = world.streams();
        let token = Source::new(&near, &log, "near").register_reader(&world.handle);
        world.handle.add_reader(token);
        far.write(b"x").unwrap();
        world.turns(ENOUGH);
        log.expect(&["near read 1"]);
        assert_eq!(world.handle.readers(), [token]);
        world.handle.remove_reader(token);
        far.write(b"y").unwrap();
        world.turns(ENOUGH);
        log.expect(&["near read 1"]);
    }

    fn c_259_each_direction_comes_and_goes_by_itself(world: &mut World) {
        // From each of none, R, W, RW to each: what is called is what is wanted.
        for from in 0..4 {
            for to in 0..4 {
                check_transition(world, from, to);
            }
        }
    }

    fn c_261_readers_and_writers_are_listed(world: &mut World) {
        let log = Log::default();
        let (near, far) = world.streams();
        assert_eq!((world.handle.readers(), world.handle.writers()), (vec![], vec![]));
        let reads = Source::new(&near, &log, "reads").register_reader(&world.handle);
        let writes = Source::new(&far, &log, "writes").register(&world.handle);
        world.handle.add_writer(writes);
        assert_eq!((world.handle.readers(), world.handle.writers()), (vec![reads], vec![writes]));
        world.handle.deregister(reads);
        world.handle.remove_writer(writes);
        assert_eq!((world.handle.readers(), world.handle.writers()), (vec![], vec![]));
    }

    fn c_262_the_last_reader_can_end_the_loop(world: &mut World) {
        let log = Log::default();
        let mut fars = Vec::new();
        for name in ["one", "two"] {
            let (near, far) = world.streams();
            let (slot, log) = (Rc::new(Cell::new(None::<Token>)), log.clone());
            let own = slot.clone();
            let source = Source::new(&near, &log, name).on_read(move |reactor, stream| {
                let end = read_all(stream, &log, name);
                reactor.deregister(own.get().unwrap());
                if reactor.readers().is_empty() {
                    assert!(reactor.stop(Exit::Stopped));
                }
                end
            });
            slot.set(Some(source.register_reader(&world.handle)));
            fars.push(far);
        }
        fars.iter().for_each(|far| assert!(far.write(b"poem").is_ok()));
        assert_eq!(world.reactor.run().unwrap(), Exit::Stopped);
        assert_eq!(log.len(), 2);
    }

    fn c_263_remove_all_leaves_the_waker(world: &mut World) {
        let log = Log::default();
        let (near, far) = world.streams();
        Source::new(&near, &log, "near").register_reader(&world.handle);
        Source::new(&far, &log, "far").register(&world.handle);
        assert_eq!(world.handle.remove_all().len(), 2);
        assert_eq!(world.handle.stats().sources, 0);
        let (remote, called) = (world.handle.remote(), std::sync::Arc::default());
        let flag = std::sync::Arc::clone(&called);
        std::thread::spawn(move || {
            let set = |flag: &std::sync::atomic::AtomicBool| {
                flag.store(true, std::sync::atomic::Ordering::SeqCst);
            };
            remote.call(move |_| set(&flag)).unwrap();
        });
        world.reactor.turn(None).unwrap(); // ends only by the waker
        world.run_until(|| called.load(std::sync::atomic::Ordering::SeqCst));
        log.expect(&[]);
    }

    fn c_264_a_source_removed_in_the_same_batch_is_not_called(world: &mut World) {
        let log = Log::default();
        let tokens: Rc<RefCell<Vec<Token>>> = Rc::default();
        let mut fars = Vec::new();
        for name in ["a", "b"] {
            let (near, far) = world.streams();
            let (tokens_inside, entries) = (tokens.clone(), log.clone());
            let source = Source::new(&near, &log, name).on_read(move |reactor, stream| {
                let progress = read_all(stream, &entries, "one");
                for token in tokens_inside.borrow().iter() {
                    reactor.deregister(*token); // itself and the other
                }
                progress
            });
            tokens.borrow_mut().push(source.register_reader(&world.handle));
            fars.push((near, far));
        }
        fars.iter().for_each(|(_, far)| assert!(far.write(b"x").is_ok()));
        world.turns(ENOUGH);
        log.expect(&["one read 1"]);
        assert_eq!(world.handle.stats().sources, 0);
    }

    fn c_266_a_dead_source_is_told_of_its_loss_once(world: &mut World) {
        let log = Log::default();
        let (near, far) = world.streams();
        let entries = log.clone();
        let token = Source::new(&near, &log, "near")
            .on_read(move |_, _| {
                entries.add("read");
                Progress::Dead(Failure::msg("I am dead"))
            })
            .register_reader(&world.handle);
        world.handle.add_writer(token);
        far.write(b"x").unwrap();
        world.turns(ENOUGH);
        far.write(b"y").unwrap();
        world.turns(ENOUGH);
        let entries: Vec<String> =
            log.entries().into_iter().filter(|entry| entry != "near write").collect();
        assert_eq!(entries, ["read", "near lost: I am dead"]);
        assert_eq!((world.handle.readers(), world.handle.writers()), (vec![], vec![]));
        assert_eq!(world.handle.stats().sources, 0);
    }

    fn c_267_a_panicking_source_is_closed_with_the_panic_as_reason(world: &mut World) {
        let log = Log::default();
        let (near, far) = world.streams();
        let (other, other_far) = world.streams();
        Source::new(&near, &log, "near")
            .on_read(|_, _| panic!("on purpose"))
            .register_reader(&world.handle);
        Source::new(&other, &log, "other").register_reader(&world.handle);
        far.write(b"x").unwrap();
        other_far.write(b"x").unwrap();
        world.turns(ENOUGH);
        let mut entries = log.entries();
        entries.sort();
        assert_eq!(entries.len(), 2, "{entries:?}");
        assert!(entries[0].starts_with("near lost: ") && entries[0].contains("on purpose"));
        assert_eq!(entries[1], "other read 1");
        assert_eq!(world.handle.stats().panics, 1);
    }

    fn c_268_a_source_that_stops_before_it_would_block_is_called_again(world: &mut World) {
        let log = Log::default();
        let (near, far) = world.streams();
        let entries = log.clone();
        Source::new(&near, &log, "near")
            .on_read(move |_, stream| {
                let mut chunk = [0_u8; 1024];
                match stream.read(&mut chunk) {
                    Ok(count) => entries.add(count.to_string()),
                    Err(_) => return Progress::Blocked,
                }
                Progress::More
            })
            .register_reader(&world.handle);
        let total = far.write(&[b'x'; 64 * 1024]).unwrap();
        world.turns(total / 1024 + ENOUGH);
        let read: usize = log.entries().iter().map(|count| count.parse::<usize>().unwrap()).sum();
        assert_eq!(read, total);
        world.turns(1);
        assert_eq!(world.handle.next_wait(), None);
    }

    fn f_071_what_is_read_in_a_turn_is_bounded_and_each_source_has_its_turn(world: &mut World) {
        let log = Log::default();
        let streams: Vec<_> = (0..4).map(|_| world.streams()).collect();
        for (index, (near, _)) in streams.iter().enumerate() {
            let entries = log.clone();
            Source::new(near, &log, "near")
                .on_read(move |reactor, _| {
                    entries.add(index.to_string());
                    reactor.count_read(1 << 20);
                    Progress::More
                })
                .register_reader(&world.handle);
        }
        streams.iter().for_each(|(_, far)| assert_eq!(far.write(b"x").unwrap(), 1));
        world.run_until(|| log.entries().len() == 4);
        let mut first = log.entries();
        world.turns(4);
        assert_eq!(log.entries()[4..], first, "each again, in the same order");
        first.sort();
        assert_eq!(first, ["0", "1", "2", "3"]);
        world.turns(1);
        assert_eq!(log.entries().len(), 9, "one a turn");
    }

    fn c_269_nobody_sleeps_while_the_ready_list_is_not_empty(world: &mut World) {
        let log = Log::default();
        let (near, far) = world.streams();
        let budget = Rc::new(Cell::new(3));
        let left = budget.clone();
        Source::new(&near, &log, "near")
            .on_read(move |_, _| {
                left.set(left.get() - 1);
                if left.get() == 0 { Progress::Blocked } else { Progress::More }
            })
            .register_reader(&world.handle);
        let far_off = world.handle.call_later(Duration::from_secs(3600), |_| {});
        far.write(b"x").unwrap();
        world.run_until(|| budget.get() == 2);
        assert_eq!(world.handle.next_wait(), Some(Duration::ZERO));
        world.turns(1);
        assert_eq!(world.handle.next_wait(), Some(Duration::ZERO));
        world.turns(1);
        assert!(world.handle.next_wait().unwrap() > ms(1_000_000));
        far_off.cancel();
    }

    fn c_271_data_that_came_during_a_pause_come_at_resume(world: &mut World) {
        let log = Log::default();
        let (_near, far, token) = unread_while_paused(world, &log);
        world.handle.add_reader(token);
        world.turns(ENOUGH);
        log.expect(&["near read 3"]);
        // Paused by its own handler, before it met `WouldBlock`.
        world.handle.remove_reader(token);
        far.write(b"de").unwrap();
        world.handle.add_reader(token);
        world.turns(ENOUGH);
        log.expect(&["near read 3", "near read 2"]);
    }

    fn c_271_a_handler_that_pauses_itself_half_way_loses_nothing(world: &mut World) {
        let log = Log::default();
        let (near, far) = world.streams();
        let (slot, entries) = (Rc::new(Cell::new(None::<Token>)), log.clone());
        let own = slot.clone();
        let source = Source::new(&near, &log, "near").on_read(move |reactor, stream| {
            let mut byte = [0_u8; 1];
            if stream.read(&mut byte).is_err() {
                return Progress::Blocked;
            }
            entries.add((byte[0] as char).to_string());
            reactor.remove_reader(own.get().unwrap());
            Progress::More
        });
        let token = source.register_reader(&world.handle);
        slot.set(Some(token));
        far.write(b"abc").unwrap();
        for expected in [1, 2, 3] {
            world.turns(ENOUGH);
            assert_eq!(log.len(), expected);
            assert_eq!(world.handle.next_wait(), None);
            world.handle.add_reader(token);
        }
        world.turns(ENOUGH);
        log.expect(&["a", "b", "c"]);
    }

    fn c_272_all_data_come_before_the_loss(world: &mut World) {
        let log = Log::default();
        let (near, far) = world.streams();
        Source::new(&near, &log, "near").register_reader(&world.handle);
        let total = far.write(&[b'x'; 64 * 1024]).unwrap();
        drop(far);
        world.turns(ENOUGH);
        let read = format!("near read {total}");
        log.expect(&[&read, "near lost: end of file"]);
    }

    fn c_273_a_write_only_source_is_told_of_a_hang_up(world: &mut World) {
        let log = Log::default();
        let (near, far) = world.streams();
        let token = Source::new(&near, &log, "near").on_write(write_more).register(&world.handle);
        world.handle.add_writer(token);
        world.turns(ENOUGH); // until the buffer is full
        drop(far);
        world.run_until(|| log.entries().iter().any(|entry| entry.starts_with("near lost: ")));
        assert_eq!(world.handle.stats().sources, 0);
    }

    fn c_274_write_interest_without_output_is_caught(world: &mut World) {
        let log = Log::default();
        let (near, _far) = world.streams();
        let source = Source::new(&near, &log, "near");
        source.has_output.set(false);
        let token = source.register(&world.handle);
        world.handle.add_writer(token);
        world.turns(ENOUGH);
        let entries = log.entries();
        assert!(entries[1].contains("write interest is kept with nothing to write"), "{entries:?}");
    }

    fn a_stale_token_does_nothing(world: &mut World) {
        let log = Log::default();
        let (near, far) = world.streams();
        let stale = Source::new(&near, &log, "old").register_reader(&world.handle);
        far.write(b"x").unwrap();
        world.handle.deregister(stale);
        let fresh = Source::new(&near, &log, "new").register(&world.handle);
        world.handle.add_reader(stale);
        world.handle.lose(stale, Failure::msg("nobody"));
        world.turns(ENOUGH);
        log.expect(&[]);
        assert_eq!(world.handle.readers(), []);
        world.handle.add_reader(fresh);
        world.turns(ENOUGH);
        log.expect(&["new read 1"]);
    }

    fn lose_is_told_later_and_once(world: &mut World) {
        let log = Log::default();
        let (near, far) = world.streams();
        let (slot, entries) = (Rc::new(Cell::new(None::<Token>)), log.clone());
        let own = slot.clone();
        let source = Source::new(&near, &log, "near").on_read(move |reactor, _| {
            reactor.lose(own.get().unwrap(), Failure::msg("by itself"));
            reactor.lose(own.get().unwrap(), Failure::msg("again"));
            entries.add("returns");
            Progress::More
        });
        slot.set(Some(source.register_reader(&world.handle)));
        far.write(b"x").unwrap();
        world.turns(ENOUGH);
        log.expect(&["returns", "near lost: by itself"]);
    }

    fn who_deregisters_itself_is_not_told_of_anothers_loss(world: &mut World) {
        let log = Log::default();
        let mut fars = Vec::new();
        for (name, loses) in [("loses", true), ("leaves", false)] {
            let (near, far) = world.streams();
            let slot = Rc::new(Cell::new(None::<Token>));
            let own = slot.clone();
            let source = Source::new(&near, &log, name).on_read(move |reactor, _| {
                let token = own.get().unwrap();
                if loses {
                    reactor.lose(token, Failure::msg("by itself"));
                } else {
                    reactor.deregister(token);
                }
                Progress::More
            });
            slot.set(Some(source.register_reader(&world.handle)));
            far.write(b"x").unwrap();
            world.turns(ENOUGH);
            fars.push(far);
        }
        log.expect(&["loses lost: by itself"]);
        assert_eq!(world.handle.stats().sources, 0);
    }

    fn a_hang_up_during_a_pause_is_told_once_and_does_not_spin(world: &mut World) {
        let log = Log::default();
        let (near, far) = world.streams();
        let token = Source::new(&near, &log, "near").register_reader(&world.handle);
        world.turns(ENOUGH);
        world.handle.remove_reader(token);
        drop(far);
        world.turns(ENOUGH);
        // select(2) cannot say it: there it comes when reading is resumed.
        let told: &[&str] = if world.kind == Kind::Select { &[] } else { &["near hangup"] };
        log.expect(told);
        let before = world.handle.fresh();
        world.reactor.turn(Some(ms(20))).unwrap();
        assert!(world.handle.fresh().since(before) >= ms(20));
        world.handle.add_reader(token);
        world.turns(ENOUGH);
        assert_eq!(log.entries().last().unwrap(), "near lost: end of file");
    }

    fn f_081_a_hang_up_behind_unread_data_is_told_once_and_does_not_spin(world: &mut World) {
        let log = Log::default();
        let (_near, far, token) = unread_while_paused(world, &log);
        drop(far);
        world.turns(ENOUGH);
        let told: &[&str] = if world.kind == Kind::Select { &[] } else { &["near hangup"] };
        log.expect(told);
        let before = world.handle.fresh();
        world.reactor.turn(Some(ms(20))).unwrap();
        assert!(world.handle.fresh().since(before) >= ms(20));
        log.expect(told);
        world.handle.add_reader(token);
        world.turns(ENOUGH);
        assert_eq!(log.entries()[told.len()..], ["near read 3", "near lost: end of file"]);
    }

    fn the_loop_ends_with_a_full_pipe_in_both_directions(world: &mut World) {
        // Two ends that echo at most a window of each other: no edge may be lost on the way.
        let (left, right) = world.streams();
        let moved = Rc::new(Cell::new(0_usize));
        let goal = 2_000_000;
        for (stream, writes) in [(left, true), (right, false)] {
            let moved = moved.clone();
            let source = Source::new(&stream, &Log::default(), "end");
            let source = if writes {
                source.on_write(write_more)
            } else {
                source.on_read(move |_, stream| {
                    let mut chunk = [0_u8; 3_000];
                    for _ in 0..3 {
                        match stream.read(&mut chunk) {
                            Ok(count) => moved.set(moved.get() + count),
                            Err(_) => return Progress::Blocked,
                        }
                    }
                    Progress::More
                })
            };
            let token = source.register(&world.handle);
            if writes {
                world.handle.add_writer(token);
            } else {
                world.handle.add_reader(token);
            }
        }
        world.run_until(|| moved.get() >= goal);
        assert_eq!(world.reactor.status(), Status::Going);
    }
}

fn write_more(_: &marline::reactor::Handle, stream: &Stream) -> Progress {
    for _ in 0..8 {
        match stream.write(&[b'x'; 10_000]) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return Progress::Blocked;
            }
            Err(error) => return Progress::Dead(Failure::new(error)),
        }
    }
    Progress::More
}

/// Bit 0 is read interest, bit 1 write interest. Both directions are ready.
fn check_transition(world: &mut World, from: u8, to: u8) {
    let log = Log::default();
    let (near, far) = world.streams();
    far.write(b"x").unwrap();
    let (reads, writes) = (log.clone(), log.clone());
    let token = Source::new(&near, &log, "near")
        .on_read(move |_, _| {
            reads.add("R");
            Progress::More
        })
        .on_write(move |_, _| {
            writes.add("W");
            Progress::More
        })
        .register(&world.handle);
    for wanted in [from, to] {
        match wanted & 1 {
            0 => world.handle.remove_reader(token),
            _ => world.handle.add_reader(token),
        }
        match wanted & 2 {
            0 => world.handle.remove_writer(token),
            _ => world.handle.add_writer(token),
        }
        world.turns(2);
        log.clear();
        world.turns(1);
        let expected: &[&str] = [&[][..], &["R"], &["W"], &["R", "W"]][wanted as usize];
        assert_eq!(log.entries(), expected, "from {from} to {to}");
    }
    world.handle.deregister(token);
}

#[test]
#[should_panic(expected = "the test leaves behind: a source of tests/reactor_sources.rs")]
fn c_427_a_source_that_a_test_leaves_behind_fails_it() {
    let world = World::new(Kind::Sim);
    let (near, _far) = world.streams();
    let handler = Source::new(&near, &Log::default(), "near");
    world
        .handle
        .register(near.pollable(), Box::new(handler))
        .unwrap();
}

#[test]
fn select_refuses_a_high_descriptor_and_names_the_others() {
    use marline::reactor::PollerKind;
    let mut select = PollerKind::Select.open().unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    let high = match rustix::io::fcntl_dupfd_cloexec(&file, 2_000) {
        Ok(high) => high,
        Err(error) => panic!("no descriptor above 1023 to try it with: {error}"),
    };
    let source = Pollable::Fd(Rc::new(high));
    let error = select
        .register(&source, Token::from_bits(1))
        .unwrap_err()
        .to_string();
    assert!(error.contains("cannot watch descriptor 2000"), "{error}");
    assert!(error.contains("\"epoll\" or \"poll\""), "{error}");
}
