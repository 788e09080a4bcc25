//! Life cycle, shutdown and the order of a turn: conformance groups P and Q.
//!
//! Most worlds here have a clock that only the test moves, so limits of seconds cost nothing and
//! are exact on every poller.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use marline::deferred::{Deferred, Failure, Promise};
use marline::reactor::{
    Exit, Handle, Options, PanicPolicy, Phase, Pollable, Poller, PollerKind, PoolSizes, Reactor,
    ReactorError, Readiness, Seams, Status, Threads, Token, TriggerId, Wake,
};
use marline::sim::VirtualClock;
use marline::time::SystemClock;

use crate::reactor_support::{Captured, Log, Source, World, ms};
use crate::{each_kind, each_poller, each_poller_by_hand};

/// A trigger that logs and is done.
fn done(log: &Log, text: &'static str) -> impl FnOnce(&Handle) -> Deferred<()> + 'static {
    let log = log.clone();
    move |_| {
        log.add(text);
        Deferred::ready(())
    }
}

type Promises = Rc<RefCell<Vec<Option<Promise<()>>>>>;

/// A trigger that logs and waits for its promise, which is pushed to `promises`.
fn waiting(
    log: &Log,
    text: &'static str,
    promises: &Promises,
) -> impl FnOnce(&Handle) -> Deferred<()> + 'static {
    let (log, promises) = (log.clone(), promises.clone());
    move |_| {
        log.add(text);
        let (promise, deferred) = Deferred::new();
        promises.borrow_mut().push(Some(promise));
        deferred
    }
}

fn stop(world: &mut World) {
    world.turns(1);
    assert!(world.handle.stop(Exit::Stopped));
}

fn fire(promises: &Promises, index: usize) {
    let promise = promises.borrow_mut()[index].take().unwrap();
    promise.callback(());
}

