//! Cooperative tasks: long work in small steps, in turns with everything else.
//!
//! A task is a function that does one short step per call and says what comes next. The steps of
//! all tasks of a [`Cooperator`] alternate; after [`SLICE`] or [`STEPS_MAX`] of them the reactor
//! gets its turn. While there is no task that can be stepped, there is no timer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::handle::Handle;
use super::timer::TimerGuard;
use crate::deferred::{Deferred, Failure, Promise};

/// How long the tasks may keep the reactor from everything else.
pub const SLICE: Duration = Duration::from_millis(10);
/// How many steps a slice has at most.
pub const STEPS_MAX: usize = 1000;

/// What comes after a step.
#[derive(Debug)]
pub enum Step {
    /// Another one.
    More,
    /// Another one when this has fired; its failure ends the task.
    Wait(Deferred<()>),
    /// Nothing: all is done.
    Done,
    /// Nothing: it cannot be done.
    Failed(Failure),
}

/// Why a task cannot be paused, resumed or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskError {
    /// It was stopped before.
    Stopped,
    /// It has come to its end.
    Done,
    /// It has failed.
    Failed,
    /// It cannot be resumed because it was not paused.
    NotPaused,
    /// Its scheduler was stopped.
    SchedulerStopped,
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TaskError::Stopped => "the task was stopped",
            TaskError::Done => "the task is done",
            TaskError::Failed => "the task has failed",
            TaskError::NotPaused => "the task is not paused",
            TaskError::SchedulerStopped => "the scheduler was stopped",
        })
    }
}

impl std::error::Error for TaskError {}

/// Steps its tasks, one step of each in turn.
#[derive(Clone)]
pub struct Cooperator(Rc<Scheduler>);

struct Scheduler {
    reactor: Handle,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// Those that can be stepped, next one first.
    ready: VecDeque<Rc<Task>>,
    /// All that have not ended.
    tasks: Vec<Weak<Task>>,
    timer: Option<TimerGuard>,
    is_stopped: bool,
}

type StepFunction = Box<dyn FnMut(&Handle) -> Step>;

/// A task; dropping this does not stop it.
#[derive(Clone)]
pub struct CooperativeTask(Rc<Task>);

struct Task {
    scheduler: Weak<Scheduler>,
    /// Absent while it is stepped, and when the task has ended.
    step: RefCell<Option<StepFunction>>,
    state: RefCell<TaskState>,
    observers: RefCell<Vec<Promise<()>>>,
}

struct TaskState {
    /// How it ended, once it has.
    end: Option<(TaskError, Option<Failure>)>,
    pauses: u32,
    is_queued: bool,
}

impl Cooperator {
    /// A scheduler without tasks.
    pub fn new(reactor: &Handle) -> Cooperator {
        Cooperator(Rc::new(Scheduler {
            reactor: reactor.clone(),
            state: RefCell::default(),
        }))
    }

    /// Adds a task; it is first stepped in a later turn. When the scheduler was stopped, it ends
    /// at once with [`TaskError::SchedulerStopped`].
    pub fn cooperate(&self, step: impl FnMut(&Handle) -> Step + 'static) -> CooperativeTask {
        let task = Rc::new(Task {
            scheduler: Rc::downgrade(&self.0),
            step: RefCell::new(Some(Box::new(step))),
            state: RefCell::new(TaskState {
                end: None,
                pauses: 0,
                is_queued: false,
            }),
            observers: RefCell::default(),
        });
        if self.0.state.borrow().is_stopped {
            let why = TaskError::SchedulerStopped;
            task.end(why, Some(Failure::new(why)));
        } else {
            self.0.state.borrow_mut().tasks.push(Rc::downgrade(&task));
            self.0.queue(&task);
        }
        CooperativeTask(task)
    }

    /// Ends all tasks with [`TaskError::SchedulerStopped`], now and in future.
    pub fn stop(&self) {
        let (tasks, timer) = {
            let mut state = self.0.state.borrow_mut();
            state.is_stopped = true;
            let tasks: Vec<Rc<Task>> = state.tasks.iter().filter_map(Weak::upgrade).collect();
            (tasks, state.timer.take())
        };
        drop(timer);
        let why = TaskError::SchedulerStopped;
        for task in tasks {
            task.end(why, Some(Failure::new(why)));
        }
    }
}

impl CooperativeTask {
    /// Steps the task no more until it was resumed as often as it was paused.
    ///
    /// # Errors
    /// How the task has ended.
    pub fn pause(&self) -> Result<(), TaskError> {
        self.0.check()?;
        self.0.state.borrow_mut().pauses += 1;
        if let Some(scheduler) = self.0.scheduler.upgrade() {
            scheduler.unqueue(&self.0);
        }
        Ok(())
    }

    /// Takes one pause back.
    ///
    /// # Errors
    /// How the task has ended; [`TaskError::NotPaused`].
    pub fn resume(&self) -> Result<(), TaskError> {
        self.0.check()?;
        {
            let mut state = self.0.state.borrow_mut();
            let pauses = state.pauses.checked_sub(1);
            state.pauses = pauses.ok_or(TaskError::NotPaused)?;
        }
        self.0.queue_if_possible();
        Ok(())
    }

