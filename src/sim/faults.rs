//! What can go wrong in the simulated world, how likely, and how often it did.
//!
//! A [`FaultPlan`] is drawn from the seed; the network asks a [`Faults`] at each place where
//! something may go wrong. Whoever runs many seeds adds the [`FaultCounts`] up and fails when a
//! kind never fired: a fault that does not happen tests nothing.

use std::cell::RefCell;
use std::fmt;

use super::random::Random;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A read gives less than there is.
    PartialRead,
    /// A write takes less than there is room for.
    PartialWrite,
    /// A write says `WouldBlock` although there is room; the edge comes later.
    WriteBlocked,
    /// Readiness is reported and nothing is there.
    FalseReady,
    /// Bytes are on their way for much longer than others.
    Latency,
    /// A connection delivers nothing, either way, for seconds.
    Stall,
    /// A connection is cut off; both ends see a reset.
    Reset,
    /// Somebody listens and refuses all the same.
    ConnectRefused,
    /// A connection attempt is never answered.
    ConnectUnanswered,
    /// A connection that its dialler takes for made can be accepted only later.
    AcceptDelayed,
    /// A connection is gone before it is accepted (ECONNABORTED).
    AcceptAborted,
    /// There is no descriptor left for a connection (EMFILE).
    AcceptRefused,
    /// A datagram is lost on its way.
    DatagramLost,
    /// A name has no address for once.
    LookupFailed,
    /// A job takes much longer than others.
    JobDelayed,
    /// A file takes less than it is given.
    PartialAppend,
    /// The disk has no room for a while (ENOSPC).
    DiskFull,
    /// The disk fails at something (EIO).
    DiskFailed,
    /// The disk cannot make something durable, and never does, whatever later syncs say.
    SyncFailed,
    /// From now on the disk cannot make anything durable.
    SyncBroken,
    /// The disk fails at a read (EIO).
    ReadFailed,
    /// What a failed sync has not written is gone from the cache, too.
    CacheDropped,
    /// The process is killed.
    ProcessKilled,
    /// The machine loses its power.
    PowerCut,
    /// A sector that was not synced is what it was.
    SectorLost,
    /// A sector that was not synced is damaged.
    SectorTorn,
    /// A file that was not synced has its former length, or one on the way to the new.
    LengthUndone,
    /// What was made, renamed or removed, and not synced, is not.
    NameUndone,
    /// A bit has turned.
    BitFlipped,
}

impl Fault {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Fault; 29] = [
        Fault::PartialRead,
        Fault::PartialWrite,
        Fault::WriteBlocked,
        Fault::FalseReady,
        Fault::Latency,
        Fault::Stall,
        Fault::Reset,
        Fault::ConnectRefused,
        Fault::ConnectUnanswered,
        Fault::AcceptDelayed,
        Fault::AcceptAborted,
        Fault::AcceptRefused,
        Fault::DatagramLost,
        Fault::LookupFailed,
        Fault::JobDelayed,
        Fault::PartialAppend,
        Fault::DiskFull,
        Fault::DiskFailed,
        Fault::SyncFailed,
        Fault::SyncBroken,
        Fault::ReadFailed,
        Fault::CacheDropped,
        Fault::ProcessKilled,
        Fault::PowerCut,
        Fault::SectorLost,
        Fault::SectorTorn,
        Fault::LengthUndone,
        Fault::NameUndone,
        Fault::BitFlipped,
    ];

    /// Whether it is seen only where the process lives more than once: who lives on writes anew
    /// what a sync has failed for.
    pub const fn needs_lives(self) -> bool {
        self as usize >= Fault::CacheDropped as usize
    }

    /// The most that a seeded plan gives it, per mille of the places where it may happen; 0 for
    /// what others bring about.
    const fn per_mille_max(self) -> u16 {
        match self {
            Fault::PartialRead | Fault::PartialWrite | Fault::PartialAppend => 600,
            Fault::AcceptDelayed | Fault::ConnectRefused => 300,
            Fault::LookupFailed | Fault::JobDelayed | Fault::DatagramLost => 300,
            Fault::WriteBlocked | Fault::Latency => 100,
            Fault::ConnectUnanswered | Fault::AcceptAborted | Fault::AcceptRefused => 100,
            Fault::DiskFailed | Fault::SyncFailed | Fault::ReadFailed => 100,
            Fault::FalseReady | Fault::DiskFull => 50,
            Fault::Stall | Fault::Reset | Fault::SyncBroken => 20,
            Fault::CacheDropped | Fault::ProcessKilled | Fault::PowerCut => 0,
            Fault::SectorLost | Fault::SectorTorn => 0,
            Fault::LengthUndone | Fault::NameUndone | Fault::BitFlipped => 0,
        }
    }
}