each_poller_by_hand! {
    fn c_226_phases_run_in_order_and_fifo_inside(world: &mut World) {
        let log = Log::default();
        for (phase, text) in [
            (Phase::After, "after 1"),
            (Phase::During, "during 1"),
            (Phase::Before, "before 1"),
            (Phase::Before, "before 2"),
            (Phase::During, "during 2"),
            (Phase::After, "after 2"),
        ] {
            world.handle.on_shutdown(phase, text, done(&log, text));
        }
        stop(world);
        assert_eq!(world.reactor.run().unwrap(), Exit::Stopped);
        log.expect(&["before 1", "before 2", "during 1", "during 2", "after 1", "after 2"]);
    }

    fn c_227_during_waits_for_all_of_before(world: &mut World) {
        let (log, promises) = (Log::default(), Promises::default());
        world.handle.on_shutdown(Phase::Before, "a", waiting(&log, "a", &promises));
        world.handle.on_shutdown(Phase::Before, "b", waiting(&log, "b", &promises));
        world.handle.on_shutdown(Phase::During, "during", done(&log, "during"));
        stop(world);
        world.run_for(ms(1_000));
        log.expect(&["a", "b"]);
        fire(&promises, 1);
        world.run_for(ms(1_000));
        log.expect(&["a", "b"]);
        fire(&promises, 0);
        assert_eq!(world.reactor.run().unwrap(), Exit::Stopped);
        log.expect(&["a", "b", "during"]);
    }

    fn c_228_a_failing_deferred_is_logged_and_holds_nothing_up(world: &mut World) {
        let (log, promises, captured) = (Log::default(), Promises::default(), Captured::new());
        world.handle.on_shutdown(Phase::Before, "drain", waiting(&log, "a", &promises));
        world.handle.on_shutdown(Phase::During, "during", done(&log, "during"));
        stop(world);
        world.turns(1);
        let promise = promises.borrow_mut()[0].take().unwrap();
        promise.errback(Failure::msg("the disk is gone"));
        assert_eq!(world.reactor.run().unwrap(), Exit::Stopped);
        log.expect(&["a", "during"]);
        let lines = captured.with("the disk is gone");
        assert!(lines.len() == 1 && lines[0].contains("drain"), "{lines:?}");
    }

    fn c_229_a_panicking_trigger_is_logged_and_the_others_run(world: &mut World) {
        let (log, captured) = (Log::default(), Captured::new());
        world.handle.on_shutdown(Phase::Before, "bad", |_| panic!("on purpose"));
        world.handle.on_shutdown(Phase::Before, "good", done(&log, "good"));
        world.handle.on_shutdown(Phase::During, "bad", |_| panic!("on purpose"));
        world.handle.on_shutdown(Phase::After, "after", done(&log, "after"));
        stop(world);
        assert_eq!(world.reactor.run().unwrap(), Exit::Stopped);
        log.expect(&["good", "after"]);
        assert_eq!(captured.with("on purpose").len(), 2);
    }

    fn c_231_a_trigger_can_remove_later_ones(world: &mut World) {
        let (log, ids) = (Log::default(), Rc::new(RefCell::new(Vec::<TriggerId>::new())));
        let (taken, entries) = (ids.clone(), log.clone());
        let first = world.handle.on_shutdown(Phase::Before, "first", move |h| {
            entries.add("first");
            let removed = taken.borrow().iter().filter(|id| h.remove_trigger(**id)).count();
            assert_eq!(removed, 2);
            Deferred::ready(())
        });
        let second = world.handle.on_shutdown(Phase::Before, "second", done(&log, "second"));
        let during = world.handle.on_shutdown(Phase::During, "during", done(&log, "during"));
        ids.borrow_mut().extend([first, second, during]);
        stop(world);
        assert_eq!(world.reactor.run().unwrap(), Exit::Stopped);
        log.expect(&["first"]);
    }

    fn c_232_during_begins_when_all_of_before_were_called(world: &mut World) {
        let (log, promises) = (Log::default(), Promises::default());
        let (entries, early) = (log.clone(), promises.clone());
        world.handle.on_shutdown(Phase::Before, "a", waiting(&log, "a", &promises));
        world.handle.on_shutdown(Phase::Before, "b", move |_| {
            fire(&early, 0);
            entries.add("b");
            Deferred::ready(())
        });
        world.handle.on_shutdown(Phase::Before, "c", done(&log, "c"));
        world.handle.on_shutdown(Phase::During, "during", done(&log, "during"));
        stop(world);
        assert_eq!(world.reactor.run().unwrap(), Exit::Stopped);
        log.expect(&["a", "b", "c", "during"]);
    }

    fn c_233_stopping_twice_runs_nothing_twice(world: &mut World) {
        let log = Log::default();
        world.handle.on_shutdown(Phase::Before, "before", done(&log, "before"));
        let (h, results) = (world.handle.clone(), Rc::new(RefCell::new(Vec::new())));
        let again = results.clone();
        world.handle.on_shutdown(Phase::During, "during", move |reactor| {
            again.borrow_mut().push(reactor.stop(Exit::Code(9)));
            Deferred::ready(())
        });
        stop(world);
        results.borrow_mut().push(h.stop(Exit::Code(7)));
        assert_eq!(world.reactor.run().unwrap(), Exit::Stopped);
        log.expect(&["before"]);
        assert_eq!(*results.borrow(), [false, false]);
        assert!(!h.stop(Exit::Stopped));
    }

    fn c_236_connections_work_while_draining_and_are_told_then(world: &mut World) {
        let (log, promises) = (Log::default(), Promises::default());
        let (near, far) = world.streams();
        Source::new(&near, &log, "near").register_reader(&world.handle);
        world.handle.on_shutdown(Phase::After, "after", done(&log, "after"));
        world.handle.on_shutdown(Phase::During, "during", done(&log, "during"));
        world.handle.on_shutdown(Phase::Before, "drain", waiting(&log, "drain", &promises));
        stop(world);
        world.turns(2);
        far.write(b"last words").unwrap();
        world.turns(4);
        fire(&promises, 0);
        assert_eq!(world.reactor.run().unwrap(), Exit::Stopped);
        let lost = "near lost: the reactor shuts down";
        log.expect(&["drain", "near read 10", lost, "during", "after"]);
    }

    fn c_237_a_failing_lost_handler_does_not_stop_the_others(world: &mut World) {
        struct Panics;
        impl marline::reactor::Handler for Panics {
            fn readable(&mut self, _: &Handle) -> marline::reactor::Progress {
                marline::reactor::Progress::Blocked
            }
            fn writable(&mut self, _: &Handle) -> marline::reactor::Progress {
                marline::reactor::Progress::Blocked
            }
            fn lost(self: Box<Self>, _: Failure, _: &Handle) {
                panic!("on purpose");
            }
        }
        let log = Log::default();
        let (near, far) = world.streams();
        world.handle.register(near.pollable(), Box::new(Panics)).unwrap();
        Source::new(&far, &log, "far").register(&world.handle);
        world.handle.on_shutdown(Phase::During, "during", done(&log, "during"));
        stop(world);
        assert_eq!(world.reactor.run().unwrap(), Exit::Stopped);
        log.expect(&["far lost: the reactor shuts down", "during"]);
        assert_eq!(world.handle.stats().panics, 1);
    }

    fn c_238_a_trigger_added_during_its_phase_runs_in_it(world: &mut World) {
        let (log, captured) = (Log::default(), Captured::new());
        let (entries, late) = (log.clone(), log.clone());
        world.handle.on_shutdown(Phase::Before, "before", move |h| {
            h.on_shutdown(Phase::Before, "more", done(&entries, "added before"));
            h.on_shutdown(Phase::During, "more", done(&entries, "added during"));
            Deferred::ready(())
        });
        world.handle.on_shutdown(Phase::During, "during", move |h| {
            let refused = h.on_shutdown(Phase::Before, "too late", done(&late, "never"));
            assert!(!h.remove_trigger(refused));
            Deferred::ready(())
        });
        stop(world);
        assert_eq!(world.reactor.run().unwrap(), Exit::Stopped);
        log.expect(&["added before", "added during"]);
        assert_eq!(captured.with("too late").len(), 1);
    }

    fn c_239_stopping_what_does_not_run_is_refused(world: &mut World) {
        assert!(!world.handle.stop(Exit::Stopped));
        assert!(!world.handle.is_running());
        world.turns(1);
        assert!(world.handle.is_running());
        assert!(world.handle.stop(Exit::Stopped));
    }

    fn c_241_timers_that_are_due_still_run_after_a_stop(world: &mut World) {
        let log = Log::default();
        let (entries, deadline) = (log.clone(), world.handle.fresh());
        let _ = world.handle.call_at(deadline, move |h| {
            assert!(h.stop(Exit::Stopped));
            entries.add("stop");
        });
        let _ = world.handle.call_at(deadline, log.entry("due too"));
        world.handle.on_shutdown(Phase::Before, "before", done(&log, "before"));
        assert_eq!(world.reactor.run().unwrap(), Exit::Stopped);
        log.expect(&["stop", "due too", "before"]);
    }

    fn c_242_start_calls_run_in_order_whatever_fails(world: &mut World) {
        let (log, captured) = (Log::default(), Captured::new());
        world.handle.call_when_running(|_| panic!("on purpose"));
        world.handle.call_when_running(log.entry("b"));
        world.handle.call_when_running(log.entry("c"));
        world.turns(1);
        log.expect(&["b", "c"]);
        assert_eq!(captured.with("on purpose").len(), 1);
    }

    fn c_243_a_start_call_of_a_running_reactor_is_at_once(world: &mut World) {
        let log = Log::default();
        world.handle.call_when_running(log.entry("first turn"));
        log.expect(&[]);
        world.turns(1);
        world.handle.call_when_running(log.entry("at once"));
        log.expect(&["first turn", "at once"]);
    }

    fn c_247_abort_runs_no_triggers_and_closes_nothing(world: &mut World) {
        let log = Log::default();
        let (near, _far) = world.streams();
        Source::new(&near, &log, "near").register_reader(&world.handle);
        world.handle.on_shutdown(Phase::Before, "never", done(&log, "never"));
        world.handle.call_soon(|h| h.abort());
        assert_eq!(world.reactor.run().unwrap(), Exit::Aborted);
        log.expect(&[]);
        assert_eq!(world.handle.readers().len(), 1);
        assert!(matches!(world.reactor.run(), Err(ReactorError::Ended)));
    }

    fn c_248_a_turn_without_work_returns(world: &mut World) {
        let before = world.handle.stats();
        assert_eq!(world.reactor.turn(Some(Duration::ZERO)).unwrap(), Status::Going);
        let after = world.handle.stats();
        assert_eq!((before.turns + 1, before.dispatches), (after.turns, after.dispatches));
    }

    fn c_251_a_stop_in_a_start_call_shuts_down(world: &mut World) {
        let log = Log::default();
        world.handle.call_when_running(|h| assert!(h.stop(Exit::Code(3))));
        world.handle.on_shutdown(Phase::Before, "before", done(&log, "before"));
        assert_eq!(world.reactor.run().unwrap(), Exit::Code(3));
        log.expect(&["before"]);
    }

    fn c_253_a_slow_callback_is_named_once(world: &mut World) {
        let captured = Captured::new();
        let line = line!() + 3;
        for _ in 0..3 {
            let clock = world.clock.clone().unwrap();
            let _ = world.handle.call_later(Duration::ZERO, move |_| clock.move_by(ms(300)));
        }
        world.turns(1);
        let lines = captured.with("kept the reactor from everything else");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(&format!("reactor_life.rs:{line}")), "{lines:?}");
        assert!(lines[0].contains("took_ms=300"), "{lines:?}");
        world.turns(1);
        let stats = world.handle.stats();
        assert!(stats.lag_peak >= ms(200) && stats.slow_callbacks == 3, "{stats:?}");
    }

    fn the_steps_of_a_turn_come_in_their_order(world: &mut World) {
        let log = Log::default();
        let (near, far) = world.streams();
        Source::new(&near, &log, "source").register_reader(&world.handle);
        world.turns(3);
        world.handle.call_soon(log.entry("notification"));
        let _ = world.handle.call_later(Duration::ZERO, log.entry("timer"));
        let remote = world.handle.remote();
        let calls: Arc<std::sync::Mutex<u32>> = Arc::default();
        let count = calls.clone();
        remote.call(move |_| *count.lock().unwrap() += 1).unwrap();
        far.write(b"x").unwrap();
        world.turns(1);
        log.expect(&["source read 1", "timer", "notification"]);
        assert_eq!(*calls.lock().unwrap(), 1);
    }

    fn a_notification_of_a_notification_waits_for_the_next_turn(world: &mut World) {
        fn again(h: &Handle, count: Rc<Cell<u32>>) {
            count.set(count.get() + 1);
            h.call_soon(move |h| again(h, count));
        }
        let count = Rc::new(Cell::new(0));
        let inside = count.clone();
        world.handle.call_soon(move |h| again(h, inside));
        world.turns(3);
        assert_eq!(count.get(), 3);
    }
}

