//! Timers, on every poller: conformance groups K and L.
//!
//! Where time is the machine's, order and "never early" are checked, never "on time". The queue
//! itself is compared with a model where it lives.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use marline::reactor::{Handle, Status, Timer};
use marline::time::Instant;

use crate::each_poller;
use crate::reactor_support::{Log, Source, World, millis, ms};

/// A timer for whoever must not drop it by accident.
type Slot = Rc<RefCell<Option<Timer>>>;

each_poller! {
    fn c_158_a_timer_fires_once_and_not_before_its_time(world: &mut World) {
        let fired: Rc<RefCell<Vec<Instant>>> = Rc::default();
        let times = fired.clone();
        let set_at = world.handle.fresh();
        let _ = world.handle.call_later(ms(50), move |h| times.borrow_mut().push(h.fresh()));
        world.run_for(ms(49));
        assert!(fired.borrow().iter().all(|at| at.since(set_at) >= ms(50)));
        world.run_until(|| !fired.borrow().is_empty());
        world.run_for(ms(5));
        assert_eq!(fired.borrow().len(), 1);
        assert!(fired.borrow()[0].since(set_at) >= ms(50));
    }

    fn c_159_equal_deadlines_run_in_the_order_of_creation(world: &mut World) {
        let log = Log::default();
        let deadline = world.handle.fresh() + ms(2);
        for n in 0..12 {
            let _ = world.handle.call_at(deadline, log.entry(&n.to_string()));
        }
        world.run_until(|| log.len() == 12);
        log.expect(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]);
    }

    fn c_161_a_timer_made_by_a_timer_waits_for_a_later_turn(world: &mut World) {
        let turns: Rc<RefCell<Vec<u64>>> = Rc::default();
        let (first, second) = (turns.clone(), turns.clone());
        let _ = world.handle.call_later(Duration::ZERO, move |h| {
            first.borrow_mut().push(h.stats().turns);
            let _ = h.call_later(Duration::ZERO, move |h| {
                second.borrow_mut().push(h.stats().turns);
            });
        });
        world.run_until(|| turns.borrow().len() == 2);
        // A turn is counted when its wait begins: another number, another poll in between.
        assert_eq!(turns.borrow()[1], turns.borrow()[0] + 1);
    }

    fn c_162_a_chain_of_zero_delays_does_not_starve_a_socket(world: &mut World) {
        fn again(h: &Handle, count: Rc<Cell<u32>>) {
            count.set(count.get() + 1);
            if count.get() < 100 {
                let _ = h.call_later(Duration::ZERO, move |h| again(h, count));
            }
        }
        let (log, count) = (Log::default(), Rc::new(Cell::new(0)));
        let (near, far) = world.streams();
        Source::new(&near, &log, "near").register_reader(&world.handle);
        again(&world.handle, count.clone());
        world.turns(3);
        far.write(b"x").unwrap();
        let before = count.get();
        world.turns(1);
        log.expect(&["near read 1"]);
        assert!(count.get() > before);
        world.run_until(|| count.get() == 100);
    }

    fn c_163_a_timer_can_cancel_one_that_is_due_too(world: &mut World) {
        let log = Log::default();
        let deadline = world.handle.fresh() + ms(2);
        let other = Slot::default();
        let (taken, first) = (other.clone(), log.clone());
        let _ = world.handle.call_at(deadline, move |_| {
            first.add("first");
            assert!(taken.take().unwrap().cancel());
        });
        other.replace(Some(world.handle.call_at(deadline, log.entry("second"))));
        world.run_for(ms(8));
        log.expect(&["first"]);
    }

    fn c_164_a_timer_can_reset_a_later_one_into_the_same_turn(world: &mut World) {
        let turns: Rc<RefCell<Vec<u64>>> = Rc::default();
        let later = Slot::default();
        let (slot, first, second) = (later.clone(), turns.clone(), turns.clone());
        let _ = world.handle.call_later(ms(1), move |h| {
            first.borrow_mut().push(h.stats().turns);
            assert!(slot.borrow().as_ref().unwrap().reset(Duration::ZERO));
        });
        let timer = world.handle.call_later(Duration::from_secs(3600), move |h| {
            second.borrow_mut().push(h.stats().turns);
        });
        later.replace(Some(timer));
        world.run_until(|| turns.borrow().len() == 2);
        assert_eq!(turns.borrow()[0], turns.borrow()[1]);
    }

    fn c_166_a_fired_timer_says_so(world: &mut World) {
        let slot = Slot::default();
        let (inside, answers) = (slot.clone(), Rc::new(RefCell::new(Vec::new())));
        let inside_answers = answers.clone();
        let timer = world.handle.call_later(Duration::ZERO, move |_| {
            let timer = inside.borrow();
            let timer = timer.as_ref().unwrap();
            let all = [timer.cancel(), timer.reset(ms(1)), timer.delay_by(ms(1))];
            inside_answers.borrow_mut().extend(all);
        });
        slot.replace(Some(timer));
        world.run_until(|| answers.borrow().len() == 3);
        let timer = slot.take().unwrap();
        let after = [timer.cancel(), timer.reset(ms(1)), timer.delay_by(ms(1))];
        assert_eq!(*answers.borrow(), [false; 3]);
        assert_eq!(after, [false; 3]);
        assert_eq!(timer.deadline(), None);
    }

    fn c_167_reset_counts_from_now(world: &mut World) {
        let (early, late) = (Log::default(), Log::default());
        let second = world.handle.call_later(ms(40), late.entry("late"));
        let first = world.handle.call_later(ms(10_000), early.entry("early"));
        world.run_for(ms(20));
        let now = world.handle.fresh();
        assert!(first.reset(ms(4)) && second.reset(ms(80)));
        assert!(first.deadline().unwrap() >= now + ms(4));
        assert!(second.deadline().unwrap() >= now + ms(80));
        world.run_until(|| early.len() == 1);
        assert!(world.handle.fresh() >= now + ms(4));
        assert_eq!(late.len(), 0);
        world.run_until(|| late.len() == 1);
        assert!(world.handle.fresh() >= now + ms(80));
        if world.is_sim() {
            assert_eq!(world.handle.fresh(), Instant::ZERO + ms(100));
        }
    }

    fn c_168_delay_counts_from_the_schedule(world: &mut World) {
        let log = Log::default();
        // Far enough away to be there still on a machine that stands still for a while.
        let timer = world.handle.call_later(ms(400), log.entry("fired"));
        let deadline = timer.deadline().unwrap();
        world.run_for(ms(3));
        assert!(timer.delay_by(ms(5)));
        assert_eq!(timer.deadline(), Some(deadline + ms(5)));
        world.run_until(|| log.len() == 1);
        assert!(world.handle.fresh() >= deadline + ms(5));
    }

    fn c_169_a_timer_is_active_until_it_fires_or_is_cancelled(world: &mut World) {
        let slot = Slot::default();
        let (inside, seen) = (slot.clone(), Rc::new(Cell::new(true)));
        let seen_inside = seen.clone();
        let timer = world.handle.call_later(ms(1), move |_| {
            seen_inside.set(inside.borrow().as_ref().unwrap().is_active());
        });
        assert!(timer.is_active());
        slot.replace(Some(timer));
        world.run_until(|| !seen.get());
        assert!(!slot.take().unwrap().is_active());
        let cancelled = world.handle.call_later(ms(1), |_| {});
        assert!(cancelled.cancel());
        assert!(!cancelled.is_active());
    }

    fn c_171_cancelling_drops_the_closure_at_once(world: &mut World) {
        let held = Rc::new(());
        let inside = held.clone();
        let timer = world.handle.call_later(ms(1000), move |_| drop(inside));
        assert_eq!(Rc::strong_count(&held), 2);
        assert!(timer.cancel());
        assert_eq!(Rc::strong_count(&held), 1);
    }

    fn c_172_the_list_of_pending_timers_is_exact(world: &mut World) {
        let log = Log::default();
        let _ = world.handle.call_later(Duration::ZERO, log.entry("fired"));
        let cancelled = world.handle.call_later(ms(5_000), |_| {});
        let left = world.handle.call_later(ms(6_000), |_| {});
        assert_eq!(world.handle.pending_timers().len(), 3);
        cancelled.cancel();
        world.run_until(|| log.len() == 1);
        let pending = world.handle.pending_timers();
        assert_eq!(pending.len(), 1);
        assert_eq!(Some(pending[0].deadline), left.deadline());
        assert!(pending[0].at.file().ends_with("reactor_timers.rs"));
        left.cancel();
    }

    fn c_173_an_endless_delay_is_no_problem(world: &mut World) {
        let log = Log::default();
        let never = world.handle.call_later(Duration::from_secs(u64::MAX), log.entry("never"));
        let _ = world.handle.call_later(ms(2), log.entry("soon"));
        world.run_until(|| log.len() == 1);
        log.expect(&["soon"]);
        let wait = world.handle.next_wait().unwrap();
        assert!(wait <= Duration::from_millis(i32::MAX as u64));
        // The poller accepts that timeout: a wake-up ends it.
        let remote = world.handle.remote();
        let waker = std::thread::spawn(move || remote.call(|_| {}));
        if !world.is_sim() {
            world.reactor.turn(None).unwrap();
        }
        waker.join().unwrap().unwrap();
        never.cancel();
    }

    fn c_177_cancelled_timers_hold_no_memory(world: &mut World) {
        let held = Rc::new(());
        for n in 0..100_000 {
            let inside = held.clone();
            let timer = world.handle.call_later(ms(n), move |_| drop(inside));
            timer.cancel();
        }
        // The queue itself is looked at in the unit test of the same number.
        assert_eq!((Rc::strong_count(&held), world.handle.stats().timers), (1, 0));
    }

    fn c_178_a_guard_cancels_when_dropped_and_a_timer_does_not(world: &mut World) {
        let log = Log::default();
        let guard = world.handle.call_later(ms(1), log.entry("guarded")).guard();
        let timer = world.handle.call_later(ms(2), log.entry("plain"));
        drop((guard, timer));
        world.run_for(ms(10));
        log.expect(&["plain"]);
    }

    fn c_187_the_same_script_runs_in_the_same_order(world: &mut World) {
        let log = Log::default();
        let (inner, outer) = (log.clone(), log.clone());
        let a = world.handle.call_later(ms(10), log.entry("a"));
        let _ = world.handle.call_later(ms(5), move |h| {
            inner.add("b");
            let _ = h.call_later(ms(20), inner.entry("b1"));
            let _ = h.call_later(Duration::ZERO, inner.entry("b2"));
        });
        let _ = world.handle.call_later(ms(5), move |_| {
            outer.add("c");
            a.reset(ms(60));
        });
        let cancelled = world.handle.call_later(ms(15), log.entry("never"));
        let _ = world.handle.call_later(ms(12), move |_| assert!(cancelled.cancel()));
        world.run_until(|| log.len() == 5);
        log.expect(&["b", "c", "b2", "b1", "a"]);
    }
}