    /// Ends the task; it is not stepped again.
    ///
    /// # Errors
    /// How the task has ended before.
    pub fn stop(&self) -> Result<(), TaskError> {
        self.0.check()?;
        let why = TaskError::Stopped;
        self.0.end(why, Some(Failure::new(why)));
        Ok(())
    }

    /// Fires when the task ends: well when it is done, with its failure or with [`TaskError`]
    /// else. Everybody who asks gets a Deferred of their own.
    #[track_caller]
    pub fn when_done(&self) -> Deferred<()> {
        let end = self.0.state.borrow().end.clone();
        match end {
            Some((_, None)) => Deferred::ready(()),
            Some((_, Some(failure))) => Deferred::failed(failure),
            None => {
                let (promise, deferred) = Deferred::new();
                self.0.observers.borrow_mut().push(promise);
                deferred
            }
        }
    }
}

impl Task {
    fn check(&self) -> Result<(), TaskError> {
        match &self.state.borrow().end {
            Some((how, _)) => Err(*how),
            None => Ok(()),
        }
    }

    /// Can be stepped: neither ended, nor paused, nor being stepped.
    fn is_steppable(&self) -> bool {
        let state = self.state.borrow();
        state.end.is_none() && state.pauses == 0 && self.step.borrow().is_some()
    }

    fn queue_if_possible(self: &Rc<Self>) {
        if let Some(scheduler) = self.scheduler.upgrade()
            && self.is_steppable()
        {
            scheduler.queue(self);
        }
    }

    fn end(self: &Rc<Self>, how: TaskError, failure: Option<Failure>) {
        self.state.borrow_mut().end = Some((how, failure.clone()));
        if let Some(scheduler) = self.scheduler.upgrade() {
            scheduler.forget(self);
        }
        let step = self.step.take();
        drop(step);
        for observer in self.observers.take() {
            let result = failure.clone().map_or(Ok(()), Err);
            observer.settle(result);
        }
    }

    /// One step and what follows from it.
    fn run(self: &Rc<Self>, reactor: &Handle) {
        let Some(mut step) = self.step.take() else {
            return;
        };
        let call = || -> Result<Step, Failure> { Ok(step(reactor)) };
        let next = Deferred::call(call).now_or_pending();
        if self.state.borrow().end.is_some() {
            return; // it was stopped by its own step
        }
        match next {
            Some(Ok(Step::More)) => {
                self.step.replace(Some(step));
                self.queue_if_possible();
            }
            Some(Ok(Step::Wait(deferred))) => self.wait(deferred, step),
            Some(Ok(Step::Done)) => self.end(TaskError::Done, None),
            Some(Ok(Step::Failed(failure)) | Err(failure)) => {
                self.end(TaskError::Failed, Some(failure));
            }
            None => unreachable!("a step is not a Deferred"),
        }
    }

    fn wait(self: &Rc<Self>, deferred: Deferred<()>, step: StepFunction) {
        let this = self.clone();
        drop(deferred.add_both(move |result| {
            if this.state.borrow().end.is_some() {
                return; // stopped while it waited
            }
            match result {
                Ok(()) => {
                    this.step.replace(Some(step));
                    this.queue_if_possible();
                }
                Err(failure) => this.end(TaskError::Failed, Some(failure)),
            }
        }));
    }
}

impl Scheduler {
    fn queue(self: &Rc<Self>, task: &Rc<Task>) {
        if std::mem::replace(&mut task.state.borrow_mut().is_queued, true) {
            return;
        }
        self.state.borrow_mut().ready.push_back(task.clone());
        self.set_timer();
    }

    fn unqueue(&self, task: &Rc<Task>) {
        task.state.borrow_mut().is_queued = false;
        let timer = {
            let mut state = self.state.borrow_mut();
            state.ready.retain(|other| !Rc::ptr_eq(other, task));
            let idle = state.ready.is_empty();
            if idle { state.timer.take() } else { None }
        };
        drop(timer);
    }

    fn forget(&self, task: &Rc<Task>) {
        self.unqueue(task);
        let gone = Rc::downgrade(task);
        let mut state = self.state.borrow_mut();
        state.tasks.retain(|other| !other.ptr_eq(&gone));
    }

    fn set_timer(self: &Rc<Self>) {
        if self.state.borrow().timer.is_some() {
            return;
        }
        let this = self.clone();
        let timer = self
            .reactor
            .call_later(Duration::ZERO, move |_| this.run_slice());
        self.state.borrow_mut().timer = Some(timer.guard());
    }

    fn run_slice(self: &Rc<Self>) {
        let fired = self.state.borrow_mut().timer.take();
        drop(fired);
        let until = self.reactor.fresh() + SLICE;
        for _ in 0..STEPS_MAX {
            let next = self.state.borrow_mut().ready.pop_front();
            let Some(task) = next else {
                return;
            };
            task.state.borrow_mut().is_queued = false;
            task.run(&self.reactor);
            if self.reactor.fresh() >= until {
                break;
            }
        }
        if !self.state.borrow().ready.is_empty() {
            self.set_timer();
        }
    }
}
