//! An event as a VRL program sees it: our own `Target`, values made on first use.
//!
//! [`Names`] holds the top-level fields that a program can touch, known since it was compiled.
//! Each has a cell that is filled when the program asks and forgotten after the event. What was
//! written stays in the cells until [`Access::commit`], so a program that fails has changed
//! nothing. A program that goes for `.` as a whole gets an object; when it writes `.` as a whole
//! the object becomes the event.

use std::cell::OnceCell;
use std::sync::Arc;

use bytes::Bytes;
use vrl::compiler::{ProgramInfo, SecretTarget, Target};
use vrl::path::{OwnedSegment, OwnedTargetPath, OwnedValuePath, PathPrefix};
use vrl::value::{KeyString, ObjectMap, Value};

use super::{
    Batch, Event, Field, Fields, Key, Origin, Slot, find, into_fields, object, timestamp, to_value,
    walk,
};
use crate::time::WallTime;

/// What an event shares with the others of its batch, apart from the list of events.
#[derive(Clone, Copy, Debug)]
pub struct Shared<'a> {
    /// Where the batch came from.
    pub origin: &'a Origin,
    /// When it came.
    pub received: WallTime,
    /// What spans point into.
    pub bytes: &'a Bytes,
}

impl Batch {
    /// The shared part.
    pub fn shared(&self) -> Shared<'_> {
        Shared {
            origin: &self.origin,
            received: self.received,
            bytes: &self.bytes,
        }
    }

    /// The shared part and the events, to change these while reading that.
    pub fn split(&mut self) -> (Shared<'_>, &mut Vec<Event>) {
        let shared = Shared {
            origin: &self.origin,
            received: self.received,
            bytes: &self.bytes,
        };
        (shared, &mut self.events)
    }
}

/// The top-level fields that a program reads or writes, and room for their values.
#[derive(Debug, Default)]
pub struct Names {
    names: Vec<Arc<str>>,
    /// The same, as events have them.
    keys: Vec<Key>,
    cells: Vec<Cell>,
}

#[derive(Debug, Default)]
struct Cell {
    /// Empty until asked; `None` inside where there is no such field.
    value: OnceCell<Option<Value>>,
    written: bool,
}

impl Names {
    /// Those of a compiled program.
    pub fn of(info: &ProgramInfo) -> Names {
        let mut names: Vec<Arc<str>> = Vec::new();
        for path in info.target_queries.iter().chain(&info.target_assignments) {
            if path.prefix != PathPrefix::Event {
                continue;
            }
            if let Some(OwnedSegment::Field(name)) = path.path.segments.first()
                && names.iter().all(|known| **known != **name)
            {
                names.push(Arc::from(&**name));
            }
        }
        let mut cells = Vec::new();
        cells.resize_with(names.len(), Cell::default);
        let keys = names.iter().map(|name| Key::named(name)).collect();
        Names { names, keys, cells }
    }

    fn clear(&mut self) {
        for cell in &mut self.cells {
            cell.value.take();
            cell.written = false;
        }
    }
}

/// One event, open to a program.
#[derive(Debug)]
pub struct Access<'a> {
    names: &'a mut Names,
    shared: Shared<'a>,
    event: &'a Event,
    /// `.` as an object, made when asked and thrown away by a write.
    root: OnceCell<Value>,
    /// `.` once the program has written it as a whole; then the cells no longer count.
    whole: Option<Value>,
    /// `%`.
    metadata: OnceCell<Value>,
}

/// What a program has made of an event, to be brought into it.
pub enum Change {
    /// Nothing.
    None,
    /// These fields are set, or taken away where there is no value.
    Fields(Vec<(Key, Option<Value>)>),
    /// The event is this object now.
    Whole(ObjectMap),
}

/// Between two events no value is kept: it would hold the bytes of a batch that has gone, and
/// so a chunk of the memory budget, until the next event comes.
impl Drop for Access<'_> {
    fn drop(&mut self) {
        self.names.clear();
    }
}

