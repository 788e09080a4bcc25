//! The networks of one process whose reactors listen in the same places.
//!
//! Each has a socket of its own at every IP address, and the kernel shares the connections and
//! the datagrams out among them by their senders (SO_REUSEPORT, socket(7)). That option lets any
//! process of the same user join in, so the first sibling binds once without it: a port that
//! somebody else has is found out. It also tells the others which port the system chose, where
//! the configuration leaves that to it.
//!
//! What cannot be bound twice, a path or a socket of systemd, the first one binds and the others
//! get duplicates of: whoever is awake accepts. Of datagrams there only the first one receives,
//! for those of one sender would come to several, and lose their order.
//!
//! A limit of connections counts what all of them have.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::address::Address;
use super::adopt::Carries;
use super::limits::Tally;
use super::net::{BindOptions, Endpoint, Net, SocketId};

/// One of the networks, and what it shares with the others.
#[derive(Clone, Debug)]
pub struct Siblings {
    /// Which one, from 0 up.
    pub index: usize,
    /// How many there are.
    pub count: usize,
    /// What they share.
    pub shared: Arc<Shared>,
}

/// What the networks of one process share; looked at when something is opened, by nobody else.
#[derive(Debug, Default)]
pub struct Shared(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The ports that the system chose, for each sibling that has not bound there yet.
    chosen: HashMap<Choice, VecDeque<u16>>,
    /// The connections of all, by whose they are.
    tallies: HashMap<String, Arc<Tally>>,
    /// Duplicates for the others, by whose the sockets are and for what address.
    offers: HashMap<(String, String), Offer>,
}

/// For whom the system chose a port: which sibling, whose socket, where it was to be, and what it
/// carries. There may be several, which all siblings bind in the same order.
type Choice = (usize, String, SocketAddr, Carries);

/// Sockets that are bound once.
#[derive(Debug)]
struct Offer {
    sockets: Vec<OwnedFd>,
    /// How many siblings have not taken theirs.
    open: usize,
}

impl Siblings {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing foreign runs under the lock, so a poisoned state is whole.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is the one that binds what can be bound once.
    pub(super) fn is_first(&self) -> bool {
        self.index == 0
    }

    /// The others may have these sockets, too, which listen for `owner` at `address`.
    pub(super) fn offer(&self, owner: &str, address: &Address, sockets: Vec<OwnedFd>) {
        let offer = Offer {
            sockets,
            open: self.count - 1,
        };
        let key = (owner.to_owned(), address.to_string());
        self.lock().offers.insert(key, offer);
    }

    /// What the first one has bound for `owner` at `address`; nothing where it has not.
    pub(super) fn take_offer(&self, owner: &str, address: &Address) -> io::Result<Vec<OwnedFd>> {
        let key = (owner.to_owned(), address.to_string());
        let mut inner = self.lock();
        let Some(offer) = inner.offers.get_mut(&key) else {
            return Ok(Vec::new());
        };
        offer.open -= 1;
        if offer.open > 0 {
            return offer.sockets.iter().map(OwnedFd::try_clone).collect();
        }
        let last = inner.offers.remove(&key);
        Ok(last.map_or_else(Vec::new, |offer| offer.sockets))
    }

    /// What was offered and not taken is closed, and the ports that go with it are forgotten.
    pub(super) fn withdraw_offers(&self) {
        let mut inner = self.lock();
        inner.chosen.clear();
        let offers = std::mem::take(&mut inner.offers);
        drop(inner);
        drop(offers);
    }

    /// The connections of `owner`, of all siblings together.
    pub(super) fn tally(&self, owner: &str) -> Arc<Tally> {
        let mut inner = self.lock();
        Arc::clone(inner.tallies.entry(owner.to_owned()).or_default())
    }

