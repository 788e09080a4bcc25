//! Lock, semaphore, queue and file lock: group H of the rules. Order of service, what cancelled
//! and abandoned waiters do not take, and long lines on a small stack. The file lock runs on
//! timers turned by hand.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use marline::deferred::{
    AlreadyTrying, Cancelled, Deferred, Failure, FileLock, Full, Lock, LockGuard, Queue, Semaphore,
    TimedOut, Underflow,
};
use marline::time::Duration;

use super::support::{HandTimers, Oops, Record, failure, on_small_stack, value};

#[test]
fn c_117_free_lock_is_granted_at_once() {
    let lock = Lock::new();
    let guard = value(lock.acquire());
    assert!(lock.is_locked());
    drop(guard);
}

#[test]
fn c_118_released_lock_goes_to_the_next_in_line() {
    let lock = Lock::new();
    let held = value(lock.acquire());
    let guards: Record<(&str, LockGuard)> = Record::new();
    for name in ["A", "B"] {
        let (guards, seen) = (guards.clone(), lock.clone());
        lock.acquire().add_callback(move |guard| {
            assert!(seen.is_locked());
            guards.push((name, guard));
        });
    }
    assert_eq!(lock.waiting(), 2);
    drop(held);
    assert!(lock.is_locked());
    let granted = guards.take();
    assert_eq!((granted.len(), granted[0].0), (1, "A"));
    drop(granted);
    let granted = guards.take();
    assert_eq!((granted.len(), granted[0].0), (1, "B"));
    drop(granted);
    assert!(!lock.is_locked());
}

#[test]
fn c_119_run_releases_when_the_result_is_there() {
    let lock = Lock::new();
    let (promise, deferred) = Deferred::<u32>::new();
    let run = lock.run(move || deferred);
    assert!(lock.is_locked());
    promise.callback(119);
    assert!(!lock.is_locked());
    assert_eq!(value(run), 119);
    let run = lock.run(|| Err::<u32, Failure>(Oops(1).into()));
    assert!(!lock.is_locked());
    assert!(failure(run).is::<Oops>());
    let run = lock.run(|| -> Result<u32, Failure> { panic!("in the run") });
    assert!(!lock.is_locked());
    assert!(failure(run).is::<marline::deferred::Panicked>());
}

#[test]
fn c_121_cancelled_waiter_leaves_the_line() {
    let lock = Lock::new();
    let held = value(lock.acquire());
    let (first, second) = (lock.acquire(), lock.acquire());
    first.cancel();
    assert!(failure(first).is::<Cancelled>());
    assert_eq!(lock.waiting(), 1);
    drop(held);
    drop(value(second));
    assert!(!lock.is_locked());
}

#[test]
fn c_121_line_of_cancelled_waiters_stays_short() {
    let semaphore = Semaphore::new(1);
    let held = value(semaphore.acquire());
    let stays = semaphore.acquire();
    for _ in 0..10_000 {
        let waiter = semaphore.acquire();
        waiter.cancel();
        assert!(failure(waiter).is::<Cancelled>());
    }
    assert_eq!(semaphore.waiting(), 1);
    drop(held);
    drop(value(stays));
    assert_eq!(semaphore.free(), 1);
}

#[test]
fn c_122_cancel_of_a_granted_acquire_keeps_the_lock() {
    let lock = Lock::new();
    let granted = lock.acquire();
    granted.cancel();
    assert!(lock.is_locked());
    drop(value(granted));
    assert!(!lock.is_locked());
}

#[test]
fn c_123_dropped_guard_frees_the_lock() {
    let lock = Lock::new();
    drop(value(lock.acquire()));
    assert!(!lock.is_locked());
    // A grant that nobody took is given back, too.
    drop(lock.acquire());
    assert!(!lock.is_locked());
    let held = value(lock.acquire());
    drop(lock.acquire());
    drop(held);
    assert!(!lock.is_locked());
}

