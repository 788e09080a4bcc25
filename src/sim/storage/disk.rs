//! The state of the simulated disk, and every decision about what goes wrong with it.
//!
//! A call is counted, may be where the planned end of the life strikes (before it has any effect,
//! or after that and before it answers), and finds the disk as the faults make it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use rustix::io::Errno;

use super::content::{Content, Keeps};
use super::names::{Names, parent};
use super::{Death, DeathPoint, Flipped, Moment, StorageCall};
use crate::buffer::storage::{Inode, Kind, Metadata, Open};
use crate::sim::faults::{Fault, FaultCounts, FaultPlan};
use crate::sim::random::Random;
use crate::time::WallTime;

pub(super) struct Disk {
    pub(super) plan: FaultPlan,
    random: Random,
    pub(super) counts: FaultCounts,
    /// The bits that have turned.
    pub(super) flipped: Vec<Flipped>,
    pub(super) wall: WallTime,
    /// How many more attempts to write find the disk full.
    full_attempts: usize,
    /// Nothing can be made durable any more.
    is_broken: bool,
    /// After so many more calls the cache is dropped.
    cache_calls: Option<usize>,
    pub(super) names: Names,
    contents: BTreeMap<u64, Content>,
    inodes: u64,
    /// The paths of files that somebody has locked.
    pub(super) locked: BTreeSet<String>,
    life: u64,
    calls: [u64; StorageCall::ALL.len()],
    pub(super) death_point: Option<DeathPoint>,
}

impl Disk {
    pub(super) fn new(random: Random) -> Disk {
        Disk {
            plan: FaultPlan::quiet(),
            random,
            counts: FaultCounts::default(),
            flipped: Vec::new(),
            wall: WallTime::from_micros(0),
            full_attempts: 0,
            is_broken: false,
            cache_calls: None,
            names: Names::default(),
            contents: BTreeMap::new(),
            inodes: 0,
            locked: BTreeSet::new(),
            life: 0,
            calls: [0; StorageCall::ALL.len()],
            death_point: None,
        }
    }

    pub(super) fn plan_faults(&mut self, plan: FaultPlan) {
        self.plan = plan;
        self.full_attempts = 0;
        self.is_broken = false;
    }

    pub(super) fn life(&self) -> u64 {
        self.life
    }

    pub(super) fn calls_of(&self, call: StorageCall) -> u64 {
        self.calls[call as usize]
    }

    /// One call of a process of `life`.
    pub(super) fn call<T>(
        &mut self,
        life: u64,
        call: StorageCall,
        effect: impl FnOnce(&mut Disk) -> io::Result<T>,
    ) -> io::Result<T> {
        if life != self.life {
            return Err(Errno::STALE.into());
        }
        self.calls[call as usize] += 1;
        self.age_cache();
        let point = self.death_point;
        let number = self.calls_of(call);
        let point = point.filter(|point| point.call == call && point.number == number);
        let Some(point) = point else {
            return effect(self);
        };
        self.death_point = None;
        if point.moment == Moment::After {
            // Nobody will hear the answer.
            drop(effect(self));
        }
        self.die(point.death);
        Err(Errno::STALE.into())
    }

    /// Ends the life.
    pub(super) fn die(&mut self, death: Death) {
        self.life += 1;
        self.locked.clear();
        match death {
            Death::Killed => {
                self.counts.note(Fault::ProcessKilled, 1);
                self.contents.values_mut().for_each(|it| it.opens = 0);
            }
            Death::PowerCut => self.cut_power(),
        }
    }

    fn cut_power(&mut self) {
        self.counts.note(Fault::PowerCut, 1);
        let keeps = match self.random.below(8) {
            0 | 1 => Keeps::Nothing,
            2 => Keeps::Everything,
            _ => Keeps::Some,
        };
        let Disk { random, counts, .. } = self;
        self.names.crash(keeps, random, counts);
        for content in self.contents.values_mut() {
            content.crash(keeps, random, counts);
        }
        self.cache_calls = None;
        self.full_attempts = 0;
        self.forget_unnamed();
        if self.strike(Fault::BitFlipped) {
            self.flip_any();
        }
    }

    /// Turns a bit of some file, where that is not reserved only.
    fn flip_any(&mut self) {
        let files = self.names.files().iter();
        let filled = files.filter_map(|(path, inode)| {
            let bytes = self.contents.get(inode)?.bytes();
            let used = bytes.iter().rposition(|byte| *byte != 0)? + 1;
            Some((path.clone(), used))
        });
        let filled: Vec<(String, usize)> = filled.collect();
        if !filled.is_empty() {
            let (path, used) = &filled[self.random.below(filled.len())];
            let bit = self.random.below(used * 8);
            self.turn(path, bit);
        }
    }

    fn turn(&mut self, path: &str, bit: usize) -> Option<()> {
        let inode = self.names.find(path).ok()?;
        let content = self.contents.get_mut(&inode)?;
        let before = content.bytes().to_vec();
        content.flip(bit)?;
        let path = path.to_owned();
        self.flipped.push(Flipped { path, bit, before });
        Some(())
    }

    /// Turns a bit of a file; `None` where there is no such file or bit.
    pub(super) fn flip(&mut self, path: &str, bit: usize) -> Option<()> {
        self.turn(path, bit)?;
        self.counts.note(Fault::BitFlipped, 1);
        Some(())
    }

    /// A cache that holds what the disk does not have is dropped sooner or later.
    fn age_cache(&mut self) {
        match &mut self.cache_calls {
            Some(0) => self.drop_cache(),
            Some(calls) => *calls -= 1,
            None => {}
        }
    }

