//! How many connections may be open, in total and for one peer; and what became of those that
//! came.
//!
//! [`Limits`] is shared by the listeners it is meant for. Admission gives a [`Permit`] that
//! takes the count back when it is dropped; a refusal leaves nothing counted. A peer is its IP
//! address, IPv4 carried in IPv6 being the IPv4 address; peers over Unix sockets count towards
//! the total only. The table of peers has an entry per peer connected now and no other.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::net::Endpoint;
use super::tls::Fault;

/// Counts open connections and says no.
#[derive(Debug)]
pub struct Limits {
    total_max: usize,
    per_peer_max: Option<usize>,
    /// Of this reactor.
    open: Cell<usize>,
    counts: Cell<LimitCounts>,
    /// What the limits are for.
    tally: RefCell<Arc<Tally>>,
}

/// Open connections, of all reactors that count together.
#[derive(Debug, Default)]
pub struct Tally {
    total: AtomicUsize,
    peers: Mutex<HashMap<IpAddr, usize>>,
}

impl Tally {
    /// Counts one in, if that makes no more than `max`.
    fn add(&self, max: usize) -> bool {
        let before = self.total.fetch_add(1, Ordering::Relaxed);
        if before >= max {
            self.total.fetch_sub(1, Ordering::Relaxed);
        }
        before < max
    }

    fn sub(&self) {
        self.total.fetch_sub(1, Ordering::Relaxed);
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Nothing foreign runs under the lock, so a poisoned table is whole.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_of(&self, peer: IpAddr, max: usize) -> bool {
        let mut peers = self.peers();
        let open = peers.get(&peer).copied().unwrap_or(0);
        if open < max {
            peers.insert(peer, open + 1);
        }
        open < max
    }

    fn sub_of(&self, peer: IpAddr) {
        let mut peers = self.peers();
        let open = peers.get(&peer).copied().unwrap_or(0);
        if open <= 1 {
            peers.remove(&peer);
        } else {
            peers.insert(peer, open - 1);
        }
    }
}

impl Limits {
    /// At most `total_max` connections, and of one peer at most `per_peer_max`.
    pub fn new(total_max: usize, per_peer_max: Option<usize>) -> Rc<Self> {
        Rc::new(Limits {
            total_max,
            per_peer_max,
            open: Cell::new(0),
            counts: Cell::default(),
            tally: RefCell::default(),
        })
    }

    /// The limits are for these from now on, and those that are there count.
    pub(super) fn count_in(&self, tally: Arc<Tally>) {
        *self.tally.borrow_mut() = tally;
    }

    /// Counts a connection from `peer` in, if there is room.
    pub fn admit(self: &Rc<Self>, peer: &Endpoint) -> Result<Permit, Refusal> {
        let admitted = self.try_admit(peer);
        let mut counts = self.counts.get();
        match &admitted {
            Ok(_) => counts.admitted += 1,
            Err(Refusal::Total(_)) => counts.refused_total += 1,
            Err(Refusal::PerPeer(_)) => counts.refused_per_peer += 1,
        }
        self.counts.set(counts);
        admitted
    }

    /// One that was let in came to nothing, because of its TLS.
    pub fn count_failed_handshake(&self, fault: Fault) {
        let mut counts = self.counts.get();
        counts.failed_handshakes[fault as usize] += 1;
        self.counts.set(counts);
    }

    /// What was let in and turned away since the start.
    pub fn counts(&self) -> LimitCounts {
        self.counts.get()
    }

    fn try_admit(self: &Rc<Self>, peer: &Endpoint) -> Result<Permit, Refusal> {
        let tally = Arc::clone(&self.tally.borrow());
        if !tally.add(self.total_max) {
            return Err(Refusal::Total(self.total_max));
        }
        let address = self.per_peer_max.and_then(|max| Some((peer.ip()?, max)));
        if let Some((address, max)) = address
            && !tally.add_of(address, max)
        {
            tally.sub();
            return Err(Refusal::PerPeer(max));
        }
        self.open.set(self.open.get() + 1);
        Ok(Permit {
            limits: Rc::clone(self),
            tally,
            address: address.map(|(address, _)| Box::new(address)),
        })
    }

    /// Connections of this reactor that are counted now.
    pub fn open_count(&self) -> usize {
        self.open.get()
    }
}

/// Connections since the start, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitCounts {
    /// Let in.
    pub admitted: u64,
    /// Turned away because too many were open.
    pub refused_total: u64,
    /// Turned away because too many of the same peer were open.
    pub refused_per_peer: u64,
    /// Let in, and without TLS where there had to be some, or the other way round; by fault.
    pub failed_handshakes: [u64; Fault::ALL.len()],
}

