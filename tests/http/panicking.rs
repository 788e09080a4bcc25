//! A step that panics, behind sources on a real reactor: the connection it worked for is closed,
//! everything else goes on.
//!
//! What the books say of it is in `pipeline_delivery`.

use marline::event::Batch;
use marline::pipeline::graph::LabelledStep;
use marline::pipeline::step::{Step, StepReport};

use super::world::{World, post};

/// Panics at `boom`.
struct Touchy;

impl Step for Touchy {
    fn apply(&mut self, batch: &mut Batch, _: &mut StepReport) {
        assert!(!batch.bytes.starts_with(b"boom"), "a bug in a step");
    }
}

fn steps() -> Vec<LabelledStep> {
    vec![LabelledStep {
        label: "main.1:touchy".into(),
        step: Box::new(Touchy),
        has_failed: false,
    }]
}

const LISTEN: &str = "listen = [\"tcp://127.0.0.1:0\"]";

#[test]
fn f_009_a_request_that_makes_a_step_panic_is_not_answered_200_and_the_rest_goes_on() {
    let mut world = World::with_steps("http", LISTEN, steps());
    let mut beside = world.connect();
    beside.send(&mut world, &post(b"before", ""));
    assert_eq!(beside.answer(&mut world).status, 200);
    for _ in 0..3 {
        let mut client = world.connect();
        client.send(&mut world, &post(b"boom", ""));
        assert!(client.closes_silently(&mut world), "it was answered");
    }
    beside.send(&mut world, &post(b"after", ""));
    assert_eq!(beside.answer(&mut world).status, 200);
    assert_eq!(world.events(), ["before", "after"]);
    world.settled();
}

#[test]
fn f_009_a_line_that_makes_a_step_panic_closes_its_connection_and_no_other() {
    let mut world = World::with_steps("socket", LISTEN, steps());
    let (mut beside, mut client) = (world.connect(), world.connect());
    beside.send(&mut world, b"before\n");
    world.until("the first", |world| world.events().len() == 1);
    client.send(&mut world, b"boom\n");
    assert!(client.closes_silently(&mut world));
    beside.send(&mut world, b"after\n");
    world.until("the second", |world| world.events().len() == 2);
    assert_eq!(world.events(), ["before", "after"]);
    world.settled();
}
