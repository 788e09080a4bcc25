//! Futures on the run loop: group I of the rules. No reactor is needed where only Deferreds are
//! awaited; for other wake-ups the tests call `run_woken` as a reactor's turn does, with and
//! without its hook.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Poll, Waker};

use marline::deferred::{self, BrokenPromise, Cancelled, Deferred, Failure, Panicked};

use super::support::{Oops, Ouch, Record, counted, errors, failure, on_small_stack, value};

#[test]
fn c_141_coroutine_runs_to_its_first_wait_before_spawn_returns() {
    let ran = Rc::new(Cell::new(false));
    let flag = ran.clone();
    let end = deferred::spawn(async move {
        let x = Deferred::ready(141).await?;
        flag.set(true);
        Ok(x)
    });
    assert!(ran.get());
    assert_eq!(value(end), 141);
    assert_eq!(deferred::coroutines(), 0);
}

#[test]
fn c_142_hundred_thousand_ready_awaits_take_no_stack() {
    on_small_stack(|| {
        let end = deferred::spawn(async {
            let mut sum = 0_u64;
            for number in 0..100_000 {
                sum += Deferred::ready(number).await?;
            }
            Ok(sum)
        });
        assert_eq!(value(end), 4_999_950_000);
    });
}

#[test]
fn c_142_hundred_thousand_nested_coroutines_resume_and_cancel_without_stack() {
    on_small_stack(|| {
        for cancel in [false, true] {
            let (promise, mut deferred) = Deferred::<u32>::new();
            for _ in 0..100_000 {
                let inner = deferred;
                deferred = deferred::spawn(async move { Ok(inner.await? + 1) });
            }
            if cancel {
                deferred.cancel();
                assert!(failure(deferred).is::<Cancelled>());
            } else {
                promise.callback(0);
                assert_eq!(value(deferred), 100_000);
            }
            assert_eq!(deferred::coroutines(), 0);
        }
    });
}

#[test]
fn c_143_failure_comes_up_at_the_await() {
    let (promise, awaited) = Deferred::<u32>::new();
    let end = deferred::spawn(async move { Ok(awaited.await? + 1) });
    assert!(!end.is_fired());
    let first = Failure::new(Oops(143));
    promise.errback(first.clone());
    assert!(failure(end).same(&first));
}

#[test]
fn c_144_cancel_goes_to_what_is_awaited() {
    let (_promise, awaited, cancelled) = counted::<u32>();
    let end = deferred::spawn(awaited);
    end.cancel();
    assert_eq!(cancelled.get(), 1);
    assert!(failure(end).is::<Cancelled>());
}

#[test]
fn c_146_cancel_goes_through_nested_coroutines() {
    let (_promise, awaited, cancelled) = counted::<u32>();
    let saw = Record::new();
    let (in_a, in_b) = (saw.clone(), saw.clone());
    let b = deferred::spawn(async move {
        let result = awaited.await;
        in_b.push(("b", result.as_ref().unwrap_err().is::<Cancelled>()));
        result
    });
    let a = deferred::spawn(async move {
        let result = b.await;
        in_a.push(("a", result.as_ref().unwrap_err().is::<Cancelled>()));
        result
    });
    a.cancel();
    assert_eq!(cancelled.get(), 1);
    assert_eq!(saw.take(), [("b", true), ("a", true)]);
    assert!(failure(a).is::<Cancelled>());
}

#[test]
fn c_147_coroutine_may_translate_cancelled() {
    let (_promise, awaited) = Deferred::<u32>::new();
    let end = deferred::spawn(async move {
        match awaited.await {
            Err(failure) if failure.is::<Cancelled>() => Err(Failure::new(Ouch)),
            other => other,
        }
    });
    end.cancel();
    assert!(failure(end).is::<Ouch>());
}

#[test]
fn c_148_coroutine_may_turn_cancelled_into_a_value() {
    let (_promise, awaited) = Deferred::<u32>::new();
    let end = deferred::spawn(async move { awaited.await.or_else(|_| Ok::<_, Failure>(148)) });
    end.cancel();
    assert_eq!(value(end), 148);
}

