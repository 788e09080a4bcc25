//! From one configuration to the next, in one turn of the reactor.
//!
//! Everything new is made and started first; while one of them cannot, nothing of what runs has
//! been touched, and all of it stays. Then everything is exchanged at once, between two events:
//! each event goes through the old form or through the new one, never both.
//!
//! A component that is unchanged is not touched at all; a source merely delivers into other
//! pipelines. Sockets stay open where the new sources listen in the same place. Ports, and the
//! buffers in them, go by the sink's name, whatever the sink becomes.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::difference::{Difference, is_same_component};
use crate::config::{Component, Config};
use crate::deferred::{Failure, join_all};
use crate::pipeline::component::{Sink, Source};
use crate::pipeline::graph::Pipeline;
use crate::pipeline::intake::Outlet;
use crate::pipeline::options::Mistake;
use crate::pipeline::part::Stage;
use crate::pipeline::port::{Inlet, Port};

use crate::transport::tls::Materials;

use super::assembly::{Daemon, Named, StartError, share_kept, stage};
use super::buffers::{OpenedBuffer, Opening, Plan};
use super::wiring::{self, Former, fed_by};

/// What a change came to.
pub struct Changed {
    /// What is different now.
    pub difference: Difference,
    /// A line for each thing that is listened to, fetched or written anew, with its component.
    pub about: Vec<(String, String)>,
}

/// Disk buffers that were opened for the new configuration, by their sinks.
pub type OpenedBuffers = HashMap<Arc<str>, OpenedBuffer>;

/// A component of the new configuration: the one there is, or another.
enum Choice<T> {
    Kept,
    Made(T),
}

/// Everything that is made for the new configuration before anything is touched.
struct Prepared {
    sources: Vec<Choice<Named<dyn Source, Outlet>>>,
    sinks: Vec<Choice<Named<dyn Sink, Inlet>>>,
    /// In the order of the new configuration.
    ports: Vec<Rc<Port>>,
    stages: Vec<Vec<wiring::Stage>>,
    about: Vec<(String, String)>,
}

impl Daemon {
    /// What opens the disk buffers that `new` needs and that are not open yet.
    ///
    /// # Errors
    /// A buffer's options make no sense.
    pub fn openings(&self, new: &Config) -> Result<Vec<Opening>, StartError> {
        let mut openings = Vec::new();
        for sink in &new.sinks {
            let is_open = self.port_of(&sink.name).is_some_and(|port| port.has_disk());
            if is_open {
                continue;
            }
            let opening = self
                .world
                .buffers
                .opening(sink, self.world.scheduler.wall());
            openings.extend(opening.map_err(|failure| refusal("sink", sink, failure))?);
        }
        Ok(openings)
    }

    /// The port of the sink, if there is one that goes on.
    fn port_of(&self, sink: &str) -> Option<Rc<Port>> {
        let retiring = self.departures.retiring(sink);
        retiring.or_else(|| {
            let sinks = self.sinks.borrow();
            let found = sinks.iter().find(|it| *it.name == *sink);
            found.map(|it| Rc::clone(it.end.port()))
        })
    }

    /// Goes over to `new`, for which the disk buffers in `opened` were opened and the
    /// certificates in `materials` read.
    ///
    /// # Errors
    /// The first component that cannot start; then nothing has changed.
    pub fn change(
        self: &Rc<Self>,
        new: Config,
        mut opened: OpenedBuffers,
        materials: Materials,
    ) -> Result<Changed, StartError> {
        let old = self.config();
        let mut difference = Difference::between(&old, &new);
        self.departures.forget_pipelines();
        let network = self.world.network();
        network.tls().add(&materials);
        network.begin_handover(leaving(&old, &new));
        let prepared = match self.prepare(&old, &new, &mut opened) {
            Ok(prepared) => prepared,
            Err(error) => {
                network.abort_handover();
                self.close_unwanted(opened);
                return Err(error);
            }
        };
        network.commit_handover();
        difference.renewed = network.tls().replace(materials);
        let about = self.commit(&old, new, prepared, opened);
        Ok(Changed { difference, about })
    }

