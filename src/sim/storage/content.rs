//! One file of the simulated disk: what reads give, and what the disk would give after a crash.
//!
//! The bytes are kept once, as the system sees them. Of each sector that the disk has otherwise
//! the disk's content is kept beside them, so a write costs what it writes and a sync what was
//! written since the last one.
//!
//! A sector is *dirty* (the next sync writes it) or *stale*: a sync has failed, the system takes
//! the sector for clean, and nothing ever writes it again, so the old content is back as soon as
//! the cache is dropped. In a crash each dirty sector is by itself old, new, or damaged: the bytes
//! that were written since the last sync are zeros or garbage. Its other bytes are whole, which
//! is what disks and the databases on them rely on ("powersafe overwrite").

use std::collections::BTreeMap;

use crate::sim::faults::{Fault, FaultCounts};
use crate::sim::random::Random;

/// The unit that a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// How much of what was not synced a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keeps {
    Nothing,
    Everything,
    /// Each thing is drawn by itself.
    Some,
}

/// The content of a file.
#[derive(Default)]
pub(super) struct Content {
    bytes: Vec<u8>,
    /// Those that the disk has otherwise, by number.
    sectors: BTreeMap<usize, Sector>,
    /// The length on the disk.
    durable_bytes: usize,
    /// So much from the start has its place on the device: now, and after a crash.
    reserved_bytes: usize,
    durable_reserved_bytes: usize,
    pub(super) modified_micros: i64,
    /// How many handles of this life there are.
    pub(super) opens: usize,
}

struct Sector {
    /// What the disk has; `None` is zeros.
    old: Option<Box<[u8; SECTOR_BYTES]>>,
    /// The bytes of it that were written since.
    from: usize,
    to: usize,
    is_stale: bool,
}

impl Content {
    /// As the system sees it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether writing up to `end` needs no more room.
    pub(super) fn is_reserved(&self, end: usize) -> bool {
        end <= self.reserved_bytes
    }

    /// An empty file, nothing of it on the disk.
    pub(super) fn new(modified_micros: i64) -> Content {
        Content {
            modified_micros,
            ..Content::default()
        }
    }