impl LimitCounts {
    /// Those that were turned away, by the name of the option.
    pub fn refused(&self) -> [(&'static str, u64); 2] {
        [
            (MAX_CONNECTIONS, self.refused_total),
            (MAX_CONNECTIONS_PER_PEER, self.refused_per_peer),
        ]
    }

    /// Those whose handshake failed, by the name of the fault; faults that never were left out.
    pub fn failed_handshakes(&self) -> Vec<(&'static str, u64)> {
        let all = Fault::ALL.iter().map(|fault| fault.name());
        let counted = all.zip(self.failed_handshakes);
        counted.filter(|(_, count)| *count > 0).collect()
    }
}

/// One counted connection; dropped, it is not counted any more.
#[derive(Debug)]
pub struct Permit {
    limits: Rc<Limits>,
    /// Where it is counted.
    tally: Arc<Tally>,
    /// Where there is a limit for each peer.
    address: Option<Box<IpAddr>>,
}

impl Permit {
    /// The connection came to nothing, because of its TLS.
    pub fn count_failed_handshake(&self, fault: Fault) {
        self.limits.count_failed_handshake(fault);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let limits = &self.limits;
        limits.open.set(limits.open.get() - 1);
        self.tally.sub();
        if let Some(address) = &self.address {
            self.tally.sub_of(**address);
        }
    }
}

/// Which limit a connection would have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// So many connections are open already.
    Total(usize),
    /// So many connections of this peer are open already.
    PerPeer(usize),
}

impl Refusal {
    /// The option that sets the limit.
    pub fn option(self) -> &'static str {
        match self {
            Refusal::Total(_) => MAX_CONNECTIONS,
            Refusal::PerPeer(_) => MAX_CONNECTIONS_PER_PEER,
        }
    }
}

const MAX_CONNECTIONS: &str = "max_connections";
const MAX_CONNECTIONS_PER_PEER: &str = "max_connections_per_peer";

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Total(max) => write!(f, "{max} connections are open, which is the limit"),
            Refusal::PerPeer(max) => {
                write!(
                    f,
                    "{max} connections of this peer are open, which is the limit"
                )
            }
        }
    }
}

/// The default of `max_connections`.
pub const CONNECTIONS_MAX: usize = 16_384;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Endpoint {
        Endpoint::Ip(text.parse().unwrap())
    }

    #[test]
    fn c_369_the_third_of_two_is_refused_until_one_ends() {
        let limits = Limits::new(2, None);
        let first = limits.admit(&peer("10.0.0.1:1")).unwrap();
        let _second = limits.admit(&peer("10.0.0.1:2")).unwrap();
        assert_eq!(
            limits.admit(&peer("10.0.0.2:3")).unwrap_err(),
            Refusal::Total(2)
        );
        drop(first);
        assert!(limits.admit(&peer("10.0.0.2:3")).is_ok());
    }

    #[test]
    fn c_371_one_peer_cannot_take_the_place_of_another() {
        let limits = Limits::new(10, Some(1));
        let first = limits.admit(&peer("10.0.0.1:1")).unwrap();
        let again = limits.admit(&peer("[::ffff:10.0.0.1]:2"));
        assert_eq!(again.unwrap_err(), Refusal::PerPeer(1));
        let _other = limits.admit(&peer("10.0.0.2:1")).unwrap();
        drop(first);
        let _first = limits.admit(&peer("10.0.0.1:3")).unwrap();
    }

    #[test]
    fn c_376_a_refusal_leaves_nothing_counted() {
        let limits = Limits::new(2, Some(1));
        let first = limits.admit(&peer("10.0.0.1:1")).unwrap();
        assert!(limits.admit(&peer("10.0.0.1:2")).is_err());
        assert_eq!(limits.open_count(), 1);
        drop(first);
        assert_eq!(
            (limits.open_count(), limits.tally.borrow().peers().len()),
            (0, 0)
        );
        let counts = LimitCounts {
            admitted: 1,
            refused_per_peer: 1,
            ..LimitCounts::default()
        };
        assert_eq!(limits.counts(), counts);
    }

    #[test]
    fn those_of_another_reactor_count_too() {
        let (here, there) = (Limits::new(3, Some(1)), Limits::new(3, Some(1)));
        let tally = Arc::<Tally>::default();
        here.count_in(Arc::clone(&tally));
        there.count_in(tally);
        let first = here.admit(&peer("10.0.0.1:1")).unwrap();
        let again = there.admit(&peer("10.0.0.1:2"));
        assert_eq!(again.unwrap_err(), Refusal::PerPeer(1));
        let _others = ["10.0.0.2:1", "10.0.0.3:1"].map(|it| there.admit(&peer(it)).unwrap());
        let more = here.admit(&peer("10.0.0.4:1"));
        assert_eq!(more.unwrap_err(), Refusal::Total(3));
        assert_eq!((here.open_count(), there.open_count()), (1, 2));
        drop(first);
        assert!(there.admit(&peer("10.0.0.1:3")).is_ok());
    }

    #[test]
    fn failed_handshakes_are_counted_under_their_own_names() {
        let limits = Limits::new(2, None);
        assert!(limits.counts().failed_handshakes().is_empty());
        let permit = limits.admit(&peer("10.0.0.1:1")).unwrap();
        for (times, fault) in (1..).zip(Fault::ALL) {
            (0..times).for_each(|_| permit.count_failed_handshake(fault));
        }
        let names = Fault::ALL.map(Fault::name);
        let expected: Vec<_> = names.into_iter().zip(1..).collect();
        assert_eq!(limits.counts().failed_handshakes(), expected);
    }

    #[test]
    fn unix_peers_count_towards_the_total_only() {
        let limits = Limits::new(2, Some(1));
        let _one = limits.admit(&Endpoint::Unnamed).unwrap();
        let _two = limits.admit(&Endpoint::Unnamed).unwrap();
        assert_eq!(
            limits.admit(&Endpoint::Unnamed).unwrap_err(),
            Refusal::Total(2)
        );
    }
}
