//! Other threads, jobs, futures and signals: conformance group S.
//!
//! Threads are real on every poller. A signal concerns a whole process, so each test of signals
//! runs in one of its own; the simulated poller watches no descriptors and has no signals.

use std::cell::{Cell, RefCell};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use marline::deferred::{Cancelled, Deferred, Failure, Panicked};
use marline::reactor::{
    CallerIsReactor, Closed, Exit, Handle, Options, Phase, Pool, Signal, Status, Unsent,
};

use crate::reactor_support::{Captured, Kind, Log, Source, World, ms};
use crate::{each_kind, each_poller};

/// A door that jobs stand before until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut open = self.0.0.lock().unwrap();
        while !*open {
            open = self.0.1.wait(open).unwrap();
        }
    }
}

/// Opens its gate when the test is over, however it ends.
struct OpenAtEnd(Gate);

impl Drop for OpenAtEnd {
    fn drop(&mut self) {
        self.0.open();
    }
}

each_poller! {
    fn c_276_a_remote_call_ends_a_wait_without_timers(world: &mut World) {
        let (sender, receiver) = mpsc::channel();
        let remote = world.handle.remote();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(ms(30)); // so that the reactor waits already, mostly
            remote.call(move |h| {
                sender.send(std::thread::current().id()).unwrap();
                h.abort();
            })
        });
        assert_eq!(world.reactor.run().unwrap(), Exit::Aborted);
        assert_eq!(receiver.recv().unwrap(), std::thread::current().id());
        thread.join().unwrap().unwrap();
    }

    fn c_277_calls_of_one_thread_keep_their_order(world: &mut World) {
        let (sender, receiver) = mpsc::channel();
        let remote = world.handle.remote();
        std::thread::spawn(move || {
            for n in 0..1_000 {
                let sender = sender.clone();
                remote.call(move |_| sender.send(n).unwrap()).unwrap();
            }
            remote.call(|h| h.abort()).unwrap();
        });
        assert_eq!(world.reactor.run().unwrap(), Exit::Aborted);
        let order: Vec<u32> = receiver.try_iter().collect();
        assert_eq!(order, (0..1_000).collect::<Vec<_>>());
    }

    fn c_278_a_call_made_before_run_is_made(world: &mut World) {
        world.handle.remote().call(|h| h.abort()).unwrap();
        assert_eq!(world.reactor.run().unwrap(), Exit::Aborted);
    }

    fn c_279_a_call_that_calls_again_runs_once_a_turn(world: &mut World) {
        fn again(h: &Handle, count: Arc<AtomicU32>) {
            count.fetch_add(1, Ordering::SeqCst);
            h.remote().call(move |h| again(h, count)).unwrap();
        }
        let (log, count) = (Log::default(), Arc::new(AtomicU32::new(0)));
        let (near, far) = world.streams();
        Source::new(&near, &log, "near").register_reader(&world.handle);
        let inside = count.clone();
        world.handle.remote().call(move |h| again(h, inside)).unwrap();
        world.turns(5);
        assert_eq!(count.load(Ordering::SeqCst), 5);
        far.write(b"x").unwrap();
        world.turns(1);
        log.expect(&["near read 1"]);
        assert_eq!(count.load(Ordering::SeqCst), 6);
    }

    fn c_281_after_the_end_the_door_is_shut(world: &mut World) {
        let remote = world.handle.remote();
        world.handle.call_soon(|h| h.abort());
        world.reactor.run().unwrap();
        let held = Arc::new(());
        let inside = held.clone();
        assert_eq!(remote.call(move |_| drop(inside)), Err(Closed));
        assert_eq!(Arc::strong_count(&held), 1);
    }

    fn c_281_calls_that_came_too_late_are_dropped(world: &mut World) {
        let (remote, held) = (world.handle.remote(), Arc::new(()));
        let inside = held.clone();
        world.turns(1);
        world.handle.call_soon(move |h| {
            h.abort();
            // Queued in the last turn, after the step that would have run it.
            let _ = remote.call(move |_| drop(inside));
        });
        world.reactor.run().unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
    }

    fn c_282_another_thread_can_stop_the_reactor(world: &mut World) {
        let remote = world.handle.remote();
        let thread = std::thread::spawn(move || {
            remote.call(|h| assert!(h.stop(Exit::Code(5)))).unwrap();
        });
        assert_eq!(world.reactor.run().unwrap(), Exit::Code(5));
        thread.join().unwrap();
    }

    fn c_283_the_result_of_a_job_comes_on_the_reactors_thread(world: &mut World) {
        let here = std::thread::current().id();
        let results: Rc<RefCell<Vec<String>>> = Rc::default();
        let add = |deferred: Deferred<bool>, name: &'static str| {
            let results = results.clone();
            drop(deferred.add_both(move |result| {
                assert_eq!(std::thread::current().id(), here);
                results.borrow_mut().push(match result {
                    Ok(elsewhere) => format!("{name} {elsewhere}"),
                    Err(failure) if failure.is::<Panicked>() => format!("{name} panicked"),
                    Err(failure) => format!("{name} {failure}"),
                });
            }));
        };
        let h = &world.handle;
        let thread = move || std::thread::current().id() != here;
        add(h.defer_to_thread(Pool::General, "ok", move || Ok(thread())), "ok");
        add(h.defer_to_thread(Pool::Disk, "err", || Err(Failure::msg("broken"))), "err");
        add(h.defer_to_thread(Pool::Dns, "panic", || panic!("on purpose")), "panic");
        assert_eq!(h.stats().jobs, 3);
        world.run_until(|| results.borrow().len() == 3);
        let mut results = results.take();
        results.sort();
        assert_eq!(results, ["err broken", "ok true", "panic panicked"]);
        assert_eq!(world.handle.stats().jobs, 0);
    }

    fn c_284_what_is_more_than_the_pool_waits_in_order(world: &mut World) {
        let (gate, order) = (Gate::default(), Arc::new(Mutex::new(Vec::new())));
        let _open = OpenAtEnd(gate.clone());
        let ended = Rc::new(Cell::new(0));
        let count = |deferred: Deferred<()>| {
            let ended = ended.clone();
            drop(deferred.add_callback(move |()| ended.set(ended.get() + 1)));
        };
        // Three of four threads are kept, so one takes the rest, one after the other.
        for _ in 0..3 {
            let gate = gate.clone();
            count(world.handle.defer_to_thread(Pool::General, "kept", move || {
                gate.pass();
                Ok(())
            }));
        }
        for n in 0..20 {
            let order = order.clone();
            count(world.handle.defer_to_thread(Pool::General, "in order", move || {
                order.lock().unwrap().push(n);
                Ok(())
            }));
        }
        world.run_until(|| ended.get() == 20);
        assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
        gate.open();
        world.run_until(|| ended.get() == 23);
    }

    fn c_287_stuck_jobs_do_not_keep_names_from_being_resolved(world: &mut World) {
        let gate = Gate::default();
        let _open = OpenAtEnd(gate.clone());
        for pool in [Pool::General, Pool::Disk] {
            for _ in 0..8 {
                let gate = gate.clone();
                drop(world.handle.defer_to_thread(pool, "stuck", move || {
                    gate.pass();
                    Ok(())
                }));
            }
        }
        let resolved = Rc::new(Cell::new(false));
        let seen = resolved.clone();
        let name = world.handle.defer_to_thread(Pool::Dns, "resolve", || Ok(()));
        drop(name.add_callback(move |()| seen.set(true)));
        world.run_until(|| resolved.get());
    }

    fn c_288_call_blocking_waits_for_a_deferred(world: &mut World) {
        let remote = world.handle.remote();
        let refused = remote.call_blocking(|_| Ok::<_, Failure>(1)).unwrap_err();
        assert!(refused.is::<CallerIsReactor>());
        let thread = std::thread::spawn(move || {
            let later = |h: &Handle| h.defer_later(ms(5), |_| Ok(42));
            let good = remote.call_blocking(later).unwrap();
            let fails = |_: &Handle| Err::<u32, _>(Failure::msg("broken"));
            let bad = remote.call_blocking(fails).unwrap_err().to_string();
            remote.call(|h| h.abort()).unwrap();
            let never = |_: &Handle| Ok::<u32, Failure>(0);
            let closed = loop {
                match remote.call_blocking(never) {
                    Ok(_) => std::thread::yield_now(),
                    Err(failure) => break failure.is::<Closed>(),
                }
            };
            (good, bad, closed)
        });
        while let Status::Going = world.reactor.turn(Some(ms(5))).unwrap() {}
        assert_eq!(thread.join().unwrap(), (42, "broken".to_owned(), true));
    }

    fn a_future_runs_to_its_first_wait_at_once(world: &mut World) {
        let log = Log::default();
        let (promise, deferred) = Deferred::<u32>::new();
        let entries = log.clone();
        let future = world.handle.spawn(async move {
            entries.add("begun");
            let value = deferred.await?;
            entries.add(format!("got {value}"));
            Ok(value)
        });
        log.expect(&["begun"]);
        promise.callback(7);
        world.turns(2);
        log.expect(&["begun", "got 7"]);
        assert_eq!(future.now_or_pending().unwrap().unwrap(), 7);
    }

    fn a_future_woken_by_another_thread_wakes_the_reactor(world: &mut World) {
        let shared: Arc<Mutex<(bool, Option<std::task::Waker>)>> = Arc::default();
        let inside = shared.clone();
        let future = world.handle.spawn(std::future::poll_fn(move |context| {
            let mut state = inside.lock().unwrap();
            if state.0 {
                return std::task::Poll::Ready(Ok::<(), Failure>(()));
            }
            state.1 = Some(context.waker().clone());
            std::task::Poll::Pending
        }));
        let handle = world.handle.clone();
        drop(future.add_callback(move |()| handle.abort()));
        let thread = std::thread::spawn(move || {
            std::thread::sleep(ms(30));
            let waker = {
                let mut state = shared.lock().unwrap();
                state.0 = true;
                state.1.take().unwrap()
            };
            waker.wake();
        });
        assert_eq!(world.reactor.run().unwrap(), Exit::Aborted);
        thread.join().unwrap();
    }

    fn a_future_that_wakes_itself_lets_others_be_served(world: &mut World) {
        let (log, polls) = (Log::default(), Rc::new(Cell::new(0)));
        let (near, far) = world.streams();
        Source::new(&near, &log, "near").register_reader(&world.handle);
        let count = polls.clone();
        let future = world.handle.spawn(std::future::poll_fn(move |context| {
            count.set(count.get() + 1);
            context.waker().wake_by_ref();
            std::task::Poll::<Result<(), Failure>>::Pending
        }));
        world.turns(5);
        let before = polls.get();
        assert!((4..=6).contains(&before), "{before}");
        far.write(b"x").unwrap();
        world.turns(1);
        log.expect(&["near read 1"]);
        assert_eq!(polls.get(), before + 1);
        future.cancel();
        let failure = future.now_or_pending().unwrap().unwrap_err();
        assert!(failure.is::<Cancelled>());
        world.turns(1);
        assert_eq!((world.handle.stats().tasks, world.handle.next_wait()), (0, None));
    }
}

