//! Shutdown: triggers before, during and after the closing of all sources, each with a deadline.
//!
//! 1. *Before*: connections work; whoever has something to finish returns a Deferred. The phase
//!    is over when all of them have fired or [`Options::drain_timeout`] has passed; who has not
//!    is named in the log.
//! 2. Every source that is left is told of its loss.
//! 3. *During*, 4. *After*: likewise, with [`Options::finish_timeout`] each.
//! 5. Jobs on other threads get the same time again; who is stuck is named.
//!
//! Triggers of a phase are called in the order in which they were added. One that is added while
//! its phase goes on is called in it; one whose phase is over is refused, with a warning.
//! A trigger that fails is logged and holds nothing up.
//!
//! [`Options::drain_timeout`]: super::Options::drain_timeout
//! [`Options::finish_timeout`]: super::Options::finish_timeout

use std::collections::VecDeque;
use std::panic::Location;
use std::time::Duration;

use super::core::{Exit, Life, Place};
use super::handle::Handle;
use super::timer::TimerGuard;
use crate::deferred::{Deferred, Failure};
use crate::telemetry::events::JobStuck;

/// When a trigger is called, relative to the closing of all sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// While connections work still: drain.
    Before,
    /// When they are closed: stop services.
    During,
    /// Last.
    After,
}

/// The name of a trigger, to take it back by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TriggerId(u64);

type TriggerCall = Box<dyn FnOnce(&Handle) -> Deferred<()>>;

struct Trigger {
    id: TriggerId,
    phase: Phase,
    label: String,
    call: TriggerCall,
    at: &'static Location<'static>,
}

#[derive(Default)]
pub(super) struct Shutdown {
    triggers: VecDeque<Trigger>,
    next_id: u64,
    /// Why it was asked for, once it was.
    exit: Option<Exit>,
    stage: Stage,
    /// Triggers of this phase whose Deferreds have not fired.
    waiting: Vec<(TriggerId, String)>,
    is_overdue: bool,
    /// Something has changed since the turn last looked.
    has_news: bool,
    deadline: Option<TimerGuard>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    NotBegun,
    Triggers(Phase),
    Jobs,
}

impl Shutdown {
    fn is_over(&self, phase: Phase) -> bool {
        match self.stage {
            Stage::NotBegun => false,
            Stage::Triggers(current) => phase < current,
            Stage::Jobs => true,
        }
    }

    fn time_is_up(&mut self) {
        self.is_overdue = true;
        self.has_news = true;
    }

    fn take_next(&mut self, phase: Phase) -> Option<Trigger> {
        let position = self.triggers.iter().position(|it| it.phase == phase)?;
        self.triggers.remove(position)
    }
}

impl Handle {
    /// Calls `trigger` when the reactor shuts down; that phase waits for the Deferred. `label`
    /// names it in the log when it is stuck.
    #[track_caller]
    pub fn on_shutdown(
        &self,
        phase: Phase,
        label: impl Into<String>,
        trigger: impl FnOnce(&Handle) -> Deferred<()> + 'static,
    ) -> TriggerId {
        let label = label.into();
        let mut shutdown = self.core.shutdown.borrow_mut();
        let id = TriggerId(shutdown.next_id);
        shutdown.next_id += 1;
        if shutdown.is_over(phase) || self.has_ended() {
            drop(shutdown);
            tracing::warn!(
                label,
                ?phase,
                "a shutdown trigger was added after its phase"
            );
            return id;
        }
        shutdown.has_news |= self.core.life.get() == Life::Stopping;
        shutdown.triggers.push_back(Trigger {
            id,
            phase,
            label,
            call: Box::new(trigger),
            at: Location::caller(),
        });
        id
    }

    /// Takes a trigger back. False when it has been called or taken back.
    pub fn remove_trigger(&self, id: TriggerId) -> bool {
        let removed = {
            let mut shutdown = self.core.shutdown.borrow_mut();
            let position = shutdown.triggers.iter().position(|it| it.id == id);
            position.and_then(|position| shutdown.triggers.remove(position))
        };
        removed.is_some()
    }

    /// Begins to shut down at the end of this turn. False when the reactor does not run or has
    /// been stopped already; the first reason stays.
    pub fn stop(&self, exit: Exit) -> bool {
        let mut shutdown = self.core.shutdown.borrow_mut();
        let first = self.core.life.get() == Life::Running && shutdown.exit.is_none();
        if first {
            shutdown.exit = Some(exit);
            shutdown.has_news = true;
        }
        first
    }

    /// Ends the phase of the shutdown that is going on, as if its time were up: for whoever asks
    /// a second time. One that was asked for in this turn begins with its time up. False when
    /// nothing is being shut down.
    pub fn hasten(&self) -> bool {
        let stopping = self.stopping().is_some() && !self.has_ended();
        if stopping {
            self.core.shutdown.borrow_mut().time_is_up();
        }
        stopping
    }