    fn prepare(
        self: &Rc<Self>,
        old: &Config,
        new: &Config,
        opened: &mut OpenedBuffers,
    ) -> Result<Prepared, StartError> {
        let stages = wiring::stages(old, new).map_err(|failure| StartError {
            component: "daemon".to_owned(),
            failure,
        })?;
        let mut prepared = Prepared {
            sources: Vec::new(),
            sinks: Vec::new(),
            ports: Vec::new(),
            stages,
            about: Vec::new(),
        };
        let made = self.make_sinks(old, new, opened, &mut prepared);
        let made = made.and_then(|()| self.make_sources(old, new, &mut prepared));
        match made {
            Ok(()) => Ok(prepared),
            Err(error) => {
                self.take_back(prepared);
                Err(error)
            }
        }
    }

    fn make_sinks(
        self: &Rc<Self>,
        old: &Config,
        new: &Config,
        opened: &mut OpenedBuffers,
        prepared: &mut Prepared,
    ) -> Result<(), StartError> {
        for of in &new.sinks {
            let port = self.port_of(&of.name);
            // An earlier disk buffer may have been emptied, and closed, since it was looked for.
            let is_open = |port: &Rc<Port>| port.has_disk();
            let has_disk = opened.contains_key(&of.name) || port.as_ref().is_some_and(is_open);
            if port.is_some() && Plan::of(of).disk_bytes.is_some() && !has_disk {
                let why = "its disk buffer was closed a moment ago; reload again";
                return Err(refusal("sink", of, Failure::msg(why)));
            }
            let is_kept = old.sinks.iter().any(|sink| is_kept(sink, of)) && port.is_some();
            let port = match port {
                Some(port) => port,
                None if self.departures.is_closing(&of.name) => {
                    let text =
                        "it was removed a moment ago and is still being closed; reload again";
                    return Err(refusal("sink", of, Failure::msg(text)));
                }
                None => {
                    let making = self.world.making(&self.vias);
                    let buffers = &self.world.buffers;
                    buffers.port(of, opened.remove(&of.name), &making)
                }
            };
            let inlet = port.next_inlet();
            prepared.ports.push(port);
            if is_kept {
                prepared.sinks.push(Choice::Kept);
                continue;
            }
            let component = built(of.build_sink(), "sink", of)?;
            let mut sink: Named<dyn Sink, Inlet> = Named::new(of, component, inlet);
            let started = self.start_sink(&mut sink, &mut prepared.about);
            prepared.sinks.push(Choice::Made(sink));
            started?;
        }
        Ok(())
    }

    fn make_sources(
        self: &Rc<Self>,
        old: &Config,
        new: &Config,
        prepared: &mut Prepared,
    ) -> Result<(), StartError> {
        for of in &new.sources {
            if old.sources.iter().any(|source| is_kept(source, of)) {
                prepared.sources.push(Choice::Kept);
                continue;
            }
            let component = built(of.build_source(), "source", of)?;
            let outlet = self.engine.outlet(&of.name, Stage::Received, Vec::new());
            let mut source: Named<dyn Source, Outlet> = Named::new(of, component, outlet);
            let started = self.start_source(&mut source, &mut prepared.about);
            prepared.sources.push(Choice::Made(source));
            started?;
        }
        Ok(())
    }

    /// Stops what was started for nothing. Its sockets are closed by the network.
    fn take_back(self: &Rc<Self>, prepared: Prepared) {
        self.world.network().abort_handover();
        let mut stopped = Vec::new();
        let mut sources = made(prepared.sources);
        for source in &mut sources {
            if source.is_started {
                stopped.push(source.component.stop());
                source.component.close();
            }
            source.end.leave();
        }
        let mut sinks = made(prepared.sinks);
        for sink in sinks.iter_mut().filter(|sink| sink.is_started) {
            stopped.push(sink.component.stop());
        }
        sinks.iter().for_each(|sink| sink.end.let_go());
        let ports = prepared.ports;
        let is_of_today = |port: &Rc<Port>| {
            let known = self.port_of(port.name());
            known.is_some_and(|known| Rc::ptr_eq(&known, port))
        };
        for port in ports.iter().filter(|port| !is_of_today(port)) {
            let closed = self.closes_unwanted();
            drop(port.close().add_both(move |_| closed()));
        }
        drop(join_all(stopped).add_both(move |_| drop((sources, sinks, ports))));
    }