each_kind! {
    fn c_286_a_stuck_job_is_named_and_left_behind(kind: Kind) {
        let options = Options { finish_timeout: ms(40), ..Options::default() };
        let mut world = World::with_options(kind, options);
        let (gate, captured, log) = (Gate::default(), Captured::new(), Log::default());
        let _open = OpenAtEnd(gate.clone());
        let (stuck, resolving) = (gate.clone(), gate.clone());
        let job = world.handle.defer_to_thread(Pool::Disk, "fsync of spool/7", move || {
            stuck.pass();
            Ok(())
        });
        let name = world.handle.defer_to_thread(Pool::Dns, "name", move || {
            resolving.pass();
            Ok(())
        });
        let entries = log.clone();
        world.handle.on_shutdown(Phase::After, "after", move |_| {
            entries.add("after");
            Deferred::ready(())
        });
        world.handle.call_when_running(|h| assert!(h.stop(Exit::Stopped)));
        assert_eq!(world.reactor.run().unwrap(), Exit::Stopped);
        log.expect(&["after"]);
        let lines = captured.with("a job is stuck");
        assert!(lines.len() == 1 && lines[0].contains("fsync of spool/7"), "{lines:?}");
        drop((job.add_both(|_| ()), name.add_both(|_| ())));
    }

    fn shutdown_waits_for_a_job_that_ends_in_time(kind: Kind) {
        let mut world = World::by_hand(kind);
        let (captured, ended) = (Captured::new(), Rc::new(Cell::new(false)));
        let job = world.handle.defer_to_thread(Pool::Disk, "short", || {
            std::thread::sleep(ms(30));
            Ok(())
        });
        let seen = ended.clone();
        drop(job.add_callback(move |()| seen.set(true)));
        world.handle.call_when_running(|h| assert!(h.stop(Exit::Stopped)));
        while world.reactor.turn(Some(Duration::ZERO)).unwrap() == Status::Going {
            std::thread::sleep(ms(1)); // the clock, moved by hand, stands still meanwhile
        }
        assert!(ended.get());
        assert_eq!(captured.with("a job is stuck").len(), 0);
    }
}