each_kind! {
    fn there_is_one_reactor_per_thread_and_another_after_it(kind: Kind) {
        let world = World::by_hand(kind);
        let seams = || Seams::system(PollerKind::Poll).unwrap();
        let second = Reactor::new(seams(), Options::default());
        assert!(matches!(second, Err(ReactorError::AlreadyHere)));
        drop(world);
        assert!(Reactor::new(seams(), Options::default()).is_ok());
    }

    fn dropping_the_reactor_drops_what_it_holds(kind: Kind) {
        let mut world = World::by_hand(kind);
        world.is_left_full = true;
        let held = Rc::new(());
        let (near, _far) = world.streams();
        let (in_timer, in_source, in_notice) = (held.clone(), held.clone(), held.clone());
        let handle = world.handle.clone();
        let _ = world.handle.call_later(ms(1_000), move |_| drop((in_timer, handle)));
        Source::new(&near, &Log::default(), "near")
            .on_read(move |_, _| {
                let _ = &in_source;
                marline::reactor::Progress::Blocked
            })
            .register_reader(&world.handle);
        let handle = world.handle.clone();
        world.handle.call_soon(move |_| drop((in_notice, handle)));
        assert_eq!(Rc::strong_count(&held), 4);
        let handle = world.handle.clone();
        drop(world);
        assert_eq!(Rc::strong_count(&held), 1);
        // What still has a handle cannot make it hold anything again.
        let late = held.clone();
        let timer = handle.call_later(ms(1), move |_| drop(late));
        let late = held.clone();
        handle.call_soon(move |_| drop(late));
        assert!(!timer.is_active());
        assert_eq!(Rc::strong_count(&held), 1);
    }

    fn c_234_a_stuck_trigger_is_named_and_left_behind(kind: Kind) {
        let options = Options { drain_timeout: ms(5_000), ..Options::default() };
        let mut world = World::by_hand_with(kind, options);
        let (log, promises, captured) = (Log::default(), Promises::default(), Captured::new());
        let label = "drain of sink.archive";
        world.handle.on_shutdown(Phase::Before, label, waiting(&log, "before", &promises));
        world.handle.on_shutdown(Phase::During, "during", done(&log, "during"));
        stop(&mut world);
        world.run_for(ms(4_999));
        log.expect(&["before"]);
        world.run_for(ms(1));
        log.expect(&["before", "during"]);
        assert_eq!(world.reactor.status(), Status::Ended(Exit::Stopped));
        assert_eq!(captured.with(label).len(), 1);
    }

    fn c_246_two_reactors_share_nothing(kind: Kind) {
        let mine = World::by_hand(kind);
        let timer = mine.handle.call_later(ms(1), |_| panic!("of the other thread"));
        let thread = std::thread::spawn(move || {
            let mut world = World::by_hand(kind);
            world.run_for(ms(100));
            let stats = world.handle.stats();
            (stats.timers_fired, stats.timers, stats.sources)
        });
        assert_eq!(thread.join().unwrap(), (0, 0, 0));
        assert!(timer.is_active());
        timer.cancel();
    }

    fn c_249_the_loop_goes_on_whatever_panics(kind: Kind) {
        let mut world = World::by_hand(kind);
        let (log, captured) = (Log::default(), Captured::new());
        let (near, far) = world.streams();
        Source::new(&near, &log, "near")
            .on_read(|_, _| panic!("on purpose"))
            .register_reader(&world.handle);
        far.write(b"x").unwrap();
        world.turns(2);
        let _ = world.handle.call_later(Duration::ZERO, |_| panic!("on purpose"));
        world.handle.call_soon(|_| panic!("on purpose"));
        world.handle.remote().call(|_| panic!("on purpose")).unwrap();
        world.turns(3);
        let _ = world.handle.call_later(Duration::ZERO, log.entry("alive"));
        world.turns(2);
        assert_eq!(log.entries().last().unwrap(), "alive");
        let lines = captured.with("a callback panicked");
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines.iter().all(|line| line.contains("reactor_life.rs:")), "{lines:?}");
        assert_eq!(world.handle.stats().panics, 4);
    }

    fn a_panic_stops_the_reactor_where_the_policy_says_so(kind: Kind) {
        let options = Options { panic: PanicPolicy::Exit, ..Options::default() };
        let mut world = World::by_hand_with(kind, options);
        let log = Log::default();
        world.handle.on_shutdown(Phase::Before, "before", done(&log, "before"));
        world.handle.call_soon(|_| panic!("on purpose"));
        assert_eq!(world.reactor.run().unwrap(), Exit::Panicked);
        log.expect(&["before"]);
    }

    fn hasten_cuts_the_drain_short(kind: Kind) {
        let mut world = World::by_hand(kind);
        let (log, promises) = (Log::default(), Promises::default());
        world.handle.on_shutdown(Phase::Before, "drain", waiting(&log, "drain", &promises));
        assert!(!world.handle.hasten());
        stop(&mut world);
        world.turns(2);
        assert_eq!(world.reactor.status(), Status::Going);
        assert!(world.handle.hasten());
        assert_eq!(world.reactor.run().unwrap(), Exit::Stopped);
    }

    fn f_017_who_asks_twice_in_one_turn_hurries_too(kind: Kind) {
        let mut world = World::by_hand(kind);
        let (log, promises) = (Log::default(), Promises::default());
        world.handle.on_shutdown(Phase::Before, "drain", waiting(&log, "drain", &promises));
        world.turns(1);
        assert!(world.handle.stop(Exit::Stopped));
        assert!(world.handle.hasten());
        world.turns(1);
        assert_eq!(world.reactor.status(), Status::Ended(Exit::Stopped));
        log.expect(&["drain"]);
    }
}

