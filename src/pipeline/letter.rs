//! Dead letters: events that nobody could do what was asked with, kept for a person to look at.
//!
//! A letter says why (`reason`), where the event came from (`source`), who could not take it
//! (`step` or `sink`), and holds its original bytes (`original`), from which it can be sent
//! again. Letters go to the sink that the pipeline's `errors_to` names. What that sink refuses
//! in its turn is dropped: letters have no letters.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::event::{Batch, Event, Field, Fields, Key, Slot, name};

use super::part::Picked;
use super::port::Port;

/// The pipeline that events came through, as their sink needs to know it.
pub struct Via {
    name: Rc<str>,
    errors_to: Option<Rc<Port>>,
}

impl Via {
    /// The pipeline `name`, whose dead letters go to `errors_to`.
    pub fn new(name: &str, errors_to: Option<Rc<Port>>) -> Rc<Via> {
        Rc::new(Via {
            name: name.into(),
            errors_to,
        })
    }

    /// The pipeline's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sink for its dead letters.
    pub fn errors_to(&self) -> Option<&Rc<Port>> {
        self.errors_to.as_ref()
    }
}

/// All pipelines by name, for who reads events back from a disk.
#[derive(Clone, Default)]
pub struct Vias(Rc<RefCell<HashMap<Rc<str>, Rc<Via>>>>);

impl Vias {
    /// These are the pipelines from now on.
    pub fn set<'a>(&self, vias: impl Iterator<Item = &'a Rc<Via>>) {
        let named = vias.map(|via| (Rc::clone(&via.name), Rc::clone(via)));
        *self.0.borrow_mut() = named.collect();
    }

    /// The pipeline `name`. One that is no more has no dead letters.
    pub fn of(&self, name: &str) -> Rc<Via> {
        let known = self.0.borrow().get(name).cloned();
        known.unwrap_or_else(|| Via::new(name, None))
    }
}

/// Events that the step called `step` could not work on, each with its reason.
pub(super) fn of_step(batch: &Batch, failed: Vec<(Event, String)>, step: &str) -> Batch {
    let by = (Key::Static(name!("step")), step.into());
    let letters = failed
        .iter()
        .map(|(event, reason)| letter(batch, event, reason, &by));
    envelope(batch, letters.collect())
}

/// Events that the sink called `sink` refused for `reason`.
pub(super) fn of_sink(refused: &Picked, sink: &str, reason: &str) -> Batch {
    let by = (Key::Static(name!("sink")), sink.into());
    let batch = refused.batch();
    let letters = refused
        .events()
        .map(|event| letter(batch, event, reason, &by));
    envelope(batch, letters.collect())
}

fn envelope(batch: &Batch, letters: Vec<Event>) -> Batch {
    let origin = Arc::clone(&batch.origin);
    let mut envelope = Batch::new(origin, batch.received, batch.bytes.clone());
    envelope.events = letters.into();
    envelope
}

fn letter(batch: &Batch, event: &Event, reason: &str, by: &(Key, Arc<str>)) -> Event {
    let text = |text: &str| Slot::text(Bytes::copy_from_slice(text.as_bytes()));
    let field = |key, slot| Field { key, slot };
    let list = vec![
        field(Key::Static(name!("reason")), text(reason)),
        field(Key::Static(name!("source")), text(&batch.origin.source)),
        field(by.0.clone(), text(&by.1)),
        field(Key::Static(name!("original")), Slot::Text(event.raw())),
    ];
    Event::fielded(Fields {
        raw: event.raw(),
        list,
        parsed: true,
    })
}