each_poller! {
    fn c_174_the_wait_is_that_of_the_next_timer(world: &mut World) {
        let at_most = |world: &World, limit: Duration| {
            let wait = world.handle.next_wait().unwrap();
            // The machine's clock moves on while we look; the simulator's does not.
            assert!(wait <= limit && (wait == limit || !world.is_sim()), "{wait:?}");
            assert!(wait + ms(500) > limit);
        };
        world.turns(1);
        assert_eq!(world.handle.next_wait(), None);
        let timer = world.handle.call_later(ms(10_000), |_| {});
        at_most(world, ms(10_000));
        world.run_for(ms(25));
        at_most(world, ms(9_975));
        let sooner = world.handle.call_later(ms(3_000), |_| {});
        at_most(world, ms(3_000));
        sooner.cancel();
        at_most(world, ms(9_975));
        timer.cancel();
        assert_eq!(world.handle.next_wait(), None);
        let now = world.handle.fresh();
        let due = world.handle.call_at(now, |_| {});
        assert_eq!(world.handle.next_wait(), Some(Duration::ZERO));
        due.cancel();
    }

    fn c_176_a_short_timer_is_not_early_and_does_not_spin(world: &mut World) {
        for _ in 0..20 {
            let fired = Rc::new(Cell::new(None));
            let inside = fired.clone();
            let set_at = world.handle.fresh();
            let turns = world.handle.stats().turns;
            let _ = world.handle.call_later(Duration::from_micros(100), move |h| {
                inside.set(Some(h.fresh()));
            });
            world.run_until(|| fired.get().is_some());
            assert!(fired.get().unwrap().since(set_at) >= Duration::from_micros(100));
            // One wait for it, one more when the clocks of poller and timer disagree.
            assert!(world.handle.stats().turns - turns <= 2);
        }
    }
}