/// Set in the process that a signal test runs its body in.
const CHILD: &str = "MARLINE_TEST_CHILD";

/// Runs `body` in a process of its own: signals concern all of one.
fn in_child(test: &str, body: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("1 passed"), "no such test: {test}\n{text}");
}

/// A test on each poller that watches descriptors, each in a process of its own.
macro_rules! each_in_child {
    ($(fn $name:ident($kind:ident: Kind) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn body($kind: Kind) $body

            #[test]
            fn epoll() {
                let test = concat!("reactor_threads::", stringify!($name), "::epoll");
                in_child(test, || body(Kind::Epoll));
            }
            #[test]
            fn poll() {
                let test = concat!("reactor_threads::", stringify!($name), "::poll");
                in_child(test, || body(Kind::Poll));
            }
            #[test]
            fn select() {
                let test = concat!("reactor_threads::", stringify!($name), "::select");
                in_child(test, || body(Kind::Select));
            }
        }
    )*};
}

/// Delivers a signal to this process from another thread, in a moment.
fn send_soon(signal: Signal) {
    std::thread::spawn(move || {
        std::thread::sleep(ms(40));
        raise(signal);
    });
}

fn raise(signal: Signal) {
    signal_hook::low_level::raise(signal.number()).unwrap();
}

fn with_signals() -> Options {
    Options {
        signals: true,
        ..Options::default()
    }
}

