//! Periodic calls, cooperative tasks and small helpers: conformance groups M, N and O.
//!
//! The worlds have a clock that only the test moves: the grid is checked to the millisecond, on
//! every poller.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use marline::deferred::{Cancelled, Deferred, Failure, Promise};
use marline::reactor::{
    AlreadyRunning, Cooperator, Exit, ExitWith, Handle, Periodic, Step, TaskError,
};

use crate::reactor_support::{Log, Source, World, millis, ms};
use crate::{each_poller, each_poller_by_hand};

/// A loop that logs the milliseconds at which it runs.
fn ticking(world: &World, log: &Log) -> Periodic {
    let log = log.clone();
    Periodic::new(&world.handle, move |h, _| {
        log.add(millis(h.fresh()).to_string());
    })
}

/// Whether and how a Deferred has fired.
fn watch(deferred: Deferred<()>) -> Log {
    let log = Log::default();
    let entries = log.clone();
    drop(deferred.add_both(move |result| match result {
        Ok(()) => entries.add("ok"),
        Err(failure) => entries.add(failure.to_string()),
    }));
    log
}

/// A failure of one's own.
fn broken() -> Failure {
    Failure::msg("broken")
}

each_poller_by_hand! {
    fn c_188_now_is_at_once_and_then_on_the_grid(world: &mut World) {
        let log = Log::default();
        let periodic = ticking(world, &log);
        world.turns(1);
        let _done = periodic.start(ms(2_000), true).unwrap();
        log.expect(&["0"]);
        world.run_for(ms(6_000));
        log.expect(&["0", "2000", "4000", "6000"]);
        periodic.stop();
    }

    fn c_189_not_now_is_an_interval_later(world: &mut World) {
        let log = Log::default();
        let periodic = ticking(world, &log);
        let _done = periodic.start(ms(2_000), false).unwrap();
        world.run_for(ms(1_999));
        log.expect(&[]);
        world.run_for(ms(1));
        log.expect(&["2000"]);
        periodic.stop();
    }

    fn c_191_an_interval_of_zero_runs_once_a_turn(world: &mut World) {
        let log = Log::default();
        let (near, far) = world.streams();
        let sockets = Log::default();
        Source::new(&near, &sockets, "near").register_reader(&world.handle);
        let periodic = ticking(world, &log);
        let _done = periodic.start(Duration::ZERO, false).unwrap();
        world.turns(5);
        assert_eq!(log.len(), 5);
        far.write(b"x").unwrap();
        world.turns(1);
        sockets.expect(&["near read 1"]);
        assert_eq!(log.len(), 6);
        periodic.stop();
    }

    fn c_192_the_grid_is_kept_and_missed_points_are_skipped(world: &mut World) {
        let log = Log::default();
        let periodic = ticking(world, &log);
        let _done = periodic.start(ms(1_000), false).unwrap();
        for step in [1_300, 700, 2_500, 500] {
            world.jump(ms(step));
            world.turns(3); // nothing more is due
        }
        log.expect(&["1300", "2000", "4500", "5000"]);
        periodic.stop();
    }

    fn c_193_a_run_that_ends_on_the_grid_waits_a_whole_interval(world: &mut World) {
        let log = Log::default();
        let (clock, entries) = (world.clock.clone().unwrap(), log.clone());
        let every = world.handle.every(ms(1_000), false, move |h, _| {
            entries.add(millis(h.fresh()).to_string());
            clock.move_by(ms(1_000)); // it takes exactly an interval
        });
        world.run_for(ms(5_000));
        log.expect(&["1000", "3000", "5000"]);
        every.stop();
    }

    fn c_194_a_thousand_steps_are_a_thousand_runs(world: &mut World) {
        let counts: Rc<RefCell<Vec<u64>>> = Rc::default();
        let seen = counts.clone();
        let every = world.handle.every(ms(100), false, move |_, count| {
            seen.borrow_mut().push(count);
        });
        for _ in 0..1_000 {
            world.jump(ms(100));
        }
        assert_eq!(*counts.borrow(), vec![1; 1_000]);
        every.stop();
    }

    fn c_196_a_failing_function_ends_the_loop(world: &mut World) {
        let periodic = Periodic::new(&world.handle, |_, _| Err::<(), _>(broken()));
        let done = watch(periodic.start(ms(1_000), false).unwrap());
        world.run_for(ms(1_000));
        done.expect(&["broken"]);
        assert!(!periodic.is_running());
        assert_eq!(world.handle.stats().timers, 0);
    }

    fn c_197_a_failing_deferred_ends_the_loop(world: &mut World) {
        let promise: Rc<RefCell<Option<Promise<()>>>> = Rc::default();
        let slot = promise.clone();
        let periodic = Periodic::new(&world.handle, move |_, _| {
            let (promise, deferred) = Deferred::new();
            slot.replace(Some(promise));
            deferred
        });
        let done = watch(periodic.start(ms(1_000), true).unwrap());
        world.run_for(ms(5_000));
        done.expect(&[]);
        promise.take().unwrap().errback(broken());
        done.expect(&["broken"]);
        assert!(!periodic.is_running());
        assert_eq!(world.handle.stats().timers, 0);
    }

    fn c_198_a_supervised_loop_goes_on_with_pauses(world: &mut World) {
        let log = Log::default();
        let entries = log.clone();
        let every = world.handle.every(ms(500), true, move |h, _| {
            entries.add(millis(h.fresh()).to_string());
            if entries.len() < 4 { Err(broken()) } else { Ok(()) }
        });
        world.run_for(ms(10_000));
        // Pauses of 1, 2 and 4 s, each rounded up to the grid of 500 ms behind it.
        let first: Vec<String> = log.entries().into_iter().take(6).collect();
        assert_eq!(first, ["0", "1500", "4000", "8500", "9000", "9500"]);
        assert_eq!(every.failures(), 3);
        assert!(every.is_running());
        every.stop();
    }

    fn c_199_stop_takes_the_timer_away_and_fires(world: &mut World) {
        let log = Log::default();
        let periodic = ticking(world, &log);
        let done = watch(periodic.start(ms(1_000), false).unwrap());
        assert_eq!(world.handle.stats().timers, 1);
        assert!(periodic.stop());
        done.expect(&["ok"]);
        assert_eq!(world.handle.stats().timers, 0);
        assert!(!periodic.stop());
    }

    fn c_201_stop_waits_for_the_call_that_is_going_on(world: &mut World) {
        let (promise, deferred) = Deferred::new();
        let inner = RefCell::new(Some(deferred));
        let periodic = Periodic::new(&world.handle, move |_, _| inner.take().unwrap());
        let done = watch(periodic.start(ms(1_000), true).unwrap());
        assert!(periodic.stop());
        world.run_for(ms(3_000));
        done.expect(&[]);
        promise.callback(());
        done.expect(&["ok"]);
    }

    fn c_202_reset_starts_the_grid_anew(world: &mut World) {
        let log = Log::default();
        let periodic = ticking(world, &log);
        let _done = periodic.start(ms(2_000), false).unwrap();
        world.run_for(ms(1_500));
        assert!(periodic.reset());
        world.run_for(ms(5_000));
        log.expect(&["3500", "5500"]);
        periodic.stop();
    }

    fn c_203_a_running_loop_cannot_be_started(world: &mut World) {
        let log = Log::default();
        let periodic = ticking(world, &log);
        let done = watch(periodic.start(ms(1_000), false).unwrap());
        assert_eq!(periodic.start(ms(1), true).err(), Some(AlreadyRunning));
        world.run_for(ms(2_000));
        log.expect(&["1000", "2000"]);
        done.expect(&[]);
        periodic.stop();
    }

    fn c_204_stopped_and_started_from_inside(world: &mut World) {
        let log = Log::default();
        let (slot, second) = (Rc::new(RefCell::new(None::<Periodic>)), Rc::new(RefCell::new(None)));
        let (inside, entries, second_inside) = (slot.clone(), log.clone(), second.clone());
        let periodic = Periodic::new(&world.handle, move |h, _| {
            entries.add(millis(h.fresh()).to_string());
            if entries.len() == 1 {
                let periodic = inside.borrow().clone().unwrap();
                assert!(periodic.stop());
                second_inside.replace(Some(watch(periodic.start(ms(300), false).unwrap())));
            }
        });
        slot.replace(Some(periodic.clone()));
        let first = watch(periodic.start(ms(1_000), false).unwrap());
        world.run_for(ms(1_000));
        first.expect(&["ok"]);
        assert_eq!(world.handle.stats().timers, 1);
        world.run_for(ms(600));
        log.expect(&["1000", "1300", "1600"]);
        periodic.stop();
        second.take().unwrap().expect(&["ok"]);
        slot.take();
    }

    fn c_206_it_is_told_how_many_intervals_have_passed(world: &mut World) {
        let counts: Rc<RefCell<Vec<u64>>> = Rc::default();
        let (seen, every_turn) = (counts.clone(), Rc::new(RefCell::new(Vec::new())));
        let zero = every_turn.clone();
        let every = world.handle.every(ms(1_000), true, move |_, count| {
            seen.borrow_mut().push(count);
        });
        for step in [1_000, 3_000, 1_000] {
            world.jump(ms(step));
        }
        assert_eq!(*counts.borrow(), [1, 1, 3, 1]);
        let each_turn = world.handle.every(Duration::ZERO, true, move |_, count| {
            zero.borrow_mut().push(count);
        });
        for _ in 0..3 {
            world.jump(ms(5_000));
        }
        assert_eq!(*every_turn.borrow(), [1, 1, 1, 1]);
        every.stop();
        each_turn.stop();
    }

    fn c_207_a_stopped_loop_can_be_started_with_a_new_grid(world: &mut World) {
        let log = Log::default();
        let periodic = ticking(world, &log);
        let first = watch(periodic.start(ms(1_000), false).unwrap());
        world.run_for(ms(1_250));
        periodic.stop();
        world.run_for(ms(2_000));
        let second = watch(periodic.start(ms(500), false).unwrap());
        world.run_for(ms(1_000));
        log.expect(&["1000", "3750", "4250"]);
        first.expect(&["ok"]);
        second.expect(&[]);
        periodic.stop();
    }
}