mod sim_clock {
    use super::*;
    use crate::reactor_support::{Kind, World};

    #[test]
    fn c_179_a_new_clock_is_at_zero() {
        let world = World::new(Kind::Sim);
        assert_eq!(world.handle.fresh(), Instant::ZERO);
        assert!(world.handle.pending_timers().is_empty());
    }

    #[test]
    fn c_181_each_timer_sees_the_time_it_was_set_for() {
        let mut world = World::new(Kind::Sim);
        let log = Log::default();
        for at in [9_000, 1_000] {
            let log = log.clone();
            let _ = world
                .handle
                .call_later(ms(at), move |h| log.add(millis(h.now()).to_string()));
        }
        world.run_for(ms(10_000));
        log.expect(&["1000", "9000"]);
        assert_eq!(millis(world.handle.fresh()), 10_000);
    }

    #[test]
    fn c_182_a_timer_made_meanwhile_fires_in_the_same_advance() {
        let mut world = World::new(Kind::Sim);
        let log = Log::default();
        let inner = log.clone();
        let _ = world.handle.call_later(ms(1_000), move |h| {
            inner.add("first");
            let _ = h.call_later(ms(1_000), inner.entry("second"));
        });
        world.run_for(ms(10_000));
        log.expect(&["first", "second"]);
    }

