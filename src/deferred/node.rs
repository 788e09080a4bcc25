//! What a chain is made of. A node has an output; the roots (under a Promise) and the links
//! are nodes. Each node owns the next one, from the promise down to the consumer's handle; the
//! way back up, needed for cancelling, is weak. So there are no rings, and a chain goes when
//! its promise has gone.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::Waker;

use super::failure::{Failure, Place};
use super::names::NameTag;
use super::run::{Job, Next};
use super::{task, unhandled};

/// A member of a chain, whatever its type.
pub(super) trait Node {
    /// Cancels this node, or names the node to cancel instead: the one it waits for.
    fn cancel_step(self: Rc<Self>) -> Option<Rc<dyn Node>>;
    /// The node whose result this one waits for.
    fn waits_for(&self) -> Option<Rc<dyn Node>>;
    /// Whether a result is still to come.
    fn is_open(&self) -> bool;
    /// Name or place, for people.
    fn label(&self) -> String;
}

/// A node as the producer of a `T`.
pub(super) trait Source<T>: Node {
    fn out(&self) -> &Out<T>;
    /// The output is about to be handed on; forget what was waited for.
    fn settled(&self);
}

/// A node as the consumer of a `T`: stores the input, then wants to be run.
pub(super) trait Sink<T>: Job {
    fn accept(&self, input: Result<T, Failure>);
}

/// The output side of a node.
pub(super) struct Out<T> {
    state: RefCell<State<T>>,
    name: Cell<Option<NameTag>>,
    place: Place,
}

/// Who is to get the result, or the result.
pub(super) enum State<T> {
    /// No result, and a handle that may yet say who gets it.
    Watched,
    /// No result; the handle is being awaited.
    Awaited(Waker),
    /// No result; a link gets it.
    Linked(Rc<dyn Sink<T>>),
    /// No result; it becomes the result of this node, whose link returned the handle.
    Returned(Rc<dyn Source<T>>),
    /// No result, and the handle is gone.
    Detached,
    /// The result, to be taken by the handle.
    Fired(Result<T, Failure>),
    /// The result has been handed on.
    Gone,
}

impl<T: 'static> Out<T> {
    pub(super) fn new(state: State<T>, place: Place) -> Self {
        let state = RefCell::new(state);
        let name = Cell::new(None);
        Out { state, name, place }
    }

    /// Puts a state in place of the present one. The old one is returned, so that no foreign
    /// Drop runs under the borrow.
    fn replace(&self, state: State<T>) -> State<T> {
        self.state.replace(state)
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    pub(super) fn is_fired(&self) -> bool {
        matches!(*self.state.borrow(), State::Fired(_) | State::Gone)
    }

    /// Whether no handle and no link will ever see the result.
    pub(super) fn is_detached(&self) -> bool {
        matches!(*self.state.borrow(), State::Detached)
    }

    /// Takes the result, or leaves `other` to get it.
    pub(super) fn take_or(&self, other: State<T>) -> Option<Result<T, Failure>> {
        match self.replace(other) {
            State::Fired(result) => {
                drop(self.replace(State::Gone));
                Some(result)
            }
            _ => None,
        }
    }

    /// Takes the result if there is one.
    pub(super) fn take(&self) -> Option<Result<T, Failure>> {
        if self.is_fired() {
            self.take_or(State::Gone)
        } else {
            None
        }
    }

    /// A link gets the result, which is not there yet.
    pub(super) fn hand_to(&self, sink: Rc<dyn Sink<T>>) {
        drop(self.replace(State::Linked(sink)));
    }

    /// Leaves a waker to be woken by the result; keeps an equal one.
    pub(super) fn await_with(&self, waker: &Waker) {
        let kept = match &*self.state.borrow() {
            State::Awaited(present) => present.will_wake(waker),
            _ => false,
        };
        if !kept {
            drop(self.replace(State::Awaited(waker.clone())));
        }
    }

    /// The handle is gone.
    pub(super) fn detach(&self) {
        if let Some(Err(failure)) = self.take_or(State::Detached) {
            self.log_unhandled(&failure);
        }
    }

    pub(super) fn set_name(&self, name: Option<NameTag>) {
        drop(self.name.replace(name));
    }

    /// Gives a name; the result may be there already.
    pub(super) fn set_named(&self, tag: NameTag) {
        let fired = match &*self.state.borrow() {
            State::Fired(result) => Some(result.as_ref().err().cloned()),
            _ => None,
        };
        if let Some(failure) = fired {
            tag.fired(failure.as_ref());
        }
        self.set_name(Some(tag));
    }

    pub(super) fn take_name(&self) -> Option<NameTag> {
        self.name.take()
    }

    /// The name, if it was given one.
    pub(super) fn name(&self) -> Option<String> {
        let tag = self.name.take();
        let name = tag.as_ref().and_then(NameTag::name);
        self.name.set(tag);
        name
    }

    pub(super) fn label(&self) -> String {
        match self.name() {
            Some(name) => name,
            None => format!("Deferred at {}", self.place),
        }
    }

    fn log_unhandled(&self, failure: &Failure) {
        unhandled::log_unhandled(failure, self.place, self.name().as_deref());
    }

    /// Keeps the result for the handle.
    fn keep(&self, result: Result<T, Failure>) {
        if let Some(tag) = self.name.take() {
            tag.fired(result.as_ref().err());
            self.name.set(Some(tag));
        }
        drop(self.replace(State::Fired(result)));
    }

    /// Nobody gets the result: says so of a failure, and drops a value inside the run loop,
    /// since its Drop may fire other promises.
    fn discard(&self, result: Result<T, Failure>) -> Next {
        self.set_name(None);
        match result {
            Err(failure) => {
                self.log_unhandled(&failure);
                None
            }
            Ok(value) if std::mem::needs_drop::<T>() => {
                Some(Rc::new(Discard(Cell::new(Some(value)))))
            }
            Ok(_) => None,
        }
    }
}

/// Hands the result of `source` to whoever is to get it. The answer is the link to run.
pub(super) fn pass<T: 'static>(
    mut source: Rc<dyn Source<T>>,
    mut result: Result<T, Failure>,
) -> Next {
    loop {
        source.settled();
        let out = source.out();
        match out.replace(State::Gone) {
            State::Watched => {
                out.keep(result);
                return None;
            }
            State::Awaited(waker) => {
                out.keep(result);
                task::wake(waker);
                return None;
            }
            State::Linked(sink) => {
                sink.accept(result);
                return Some(sink);
            }
            State::Returned(outer) => {
                result = result.map_err(|failure| failure.passed(outer.out().place()));
                source = outer;
            }
            State::Detached => {
                let next = out.discard(result);
                drop(out.replace(State::Detached));
                return next;
            }
            State::Fired(_) | State::Gone => {
                debug_assert!(false, "a node has one result");
                return None;
            }
        }
    }
}

/// Cancels what `node` waits for, however far up.
pub(super) fn cancel(node: Rc<dyn Node>) {
    let mut at = Some(node);
    while let Some(node) = at {
        at = node.cancel_step();
    }
}

/// Drops a value as a job of its own.
struct Discard<T>(Cell<Option<T>>);

impl<T> Job for Discard<T> {
    fn run(self: Rc<Self>) -> Next {
        drop(self.0.take());
        None
    }
}

impl<T: 'static> fmt::Debug for Out<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.state.borrow() {
            State::Fired(Ok(_)) => "resolved",
            State::Fired(Err(_)) => "failed",
            State::Gone => "taken",
            State::Awaited(_) => "awaited",
            _ => "unfired",
        })
    }
}
