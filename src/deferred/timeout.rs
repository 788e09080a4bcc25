//! Time limits. A limit covers the chain before it and nothing after it: when time is up it
//! cancels that chain, waits for what comes of it, and hands on [`TimedOut`]. So whoever starts
//! a new attempt on `TimedOut` knows that the old one has ended.

use std::cell::Cell;
use std::panic::Location;
use std::rc::Rc;

use crate::time::{Duration, Timers};

use super::chain::Deferred;
use super::failure::{Failure, Place};
use super::kinds::{Cancelled, TimedOut};
use super::link::Settled;

impl<T: 'static> Deferred<T> {
    /// Cancels the chain when it has no result `after` this call; the result is then
    /// [`TimedOut`].
    ///
    /// A failure other than `Cancelled` that comes of the cancellation, such as a canceller's
    /// own, is the result instead; a value is not, since an errback that swallows every error
    /// cannot have meant the time limit. A cancellation by hand stays `Cancelled`.
    #[track_caller]
    pub fn timeout(self, after: Duration, timers: &dyn Timers) -> Deferred<T> {
        let place = Location::caller();
        let what = self.label();
        self.limit(after, timers, place, move |result| match result {
            Err(failure) if !failure.is::<Cancelled>() => Err(failure),
            _ => Err(Failure::at(place, TimedOut { after, what })),
        })
    }

    /// The same with a say in the result: when time was up, and only then, `mapper` makes the
    /// result from what came of the cancellation.
    #[track_caller]
    pub fn timeout_with(
        self,
        after: Duration,
        timers: &dyn Timers,
        mapper: impl FnOnce(Result<T, Failure>) -> Result<T, Failure> + 'static,
    ) -> Deferred<T> {
        self.limit(after, timers, Location::caller(), mapper)
    }

    fn limit(
        self,
        after: Duration,
        timers: &dyn Timers,
        place: Place,
        on_timeout: impl FnOnce(Result<T, Failure>) -> Result<T, Failure> + 'static,
    ) -> Deferred<T> {
        if self.is_fired() {
            return self;
        }
        let time_is_up = Rc::new(Cell::new(false));
        let flag = time_is_up.clone();
        let work = self.canceller();
        let timer = timers.call_after(
            after,
            Box::new(move || {
                flag.set(true);
                work.cancel();
            }),
        );
        self.link(place, move |result| {
            if time_is_up.get() {
                return Settled::Now(on_timeout(result));
            }
            timer.cancel();
            Settled::Now(result)
        })
    }
}