#[test]
fn c_149_coroutine_may_clean_up_before_it_ends() {
    let (_promise, awaited) = Deferred::<u32>::new();
    let (cleaned, cleaning) = Deferred::<()>::new();
    let end = deferred::spawn(async move {
        let result = awaited.await;
        if result.is_err() {
            cleaning.await?;
        }
        result
    });
    end.cancel();
    assert!(!end.is_fired());
    cleaned.callback(());
    assert!(failure(end).is::<Cancelled>());
}

/// The lines of the three awaits are found by what stands on them.
#[test]
#[allow(clippy::redundant_async_block)] // the awaits are what is tested
fn c_151_failure_shows_the_awaits_it_crossed() {
    let mut lines = Vec::new();
    let (promise, awaited) = Deferred::<u32>::new();
    lines.push(line!() + 1);
    let first = deferred::spawn(async move { awaited.await });
    lines.push(line!() + 1);
    let second = deferred::spawn(async move { first.await });
    lines.push(line!() + 1);
    let third = deferred::spawn(async move { second.await });
    let logged = errors(|| {
        drop(third);
        promise.errback(Oops(151));
    });
    assert_eq!(logged.len(), 1, "{logged:?}");
    for line in lines {
        assert!(
            logged[0].contains(&format!("coroutines.rs:{line}:")),
            "{line}: {logged:?}"
        );
    }
}

#[test]
fn firing_from_a_coroutine_waits_until_it_yields() {
    let calls = Record::new();
    let (other, deferred) = Deferred::<()>::new();
    calls.watch(deferred, |_| "link");
    let inside = calls.clone();
    let end = deferred::spawn(async move {
        other.callback(());
        inside.push("coroutine");
        Ok(())
    });
    assert_eq!(calls.take(), ["coroutine", "link"]);
    value(end);
}

#[test]
fn link_added_in_a_coroutine_can_be_awaited() {
    let end = deferred::spawn(async {
        let x = Deferred::ready(1).add_callback(|x| Ok(x + 1)).await?;
        Ok(x + 1)
    });
    assert_eq!(value(end), 3);
}