each_in_child! {
    fn c_289_sigterm_shuts_an_idle_reactor_down(kind: Kind) {
        let mut world = World::with_options(kind, with_signals());
        let log = Log::default();
        let entries = log.clone();
        world.handle.on_shutdown(Phase::Before, "before", move |_| {
            entries.add("before");
            Deferred::ready(())
        });
        send_soon(Signal::Term);
        assert_eq!(world.reactor.run().unwrap(), Exit::Signal(Signal::Term.number()));
        log.expect(&["before"]);
        // The reactor's own source is not the user's.
        assert_eq!((world.handle.readers(), world.handle.stats().sources), (vec![], 1));
    }

    fn c_289_a_second_signal_hastens_and_a_third_aborts(kind: Kind) {
        let mut world = World::with_options(kind, with_signals());
        let (log, captured) = (Log::default(), Captured::new());
        let promises: Rc<RefCell<Vec<marline::deferred::Promise<()>>>> = Rc::default();
        for (phase, label) in [(Phase::Before, "stuck drain"), (Phase::During, "stuck stop")] {
            let (entries, kept) = (log.clone(), promises.clone());
            world.handle.on_shutdown(phase, label, move |_| {
                entries.add(label);
                send_soon(Signal::Int);
                let (promise, deferred) = Deferred::new();
                kept.borrow_mut().push(promise);
                deferred
            });
        }
        send_soon(Signal::Term);
        assert_eq!(world.reactor.run().unwrap(), Exit::Aborted);
        log.expect(&["stuck drain", "stuck stop"]);
        assert_eq!(captured.with("going on without it").len(), 1);
    }

    fn c_291_signals_are_left_alone_unless_asked_for(kind: Kind) {
        let before = signal_state();
        let mut world = World::new(kind);
        world.turns(3);
        assert_eq!(signal_state(), before);
        let watch = world.handle.signals(&[Signal::Usr1], |_, _| {}).unwrap();
        assert_ne!(signal_state(), before);
        drop(watch);
    }

    fn c_292_equal_signals_that_wait_are_one(kind: Kind) {
        let mut world = World::new(kind);
        let log = Log::default();
        let entries = log.clone();
        let watch = world.handle.signals(&Signal::ALL, move |_, signal| entries.add(signal.name()));
        let watch = watch.unwrap();
        world.turns(2);
        raise(Signal::Hup);
        world.run_until(|| log.len() == 1); // the reload begins
        raise(Signal::Hup);
        raise(Signal::Usr2);
        raise(Signal::Hup); // two more before anybody looks
        world.turns(6);
        log.expect(&["SIGHUP", "SIGHUP", "SIGUSR2"]);
        drop(watch);
        raise(Signal::Hup);
        world.turns(3);
        assert_eq!(log.len(), 3);
    }

    fn a_broken_durability_invariant_aborts_the_process(kind: Kind) {
        // Not through the loop that would catch it: the grandchild dies, and of SIGABRT.
        const GRANDCHILD: &str = "MARLINE_TEST_GRANDCHILD";
        if std::env::var_os(GRANDCHILD).is_some() {
            let mut world = World::new(kind);
            world.handle.call_soon(|_| marline::durability_assert!(1 + 1 == 3, "sum is {}", 2));
            world.turns(3);
            std::process::exit(0);
        }
        let test = format!(
            "reactor_threads::a_broken_durability_invariant_aborts_the_process::{}",
            format!("{kind:?}").to_lowercase()
        );
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &test, "--nocapture"])
            .env(GRANDCHILD, "1")
            .output()
            .unwrap();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(output.status.signal(), Some(6), "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("1 + 1 == 3") && text.contains("sum is 2"), "{text}");
    }
}