    #[test]
    #[should_panic(expected = "the test leaves behind: a timer of tests/reactor_timers.rs")]
    fn c_427_a_timer_that_a_test_leaves_behind_fails_it() {
        let world = World::new(Kind::Sim);
        let _ = world.handle.call_later(ms(1_000), |_| {});
    }

    #[test]
    fn c_183_an_endless_chain_at_one_instant_is_a_livelock() {
        fn again(h: &Handle, goes_on: Rc<Cell<bool>>) {
            if goes_on.get() {
                let _ = h.call_later(Duration::ZERO, move |h| again(h, goes_on));
            }
        }
        let mut world = World::new(Kind::Sim);
        let goes_on = Rc::new(Cell::new(true));
        again(&world.handle, goes_on.clone());
        let clock = world.clock.clone().unwrap();
        let livelock = clock.drive(&mut world.reactor, ms(1_000)).unwrap_err();
        assert_eq!(livelock.at, Instant::ZERO);
        assert!(livelock.to_string().starts_with("livelock: "), "{livelock}");
        goes_on.set(false);
        world.turns(2);
    }

    #[test]
    fn c_184_three_steps_are_three_advances() {
        let run = |steps: &[u64]| {
            let mut world = World::new(Kind::Sim);
            let log = Log::default();
            for at in [1_000, 2_500, 6_000, 6_001] {
                let log = log.clone();
                let entry = move |h: &Handle| log.add(millis(h.now()).to_string());
                let _ = world.handle.call_later(ms(at), entry);
            }
            for step in steps {
                world.run_for(ms(*step));
            }
            let seen = (log.entries(), millis(world.handle.fresh()));
            world.run_for(ms(10_000));
            seen
        };
        assert_eq!(run(&[1_000, 2_000, 3_000]), run(&[6_000]));
        assert_eq!(run(&[6_000]).0, ["1000", "2500", "6000"]);
    }

    #[test]
    fn c_186_a_panicking_timer_is_counted_and_the_others_run() {
        let mut world = World::new(Kind::Sim);
        let log = Log::default();
        let _ = world.handle.call_later(ms(1), |_| panic!("on purpose"));
        let _ = world.handle.call_later(ms(1), log.entry("same time"));
        let _ = world.handle.call_later(ms(2), log.entry("later"));
        world.run_for(ms(10));
        log.expect(&["same time", "later"]);
        assert_eq!(world.handle.stats().panics, 1);
        assert_eq!(world.reactor.status(), Status::Going);
    }
}