each_poller! {
    fn an_idle_reactor_does_not_turn(world: &mut World) {
        // Only a call from another thread ends its wait, and that is one turn.
        world.turns(1);
        let turns = world.handle.stats().turns;
        let remote = world.handle.remote();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(ms(60));
            remote.call(|h| h.abort()).unwrap();
        });
        assert_eq!(world.reactor.run().unwrap(), Exit::Aborted);
        thread.join().unwrap();
        assert!(world.handle.stats().turns - turns <= 1);
    }
}

/// A poller whose waits fail.
struct Failing {
    errors: Vec<io::Error>,
    inner: Box<dyn Poller>,
}

impl Poller for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }
    fn register(&mut self, source: &Pollable, token: Token) -> io::Result<()> {
        self.inner.register(source, token)
    }
    fn rearm(&mut self, token: Token, direction: marline::reactor::Direction) {
        self.inner.rearm(token, direction);
    }
    fn deregister(&mut self, token: Token) {
        self.inner.deregister(token);
    }
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Readiness>) -> io::Result<()> {
        match self.errors.pop() {
            Some(error) => Err(error),
            None => self.inner.wait(timeout, events),
        }
    }
    fn waker(&self) -> Arc<dyn Wake> {
        self.inner.waker()
    }
}

fn failing_reactor(kind: PollerKind, error: io::ErrorKind, times: usize) -> Reactor {
    let seams = Seams {
        clock: Rc::new(SystemClock::new()),
        poller: Box::new(Failing {
            errors: (0..times).map(|_| error.into()).collect(),
            inner: kind.open().unwrap(),
        }),
        worker: Rc::new(Threads::new(PoolSizes::default())),
    };
    Reactor::new(seams, Options::default()).unwrap()
}