/// Several Deferreds awaited at once are all cancelled.
#[test]
fn cancel_goes_to_everything_awaited() {
    let (_p1, mut first, first_cancelled) = counted::<u32>();
    let (_p2, mut second, second_cancelled) = counted::<u32>();
    let end = deferred::spawn(async move {
        let mut results = [None, None];
        poll_fn(|context| {
            for (slot, input) in results.iter_mut().zip([&mut first, &mut second]) {
                if slot.is_none()
                    && let Poll::Ready(result) = std::pin::Pin::new(input).poll(context)
                {
                    *slot = Some(result.is_err());
                }
            }
            if results.iter().all(Option::is_some) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        Ok(results)
    });
    end.cancel();
    assert_eq!((first_cancelled.get(), second_cancelled.get()), (1, 1));
    assert_eq!(value(end), [Some(true), Some(true)]);
}

/// A future that awaits no Deferred, and says when it is dropped.
struct Stuck(Rc<Cell<bool>>);

impl Future for Stuck {
    type Output = Result<u32, Failure>;
    fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        Poll::Pending
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

#[test]
fn cancelled_future_that_awaits_no_deferred_is_dropped() {
    let dropped = Rc::new(Cell::new(false));
    let end = deferred::spawn(Stuck(dropped.clone()));
    end.cancel();
    assert!(dropped.get());
    assert!(failure(end).is::<Cancelled>());
    assert_eq!(deferred::coroutines(), 0);
}

#[test]
fn cancel_from_inside_comes_up_at_the_next_await() {
    let handle: Rc<RefCell<Option<deferred::CancelHandle>>> = Rc::default();
    let slot = handle.clone();
    let (start, started) = Deferred::<()>::new();
    let (_promise, awaited, cancelled) = counted::<u32>();
    let end = deferred::spawn(async move {
        started.await?;
        slot.take().unwrap().cancel();
        awaited.await
    });
    handle.replace(Some(end.canceller()));
    start.callback(());
    assert_eq!(cancelled.get(), 1);
    assert!(failure(end).is::<Cancelled>());
}

#[test]
fn panic_in_a_coroutine_fails_its_deferred() {
    let (promise, awaited) = Deferred::<u32>::new();
    let end = deferred::spawn(async move {
        awaited.await?;
        if true {
            panic!("in a coroutine");
        }
        Ok(())
    });
    promise.callback(1);
    assert_eq!(
        failure(end).downcast_ref::<Panicked>().unwrap().message,
        "in a coroutine"
    );
    assert_eq!(deferred::coroutines(), 0);
}

#[test]
fn dropped_coroutines_break_their_promises() {
    let dropped = Rc::new(Cell::new(false));
    let end = deferred::spawn(Stuck(dropped.clone()));
    deferred::drop_coroutines();
    assert!(dropped.get());
    assert!(failure(end).is::<BrokenPromise>());
    assert_eq!(deferred::coroutines(), 0);
}

/// Waits until it was woken `left` more times; leaves its waker in the slot.
async fn woken(left: u32, slot: Rc<RefCell<Option<Waker>>>, polls: Rc<Cell<u32>>) {
    let mut left = left + 1;
    poll_fn(|context| {
        polls.set(polls.get() + 1);
        slot.replace(Some(context.waker().clone()));
        left -= 1;
        if left == 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

fn wake(slot: &RefCell<Option<Waker>>) {
    let waker = slot.take().unwrap();
    waker.wake();
}

#[test]
fn without_a_hook_a_wake_up_resumes_at_once() {
    let (slot, polls) = (Rc::default(), Rc::new(Cell::new(0)));
    let end = deferred::spawn(woken(1, Rc::clone(&slot), polls.clone()));
    assert_eq!(polls.get(), 1);
    wake(&slot);
    assert_eq!(polls.get(), 2);
    value(end);
    // A waker of a coroutine that has ended wakes nobody.
    let end = deferred::spawn(Stuck(Rc::default()));
    wake(&slot);
    assert_eq!(polls.get(), 2);
    end.cancel();
}

#[test]
fn with_a_hook_a_wake_up_is_left_to_the_turn() {
    let kicks = Arc::new(AtomicU32::new(0));
    let kick = kicks.clone();
    deferred::set_remote_wake(move || {
        kick.fetch_add(1, Ordering::SeqCst);
    });
    let (slot, polls) = (
        Rc::<RefCell<Option<Waker>>>::default(),
        Rc::new(Cell::new(0)),
    );
    let end = deferred::spawn(woken(2, Rc::clone(&slot), polls.clone()));
    let waker = slot.take().unwrap();
    waker.wake_by_ref();
    waker.wake_by_ref();
    assert_eq!((polls.get(), kicks.load(Ordering::SeqCst)), (1, 1));
    assert!(deferred::has_woken());
    assert_eq!(deferred::run_woken(), 1);
    assert_eq!((polls.get(), deferred::has_woken()), (2, false));
    // From another thread.
    std::thread::spawn(move || waker.wake()).join().unwrap();
    assert_eq!((polls.get(), kicks.load(Ordering::SeqCst)), (2, 2));
    assert_eq!(deferred::run_woken(), 1);
    value(end);
    // A Deferred's firing resumes at once all the same.
    let (promise, awaited) = Deferred::<u32>::new();
    let end = deferred::spawn(awaited);
    promise.callback(1);
    assert_eq!((value(end), kicks.load(Ordering::SeqCst)), (1, 2));
    deferred::clear_remote_wake();
}

/// A coroutine that wakes itself does not keep the turn from going on.
#[test]
fn coroutine_that_wakes_itself_runs_once_a_turn() {
    deferred::set_remote_wake(|| ());
    let polls = Rc::new(Cell::new(0));
    let count = polls.clone();
    let end = deferred::spawn(async move {
        poll_fn(|context| {
            count.set(count.get() + 1);
            context.waker().wake_by_ref();
            if count.get() == 3 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        Ok(())
    });
    for turn in 1..3 {
        assert_eq!(polls.get(), turn);
        assert_eq!(deferred::run_woken(), 1);
    }
    value(end);
    deferred::clear_remote_wake();
}
