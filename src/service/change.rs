//! From one configuration to the next, in one turn of the reactor.
//!
//! Everything new is made and started first; while one of them cannot, nothing of what runs has
//! been touched, and all of it stays. Then everything is exchanged at once, between two events:
//! each event goes through the old form or through the new one, never both.
//!
//! A component that is unchanged is not touched at all; a source merely delivers into other
//! pipelines. Sockets stay open where the new sources listen in the same place. Ports, and the
//! buffers in them, go by the sink's name, whatever the sink becomes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::difference::{Difference, is_same_component};
use crate::config::{Component, Config};
use crate::deferred::{Deferred, Failure, Promise, join_all};
use crate::pipeline::component::{Sink, Source};
use crate::pipeline::graph::Pipeline;
use crate::pipeline::intake::Outlet;
use crate::pipeline::options::Mistake;
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

/// The change that is under way, between its two steps.
#[derive(Default)]
pub(super) struct Changing {
    ready: RefCell<Option<Ready>>,
    /// How many there were; the same on all reactors.
    count: Cell<u64>,
    /// Fired when other reactors have nothing left for what the change of that number removed.
    others_gone: RefCell<Vec<(u64, Gone, Promise<()>)>>,
    /// Ports of sinks that were to go, and have a place in what is prepared.
    postponed: RefCell<Vec<Rc<Port>>>,
}

/// What a change has removed, for which other reactors may still have something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// Pipelines. What comes through them goes on to sinks, here or elsewhere.
    Pipelines,
    /// Sinks.
    Sinks,
}

/// All that is to be exchanged.
struct Ready {
    old: Rc<Config>,
    new: Config,
    prepared: Prepared,
    /// Disk buffers for ports that there are.
    opened: OpenedBuffers,
    materials: Materials,
}

