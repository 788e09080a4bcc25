//! Random chains beside a simple model of them. A case is a number of chains and a list of
//! steps: fire, cancel, add a link, from outside or from inside a link, and links that return
//! other chains. Model and crate must call the same links with the same inputs in the same
//! order, and end with the same results. A failing case prints its seed; `MODEL_SEED` runs one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use marline::deferred::{BrokenPromise, Cancelled, Deferred, Failure, Promise};

use super::support::{Oops, value};

const CASES: u64 = 3_000;
const CHAINS: usize = 6;
const STEPS: usize = 40;

/// A value, or the code of a failure.
type Outcome = Result<i64, u32>;
const CANCELLED: u32 = 1_000;
const BROKEN: u32 = 1_001;

#[derive(Clone, Debug)]
enum Step {
    Fire(usize, Outcome),
    Cancel(usize),
    Add(usize, LinkSpec),
}

#[derive(Clone, Debug)]
struct LinkSpec {
    id: u32,
    on: On,
    /// Done first.
    steps: Vec<Step>,
    /// Then this is the link's result.
    gives: Gives,
}

#[derive(Clone, Copy, Debug)]
enum On {
    Value,
    Failure,
    Both,
}

#[derive(Clone, Debug)]
enum Gives {
    Now(Outcome),
    /// The chain of this number, if its end is still to be had; else the value 0.
    Chain(usize),
}

/// The calls of links with their inputs.
type Trace = Vec<(u32, Outcome)>;

mod random {
    use super::*;

    pub struct Random(pub u64);

    impl Random {
        /// SplitMix64.
        pub fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (z ^ (z >> 31)) % bound
        }

        fn chain(&mut self) -> usize {
            self.below(CHAINS as u64) as usize
        }

        fn outcome(&mut self) -> Outcome {
            if self.below(3) > 0 {
                Ok(self.below(100) as i64)
            } else {
                Err(self.below(100) as u32)
            }
        }

        pub fn step(&mut self, ids: &mut u32, depth: u32) -> Step {
            match self.below(8) {
                0 | 1 => Step::Fire(self.chain(), self.outcome()),
                2 => Step::Cancel(self.chain()),
                _ => {
                    let chain = self.chain();
                    Step::Add(chain, self.link(chain, ids, depth))
                }
            }
        }

        fn link(&mut self, chain: usize, ids: &mut u32, depth: u32) -> LinkSpec {
            *ids += 1;
            let id = *ids;
            let steps = if depth == 0 { 0 } else { self.below(4) };
            let later = (CHAINS - chain - 1) as u64;
            // Only a later chain is returned, so that no chain waits for itself.
            let gives = match self.below(2) {
                0 if later > 0 => Gives::Chain(chain + 1 + self.below(later) as usize),
                _ => Gives::Now(self.outcome()),
            };
            LinkSpec {
                id,
                on: [On::Value, On::Failure, On::Both][self.below(3) as usize],
                steps: (0..steps).map(|_| self.step(ids, depth - 1)).collect(),
                gives,
            }
        }
    }
}

/// The model: what the module's documentation says, recursively and slowly.
mod expected {
    use super::*;

    #[derive(Default)]
    pub struct Chain {
        links: VecDeque<LinkSpec>,
        value: Option<Outcome>,
        /// The chain it waits for, and the one that waits for it.
        inner: Option<usize>,
        outer: Option<usize>,
        promise_gone: bool,
        end_gone: bool,
    }

    pub struct Model {
        pub chains: Vec<Chain>,
        pub trace: Trace,
    }

    impl Model {
        pub fn new() -> Self {
            let chains = (0..CHAINS).map(|_| Chain::default()).collect();
            Model {
                chains,
                trace: Trace::new(),
            }
        }

        pub fn end(&self, chain: usize) -> Option<Outcome> {
            let chain = &self.chains[chain];
            if chain.end_gone { None } else { chain.value }
        }

        /// A step from outside: what it starts runs at once. While an added link runs so, the
        /// new end is not yet anybody's.
        pub fn outside(&mut self, step: &Step) {
            let Some(chain) = self.step(step) else { return };
            match step {
                Step::Add(added, _) => {
                    self.chains[*added].end_gone = true;
                    self.run(chain);
                    self.chains[*added].end_gone = false;
                }
                _ => self.run(chain),
            }
        }