    /// Binds a socket of `owner` beside those of the siblings.
    pub(super) fn bind(
        &self,
        net: &dyn Net,
        owner: &str,
        at: &Endpoint,
        carries: Carries,
        options: &BindOptions,
    ) -> io::Result<SocketId> {
        let open = |at: &Endpoint, options: &BindOptions| open(net, at, carries, options);
        let Endpoint::Ip(wanted) = *at else {
            return open(at, options);
        };
        let shared = BindOptions {
            reuse_port: true,
            ..options.clone()
        };
        let choice = |sibling| (sibling, owner.to_owned(), wanted, carries);
        if !self.is_first() {
            if wanted.port() != 0 {
                return open(at, &shared);
            }
            let mut inner = self.lock();
            let chosen = inner.chosen.get_mut(&choice(self.index));
            let port = chosen.and_then(VecDeque::pop_front);
            drop(inner);
            let port = port.ok_or(ErrorKind::AddrNotAvailable)?;
            return open(&Endpoint::Ip((wanted.ip(), port).into()), &shared);
        }
        // Alone, for an instant: whoever has the port already is in the way of that.
        let probe = open(at, options)?;
        let bound = net.local(probe);
        net.close(probe);
        let bound = bound?;
        if let (Endpoint::Ip(bound), 0) = (&bound, wanted.port()) {
            let mut inner = self.lock();
            for sibling in 1..self.count {
                let chosen = inner.chosen.entry(choice(sibling)).or_default();
                chosen.push_back(bound.port());
            }
        }
        open(&bound, &shared)
    }
}

/// Binds a socket that carries streams, or datagrams.
pub(super) fn open(
    net: &dyn Net,
    at: &Endpoint,
    carries: Carries,
    options: &BindOptions,
) -> io::Result<SocketId> {
    match carries {
        Carries::Streams => net.listen(at, options),
        Carries::Datagrams => net.bind(at, options),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::transport::SysNet;

    fn siblings() -> (Siblings, Siblings) {
        let shared = Arc::<Shared>::default();
        let at = |index| Siblings {
            index,
            count: 2,
            shared: Arc::clone(&shared),
        };
        (at(0), at(1))
    }

    fn loopback(port: u16) -> Endpoint {
        Endpoint::Ip(([127, 0, 0, 1], port).into())
    }

    #[test]
    fn both_listen_where_the_system_chose() {
        for carries in [Carries::Streams, Carries::Datagrams] {
            let (net, options) = (SysNet::new().unwrap(), BindOptions::default());
            let (first, second) = siblings();
            let bind = |one: &Siblings, owner: &str| {
                let at = loopback(0);
                let bound = one.bind(&net, owner, &at, carries, &options);
                bound.map(|socket| net.local(socket).unwrap())
            };
            let at = bind(&first, "source.a").unwrap();
            assert_eq!(bind(&second, "source.a").unwrap(), at);
            let error = bind(&second, "source.b").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        }
    }

    #[test]
    fn several_places_of_one_owner_are_told_apart() {
        let (net, options) = (SysNet::new().unwrap(), BindOptions::default());
        let (first, second) = siblings();
        let bind_all = |one: &Siblings| {
            [Carries::Streams, Carries::Datagrams, Carries::Streams].map(|carries| {
                let bound = one.bind(&net, "source.a", &loopback(0), carries, &options);
                net.local(bound.unwrap()).unwrap()
            })
        };
        let places = bind_all(&first);
        assert_ne!(places[0], places[2]);
        assert_eq!(bind_all(&second), places);
    }

    #[test]
    fn a_port_that_another_process_shares_is_not_joined() {
        let (net, (first, _)) = (SysNet::new().unwrap(), siblings());
        let shared = BindOptions {
            reuse_port: true,
            ..BindOptions::default()
        };
        let theirs = net.listen(&loopback(0), &shared).unwrap();
        let at = net.local(theirs).unwrap();
        let options = BindOptions::default();
        let bound = first.bind(&net, "source.a", &at, Carries::Streams, &options);
        assert_eq!(bound.unwrap_err().kind(), ErrorKind::AddrInUse);
    }
}
