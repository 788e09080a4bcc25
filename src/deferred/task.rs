//! Coroutines: futures that live on a thread's run loop, and await Deferreds.
//!
//! [`spawn`] polls at once. The firing of an awaited Deferred resumes the coroutine within that
//! firing, as a link would run. Any other wake-up, also one from another thread and that of a
//! coroutine which wakes itself while it runs, is left to whoever turns the thread: it is put
//! on a list, the function of [`set_remote_wake`] is called, and [`run_woken`] resumes what is on
//! the list. Without a hook, a wake-up from this thread resumes at once.
//!
//! Cancelling the Deferred of a coroutine cancels the Deferreds that it awaits: the error comes
//! up at the await, and the coroutine may clean up, translate it, or go on. The result is what
//! the coroutine ends with. One that awaits no Deferred is dropped and gives `Cancelled`.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::ThreadId;

use super::chain::Deferred;
use super::failure::{Failure, Place};
use super::kinds::Cancelled;
use super::link::{Link, Settled};
use super::node::{self, Node};
use super::promise::{self, OnCancel, Promise};
use super::run::{self, Job, Next};

/// Runs a future on this thread, to its first wait at once. Its output is what a link may
/// return; a panic in it fails the Deferred.
///
/// ```
/// use marline::deferred::{self, Deferred};
/// let (promise, deferred) = Deferred::<u32>::new();
/// let doubled = deferred::spawn(async { Ok(deferred.await? * 2) });
/// promise.callback(21);
/// assert_eq!(doubled.now_or_pending().unwrap().unwrap(), 42);
/// ```
#[track_caller]
pub fn spawn<L: Link + 'static>(future: impl Future<Output = L> + 'static) -> Deferred<L::Out> {
    let place = Location::caller();
    let (task, deferred) = Task::new(Box::pin(future), place);
    task.want(|wanted| wanted.poll = true);
    run::enter(|| task.run());
    deferred
}

/// Sets what is called, from any thread, when the list of [`run_woken`] is no longer empty:
/// whatever makes this thread call that. It must not block and not call back.
pub fn set_remote_wake(hook: impl Fn() + Send + Sync + 'static) {
    let hook: Option<Hook> = Some(Arc::new(hook));
    drop(on_thread(|thread| {
        std::mem::replace(&mut thread.inbox.lock().hook, hook)
    }));
}

/// Takes the function of [`set_remote_wake`] away.
pub fn clear_remote_wake() {
    drop(on_thread(|thread| thread.inbox.lock().hook.take()));
}

/// Resumes the coroutines that were woken since the last call, in order; says how many.
pub fn run_woken() -> usize {
    let woken = on_thread(|thread| std::mem::take(&mut thread.inbox.lock().woken));
    for waker in &woken {
        waker.listed.store(false, Ordering::Release);
        if let Some(task) = find(waker.id) {
            task.resume();
        }
    }
    woken.len()
}

/// Whether [`run_woken`] has something to do.
pub fn has_woken() -> bool {
    on_thread(|thread| !thread.inbox.lock().woken.is_empty())
}

/// Drops the coroutines of this thread where they stand, for the end of a reactor. Their
/// Deferreds fail with [`super::BrokenPromise`].
pub fn drop_coroutines() {
    let tasks: Vec<_> = on_thread(|thread| {
        let slots = thread.slots.borrow();
        slots.iter().filter_map(|slot| slot.task.clone()).collect()
    });
    for task in tasks {
        task.abandon();
    }
}

/// How many coroutines of this thread have not ended.
pub fn coroutines() -> usize {
    on_thread(|thread| {
        let slots = thread.slots.borrow();
        slots.iter().filter(|slot| slot.task.is_some()).count()
    })
}

/// A coroutine, whatever its type.
trait Coroutine {
    /// Was woken on its own thread.
    fn wake(self: Rc<Self>);
    /// Wants to be polled, as soon as no link runs.
    fn resume(self: Rc<Self>);
    /// Awaits this node.
    fn awaits(&self, node: &Rc<dyn Node>);
    /// Drops the future.
    fn abandon(&self);
}

struct Task<L: Link> {
    id: TaskId,
    place: Place,
    waker: Arc<TaskWaker>,
    /// Out of its slot while it is polled, and when it is over.
    future: RefCell<Option<Pin<Box<dyn Future<Output = L>>>>>,
    promise: Cell<Option<Promise<L::Out>>>,
    /// What it awaits, and some of what it awaited.
    awaited: RefCell<Vec<Weak<dyn Node>>>,
    wanted: Cell<Wanted>,
}