    pub(super) fn drop_cache(&mut self) {
        self.cache_calls = None;
        let dropped = self.contents.values_mut().map(Content::drop_cache);
        let dropped = dropped.filter(|changed| *changed).count();
        self.counts
            .note(Fault::CacheDropped, u64::from(dropped > 0));
    }

    fn strike(&mut self, fault: Fault) -> bool {
        let per_mille = self.plan.per_mille(fault);
        let strikes = self.random.chance(per_mille);
        self.counts.note(fault, u64::from(strikes));
        strikes
    }

    /// An error of the device, once.
    pub(super) fn io_error(&mut self) -> io::Result<()> {
        self.maybe(Fault::DiskFailed)
    }

    /// The same for what is read.
    pub(super) fn read_error(&mut self) -> io::Result<()> {
        self.maybe(Fault::ReadFailed)
    }

    fn maybe(&mut self, fault: Fault) -> io::Result<()> {
        match self.strike(fault) {
            true => Err(Errno::IO.into()),
            false => Ok(()),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.full_attempts > 0
    }

    /// Whether there is room for anything now.
    pub(super) fn check_room(&mut self) -> io::Result<()> {
        if self.full_attempts == 0 && self.strike(Fault::DiskFull) {
            self.full_attempts = self.random.between(1, FULL_ATTEMPTS_MAX);
        }
        if self.full_attempts > 0 {
            self.full_attempts -= 1;
            return Err(Errno::NOSPC.into());
        }
        Ok(())
    }

    /// How much of `offered` bytes is taken; at least one of them.
    pub(super) fn part_of(&mut self, offered: usize) -> usize {
        if offered > 1 && self.strike(Fault::PartialAppend) {
            return self.random.between(1, offered - 1);
        }
        offered
    }

    /// The file at `path`, made where that is wanted.
    pub(super) fn open(&mut self, path: &str, open: Open) -> io::Result<u64> {
        let found = self.names.find(path);
        let is_missing = matches!(&found, Err(error) if error.kind() == io::ErrorKind::NotFound);
        match (found, open) {
            (Ok(_), Open::Create(_)) => Err(Errno::EXIST.into()),
            (Err(_), Open::Append(_) | Open::Create(_)) if is_missing => self.create(path),
            (found, _) => found,
        }
    }

    fn create(&mut self, path: &str) -> io::Result<u64> {
        self.names.check_directory(parent(path))?;
        self.check_room()?;
        self.inodes += 1;
        let content = Content::new(self.wall.as_micros());
        self.contents.insert(self.inodes, content);
        self.names.make(path, self.inodes);
        Ok(self.inodes)
    }

    pub(super) fn count_open(&mut self, inode: u64, opened: bool) {
        if let Some(content) = self.contents.get_mut(&inode) {
            content.opens = match opened {
                true => content.opens + 1,
                false => content.opens.saturating_sub(1),
            };
        }
    }

    pub(super) fn lock_file(&mut self, path: &str, note: &[u8]) -> io::Result<()> {
        if self.locked.contains(path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let inode = match self.names.find(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create(path)?,
            found => found?,
        };
        let content = self.content(inode)?;
        content.truncate(0);
        content.write(&[note], 0);
        self.locked.insert(path.to_owned());
        Ok(())
    }

    /// The content of a file that is about to change.
    pub(super) fn content(&mut self, inode: u64) -> io::Result<&mut Content> {
        let micros = self.wall.as_micros();
        let content = self.contents.get_mut(&inode).ok_or(Errno::BADF)?;
        content.modified_micros = micros;
        Ok(content)
    }

    pub(super) fn read(&self, inode: u64, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.contents.get(&inode).ok_or(Errno::BADF)?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = content.bytes().get(offset..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    pub(super) fn bytes_of(&self, inode: u64) -> Option<&[u8]> {
        self.contents.get(&inode).map(Content::bytes)
    }

    pub(super) fn metadata(&self, inode: u64) -> io::Result<Metadata> {
        let content = self.contents.get(&inode).ok_or(Errno::BADF)?;
        Ok(Metadata {
            kind: Kind::File,
            bytes: content.bytes().len() as u64,
            links: u64::from(self.names.has_name(inode)),
            inode: Inode {
                device: 1,
                number: inode,
            },
            modified_micros: content.modified_micros,
            owner: 0,
        })
    }

    pub(super) fn sync_file(&mut self, inode: u64) -> io::Result<()> {
        let fails = self.is_broken || self.strike(Fault::SyncBroken);
        self.is_broken = fails;
        let fails = fails || self.strike(Fault::SyncFailed);
        let content = self.contents.get_mut(&inode).ok_or(Errno::BADF)?;
        if !fails {
            content.sync();
            return Ok(());
        }
        if content.fail_sync(&mut self.random) && self.cache_calls.is_none() {
            self.cache_calls = Some(self.random.below(CACHE_CALLS_MAX));
        }
        Err(Errno::IO.into())
    }

    pub(super) fn sync_directory(&mut self, path: &str) -> io::Result<()> {
        if self.is_broken {
            return Err(Errno::IO.into());
        }
        self.names.sync(path);
        self.forget_unnamed();
        Ok(())
    }

    /// What nobody can reach any more takes no memory.
    fn forget_unnamed(&mut self) {
        let named = self.names.inodes();
        self.contents
            .retain(|inode, content| content.opens > 0 || named.contains(inode));
    }
}

/// The longest that [`Fault::DiskFull`] lasts, in attempts to write.
pub(super) const FULL_ATTEMPTS_MAX: usize = 12;

/// The most calls between a failed sync and the loss of what it should have written.
const CACHE_CALLS_MAX: usize = 200;

/// No file has it: standard output goes nowhere here.
pub(super) const NO_INODE: u64 = 0;