#[test]
fn c_124_hundred_thousand_waiters_are_served_in_order_without_stack() {
    on_small_stack(|| {
        let lock = Lock::new();
        let held = value(lock.acquire());
        let served = Rc::new(Cell::new(0_u32));
        for number in 0..100_000 {
            let served = served.clone();
            lock.acquire().add_callback(move |guard| {
                assert_eq!(served.replace(number + 1), number);
                drop(guard);
            });
        }
        drop(held);
        assert_eq!(served.get(), 100_000);
        assert!(!lock.is_locked());
    });
}

/// Waiters whose Deferreds were dropped pass the guard on as it is dropped.
#[test]
fn c_124_hundred_thousand_abandoned_waiters_take_no_stack() {
    on_small_stack(|| {
        let lock = Lock::new();
        let held = value(lock.acquire());
        for _ in 0..100_000 {
            drop(lock.acquire());
        }
        drop(held);
        assert!(!lock.is_locked());
        // And those that hold on to their Deferred, but not to its guard.
        let held = value(lock.acquire());
        let waiters: Vec<_> = (0..100_000).map(|_| lock.acquire()).collect();
        drop(held);
        drop(waiters);
        assert!(!lock.is_locked());
    });
}

/// The same without a link in between, and with a long row of cancelled waiters.
#[test]
fn c_124_abandoned_and_cancelled_permits_take_no_stack() {
    on_small_stack(|| {
        let semaphore = Semaphore::new(1);
        let held = value(semaphore.acquire());
        for _ in 0..100_000 {
            drop(semaphore.acquire());
        }
        drop(held);
        assert_eq!((semaphore.free(), semaphore.waiting()), (1, 0));
        let held = value(semaphore.acquire());
        let waiters: Vec<_> = (0..100_000).map(|_| semaphore.acquire()).collect();
        waiters[..49_000].iter().for_each(Deferred::cancel);
        drop(held);
        assert_eq!(semaphore.waiting(), 50_999);
        drop(waiters);
        assert_eq!((semaphore.free(), semaphore.waiting()), (1, 0));
    });
}

#[test]
fn c_126_semaphore_grants_its_permits_and_then_makes_wait() {
    let semaphore = Semaphore::new(3);
    let mut held: Vec<_> = (0..3).map(|_| value(semaphore.acquire())).collect();
    let last = semaphore.acquire();
    assert_eq!(
        (last.is_fired(), semaphore.free(), semaphore.waiting()),
        (false, 0, 1)
    );
    held.pop();
    drop(value(last));
    assert_eq!(semaphore.free(), 1);
}

#[test]
fn c_127_failed_run_gives_its_permit_back() {
    let semaphore = Semaphore::new(2);
    let (promise, deferred) = Deferred::<u32>::new();
    let run = semaphore.run(move || deferred);
    assert_eq!(semaphore.free(), 1);
    promise.errback(Oops(127));
    assert_eq!(semaphore.free(), 2);
    assert!(failure(run).is::<Oops>());
}

#[test]
fn c_128_put_hands_over_to_a_waiting_getter() {
    let queue = Queue::new(2, 2);
    let getter = queue.get();
    queue.put(128).unwrap();
    assert_eq!((queue.len(), value(getter)), (0, 128));
}

#[test]
fn c_129_getters_are_served_in_order() {
    let queue = Queue::new(2, 2);
    let (first, second) = (queue.get(), queue.get());
    queue.put("x").unwrap();
    queue.put("y").unwrap();
    assert_eq!((value(first), value(second)), ("x", "y"));
}

#[test]
fn c_131_full_queue_gives_the_item_back() {
    let queue = Queue::new(2, 1);
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    assert_eq!(queue.put(3), Err(Full(3)));
    assert_eq!((value(queue.get()), value(queue.get())), (1, 2));
}

#[test]
fn c_132_getter_beyond_the_backlog_is_refused() {
    let queue = Queue::<u32>::new(1, 1);
    let waiting = queue.get();
    assert!(failure(queue.get()).is::<Underflow>());
    queue.put(1).unwrap();
    assert_eq!(value(waiting), 1);
}