/// What is to be done with a coroutine when its turn comes.
#[derive(Clone, Copy, Default)]
struct Wanted {
    poll: bool,
    cancel: bool,
    /// Its turn is coming: it is in the run loop.
    queued: bool,
}

/// Awaited nodes from which on those that have fired are swept out.
const AWAITED_SWEEP: usize = 8;

impl<L: Link + 'static> Task<L> {
    fn new(future: Pin<Box<dyn Future<Output = L>>>, place: Place) -> (Rc<Self>, Deferred<L::Out>) {
        let id = on_thread(Thread::reserve);
        let mut deferred = None;
        let task = Rc::new_cyclic(|this: &Weak<Self>| {
            let this = this.clone();
            let cancel = move || {
                if let Some(task) = this.upgrade() {
                    task.cancel();
                }
            };
            let (promise, end) = promise::pair(place, OnCancel::Tell(Rc::new(cancel)));
            deferred = Some(end);
            Task {
                id,
                place,
                waker: Arc::new(TaskWaker::new(id)),
                future: RefCell::new(Some(future)),
                promise: Cell::new(Some(promise)),
                awaited: RefCell::default(),
                wanted: Cell::default(),
            }
        });
        on_thread(|thread| thread.occupy(id, task.clone()));
        (task, deferred.expect("the closure above has run"))
    }

    fn want(&self, change: impl FnOnce(&mut Wanted)) {
        let mut wanted = self.wanted.get();
        change(&mut wanted);
        self.wanted.set(wanted);
    }

    fn poll(self: &Rc<Self>) {
        let Some(mut future) = self.future.take() else {
            return;
        };
        let polled = {
            let _current = Current::enter(self.clone());
            let waker = Waker::from(self.waker.clone());
            let mut context = Context::from_waker(&waker);
            catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)))
        };
        match polled {
            Ok(Poll::Pending) => drop(self.future.replace(Some(future))),
            Ok(Poll::Ready(output)) => self.end(future, output.settle()),
            Err(panic) => {
                let failure = Failure::of_panic(self.place, panic);
                self.end(future, Settled::Now(Err(failure)));
            }
        }
    }

    /// Drops the future, then hands the result on.
    fn end(&self, future: Pin<Box<dyn Future<Output = L>>>, settled: Settled<L::Out>) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
            super::unhandled::log_panic("a dropped future", &super::failure::panic_message(panic));
        }
        on_thread(|thread| thread.vacate(self.id));
        let Some(promise) = self.promise.take() else {
            return;
        };
        match settled {
            Settled::Now(result) => {
                promise.settle(result);
            }
            Settled::Later(deferred) => deferred.forward_to(promise),
        }
    }

    fn cancel(self: Rc<Self>) {
        self.want(|wanted| wanted.cancel = true);
        self.queue();
    }

    fn queue(self: Rc<Self>) {
        if !self.wanted.get().queued {
            self.want(|wanted| wanted.queued = true);
            run::enter_job(self);
        }
    }

    /// Cancels what is awaited; a future that awaits no Deferred is dropped.
    fn interrupt(&self) {
        let awaited: Vec<_> = {
            let awaited = self.awaited.borrow();
            let nodes = awaited.iter().filter_map(Weak::upgrade);
            nodes.filter(|node| node.is_open()).collect()
        };
        if awaited.is_empty() {
            if let Some(future) = self.future.take() {
                let failure = Failure::at(self.place, Cancelled);
                self.end(future, Settled::Now(Err(failure)));
            }
            return;
        }
        for node in awaited {
            node::cancel(node);
        }
    }
}

impl<L: Link + 'static> Job for Task<L> {
    /// Polls if that is wanted, then cancels if that is: a cancellation that meets a woken
    /// coroutine comes up at its next await.
    fn run(self: Rc<Self>) -> Next {
        let wanted = self.wanted.get();
        self.want(|wanted| {
            wanted.queued = false;
            wanted.poll = false;
        });
        if wanted.poll {
            self.poll();
        }
        if self.wanted.get().cancel {
            self.want(|wanted| wanted.cancel = false);
            self.interrupt();
        }
        None
    }
}

impl<L: Link + 'static> Coroutine for Task<L> {
    fn wake(self: Rc<Self>) {
        if self.wanted.get().poll {
            return;
        }
        self.want(|wanted| wanted.poll = true);
        if on_thread(|thread| thread.firing.get() || !thread.inbox.has_hook()) {
            self.queue();
        } else {
            self.waker.list();
        }
    }

    fn resume(self: Rc<Self>) {
        self.want(|wanted| wanted.poll = true);
        self.queue();
    }

    fn awaits(&self, node: &Rc<dyn Node>) {
        let mut awaited = self.awaited.borrow_mut();
        let known = awaited
            .iter()
            .any(|other| std::ptr::addr_eq(other.as_ptr(), Rc::as_ptr(node)));
        if known {
            return;
        }
        if awaited.len() >= AWAITED_SWEEP && awaited.len() == awaited.capacity() {
            awaited.retain(|other| other.upgrade().is_some_and(|node| node.is_open()));
        }
        awaited.push(Rc::downgrade(node));
    }

    fn abandon(&self) {
        let future = self.future.take();
        on_thread(|thread| thread.vacate(self.id));
        drop(future);
        drop(self.promise.take());
    }
}

