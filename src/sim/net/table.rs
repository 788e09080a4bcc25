//! The sockets of a simulated network, by ids that are never given twice.
//!
//! A place in the table is used again with its next generation, as the real network does, so
//! that an id which outlived its socket names nothing.

use std::io::{self, ErrorKind};

use crate::transport::SocketId;

/// Sockets by id.
pub(super) struct Table<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

struct Entry<T> {
    generation: u32,
    socket: Option<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table {
            entries: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Table<T> {
    pub(super) fn insert(&mut self, socket: T) -> SocketId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                generation: 0,
                socket: None,
            });
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[index as usize];
        entry.socket = Some(socket);
        SocketId {
            index,
            generation: entry.generation,
        }
    }

    pub(super) fn get(&mut self, id: SocketId) -> io::Result<&mut T> {
        let entry = self.entries.get_mut(id.index as usize);
        entry
            .filter(|entry| entry.generation == id.generation)
            .and_then(|entry| entry.socket.as_mut())
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(super) fn remove(&mut self, id: SocketId) -> Option<T> {
        self.get(id).ok()?;
        let entry = &mut self.entries[id.index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(id.index);
        entry.socket.take()
    }

    /// The first socket for which `wanted` holds.
    pub(super) fn find(&self, wanted: impl Fn(&T) -> bool) -> Option<SocketId> {
        let is_wanted = |entry: &Entry<T>| entry.socket.as_ref().is_some_and(&wanted);
        let index = self.entries.iter().position(is_wanted)?;
        Some(SocketId {
            index: index as u32,
            generation: self.entries[index].generation,
        })
    }

    pub(super) fn iter(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries
            .iter_mut()
            .filter_map(|entry| entry.socket.as_mut())
    }
}