/// The signals caught by this process and blocked by this thread, as the kernel shows them.
fn signal_state() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let lines = status.lines().filter(|line| line.starts_with("Sig"));
    lines
        .filter(|line| !line.starts_with("SigQ"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn remote_is_send_and_sync() {
    fn check<T: Send + Sync + Clone>() {}
    check::<marline::reactor::Remote>();
    static STARTED: AtomicBool = AtomicBool::new(false);
    let thread = marline::reactor::start_thread("named".to_owned(), || {
        STARTED.store(true, Ordering::SeqCst);
        std::thread::current().name().map(str::to_owned)
    });
    assert_eq!(thread.unwrap().join().unwrap().as_deref(), Some("named"));
    assert!(STARTED.load(Ordering::SeqCst));
}

each_poller! {
    fn messages_come_in_order_whatever_thread_waits_for_them(world: &mut World) {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let (received, handle) = (Rc::clone(&seen), world.handle.clone());
        let sender = world.handle.mailbox(move |n: u32| {
            received.borrow_mut().push(n);
            if n == 999 {
                handle.abort();
            }
        });
        let thread = std::thread::spawn(move || (0..1_000).for_each(|n| sender.send(n).unwrap()));
        assert_eq!(world.reactor.run().unwrap(), Exit::Aborted);
        thread.join().unwrap();
        assert_eq!(*seen.borrow(), (0..1_000).collect::<Vec<_>>());
    }

    fn a_receiver_that_panics_gets_the_next_message_all_the_same(world: &mut World) {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let received = Rc::clone(&seen);
        let sender = world.handle.mailbox(move |n: u32| {
            assert_ne!(n, 2, "planted");
            received.borrow_mut().push(n);
        });
        (1..=3).for_each(|n| sender.send(n).unwrap());
        world.reactor.turn(None).unwrap();
        world.reactor.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!(*seen.borrow(), [1, 3]);
    }

    fn a_mailbox_of_a_reactor_that_has_ended_is_closed(world: &mut World) {
        let sender = world.handle.mailbox(|_: Arc<()>| {});
        let message = Arc::new(());
        sender.send(Arc::clone(&message)).unwrap();
        world.handle.abort();
        assert_eq!(world.reactor.status(), Status::Ended(Exit::Aborted));
        let sent = sender.send(Arc::clone(&message));
        assert!(matches!(sent, Err(Unsent(_))), "{sent:?}");
        drop(sent);
        assert_eq!(Arc::strong_count(&message), 1, "what was not received is dropped");
    }
}