    /// Nothing here can fail: first all that is ours, then the calls to components that go.
    fn commit(
        self: &Rc<Self>,
        old: &Config,
        new: Config,
        prepared: Prepared,
        opened: OpenedBuffers,
    ) -> Vec<(String, String)> {
        let Prepared {
            sources,
            sinks,
            ports,
            stages,
            about,
        } = prepared;
        share_kept(&self.world.memory, &ports);
        self.exchange_buffers(&new, &ports, opened);
        self.exchange_pipelines(old, &new, stages, &ports);
        let (sources, old_sources) = exchanged(&new.sources, self.sources.take(), sources);
        let (sinks, old_sinks) = exchanged(&new.sinks, self.sinks.take(), sinks);
        let fresh: Vec<Inlet> = sinks
            .iter()
            .filter(|it| it.1)
            .map(|it| it.0.end.clone())
            .collect();
        let sinks: Vec<_> = sinks.into_iter().map(|it| it.0).collect();
        let sources: Vec<_> = sources.into_iter().map(|it| it.0).collect();
        let retaken = sinks.iter().filter_map(|sink| {
            let taken = self.departures.take_retiring(&sink.name)?;
            self.engine.keeps(taken.end.port());
            Some(taken)
        });
        let retaken: Vec<_> = retaken.collect();
        self.feed(&new, &sources, &old_sources);
        self.sources.replace(sources);
        self.sinks.replace(sinks);
        *self.config.borrow_mut() = Rc::new(new);
        let has_successor = |sink: &Named<dyn Sink, Inlet>| {
            let config = self.config.borrow();
            config.sinks.iter().any(|it| it.name == sink.name)
        };
        let (replaced, removed): (Vec<_>, Vec<_>) = old_sinks.into_iter().partition(has_successor);
        let mut all_ports = ports;
        let removed_ports = removed.iter().map(|sink| Rc::clone(sink.end.port()));
        all_ports.extend(removed_ports.chain(self.departures.ports()));
        self.engine.set_ports(all_ports);
        replaced
            .into_iter()
            .for_each(|sink| self.dismiss_sink(sink));
        retaken.into_iter().for_each(|sink| self.dismiss_sink(sink));
        fresh.iter().for_each(|inlet| inlet.port().hand_over(inlet));
        removed.into_iter().for_each(|sink| self.retire_sink(sink));
        old_sources
            .into_iter()
            .for_each(|source| self.dismiss_source(source));
        about
    }

    fn exchange_buffers(&self, new: &Config, ports: &[Rc<Port>], mut opened: OpenedBuffers) {
        for (of, port) in new.sinks.iter().zip(ports) {
            let plan = Plan::of(of);
            if let Some(opened) = opened.remove(&of.name) {
                let making = self.world.making(&self.vias);
                port.set_queue(self.world.buffers.disk_queue(of, opened, &making));
            } else if plan.disk_bytes.is_none() && port.queue().is_disk() {
                port.set_queue(Box::new(plan.memory_queue()));
            }
            port.set_buffer(plan.when_full, plan.memory_bytes, plan.disk_bytes);
        }
    }