        /// The answer is a chain that has something to run.
        fn step(&mut self, step: &Step) -> Option<usize> {
            match step {
                Step::Fire(chain, outcome) => self.fire(*chain, *outcome),
                Step::Cancel(chain) if !self.chains[*chain].end_gone => self.cancel(*chain),
                Step::Add(chain, link) if !self.chains[*chain].end_gone => {
                    let state = &mut self.chains[*chain];
                    let idle = state.value.is_some() && state.links.is_empty();
                    state.links.push_back(link.clone());
                    idle.then_some(*chain)
                }
                _ => None,
            }
        }

        fn fire(&mut self, chain: usize, outcome: Outcome) -> Option<usize> {
            if std::mem::replace(&mut self.chains[chain].promise_gone, true) {
                return None;
            }
            self.deliver(chain, outcome)
        }

        fn cancel(&mut self, chain: usize) -> Option<usize> {
            match self.chains[chain].inner {
                Some(inner) => self.cancel(inner),
                None => self.fire(chain, Err(CANCELLED)),
            }
        }

        /// Passes an outcome to the first chain outwards that has a link for it.
        fn deliver(&mut self, chain: usize, outcome: Outcome) -> Option<usize> {
            let state = &mut self.chains[chain];
            if state.links.is_empty()
                && let Some(outer) = state.outer.take()
            {
                self.chains[outer].inner = None;
                return self.deliver(outer, outcome);
            }
            state.value = Some(outcome);
            (!state.links.is_empty()).then_some(chain)
        }

        fn run(&mut self, mut chain: usize) {
            loop {
                let state = &mut self.chains[chain];
                let (Some(input), Some(link)) = (state.value.take(), state.links.pop_front())
                else {
                    panic!("chain {chain} was run without need");
                };
                let next = if applies(link.on, input) {
                    self.call(chain, &link, input)
                } else {
                    self.deliver(chain, input)
                };
                match next {
                    Some(next) => chain = next,
                    None => return,
                }
            }
        }

        fn call(&mut self, chain: usize, link: &LinkSpec, input: Outcome) -> Option<usize> {
            self.trace.push((link.id, input));
            let queued: Vec<_> = link.steps.iter().map(|step| self.step(step)).collect();
            let next = match link.gives {
                Gives::Now(outcome) => self.deliver(chain, outcome),
                Gives::Chain(inner) => self.adopt(chain, inner),
            };
            for chain in queued.into_iter().flatten() {
                self.run(chain);
            }
            next
        }

        fn adopt(&mut self, outer: usize, inner: usize) -> Option<usize> {
            let state = &mut self.chains[inner];
            if std::mem::replace(&mut state.end_gone, true) {
                return self.deliver(outer, Ok(0));
            }
            if state.links.is_empty()
                && let Some(outcome) = state.value.take()
            {
                return self.deliver(outer, outcome);
            }
            state.outer = Some(outer);
            self.chains[outer].inner = Some(inner);
            None
        }
    }

    fn applies(on: On, input: Outcome) -> bool {
        match on {
            On::Value => input.is_ok(),
            On::Failure => input.is_err(),
            On::Both => true,
        }
    }
}

/// The crate under the same steps.
#[derive(Default)]
struct World {
    promises: RefCell<Vec<Option<Promise<i64>>>>,
    ends: RefCell<Vec<Option<Deferred<i64>>>>,
    trace: RefCell<Trace>,
}

fn outcome_of(result: Result<i64, Failure>) -> Outcome {
    result.map_err(|failure| match failure.downcast_ref::<Oops>() {
        Some(Oops(code)) => *code,
        None if failure.is::<Cancelled>() => CANCELLED,
        None if failure.is::<BrokenPromise>() => BROKEN,
        None => panic!("{failure:?}"),
    })
}

impl World {
    fn new() -> Rc<Self> {
        let world = World::default();
        for _ in 0..CHAINS {
            let (promise, deferred) = Deferred::new();
            world.promises.borrow_mut().push(Some(promise));
            world.ends.borrow_mut().push(Some(deferred));
        }
        Rc::new(world)
    }