#[test]
fn c_133_size_and_backlog_of_zero_refuse() {
    let queue = Queue::new(0, 1);
    assert_eq!(queue.put(1), Err(Full(1)));
    let getter = queue.get();
    queue.put(2).unwrap();
    assert_eq!(value(getter), 2);
    let queue = Queue::<u32>::new(1, 0);
    assert!(failure(queue.get()).is::<Underflow>());
}

#[test]
fn c_134_cancelled_or_dropped_getter_takes_no_item() {
    let queue = Queue::new(1, 2);
    let cancelled = queue.get();
    drop(queue.get());
    cancelled.cancel();
    assert!(failure(cancelled).is::<Cancelled>());
    queue.put(134).unwrap();
    assert_eq!((queue.len(), value(queue.get())), (1, 134));
    // They do not count against the backlog either.
    drop((queue.get(), queue.get()));
    let waiting = queue.get();
    queue.put(135).unwrap();
    assert_eq!(value(waiting), 135);
}

/// A lock file that the test holds and frees; the number is that of tries.
fn lock_file(timers: &HandTimers) -> (FileLock<&'static str>, Rc<Cell<bool>>, Rc<Cell<u32>>) {
    let (held, tries) = (Rc::new(Cell::new(true)), Rc::new(Cell::new(0)));
    let (is_held, tried) = (held.clone(), tries.clone());
    let second = Duration::from_secs(1);
    let lock = FileLock::new(Rc::new(timers.clone()), second, move || {
        tried.set(tried.get() + 1);
        Ok((!is_held.get()).then_some("guard"))
    });
    (lock, held, tries)
}

#[test]
fn c_136_held_lock_file_times_out() {
    let timers = HandTimers::default();
    let (lock, _held, tries) = lock_file(&timers);
    let acquire = lock.acquire(Some(Duration::from_millis(4_500)));
    timers.seconds(5.0);
    assert!(failure(acquire).is::<TimedOut>());
    assert_eq!((timers.pending(), tries.get()), (0, 5));
}

#[test]
fn c_137_freed_lock_file_is_taken_at_the_next_try() {
    let timers = HandTimers::default();
    let (lock, held, _) = lock_file(&timers);
    let acquire = lock.acquire(Some(Duration::from_secs(10)));
    timers.seconds(2.9);
    held.set(false);
    assert!(!acquire.is_fired());
    timers.seconds(0.1);
    assert_eq!((value(acquire), timers.pending()), ("guard", 0));
    // A free one at once.
    assert_eq!((value(lock.acquire(None)), timers.pending()), ("guard", 0));
}

#[test]
fn c_138_second_attempt_is_refused() {
    let timers = HandTimers::default();
    let (lock, held, _) = lock_file(&timers);
    let first = lock.acquire(None);
    assert!(failure(lock.acquire(None)).is::<AlreadyTrying>());
    held.set(false);
    timers.seconds(1.0);
    assert_eq!(value(first), "guard");
}

#[test]
fn c_139_cancelled_attempt_leaves_no_timer_and_a_usable_lock() {
    let timers = HandTimers::default();
    let (lock, held, _) = lock_file(&timers);
    let acquire = lock.acquire(Some(Duration::from_secs(10)));
    timers.seconds(1.5);
    acquire.cancel();
    assert!(failure(acquire).is::<Cancelled>());
    assert_eq!(timers.pending(), 0);
    let again = lock.acquire(None);
    held.set(false);
    timers.seconds(1.0);
    assert_eq!(value(again), "guard");
}

#[test]
fn lock_file_error_ends_the_attempt() {
    let timers = HandTimers::default();
    let results = RefCell::new(vec![
        Err(std::io::ErrorKind::PermissionDenied.into()),
        Ok(None),
    ]);
    let lock = FileLock::<()>::new(Rc::new(timers.clone()), Duration::from_secs(1), move || {
        results.borrow_mut().pop().unwrap()
    });
    let acquire = lock.acquire(None);
    timers.seconds(1.0);
    assert!(failure(acquire).is::<std::io::Error>());
    assert_eq!(timers.pending(), 0);
}