/// Everything that is made for the new configuration before anything is touched.
struct Prepared {
    sources: Vec<Choice<Named<dyn Source, Outlet>>>,
    sinks: Vec<Choice<Named<dyn Sink, Inlet>>>,
    /// In the order of the new configuration.
    ports: Vec<Rc<Port>>,
    stages: Vec<Vec<wiring::Stage>>,
    /// The ways to pipelines of other reactors, in the order of the new configuration.
    elsewhere: Vec<Option<Rc<Port>>>,
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
            let now = self.world.scheduler.wall();
            let opening = self.world.buffers.opening(sink, now);
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
        opened: OpenedBuffers,
        materials: Materials,
    ) -> Result<Changed, StartError> {
        self.prepare_change(new, opened, materials)?;
        Ok(self.commit_change())
    }

    /// The first step of a change: makes and starts what is new, and touches nothing. Until the
    /// second one what the new sources receive waits at them.
    ///
    /// # Errors
    /// As [`Daemon::change`].
    pub fn prepare_change(
        self: &Rc<Self>,
        new: Config,
        mut opened: OpenedBuffers,
        materials: Materials,
    ) -> Result<(), StartError> {
        let old = self.config();
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
        let ready = Ready {
            old,
            new,
            prepared,
            opened,
            materials,
        };
        *self.change.ready.borrow_mut() = Some(ready);
        Ok(())
    }

    /// The second step: goes over to what was prepared. Without a first step nothing changes.
    pub fn commit_change(self: &Rc<Self>) -> Changed {
        let ready = self.change.ready.borrow_mut().take();
        let Some(ready) = ready else {
            return Changed {
                difference: Difference::default(),
                about: Vec::new(),
            };
        };
        let mut difference = Difference::between(&ready.old, &ready.new);
        let network = self.world.network();
        network.commit_handover();
        difference.renewed = network.tls().replace(ready.materials);
        self.change.count.set(self.change.count.get() + 1);
        let about = self.commit(&ready.old, ready.new, ready.prepared, ready.opened);
        // Whoever was to go has its place again.
        self.change.postponed.take();
        self.world.crew.take_early(self);
        Changed { difference, about }
    }

    /// In place of the second step: everything stays as it was.
    pub fn abort_change(self: &Rc<Self>) {
        let ready = self.change.ready.borrow_mut().take();
        if let Some(ready) = ready {
            self.take_back(ready.prepared);
            self.close_unwanted(ready.opened);
            let postponed = self.change.postponed.take();
            postponed.iter().for_each(|port| self.remove_sink(port));
            self.world.crew.take_early(self);
        }
    }

    /// Whether the sink of `port`, which is to go, stays until the change that is under way and
    /// takes it back is done, or is given up.
    pub(super) fn postpones_removal(&self, port: &Rc<Port>) -> bool {
        let ready = self.change.ready.borrow();
        let is_it = |other: &Rc<Port>| Rc::ptr_eq(other, port);
        let is_wanted = ready
            .as_ref()
            .is_some_and(|ready| ready.prepared.ports.iter().any(is_it));
        if is_wanted {
            self.change.postponed.borrow_mut().push(Rc::clone(port));
        }
        is_wanted
    }

    /// Whether a change is under way.
    pub(super) fn is_changing(&self) -> bool {
        self.change.ready.borrow().is_some()
    }

    /// How many changes there were.
    pub(super) fn changes(&self) -> u64 {
        self.change.count.get()
    }

    /// No other reactor has anything left for what was removed by the changes up to `change`.
    pub(super) fn others_gone(&self, change: u64, gone: Gone) {
        let mut waiting = self.change.others_gone.borrow_mut();
        let told = waiting.extract_if(.., |(of, what, _)| *of <= change && *what == gone);
        let told: Vec<_> = told.collect();
        drop(waiting);
        for (_, _, promise) in told {
            promise.callback(());
        }
    }

    /// Fires when nothing comes any more for the sink, which is removed: of what other reactors
    /// have for it they know when they have handed it over. What is on its way to a sink of
    /// another reactor may still come through pipelines.
    pub(super) fn is_left_by_others(&self, port: &Port) -> Deferred<()> {
        match port.is_relay() {
            true => self.when_others_gone(Gone::Pipelines),
            false => self.when_others_gone(Gone::Sinks),
        }
    }

    /// Fires when no other reactor has anything left for what the last change has removed.
    fn when_others_gone(&self, gone: Gone) -> Deferred<()> {
        if self.world.crew.seat().is_alone() {
            return Deferred::ready(());
        }
        let (promise, deferred) = Deferred::new();
        let waiting = (self.change.count.get(), gone, promise);
        self.change.others_gone.borrow_mut().push(waiting);
        deferred
    }

    fn prepare(
        self: &Rc<Self>,
        old: &Config,
        new: &Config,
        opened: &mut OpenedBuffers,
    ) -> Result<Prepared, StartError> {
        let seat = self.world.crew.seat();
        let stages = wiring::stages(seat, old, new).map_err(|failure| StartError {
            component: "daemon".to_owned(),
            failure,
        })?;
        let elsewhere = self.world.elsewhere(new, &self.vias, &self.relays);
        self.start_relays()?;
        let mut prepared = Prepared {
            sources: Vec::new(),
            sinks: Vec::new(),
            ports: Vec::new(),
            stages,
            elsewhere,
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
        let seat = self.world.crew.seat();
        for of in &new.sinks {
            let port = self.port_of(&of.name);
            // An earlier disk buffer may have been emptied, and closed, since it was looked for.
            let is_open = |port: &Rc<Port>| port.has_disk();
            let has_disk = opened.contains_key(&of.name) || port.as_ref().is_some_and(is_open);
            let wants_disk = Plan::at(seat, of).disk_bytes.is_some();
            if port.is_some() && wants_disk && !has_disk {
                let why = "its disk buffer was closed a moment ago; reload again";
                return Err(refusal("sink", of, Failure::msg(why)));
            }
            let stays = |sink: &Component| seat.elsewhere_sink(sink) == seat.elsewhere_sink(of);
            let mut same = old.sinks.iter().filter(|sink| is_kept(sink, of));
            let is_kept = port.is_some() && same.any(stays);
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
            if wants_disk {
                port.keep_former(true);
            }
            prepared.ports.push(port);
            if is_kept {
                prepared.sinks.push(Choice::Kept);
                continue;
            }
            let component = match self.world.relay_to(of) {
                Some(relay) => relay,
                None => built(of.build_sink(), "sink", of)?,
            };
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
        for of in self.sources_here(new) {
            let mut former = self.sources_here(old).into_iter();
            if former.any(|source| is_kept(source, of)) {
                prepared.sources.push(Choice::Kept);
                continue;
            }
            let component = built(of.build_source(), "source", of)?;
            let outlet = self.engine.gated_outlet(&of.name);
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
        ports.iter().for_each(|port| port.keep_former(false));
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
            elsewhere,
            about,
        } = prepared;
        share_kept(&self.world.memory, self.world.crew.seat(), &ports);
        self.exchange_buffers(&new, &ports, opened);
        self.exchange_pipelines(old, &new, stages, (&ports, &elsewhere));
        let here = self.sources_here(&new);
        let (sources, old_sources) = exchanged(&here, self.sources.take(), sources);
        let all_sinks: Vec<_> = new.sinks.iter().collect();
        let (sinks, old_sinks) = exchanged(&all_sinks, self.sinks.take(), sinks);
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
        all_ports.extend(self.relay_ports());
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
            let plan = Plan::at(self.world.crew.seat(), of);
            port.set_relay(plan.relay);
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
        (ports, elsewhere): (&[Rc<Port>], &[Option<Rc<Port>>]),
    ) {
        let before = self.pipelines();
        let former = old.pipelines.iter().zip(before.iter());
        let former = former.map(|(wanted, pipeline)| Former { wanted, pipeline });
        let former: Vec<_> = former.collect();
        let pipelines = wiring::pipelines(new, stages, ports, elsewhere, &former);
        self.vias
            .set(pipelines.iter().map(|pipeline| pipeline.via()));
        let is_gone = |it: &&Rc<Pipeline>| !new.pipelines.iter().any(|of| *of.name == *it.name());
        let gone = before.iter().filter(is_gone).cloned();
        let others_gone = self.when_others_gone(Gone::Pipelines);
        self.departures.add_pipelines(gone, others_gone);
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

    /// The sources of `config` that this reactor has.
    fn sources_here<'a>(&self, config: &'a Config) -> Vec<&'a Component> {
        let seat = self.world.crew.seat();
        let here = config.sources.iter().filter(|of| seat.has_source(of));
        here.collect()
    }

    /// Whatever delivers does so into the pipelines of today.
    fn feed(
        &self,
        new: &Config,
        sources: &[Named<dyn Source, Outlet>],
        old_sources: &[Named<dyn Source, Outlet>],
    ) {
        let today = self.pipelines();
        for (of, source) in self.sources_here(new).into_iter().zip(sources) {
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
    new: &[&Component],
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