    /// Ends the reactor after this turn, without triggers and without telling any source.
    pub fn abort(&self) {
        self.end(Exit::Aborted);
    }

    /// Why the reactor stops, once it was asked to.
    pub fn stopping(&self) -> Option<Exit> {
        self.core.shutdown.borrow().exit
    }

    /// The next turn has to look at the shutdown.
    pub(super) fn is_stop_waiting(&self) -> bool {
        self.core.shutdown.borrow().has_news
    }

    /// Takes the shutdown as far as it goes in this turn.
    pub(super) fn advance_shutdown(&self) {
        let stage = {
            let mut shutdown = self.core.shutdown.borrow_mut();
            shutdown.has_news = false;
            shutdown.stage
        };
        match (self.core.life.get(), stage) {
            (Life::Running, _) if self.stopping().is_some() => {
                self.core.life.set(Life::Stopping);
                self.begin(
                    Stage::Triggers(Phase::Before),
                    self.core.drain_timeout.get(),
                );
            }
            (Life::Stopping, Stage::Triggers(phase)) => self.finish_phase(phase),
            (Life::Stopping, Stage::Jobs) => self.finish_jobs(),
            _ => {}
        }
    }

    /// Enters a stage and calls its triggers.
    fn begin(&self, stage: Stage, limit: Duration) {
        let deadline = self.call_later(limit, |reactor| {
            reactor.core.shutdown.borrow_mut().time_is_up();
        });
        let former = {
            let mut shutdown = self.core.shutdown.borrow_mut();
            let hastened_before = shutdown.stage == Stage::NotBegun && shutdown.is_overdue;
            shutdown.stage = stage;
            shutdown.is_overdue = hastened_before;
            shutdown.deadline.replace(deadline.guard())
        };
        drop(former);
        match stage {
            Stage::Triggers(phase) => self.finish_phase(phase),
            Stage::Jobs => self.finish_jobs(),
            Stage::NotBegun => {}
        }
    }

    /// Calls the triggers that are there and goes on to the next stage when nobody is waited
    /// for any more.
    fn finish_phase(&self, phase: Phase) {
        self.call_triggers(phase);
        if self.is_waiting() || self.has_ended() {
            return;
        }
        self.name_stuck(phase);
        let limit = self.core.options.finish_timeout;
        match phase {
            Phase::Before => {
                self.lose_all(&Failure::msg("the reactor shuts down"));
                self.begin(Stage::Triggers(Phase::During), limit);
            }
            Phase::During => self.begin(Stage::Triggers(Phase::After), limit),
            Phase::After => self.begin(Stage::Jobs, limit),
        }
    }

    fn is_waiting(&self) -> bool {
        let shutdown = self.core.shutdown.borrow();
        !shutdown.waiting.is_empty() && !shutdown.is_overdue
    }

    fn call_triggers(&self, phase: Phase) {
        loop {
            let next = self.core.shutdown.borrow_mut().take_next(phase);
            let Some(trigger) = next else {
                return;
            };
            self.call_trigger(trigger);
        }
    }

    fn call_trigger(&self, trigger: Trigger) {
        let Trigger {
            id,
            label,
            call,
            at,
            ..
        } = trigger;
        let waiting = (id, label.clone());
        self.core.shutdown.borrow_mut().waiting.push(waiting);
        let place = Place {
            kind: "shutdown trigger",
            at,
        };
        let reactor = self.clone();
        let called = self.enter(place, |handle| {
            let done = call(handle);
            drop(done.add_both(move |result| {
                if let Err(failure) = result {
                    tracing::error!(label, %failure, "a shutdown trigger failed");
                }
                reactor.trigger_done(id);
            }));
        });
        if called.is_err() {
            self.trigger_done(id); // it panicked, which has been logged
        }
    }

    fn trigger_done(&self, id: TriggerId) {
        let mut shutdown = self.core.shutdown.borrow_mut();
        shutdown.waiting.retain(|(waiting, _)| *waiting != id);
        shutdown.has_news = true;
    }

    fn name_stuck(&self, phase: Phase) {
        let stuck = std::mem::take(&mut self.core.shutdown.borrow_mut().waiting);
        for (_, label) in stuck {
            tracing::warn!(
                label,
                ?phase,
                "`{label}` has taken all the time that the stop may take; going on without it"
            );
        }
    }

    fn finish_jobs(&self) {
        let unfinished = self.awaited_jobs();
        if !unfinished.is_empty() && !self.core.shutdown.borrow().is_overdue {
            return;
        }
        for (pool, label) in unfinished {
            JobStuck { label, pool: &pool }.log();
        }
        self.core.worker.shutdown();
        let exit = self.stopping().unwrap_or(Exit::Stopped);
        self.end(exit);
    }

    fn end(&self, exit: Exit) {
        self.core.life.set(Life::Ended(exit));
        let deadline = self.core.shutdown.borrow_mut().deadline.take();
        drop(deadline);
        self.core.inbox.close();
        self.shut_mailboxes();
    }
}