#[test]
fn c_252_an_interrupted_wait_is_an_empty_turn() {
    for kind in PollerKind::ALL {
        let mut reactor = failing_reactor(kind, io::ErrorKind::Interrupted, 1_000);
        let log = Log::default();
        let _ = reactor
            .handle()
            .call_later(Duration::ZERO, log.entry("ran"));
        for _ in 0..1_001 {
            assert_eq!(reactor.turn(Some(Duration::ZERO)).unwrap(), Status::Going);
        }
        log.expect(&["ran"]);
    }
}

#[test]
fn a_poller_that_fails_for_ever_is_fatal_and_one_that_recovers_is_not() {
    let mut reactor = failing_reactor(PollerKind::Epoll, io::ErrorKind::InvalidInput, 15);
    for _ in 0..20 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
    drop(reactor);
    let mut reactor = failing_reactor(PollerKind::Epoll, io::ErrorKind::InvalidInput, 100);
    assert!(matches!(reactor.run(), Err(ReactorError::Poller(_))));
}

#[test]
fn c_254_the_poller_is_chosen_by_name() {
    for kind in PollerKind::ALL {
        assert_eq!(kind.name().parse::<PollerKind>().unwrap(), kind);
        assert_eq!(kind.open().unwrap().name(), kind.name());
    }
    let error = "kqueue".parse::<PollerKind>().unwrap_err();
    assert_eq!(
        error,
        "no poller `kqueue`; there are epoll, poll and select"
    );
}

#[test]
fn a_virtual_clock_moves_only_when_moved() {
    use marline::time::Clock;
    let clock = VirtualClock::new();
    let (before, wall) = (clock.now(), clock.wall());
    clock.move_by(ms(1_500));
    assert_eq!(clock.now().since(before), ms(1_500));
    assert_eq!(clock.wall().as_micros() - wall.as_micros(), 1_500_000);
}