/// How likely each fault is.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan([u16; Fault::ALL.len()]);

impl FaultPlan {
    /// A world where nothing goes wrong.
    pub fn quiet() -> Self {
        FaultPlan::default()
    }

    /// About half of the faults, each as likely as the draw says.
    pub fn seeded(random: &mut Random) -> Self {
        let mut plan = FaultPlan::quiet();
        for fault in Fault::ALL.into_iter().filter(|it| it.per_mille_max() > 0) {
            if random.chance(500) {
                let most = usize::from(fault.per_mille_max());
                plan = plan.with(fault, random.between(1, most) as u16);
            }
        }
        plan
    }

    /// The same with one fault as likely as this, per mille.
    pub fn with(mut self, fault: Fault, per_mille: u16) -> Self {
        self.0[fault as usize] = per_mille;
        self
    }

    /// How likely `fault` is, per mille.
    pub fn per_mille(&self, fault: Fault) -> u16 {
        self.0[fault as usize]
    }
}

/// How often each fault has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts([u64; Fault::ALL.len()]);

impl FaultCounts {
    /// How often `fault` has happened.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Adds what somebody else has counted.
    pub fn note(&mut self, fault: Fault, times: u64) {
        self.0[fault as usize] += times;
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &FaultCounts) {
        let pairs = self.0.iter_mut().zip(other.0);
        pairs.for_each(|(count, more)| *count += more);
    }

    /// The faults that have not happened.
    pub fn missing(&self) -> Vec<Fault> {
        let missing = Fault::ALL.into_iter().filter(|fault| self.of(*fault) == 0);
        missing.collect()
    }
}

impl fmt::Display for FaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{fault:?} {}", self.of(fault))?;
        }
        Ok(())
    }
}

/// Decides when something goes wrong, and counts.
pub struct Faults {
    plan: RefCell<FaultPlan>,
    random: RefCell<Random>,
    counts: RefCell<FaultCounts>,
}

impl Faults {
    /// Faults by `plan`, drawn from `random`.
    pub fn new(plan: FaultPlan, random: Random) -> Self {
        Faults {
            plan: RefCell::new(plan),
            random: RefCell::new(random),
            counts: RefCell::default(),
        }
    }

    /// Whether `fault` happens here and now.
    pub fn strike(&self, fault: Fault) -> bool {
        let per_mille = self.plan.borrow().per_mille(fault);
        let strikes = self.random.borrow_mut().chance(per_mille);
        if strikes {
            self.counts.borrow_mut().0[fault as usize] += 1;
        }
        strikes
    }

    /// From now on by another plan; the counts go on.
    pub fn plan(&self, plan: FaultPlan) {
        self.plan.replace(plan);
    }

    /// How often each has happened.
    pub fn counts(&self) -> FaultCounts {
        *self.counts.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_has_its_own_place_in_the_table() {
        for (index, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, index);
        }
    }

    #[test]
    fn only_planned_faults_happen_and_all_of_them_are_counted() {
        let plan = FaultPlan::quiet().with(Fault::Stall, 500);
        let faults = Faults::new(plan, Random::new(3));
        let stalls = (0..100).filter(|_| faults.strike(Fault::Stall)).count() as u64;
        assert!((20..80).contains(&stalls), "{stalls} of 100");
        assert!(!(0..100).any(|_| faults.strike(Fault::Reset)));
        assert_eq!(faults.counts().of(Fault::Stall), stalls);
        assert_eq!(faults.counts().missing().len(), Fault::ALL.len() - 1);
        faults.plan(FaultPlan::quiet());
        assert!(!(0..100).any(|_| faults.strike(Fault::Stall)));
    }
}