/// A task that logs its name `steps` times.
fn counting(log: &Log, name: &'static str, steps: usize) -> impl FnMut(&Handle) -> Step + 'static {
    let (log, mut left) = (log.clone(), steps);
    move |_| {
        if left == 0 {
            return Step::Done;
        }
        left -= 1;
        log.add(name);
        Step::More
    }
}

each_poller! {
    fn c_208_the_steps_of_two_tasks_alternate(world: &mut World) {
        let (log, cooperator) = (Log::default(), Cooperator::new(&world.handle));
        cooperator.cooperate(counting(&log, "a", 5_000));
        cooperator.cooperate(counting(&log, "b", 5_000));
        world.run_until(|| log.len() == 10_000);
        let entries = log.entries();
        assert!(entries.chunks(2).all(|pair| pair == ["a", "b"]));
        assert!(world.handle.stats().turns >= 10);
        cooperator.stop();
    }

    fn c_209_an_endless_task_does_not_starve_a_socket(world: &mut World) {
        let (log, cooperator) = (Log::default(), Cooperator::new(&world.handle));
        let (near, far) = world.streams();
        Source::new(&near, &log, "near").register_reader(&world.handle);
        cooperator.cooperate(|_| Step::More);
        world.turns(3);
        far.write(b"x").unwrap();
        world.turns(1);
        log.expect(&["near read 1"]);
        cooperator.stop();
    }
}

each_poller_by_hand! {
    fn c_211_a_task_that_awaits_a_failure_fails(world: &mut World) {
        let cooperator = Cooperator::new(&world.handle);
        let (promise, deferred) = Deferred::new();
        let mut waiting = Some(deferred);
        let task = cooperator.cooperate(move |_| Step::Wait(waiting.take().unwrap()));
        let (first, second) = (watch(task.when_done()), watch(task.when_done()));
        world.run_for(ms(100));
        first.expect(&[]);
        promise.errback(broken());
        first.expect(&["broken"]);
        second.expect(&["broken"]);
        assert_eq!(task.stop(), Err(TaskError::Failed));
    }

    fn c_212_a_failing_step_ends_its_task_only(world: &mut World) {
        let (log, cooperator) = (Log::default(), Cooperator::new(&world.handle));
        let failing = cooperator.cooperate(|_| Step::Failed(broken()));
        let panicking = cooperator.cooperate(|_| panic!("on purpose"));
        let other = cooperator.cooperate(counting(&log, "other", 3));
        let failing = watch(failing.when_done());
        let panicking = watch(panicking.when_done());
        let other = watch(other.when_done());
        world.run_for(ms(100));
        failing.expect(&["broken"]);
        assert!(panicking.entries()[0].contains("on purpose"));
        other.expect(&["ok"]);
        assert_eq!(log.len(), 3);
    }

    fn c_213_everybody_who_asks_gets_their_own_result(world: &mut World) {
        let (log, cooperator) = (Log::default(), Cooperator::new(&world.handle));
        let task = cooperator.cooperate(counting(&log, "step", 2));
        let before = [watch(task.when_done()), watch(task.when_done())];
        world.run_for(ms(100));
        before.iter().for_each(|done| done.expect(&["ok"]));
        watch(task.when_done()).expect(&["ok"]);
    }

    fn c_214_pauses_are_counted(world: &mut World) {
        let (log, cooperator) = (Log::default(), Cooperator::new(&world.handle));
        let task = cooperator.cooperate(counting(&log, "step", 3));
        task.pause().unwrap();
        task.pause().unwrap();
        task.resume().unwrap();
        world.run_for(ms(100));
        log.expect(&[]);
        task.resume().unwrap();
        assert_eq!(task.resume(), Err(TaskError::NotPaused));
        world.run_for(ms(100));
        assert_eq!(log.len(), 3);
    }

    fn c_216_an_ended_task_says_how_it_ended(world: &mut World) {
        let (log, cooperator) = (Log::default(), Cooperator::new(&world.handle));
        let stopped = cooperator.cooperate(counting(&log, "never", 1));
        let done = cooperator.cooperate(|_| Step::Done);
        let failed = cooperator.cooperate(|_| Step::Failed(broken()));
        stopped.stop().unwrap();
        world.run_for(ms(100));
        log.expect(&[]);
        for (task, how) in [
            (stopped, TaskError::Stopped),
            (done, TaskError::Done),
            (failed, TaskError::Failed),
        ] {
            assert_eq!([task.stop(), task.pause(), task.resume()], [Err(how); 3]);
        }
    }

    fn c_217_a_task_stopped_while_it_waits_is_not_stepped(world: &mut World) {
        let (log, cooperator) = (Log::default(), Cooperator::new(&world.handle));
        let (promise, deferred) = Deferred::new();
        let (mut waiting, entries) = (Some(deferred), log.clone());
        let task = cooperator.cooperate(move |_| {
            entries.add("step");
            waiting.take().map_or(Step::More, Step::Wait)
        });
        world.run_for(ms(100));
        task.stop().unwrap();
        promise.callback(());
        world.run_for(ms(100));
        log.expect(&["step"]);
    }

    fn c_218_without_tasks_there_is_no_timer(world: &mut World) {
        let (log, cooperator) = (Log::default(), Cooperator::new(&world.handle));
        let first = cooperator.cooperate(counting(&log, "a", 3));
        let second = cooperator.cooperate(|_| Step::More);
        assert_eq!(world.handle.stats().timers, 1);
        world.turns(2);
        watch(first.when_done()).expect(&["ok"]);
        second.stop().unwrap();
        assert_eq!(world.handle.stats().timers, 0);
    }

    fn c_219_a_stopped_scheduler_ends_what_is_added(world: &mut World) {
        let (log, cooperator) = (Log::default(), Cooperator::new(&world.handle));
        let before = watch(cooperator.cooperate(counting(&log, "never", 1)).when_done());
        cooperator.stop();
        before.expect(&["the scheduler was stopped"]);
        let task = cooperator.cooperate(counting(&log, "never", 1));
        watch(task.when_done()).expect(&["the scheduler was stopped"]);
        world.run_for(ms(100));
        log.expect(&[]);
        assert_eq!(world.handle.stats().timers, 0);
    }

    fn c_221_defer_later_hands_the_result_on(world: &mut World) {
        let (log, inner) = (Log::default(), Deferred::new());
        let entries = log.clone();
        let good = world.handle.defer_later(ms(3_000), |h| Ok(millis(h.now())));
        drop(good.add_callback(move |at| entries.add(at.to_string())));
        let bad = watch(world.handle.defer_later(ms(3_000), |_| Err(broken())));
        let later = watch(world.handle.defer_later(ms(3_000), |_| inner.1));
        world.run_for(ms(2_999));
        assert_eq!(log.len() + bad.len(), 0);
        world.run_for(ms(1));
        log.expect(&["3000"]);
        bad.expect(&["broken"]);
        later.expect(&[]);
        inner.0.callback(());
        later.expect(&["ok"]);
    }

    fn c_222_defer_later_can_be_cancelled(world: &mut World) {
        let log = Log::default();
        let entries = log.clone();
        let deferred = world.handle.defer_later(ms(3_000), move |_| entries.add("never"));
        let canceller = deferred.canceller();
        let cancelled = Rc::new(Cell::new(false));
        let seen = cancelled.clone();
        drop(deferred.add_both(move |result| {
            seen.set(result.is_err_and(|failure| failure.is::<Cancelled>()));
        }));
        world.run_for(ms(1_000));
        canceller.cancel();
        assert!(cancelled.get());
        assert_eq!(world.handle.stats().timers, 0);
        world.run_for(ms(5_000));
        log.expect(&[]);
    }

    fn c_223_run_main_gives_the_exit_code(world: &mut World) {
        let exit = world.reactor.run_main(|_| Ok(()));
        assert_eq!(exit.unwrap(), Exit::Code(0));
        assert_eq!(run_main_of(world, Err(broken())), Exit::Code(1));
        assert_eq!(run_main_of(world, Err(Failure::new(ExitWith(42)))), Exit::Code(42));
    }

    fn c_224_a_stop_before_the_end_cancels_main(world: &mut World) {
        let cancelled = Rc::new(Cell::new(0));
        let seen = cancelled.clone();
        let (promise, deferred) = Deferred::<()>::with_canceller(move |_| seen.set(seen.get() + 1));
        world.handle.call_when_running(|h| {
            h.call_soon(|h| assert!(h.stop(Exit::Signal(15))));
        });
        let exit = world.reactor.run_main(move |_| deferred).unwrap();
        assert_eq!(exit, Exit::Signal(15));
        assert_eq!(exit.code(), 0);
        assert_eq!(cancelled.get(), 1);
        drop(promise);
    }
}

/// What a new reactor, on a thread of its own, makes of a `main` with this result.
fn run_main_of(world: &World, result: Result<(), Failure>) -> Exit {
    let kind = world.kind;
    let thread = std::thread::spawn(move || {
        let mut world = World::by_hand(kind);
        world.reactor.run_main(move |_| result).unwrap()
    });
    thread.join().unwrap()
}