/// Notes that the running coroutine, if any, awaits this.
pub(super) fn note_awaited(node: &Rc<dyn Node>) {
    let current = on_thread(|thread| thread.current.borrow().clone());
    if let Some(task) = current {
        task.awaits(node);
    }
}

/// Wakes who awaited a Deferred that has just fired; a coroutine runs within that firing.
pub(super) fn wake(waker: Waker) {
    let before = on_thread(|thread| thread.firing.replace(true));
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
        super::unhandled::log_panic("a waker", &super::failure::panic_message(panic));
    }
    on_thread(|thread| thread.firing.set(before));
}

/// Marks a coroutine as the one that runs.
struct Current(Option<Rc<dyn Coroutine>>);

impl Current {
    fn enter(task: Rc<dyn Coroutine>) -> Self {
        Current(on_thread(|thread| thread.current.replace(Some(task))))
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        let outer = self.0.take();
        drop(on_thread(|thread| thread.current.replace(outer)));
    }
}

/// Slot and generation.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct TaskId {
    index: usize,
    generation: u64,
}

#[derive(Default)]
struct Slot {
    generation: u64,
    task: Option<Rc<dyn Coroutine>>,
}

/// The coroutines of a thread.
#[derive(Default)]
struct Thread {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    current: RefCell<Option<Rc<dyn Coroutine>>>,
    /// A Deferred is waking who awaits it.
    firing: Cell<bool>,
    inbox: Arc<Inbox>,
}

thread_local! {
    static THREAD: Thread = Thread::default();
}

/// Does something with the thread's coroutines; nothing while the thread ends and they have
/// gone.
fn on_thread<R: Default>(f: impl FnOnce(&Thread) -> R) -> R {
    THREAD.try_with(f).unwrap_or_default()
}

fn find(id: TaskId) -> Option<Rc<dyn Coroutine>> {
    on_thread(|thread| {
        let slots = thread.slots.borrow();
        let slot = slots.get(id.index)?;
        if slot.generation == id.generation {
            slot.task.clone()
        } else {
            None
        }
    })
}

impl Thread {
    fn reserve(&self) -> TaskId {
        let mut slots = self.slots.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(Slot::default());
            slots.len() - 1
        });
        let generation = slots[index].generation;
        TaskId { index, generation }
    }

    fn occupy(&self, id: TaskId, task: Rc<dyn Coroutine>) {
        self.slots.borrow_mut()[id.index].task = Some(task);
    }

    fn vacate(&self, id: TaskId) {
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[id.index];
        if slot.generation != id.generation {
            return;
        }
        slot.generation += 1;
        let task = slot.task.take();
        drop(slots);
        self.free.borrow_mut().push(id.index);
        drop(task);
    }
}

type Hook = Arc<dyn Fn() + Send + Sync>;

/// Coroutines that were woken and wait for [`run_woken`]; the part of a thread that others see.
#[derive(Default)]
struct Inbox(Mutex<InboxState>);

#[derive(Default)]
struct InboxState {
    /// Each coroutine at most once.
    woken: Vec<Arc<TaskWaker>>,
    hook: Option<Hook>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, InboxState> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_hook(&self) -> bool {
        self.lock().hook.is_some()
    }
}

struct TaskWaker {
    id: TaskId,
    home: ThreadId,
    inbox: Arc<Inbox>,
    /// It is in the inbox.
    listed: AtomicBool,
}

impl TaskWaker {
    fn new(id: TaskId) -> Self {
        TaskWaker {
            id,
            home: std::thread::current().id(),
            inbox: on_thread(|thread| thread.inbox.clone()),
            listed: AtomicBool::new(false),
        }
    }

    /// Puts its coroutine on the list for [`run_woken`].
    fn list(self: &Arc<Self>) {
        if self.listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut state = self.inbox.lock();
        let first = state.woken.is_empty();
        state.woken.push(self.clone());
        let hook = state.hook.clone();
        drop(state);
        if let Some(hook) = hook.filter(|_| first) {
            hook();
        }
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if std::thread::current().id() != self.home {
            self.list();
        } else if let Some(task) = find(self.id) {
            task.wake();
        }
    }
}
