//! The last warning or error of each component, for whoever asks how it is.
//!
//! An observer of all records: what is remembered is what was logged, cut as it was, and nothing
//! is remembered that the levels keep out of the log. Bound: [`COMPONENTS_MAX`] components, which
//! are those of the config; of more the last ones are not remembered.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::layer::Observer;
use super::record::{Level, Record};
use crate::time::WallTime;

/// Components that are remembered.
pub const COMPONENTS_MAX: usize = 16_384;

/// A warning or an error that was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// When.
    pub time: WallTime,
    /// Whose.
    pub component: String,
    /// How bad.
    pub level: Level,
    /// The record's event.
    pub event: String,
    /// What it said; not escaped.
    pub text: String,
}

/// Remembers; shared between the log and those who ask.
#[derive(Debug, Default)]
pub struct LastErrors(Mutex<HashMap<String, Complaint>>);

impl LastErrors {
    /// The last complaint of that component (`source.in`).
    pub fn of(&self, component: &str) -> Option<Complaint> {
        self.known().get(component).cloned()
    }

    /// The last complaint of all.
    pub fn last(&self) -> Option<Complaint> {
        let known = self.known();
        let last = known.values().max_by_key(|complaint| complaint.time);
        last.cloned()
    }

    /// Nothing foreign runs under the lock, so that a poisoned one still holds whole entries.
    fn known(&self) -> MutexGuard<'_, HashMap<String, Complaint>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for LastErrors {
    fn observe(&self, record: &Record) -> Result<(), String> {
        if record.level > Level::Warn {
            return Ok(());
        }
        let mut known = self.known();
        if known.len() < COMPONENTS_MAX || known.contains_key(&record.component) {
            let complaint = Complaint {
                time: record.time,
                component: record.component.clone(),
                level: record.level,
                event: record.event.clone(),
                text: record.message.clone(),
            };
            known.insert(complaint.component.clone(), complaint);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn say(errors: &LastErrors, micros: i64, component: &str, level: Level, text: &str) {
        let time = WallTime::from_micros(micros);
        let mut record = Record::own(time, level, "event", text.to_owned());
        record.component = component.to_owned();
        errors.observe(&record).unwrap();
    }

    #[test]
    fn each_component_has_its_last_complaint_and_no_other_record() {
        let errors = LastErrors::default();
        say(&errors, 1, "sink.a", Level::Error, "first");
        say(&errors, 3, "sink.a", Level::Warn, "second");
        say(&errors, 2, "sink.b", Level::Warn, "other");
        say(&errors, 4, "sink.b", Level::Info, "fine again");
        assert_eq!(errors.of("sink.a").unwrap().text, "second");
        assert_eq!(errors.of("sink.b").unwrap().text, "other");
        assert_eq!(errors.last().unwrap().component, "sink.a");
        assert!(errors.of("sink.c").is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let errors = LastErrors::default();
        for index in 0..=COMPONENTS_MAX {
            say(&errors, 1, &format!("sink.{index}"), Level::Warn, "x");
        }
        assert_eq!(errors.known().len(), COMPONENTS_MAX);
        say(&errors, 2, "sink.0", Level::Warn, "known ones go on");
        assert_eq!(errors.of("sink.0").unwrap().text, "known ones go on");
    }
}
