//! What the files held when the configuration was last read, for all sessions to come.
//!
//! [`Materials`] are read and proved in a job, on whatever thread; the [`Store`] of the network
//! is exchanged on the reactor. Adding never changes what is there, so that a new configuration
//! can be tried out; replacing is for when it has been taken.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::explain::HandshakeError;
use super::fault::Fault;
use super::pem::{About, Authorities, Identity};
use super::spec::{AuthoritiesName, IdentityName};

/// Keys and authorities by the names of their files.
#[derive(Clone, Default)]
pub struct Materials {
    /// Certificate chains with their keys.
    pub identities: BTreeMap<IdentityName, Arc<Identity>>,
    /// Those whose signatures count.
    pub authorities: BTreeMap<AuthoritiesName, Arc<Authorities>>,
}

/// A certificate in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Its file.
    pub path: PathBuf,
    /// What it says of itself.
    pub about: About,
}

/// The materials that are in use.
#[derive(Default)]
pub struct Store {
    materials: RefCell<Materials>,
    generation: Cell<u64>,
}

impl Store {
    /// Takes in what is not there yet.
    pub fn add(&self, more: &Materials) {
        let mut materials = self.materials.borrow_mut();
        let Materials {
            identities,
            authorities,
        } = &mut *materials;
        let added = add_to(identities, &more.identities) + add_to(authorities, &more.authorities);
        drop(materials);
        if added > 0 {
            self.change();
        }
    }

    /// Has these from now on and no others; says how many of those that were there before have
    /// another content now.
    pub fn replace(&self, new: Materials) -> usize {
        let mut materials = self.materials.borrow_mut();
        let identities = Exchange::of(&materials.identities, &new.identities, Identity::is_same);
        let of_others = (&materials.authorities, &new.authorities);
        let authorities = Exchange::of(of_others.0, of_others.1, Authorities::is_same);
        let renewed = identities.renewed + authorities.renewed;
        if identities.is_one() || authorities.is_one() {
            *materials = new;
            drop(materials);
            self.change();
        }
        renewed
    }

    fn change(&self) {
        self.generation.set(self.generation.get() + 1);
    }

    /// Goes up with every change.
    pub(super) fn generation(&self) -> u64 {
        self.generation.get()
    }

    pub(super) fn identity(&self, name: &IdentityName) -> Result<Arc<Identity>, HandshakeError> {
        let materials = self.materials.borrow();
        let found = materials.identities.get(name).cloned();
        found.ok_or_else(|| missing(&name.certificate.display()))
    }

    pub(super) fn authorities(
        &self,
        name: &AuthoritiesName,
    ) -> Result<Arc<Authorities>, HandshakeError> {
        let materials = self.materials.borrow();
        let found = materials.authorities.get(name).cloned();
        found.ok_or_else(|| match name {
            AuthoritiesName::System => missing(&"the system's authorities"),
            AuthoritiesName::File(path) => missing(&path.display()),
        })
    }

    pub(super) fn facts(&self, name: &IdentityName) -> Option<CertificateFacts> {
        let materials = self.materials.borrow();
        let identity = materials.identities.get(name)?;
        Some(CertificateFacts {
            path: name.certificate.clone(),
            about: identity.about.clone(),
        })
    }

    /// Every certificate of ours, in the order of the files' names.
    pub fn certificates(&self) -> Vec<CertificateFacts> {
        let materials = self.materials.borrow();
        let all = materials
            .identities
            .iter()
            .map(|(name, identity)| CertificateFacts {
                path: name.certificate.clone(),
                about: identity.about.clone(),
            });
        all.collect()
    }
}

/// Takes over what has no place yet; says how many.
fn add_to<K: Clone + Ord, V>(to: &mut BTreeMap<K, Arc<V>>, from: &BTreeMap<K, Arc<V>>) -> usize {
    let before = to.len();
    for (name, value) in from {
        to.entry(name.clone()).or_insert_with(|| Arc::clone(value));
    }
    to.len() - before
}

/// What is different between two states of the store.
struct Exchange {
    renewed: usize,
    come_or_gone: bool,
}

impl Exchange {
    fn of<K: Ord, V>(
        old: &BTreeMap<K, Arc<V>>,
        new: &BTreeMap<K, Arc<V>>,
        is_same: impl Fn(&V, &V) -> bool,
    ) -> Exchange {
        let is_renewed = |(name, old): &(&K, &Arc<V>)| {
            let new = new.get(*name);
            new.is_some_and(|new| !is_same(old, new))
        };
        Exchange {
            renewed: old.iter().filter(is_renewed).count(),
            come_or_gone: !old.keys().eq(new.keys()),
        }
    }

    fn is_one(&self) -> bool {
        self.renewed > 0 || self.come_or_gone
    }
}

fn missing(what: &dyn std::fmt::Display) -> HandshakeError {
    let text = format!("TLS cannot be used: {what} was not read");
    HandshakeError::new(Fault::Local, text)
}