    fn step(self: &Rc<Self>, step: &Step) {
        match step {
            Step::Fire(chain, outcome) => {
                let promise = self.promises.borrow_mut()[*chain].take();
                match (promise, outcome) {
                    (None, _) => {}
                    (Some(promise), Err(BROKEN)) => drop(promise),
                    (Some(promise), Ok(value)) => drop(promise.callback(*value)),
                    (Some(promise), Err(code)) => drop(promise.errback(Oops(*code))),
                }
            }
            Step::Cancel(chain) => {
                let end = self.ends.borrow()[*chain].as_ref().map(Deferred::canceller);
                if let Some(handle) = end {
                    handle.cancel();
                }
            }
            Step::Add(chain, link) => {
                let end = self.ends.borrow_mut()[*chain].take();
                if let Some(end) = end {
                    let end = self.add(end, link.clone());
                    self.ends.borrow_mut()[*chain] = Some(end);
                }
            }
        }
    }

    fn add(self: &Rc<Self>, end: Deferred<i64>, link: LinkSpec) -> Deferred<i64> {
        let world = self.clone();
        match (link.on, &link.gives) {
            (On::Value, Gives::Now(_)) => end.add_callback(move |x| world.now(&link, Ok(x))),
            (On::Value, Gives::Chain(_)) => end.add_callback(move |x| world.later(&link, Ok(x))),
            (On::Failure, Gives::Now(_)) => end.add_errback(move |f| world.now(&link, Err(f))),
            (On::Failure, Gives::Chain(_)) => end.add_errback(move |f| world.later(&link, Err(f))),
            (On::Both, Gives::Now(_)) => end.add_both(move |input| world.now(&link, input)),
            (On::Both, Gives::Chain(_)) => end.add_both(move |input| world.later(&link, input)),
        }
    }

    fn called(self: &Rc<Self>, link: &LinkSpec, input: Result<i64, Failure>) {
        self.trace.borrow_mut().push((link.id, outcome_of(input)));
        for step in &link.steps {
            self.step(step);
        }
    }

    fn now(self: &Rc<Self>, link: &LinkSpec, input: Result<i64, Failure>) -> Result<i64, Failure> {
        self.called(link, input);
        match link.gives {
            Gives::Now(outcome) => outcome.map_err(|code| Oops(code).into()),
            Gives::Chain(_) => unreachable!(),
        }
    }

    fn later(self: &Rc<Self>, link: &LinkSpec, input: Result<i64, Failure>) -> Deferred<i64> {
        self.called(link, input);
        let Gives::Chain(chain) = link.gives else {
            unreachable!()
        };
        let end = self.ends.borrow_mut()[chain].take();
        end.unwrap_or_else(|| Deferred::ready(0))
    }
}

/// Says how many links were called.
fn check(seed: u64) -> usize {
    let mut random = random::Random(seed);
    let mut ids = 0;
    let (mut model, world) = (expected::Model::new(), World::new());
    let mut steps: Vec<_> = (0..STEPS).map(|_| random.step(&mut ids, 3)).collect();
    // In the end every promise that is left is dropped.
    steps.extend((0..CHAINS).map(|chain| Step::Fire(chain, Err(BROKEN))));
    for step in &steps {
        model.outside(step);
        world.step(step);
        assert_eq!(
            *world.trace.borrow(),
            model.trace,
            "seed {seed} at {step:?}"
        );
    }
    for chain in 0..CHAINS {
        let end = world.ends.borrow_mut()[chain].take();
        let end = end.map(|end| value(end.add_both(|result| Ok(outcome_of(result)))));
        assert_eq!(end, model.end(chain), "seed {seed}, chain {chain}");
    }
    model.trace.len()
}

#[test]
fn random_chains_agree_with_the_model() {
    if let Ok(seed) = std::env::var("MODEL_SEED") {
        check(seed.parse().unwrap());
        return;
    }
    let calls: usize = (0..CASES).map(check).sum();
    assert!(
        calls as u64 > 15 * CASES,
        "the cases have become too tame: {calls}"
    );
}