impl<'a> Access<'a> {
    /// Opens `event`, with the names of the program that will run.
    pub fn new(names: &'a mut Names, shared: Shared<'a>, event: &'a Event) -> Access<'a> {
        Access {
            names,
            shared,
            event,
            root: OnceCell::new(),
            whole: None,
            metadata: OnceCell::new(),
        }
    }

    /// What was written. An error where `.` was left as something else than an object.
    pub fn commit(mut self) -> Result<Change, String> {
        match self.whole.take() {
            Some(Value::Object(map)) => return Ok(Change::Whole(map)),
            Some(other) => {
                let kind = other.kind_str();
                return Err(format!("the program left `.` as {kind}, not as an object"));
            }
            None => {}
        }
        if !self.names.cells.iter().any(|cell| cell.written) {
            return Ok(Change::None);
        }
        let cells = self.names.keys.iter().zip(&mut self.names.cells);
        let written = cells.filter(|(_, cell)| cell.written);
        let fields = written.map(|(key, cell)| (key.clone(), cell.value.take().flatten()));
        Ok(Change::Fields(fields.collect()))
    }

    /// Which cell a path starts in.
    fn cell(&self, path: &OwnedValuePath) -> Option<usize> {
        match path.segments.first() {
            Some(OwnedSegment::Field(name)) => {
                self.names.names.iter().position(|known| **known == **name)
            }
            _ => None,
        }
    }

    fn cell_value(&self, index: usize) -> Option<&Value> {
        let cell = &self.names.cells[index].value;
        let read = || {
            let name = self.names.names[index].as_bytes();
            find(self.event, self.shared.bytes, name)
                .map(|found| to_value(found, self.shared.bytes))
        };
        cell.get_or_init(read).as_ref()
    }

    fn event_value(&self, path: &OwnedValuePath) -> Option<&Value> {
        if let Some(whole) = &self.whole {
            return whole.get(path);
        }
        match self.cell(path) {
            Some(index) => walk(self.cell_value(index)?, &path.segments[1..]),
            None => self.root.get_or_init(|| self.object()).get(path),
        }
    }

    /// The event with what was written so far.
    fn object(&self) -> Value {
        let mut map = object(self.event, self.shared.bytes);
        for (name, cell) in self.names.names.iter().zip(&self.names.cells) {
            match cell.value.get() {
                Some(Some(value)) if cell.written => {
                    map.insert(KeyString::from(&**name), value.clone());
                }
                Some(None) if cell.written => {
                    map.remove(&**name);
                }
                _ => {}
            }
        }
        Value::Object(map)
    }

    /// `.` as one value, from here on.
    fn whole_mut(&mut self) -> &mut Value {
        if self.whole.is_none() {
            self.whole = Some(self.object());
        }
        self.whole.get_or_insert(Value::Null)
    }

    /// Runs `edit` on an object that holds only the field `path` starts with: so nested writes
    /// and removals follow VRL's own rules.
    fn edit_field<T>(&mut self, index: usize, edit: impl FnOnce(&mut Value) -> T) -> T {
        self.cell_value(index);
        let name = &*self.names.names[index];
        let mut map = ObjectMap::new();
        if let Some(value) = self.names.cells[index].value.take().flatten() {
            map.insert(KeyString::from(name), value);
        }
        let mut alone = Value::Object(map);
        let answer = edit(&mut alone);
        let left = alone.into_object().and_then(|mut map| map.remove(name));
        self.write(index, left);
        answer
    }

    fn write(&mut self, index: usize, value: Option<Value>) {
        let cell = &mut self.names.cells[index];
        cell.value = OnceCell::from(value);
        cell.written = true;
        self.root.take();
    }
}

impl Target for Access<'_> {
    fn target_insert(&mut self, path: &OwnedTargetPath, value: Value) -> Result<(), String> {
        if path.prefix == PathPrefix::Metadata {
            return Err("metadata cannot be written".to_owned());
        }
        let path = &path.path;
        match self.cell(path) {
            _ if path.is_root() => self.whole = Some(value),
            Some(index) if self.whole.is_none() => {
                if path.segments.len() == 1 {
                    self.write(index, Some(value));
                } else {
                    self.edit_field(index, |alone| alone.insert(path, value));
                }
            }
            _ => {
                self.whole_mut().insert(path, value);
            }
        }
        Ok(())
    }

    fn target_get(&self, path: &OwnedTargetPath) -> Result<Option<&Value>, String> {
        Ok(match path.prefix {
            PathPrefix::Event => self.event_value(&path.path),
            PathPrefix::Metadata => self
                .metadata
                .get_or_init(|| metadata(self.shared))
                .get(&path.path),
        })
    }

    fn target_get_mut(&mut self, path: &OwnedTargetPath) -> Result<Option<&mut Value>, String> {
        match path.prefix {
            PathPrefix::Event => Ok(self.whole_mut().get_mut(&path.path)),
            PathPrefix::Metadata => Err("metadata cannot be written".to_owned()),
        }
    }

    fn target_remove(
        &mut self,
        path: &OwnedTargetPath,
        compact: bool,
    ) -> Result<Option<Value>, String> {
        if path.prefix == PathPrefix::Metadata {
            return Err("metadata cannot be removed".to_owned());
        }
        let path = &path.path;
        Ok(match self.cell(path) {
            Some(index) if self.whole.is_none() => {
                self.edit_field(index, |alone| alone.remove(path, compact))
            }
            _ => self.whole_mut().remove(path, compact),
        })
    }
}

/// marline gives programs no secrets.
impl SecretTarget for Access<'_> {
    fn get_secret(&self, _key: &str) -> Option<&str> {
        None
    }

    fn insert_secret(&mut self, _key: &str, _value: &str) {}

    fn remove_secret(&mut self, _key: &str) {}
}

impl Change {
    /// Brings the change into `event`.
    pub fn apply(self, event: &mut Event, bytes: &Bytes) {
        match self {
            Change::None => {}
            Change::Fields(changes) => {
                let fields = into_fields(event);
                for (key, value) in changes {
                    match value {
                        Some(value) => {
                            let slot = Slot::Value(Box::new(value));
                            fields.set(bytes, key, slot);
                        }
                        None => {
                            fields.remove(bytes, key.of(bytes));
                        }
                    }
                }
            }
            Change::Whole(map) => {
                let list = map.into_iter().map(|(name, value)| Field {
                    key: Key::own(&*name),
                    slot: Slot::Value(Box::new(value)),
                });
                *event = Event::fielded(Fields {
                    raw: event.raw(),
                    list: list.collect(),
                    parsed: true,
                });
            }
        }
    }
}

/// `%`: source, peer and received time.
fn metadata(shared: Shared<'_>) -> Value {
    let mut map = ObjectMap::new();
    map.insert("source".into(), Value::from(&*shared.origin.source));
    map.insert("peer".into(), Value::from(&*shared.origin.peer));
    map.insert("received".into(), timestamp(shared.received));
    Value::Object(map)
}
