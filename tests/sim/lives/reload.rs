//! Reloads while a daemon of several lives runs: to the forms that the plan has, one at a time.
//!
//! A reload that is refused changes nothing, and the forms say so; a life that ends in the midst
//! of one is followed by a life of the new form, for the file says that by then.

use std::rc::Rc;

use marline::service::assembly::StartError;
use marline::service::change::OpenedBuffers;
use marline::sim::Fault;
use marline::time::{Clock, Instant};
use marline::transport::tls::Materials;

use super::super::collector::Collector;
use super::super::world;
use super::form::Form;
use super::{Life, Lives};

impl Lives {
    /// Goes over to the next configuration, as the service does it. A reload may be refused, by a
    /// disk that fails and for a sink that is still going; then everything is as it was.
    pub(super) fn reload_if_due(&mut self, life: &Life) -> Result<(), String> {
        let now = self.outside.clock.now();
        let due = self.plan.reloads.get(self.reloads);
        let Some((_, next)) = due.filter(|(at, _)| Instant::ZERO + *at <= now) else {
            return Ok(());
        };
        let next = next.clone();
        self.reloads += 1;
        let (config, _) = world::load(&self.plan.config(&next))?;
        let text = |error: StartError| format!("reload: {}: {}", error.component, error.failure);
        let openings = life.daemon.openings(&config).map_err(text)?;
        if !openings.is_empty() {
            return Err("a reload opens a buffer that was open".into());
        }
        match life
            .daemon
            .change(config, OpenedBuffers::new(), Materials::default())
        {
            Ok(_) => self.note_reload(next, now),
            Err(error) => {
                let why = text(error);
                // Who starts again reads what the file says by then.
                if self.outside.storage.life() > self.number() {
                    self.note_reload(next, now);
                    return Ok(());
                }
                let disk = [
                    Fault::DiskFailed,
                    Fault::DiskFull,
                    Fault::ReadFailed,
                    Fault::SyncBroken,
                ];
                let fails = disk.iter().any(|fault| self.faults().of(*fault) > 0);
                let is_expected = fails || why.contains("was removed a moment ago");
                if !is_expected {
                    return Err(why);
                }
                self.forms.refused += 1;
            }
        }
        Ok(())
    }

    fn note_reload(&mut self, next: Form, now: Instant) {
        self.forms.note(&self.form, &next);
        let names = next.ways.keys().copied();
        let names = names.filter(|name| self.form.replaces(&next, name));
        self.replaced.extend(names);
        let replaced = |it: &&Rc<Collector>| self.form.replaces(&next, it.plan.name);
        let replaced = self.collectors.iter().filter(replaced);
        replaced.for_each(|it| it.end_owner());
        match (self.form.has_beside, next.has_beside) {
            (false, true) => self.beside.push((now, None)),
            (true, false) => {
                let last = self.beside.last_mut();
                last.expect("it began").1 = Some(now);
            }
            _ => {}
        }
        self.form = next;
    }
}