    pub(super) fn write(&mut self, pieces: &[&[u8]], offset: usize) {
        let end = offset + pieces.iter().map(|piece| piece.len()).sum::<usize>();
        self.dirty(offset, end);
        self.bytes.resize(self.bytes.len().max(end), 0);
        let mut at = offset;
        for piece in pieces {
            self.bytes[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
    }

    pub(super) fn truncate(&mut self, bytes: usize) {
        if bytes < self.bytes.len() {
            self.dirty(bytes, self.bytes.len());
        }
        self.bytes.resize(bytes, 0);
        self.reserved_bytes = self.reserved_bytes.min(bytes);
    }

    pub(super) fn allocate(&mut self, bytes: usize) {
        self.bytes.resize(self.bytes.len().max(bytes), 0);
        self.reserved_bytes = self.reserved_bytes.max(bytes);
    }

    /// Everything but what is stale is on the disk.
    pub(super) fn sync(&mut self) {
        self.sectors.retain(|_, sector| sector.is_stale);
        self.durable_bytes = self.bytes.len();
        self.durable_reserved_bytes = self.reserved_bytes;
    }

    /// A sync has failed: of what was dirty a part has reached the disk, or nothing; the rest is
    /// stale. Says whether anything is.
    pub(super) fn fail_sync(&mut self, random: &mut Random) -> bool {
        let reached = random.pick(&[0, 0, 250]);
        self.sectors
            .retain(|_, sector| sector.is_stale || !random.chance(reached));
        self.sectors.values_mut().for_each(|it| it.is_stale = true);
        !self.sectors.is_empty()
    }

    /// What is stale is read from the disk again. Says whether anything was.
    pub(super) fn drop_cache(&mut self) -> bool {
        let before = self.sectors.len();
        let bytes = &mut self.bytes;
        self.sectors.retain(|number, sector| {
            if sector.is_stale {
                restore(bytes, *number, sector);
            }
            !sector.is_stale
        });
        self.sectors.len() < before
    }

    /// The power is cut: what there is now is what the disk has.
    pub(super) fn crash(&mut self, keeps: Keeps, random: &mut Random, counts: &mut FaultCounts) {
        let (old, new) = (self.durable_bytes, self.bytes.len());
        let length = match keeps {
            Keeps::Nothing => old,
            Keeps::Everything => new,
            Keeps::Some => {
                let between = random.between(old.min(new), old.max(new));
                random.pick(&[old, new, between])
            }
        };
        counts.note(Fault::LengthUndone, u64::from(length != new));
        self.bytes.resize(new.max(length), 0);
        for (number, sector) in std::mem::take(&mut self.sectors) {
            let fate = match (sector.is_stale, keeps) {
                (true, _) | (_, Keeps::Nothing) => Fate::Old,
                (_, Keeps::Everything) => Fate::New,
                (_, Keeps::Some) => random.pick(&[Fate::Old, Fate::New, Fate::Zero, Fate::Garbage]),
            };
            settle(&mut self.bytes, number, &sector, fate, random);
            match fate {
                Fate::New => {}
                Fate::Old => counts.note(Fault::SectorLost, 1),
                Fate::Zero | Fate::Garbage => counts.note(Fault::SectorTorn, 1),
            }
        }
        self.bytes.truncate(length);
        self.durable_bytes = length;
        let reserved = self.reserved_bytes.max(self.durable_reserved_bytes);
        self.reserved_bytes = reserved.min(length);
        self.durable_reserved_bytes = self.reserved_bytes;
        self.opens = 0;
    }

    /// Turns one bit of what the disk and the cache have; `None` where there is no such byte.
    pub(super) fn flip(&mut self, bit: usize) -> Option<()> {
        let byte = self.bytes.get_mut(bit / 8)?;
        *byte ^= 1 << (bit % 8);
        if let Some(old) = self.sectors.get_mut(&(bit / 8 / SECTOR_BYTES))
            && let Some(old) = &mut old.old
        {
            old[bit / 8 % SECTOR_BYTES] ^= 1 << (bit % 8);
        }
        Some(())
    }

    /// Keeps what the disk has of the sectors that a change of `from..to` touches.
    fn dirty(&mut self, from: usize, to: usize) {
        let mut at = from;
        while at < to {
            let number = at / SECTOR_BYTES;
            let start = number * SECTOR_BYTES;
            let end = to.min(start + SECTOR_BYTES);
            let bytes = &self.bytes;
            let sector = self.sectors.entry(number).or_insert_with(|| Sector {
                old: copy(bytes, start),
                from: at - start,
                to: end - start,
                is_stale: false,
            });
            sector.from = sector.from.min(at - start);
            sector.to = sector.to.max(end - start);
            sector.is_stale = false;
            at = end;
        }
    }
}

/// What becomes of a dirty sector in a crash.
#[derive(Clone, Copy)]
enum Fate {
    Old,
    New,
    Zero,
    Garbage,
}

/// The sector at `start`, where the file has any of it.
fn copy(bytes: &[u8], start: usize) -> Option<Box<[u8; SECTOR_BYTES]>> {
    let there = bytes.get(start..).filter(|rest| !rest.is_empty())?;
    let there = &there[..there.len().min(SECTOR_BYTES)];
    let mut sector = Box::new([0; SECTOR_BYTES]);
    sector[..there.len()].copy_from_slice(there);
    Some(sector)
}

fn restore(bytes: &mut [u8], number: usize, sector: &Sector) {
    let start = (number * SECTOR_BYTES).min(bytes.len());
    let end = (start + SECTOR_BYTES).min(bytes.len());
    match &sector.old {
        Some(old) => bytes[start..end].copy_from_slice(&old[..end - start]),
        None => bytes[start..end].fill(0),
    }
}

fn settle(bytes: &mut [u8], number: usize, sector: &Sector, fate: Fate, random: &mut Random) {
    let clamp = |at: usize| (number * SECTOR_BYTES + at).min(bytes.len());
    let (from, to) = (clamp(sector.from), clamp(sector.to));
    match fate {
        Fate::New => {}
        Fate::Old => restore(bytes, number, sector),
        Fate::Zero => bytes[from..to].fill(0),
        Fate::Garbage => bytes[from..to].fill_with(|| random.number() as u8),
    }
}
