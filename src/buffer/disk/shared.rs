//! What the writer, the reader and the keeper of one buffer share: the table of its segments.
//!
//! The table is behind a mutex under which only a few words are moved: no system call is made
//! and nothing foreign runs while it is held, so nobody ever waits for a device by it. The lock
//! on the folder lives as long as the last of the three.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Settings;
use crate::buffer::storage::{Directory, Lock};

/// One buffer, as its three parts see it.
pub(super) struct Shared {
    pub directory: Arc<dyn Directory>,
    settings: Arc<Mutex<Settings>>,
    pub uuid: [u8; 16],
    table: Mutex<Table>,
    _lock: Box<dyn Lock>,
}

/// Which files there are.
#[derive(Default)]
pub(super) struct Table {
    /// By base seq, which no two share.
    segments: Vec<Entry>,
    /// How many entries were ever made: their ids.
    made: u64,
    /// Everything below is delivered or given up; files below may go.
    pub released_seq: u64,
    pub cursor_bytes: u64,
    pub prepared_bytes: u64,
    pub quarantine_bytes: u64,
}

/// One segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Tells it from one that took its name.
    pub id: u64,
    pub base_seq: u64,
    /// Its length, with what is reserved.
    pub bytes: u64,
    /// Everything below is known to have been durable.
    pub proven_seq: u64,
}

impl Shared {
    pub fn new(
        directory: Arc<dyn Directory>,
        settings: Settings,
        uuid: [u8; 16],
        table: Table,
        lock: Box<dyn Lock>,
    ) -> Shared {
        Shared {
            directory,
            settings: Arc::new(Mutex::new(settings)),
            uuid,
            table: Mutex::new(table),
            _lock: lock,
        }
    }

    /// How the buffer is kept now.
    pub fn settings(&self) -> Settings {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn sizer(&self) -> Sizer {
        Sizer(Arc::clone(&self.settings))
    }

    pub fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing that can panic runs under the lock, so a poisoned table is whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn used_bytes(&self) -> u64 {
        self.table().used_bytes()
    }
}

/// Changes the size of a buffer that is open. It does not keep the folder locked.
#[derive(Clone, Debug)]
pub struct Sizer(Arc<Mutex<Settings>>);

impl Sizer {
    /// The files may take `size_bytes` from now on. What they take beyond that stays: there is
    /// no room until it is gone. Segments that are there keep their size.
    pub fn resize(&self, size_bytes: u64) {
        let mut settings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *settings = settings.resized(size_bytes);
    }

    /// How the buffer is kept now.
    pub fn settings(&self) -> Settings {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Enters a segment; one with the same base seq has lost its name to it.
    pub fn enter(&mut self, base_seq: u64, bytes: u64, proven_seq: u64) -> u64 {
        self.made += 1;
        let entry = Entry {
            id: self.made,
            base_seq,
            bytes,
            proven_seq,
        };
        match self.find(base_seq) {
            Ok(index) => self.segments[index] = entry,
            Err(index) => self.segments.insert(index, entry),
        }
        self.made
    }

    fn find(&self, base_seq: u64) -> Result<usize, usize> {
        self.segments
            .binary_search_by_key(&base_seq, |entry| entry.base_seq)
    }

    /// Takes note of what became of the segment `id`, if it is still there.
    pub fn change(&mut self, id: u64, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.segments.iter_mut().find(|entry| entry.id == id) {
            change(entry);
        }
    }

    /// The segment `id` is gone.
    pub fn remove(&mut self, id: u64) {
        self.segments.retain(|entry| entry.id != id);
    }

    pub fn segments(&self) -> &[Entry] {
        &self.segments
    }

    /// The segment that event `seq` belongs to, if it is not before all of them, and the base
    /// seq of the next one.
    pub fn holding(&self, seq: u64) -> (Option<Entry>, Option<u64>) {
        let next = match self.find(seq) {
            Ok(index) => index + 1,
            Err(index) => index,
        };
        let entry = next.checked_sub(1).map(|index| self.segments[index]);
        (entry, self.segments.get(next).map(|entry| entry.base_seq))
    }

    /// The segments that have nothing at or above `seq`, oldest first; never the last one.
    pub fn below(&self, seq: u64) -> Vec<Entry> {
        let pairs = self.segments.windows(2);
        pairs
            .take_while(|pair| pair[1].base_seq <= seq)
            .map(|pair| pair[0])
            .collect()
    }

    /// What all files take, in bytes.
    pub fn used_bytes(&self) -> u64 {
        let segments: u64 = self.segments.iter().map(|entry| entry.bytes).sum();
        segments + self.cursor_bytes + self.prepared_bytes + self.quarantine_bytes
    }
}

/// The name of the segment that begins with event `base_seq`.
pub(super) fn segment_name(base_seq: u64) -> String {
    format!("{base_seq:020}{SEGMENT_SUFFIX}")
}

/// The base seq in the name of a segment.
pub(super) fn base_seq_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    let base_seq = digits.parse().ok()?;
    (segment_name(base_seq) == name).then_some(base_seq)
}

/// Takes a name away; that it is not there is as good.
pub(super) fn unlink(directory: &dyn Directory, name: &str) -> io::Result<()> {
    match directory.unlink(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

const SEGMENT_SUFFIX: &str = ".seg";
/// The name of the lock file.
pub(super) const LOCK: &str = "LOCK";
/// The name of the cursor.
pub(super) const CURSOR: &str = "cursor";
/// The name of a cursor that is being made.
pub(super) const NEXT_CURSOR: &str = "cursor.new";
/// The name of a segment that is being made.
pub(super) const NEXT_SEGMENT: &str = "next.new";
/// The name of the folder for what is damaged.
pub(super) const QUARANTINE: &str = "quarantine";
/// The mode of files.
pub(super) const FILE_MODE: u32 = 0o600;
/// The mode of folders.
pub(super) const FOLDER_MODE: u32 = 0o700;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_s_name_is_its_base_seq_and_nothing_else_is_one() {
        assert_eq!(segment_name(7), "00000000000000000007.seg");
        assert_eq!(segment_name(u64::MAX), "18446744073709551615.seg");
        for base_seq in [0, 7, u64::MAX] {
            assert_eq!(base_seq_of(&segment_name(base_seq)), Some(base_seq));
        }
        for name in [
            "7.seg",
            "000000000000000000007.seg",
            "0000000000000000000+7.seg",
            "18446744073709551616.seg",
            "00000000000000000007.seg.new",
            "cursor",
        ] {
            assert_eq!(base_seq_of(name), None, "{name}");
        }
    }

    #[test]
    fn the_table_knows_whose_an_event_is_and_what_may_go() {
        let mut table = Table::default();
        for base_seq in [20, 10, 30] {
            table.enter(base_seq, 100, 0);
        }
        let holding = |seq| {
            let (entry, next) = table.holding(seq);
            (entry.map(|entry| entry.base_seq), next)
        };
        assert_eq!(holding(9), (None, Some(10)));
        assert_eq!(holding(10), (Some(10), Some(20)));
        assert_eq!(holding(29), (Some(20), Some(30)));
        assert_eq!(holding(99), (Some(30), None));
        let below = |seq| table.below(seq).len();
        assert_eq!([below(19), below(20), below(30), below(99)], [0, 1, 2, 2]);
        assert_eq!(table.used_bytes(), 300);
        let old = table.holding(30).0.unwrap().id;
        let new = table.enter(30, 50, 0);
        table.remove(old);
        assert_eq!(
            table.holding(30).0.unwrap().id,
            new,
            "the name's new owner stays"
        );
        assert_eq!(table.used_bytes(), 250);
    }
}
