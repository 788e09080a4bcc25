//! Capturing what the current thread logs: for tests.
//!
//! While a [`Capture`] lives, every record of its thread is kept, at all levels and with no
//! storm limit. An error that the test does not take makes the test fail when the capture is
//! dropped: an error that is expected is asked for, and no other may happen.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tracing::Dispatch;
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use super::layer::{Layer, LevelSwitch, Levels, Observer};
use super::record::{Level, Record};
use crate::time::SystemClock;

/// The most records kept; a test that logs more has a bug worth finding.
const RECORDS_MAX: usize = 100_000;

/// While there is but one subscriber, tracing asks whichever thread comes first to a place in the
/// code, and remembers its "nobody listens" for all threads. With a second it asks all of them.
static SECOND: OnceLock<Dispatch> = OnceLock::new();

/// Records of this thread since the capture was started.
#[must_use]
pub struct Capture {
    kept: Arc<Kept>,
    _guard: DefaultGuard,
}

#[derive(Default)]
struct Kept(Mutex<Vec<Record>>);

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Vec<Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Kept {
    fn observe(&self, record: &Record) -> Result<(), String> {
        let mut kept = self.lock();
        if kept.len() >= RECORDS_MAX {
            return Err("too many records captured".to_owned());
        }
        kept.push(record.clone());
        Ok(())
    }
}

impl Capture {
    /// Starts to keep what this thread logs, in place of whatever listened before.
    pub fn start() -> Capture {
        SECOND.get_or_init(|| Dispatch::new(NoSubscriber::new()));
        let kept = Arc::new(Kept::default());
        let levels = Levels::new(Level::Trace, Vec::new());
        let layer = Layer::new(
            LevelSwitch::new(levels),
            Box::new(SystemClock::new()),
            vec![kept.clone()],
        );
        let guard = tracing::subscriber::set_default(Registry::default().with(layer));
        Capture {
            kept,
            _guard: guard,
        }
    }

    /// A copy of everything kept, in order.
    pub fn records(&self) -> Vec<Record> {
        self.kept.lock().clone()
    }

    /// Removes and answers the records of the event named `event`.
    pub fn take(&self, event: &str) -> Vec<Record> {
        self.take_if(|record| record.event == event)
    }

    /// Removes and answers all errors.
    pub fn take_errors(&self) -> Vec<Record> {
        self.take_if(|record| record.level == Level::Error)
    }

    /// Removes and answers everything.
    pub fn take_all(&self) -> Vec<Record> {
        self.take_if(|_| true)
    }

    fn take_if(&self, wanted: impl Fn(&Record) -> bool) -> Vec<Record> {
        let mut kept = self.kept.lock();
        let (taken, rest) = kept.drain(..).partition(wanted);
        *kept = rest;
        taken
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let errors = self.take_errors();
        if !errors.is_empty() && !std::thread::panicking() {
            panic!("errors logged that the test did not expect: {errors:#?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn c_426_an_expected_error_passes() {
        let capture = Capture::start();
        tracing::error!(event = "expected", "it broke");
        tracing::info!("and went on");
        let errors = capture.take_errors();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].message, "it broke");
        assert_eq!(capture.records().len(), 1);
    }

    #[test]
    fn c_426_an_unexpected_error_fails() {
        let unexpected = catch_unwind(|| {
            let _capture = Capture::start();
            tracing::error!("it broke");
        });
        let panic = unexpected.expect_err("the capture is dropped with an error in it");
        let text = panic.downcast_ref::<String>().expect("a formatted panic");
        assert!(text.contains("it broke"), "{text}");
    }
}
