//! The certificates of a configuration: read with it, put in place with it, watched until they
//! end.
//!
//! Reading and proving is done wherever the configuration is loaded, in a reload by a job; the
//! transports' store is changed in the turn in which everything else is. While there is a
//! certificate it is looked at once a day.

use std::cell::RefCell;
use std::rc::Rc;

use crate::config::{Component, Config};
use crate::deferred::Failure;
use crate::pipeline::tls;
use crate::reactor::{Handle, TimerGuard};
use crate::telemetry::events::CertificateSeen;
use crate::time::Duration;
use crate::transport::Network;
use crate::transport::tls::Materials;

use super::assembly::StartError;

/// What all components of `config` use. Reads the system's authorities where one dials TLS.
///
/// # Errors
/// A file is of no use: since the configuration was proved that is the system's authorities.
pub(super) fn materials(config: &Config) -> Result<Materials, StartError> {
    let mut materials = Materials::default();
    let mut add = |role: &str, of: &Component| {
        tls::add_materials(&of.options, &mut materials).map_err(|mistake| StartError {
            component: format!("{role}.{}", of.name),
            failure: Failure::new(mistake),
        })
    };
    config.sources.iter().try_for_each(|of| add("source", of))?;
    config.sinks.iter().try_for_each(|of| add("sink", of))?;
    Ok(materials)
}

/// Says day by day how long certificates are valid.
pub(super) struct Watch {
    network: Network,
    reactor: Handle,
    next: RefCell<Option<TimerGuard>>,
}

impl Watch {
    pub(super) fn new(network: Network, reactor: Handle) -> Rc<Watch> {
        let next = RefCell::default();
        Rc::new(Watch {
            network,
            reactor,
            next,
        })
    }

    /// Logs all, now and in a day again.
    pub(super) fn look(self: &Rc<Self>) {
        let now = self.reactor.wall();
        let certificates = self.network.tls().certificates();
        for certificate in &certificates {
            let about = &certificate.about;
            let record = CertificateSeen {
                path: &certificate.path.display(),
                subject: &about.subject,
                serial: &about.serial,
                not_after: &about.not_after,
                days_left: about.days_left(now),
            };
            record.log();
        }
        let watch = Rc::downgrade(self);
        let timer = (!certificates.is_empty()).then(|| {
            let timer = self.reactor.call_later(DAY, move |_| {
                if let Some(watch) = watch.upgrade() {
                    watch.look();
                }
            });
            timer.guard()
        });
        drop(self.next.replace(timer));
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