    fn exchange_pipelines(
        &self,
        old: &Config,
        new: &Config,
        stages: Vec<Vec<wiring::Stage>>,
        ports: &[Rc<Port>],
    ) {
        let before = self.pipelines();
        let former = old.pipelines.iter().zip(before.iter());
        let former = former.map(|(wanted, pipeline)| Former { wanted, pipeline });
        let former: Vec<_> = former.collect();
        let pipelines = wiring::pipelines(new, stages, ports, &former);
        self.vias
            .set(pipelines.iter().map(|pipeline| pipeline.via()));
        let is_gone = |it: &&Rc<Pipeline>| !new.pipelines.iter().any(|of| *of.name == *it.name());
        let gone = before.iter().filter(is_gone).cloned();
        self.departures.add_pipelines(gone);
        *self.pipelines.borrow_mut() = pipelines.into();
        // Who still goes through a pipeline that is gone comes out into those of today.
        for pipeline in self.departures.pipelines() {
            pipeline.set_readers(self.of_today(&pipeline.readers()));
        }
    }

    /// The pipelines that go by these names today; one that is gone stands for itself.
    fn of_today(&self, pipelines: &[Rc<Pipeline>]) -> Vec<Rc<Pipeline>> {
        let today = self.pipelines();
        let find = |pipeline: &Rc<Pipeline>| {
            let found = today.iter().find(|it| it.name() == pipeline.name());
            Rc::clone(found.unwrap_or(pipeline))
        };
        pipelines.iter().map(find).collect()
    }

    /// Whatever delivers does so into the pipelines of today.
    fn feed(
        &self,
        new: &Config,
        sources: &[Named<dyn Source, Outlet>],
        old_sources: &[Named<dyn Source, Outlet>],
    ) {
        let today = self.pipelines();
        for (of, source) in new.sources.iter().zip(sources) {
            let fed = fed_by(new, &today, &of.name);
            source.end.feed(stage(of, &fed), fed);
        }
        let leaving = old_sources.iter().map(|source| source.end.clone());
        for outlet in leaving.chain(self.departures.outlets()) {
            let fed = self.of_today(&outlet.fed());
            outlet.feed(outlet.stage(), fed);
        }
    }
}

fn is_kept(old: &Component, new: &Component) -> bool {
    old.name == new.name && is_same_component(old, new)
}

/// The labels of sources that are not in the new configuration as they are.
fn leaving(old: &Config, new: &Config) -> Vec<String> {
    let goes = |source: &&Component| !new.sources.iter().any(|it| is_kept(source, it));
    let leaving = old.sources.iter().filter(goes);
    leaving
        .map(|source| format!("source.{}", source.name))
        .collect()
}

fn refusal(role: &str, of: &Component, failure: Failure) -> StartError {
    StartError {
        component: format!("{role}.{}", of.name),
        failure,
    }
}

fn built<T>(
    built: Option<Result<T, Mistake>>,
    role: &str,
    of: &Component,
) -> Result<T, StartError> {
    let text = match built {
        Some(Ok(component)) => return Ok(component),
        Some(Err(mistake)) => mistake.to_string(),
        None => format!("it is no {role}"),
    };
    Err(refusal(role, of, Failure::msg(text)))
}

fn made<T>(choices: Vec<Choice<T>>) -> Vec<T> {
    let made = choices.into_iter().filter_map(|choice| match choice {
        Choice::Kept => None,
        Choice::Made(made) => Some(made),
    });
    made.collect()
}

/// A component, and whether it is new.
type Standing<T, End> = (Named<T, End>, bool);

/// The components of the new configuration, and those that have no place in it.
fn exchanged<T: ?Sized, End>(
    new: &[Component],
    old: Vec<Named<T, End>>,
    choices: Vec<Choice<Named<T, End>>>,
) -> (Vec<Standing<T, End>>, Vec<Named<T, End>>) {
    let mut old: Vec<Option<Named<T, End>>> = old.into_iter().map(Some).collect();
    let mut kept = |of: &Component| {
        let is_it = |it: &&mut Option<Named<T, End>>| {
            it.as_ref().is_some_and(|named| named.name == of.name)
        };
        let found = old.iter_mut().find(is_it).and_then(Option::take);
        found.expect("what is kept is there: both are of one configuration")
    };
    let standing = new.iter().zip(choices).map(|(of, choice)| match choice {
        Choice::Kept => (kept(of), false),
        Choice::Made(made) => (made, true),
    });
    let standing: Vec<_> = standing.collect();
    (standing, old.into_iter().flatten().collect())
}
