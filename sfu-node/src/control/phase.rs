//! Whether the node takes new streams. What is there flows on in every phase but the last.
//!
//! ```text
//!          drain                       empty, or the deadline
//! Ready ──────────▶ Draining(until) ────────────────────────▶ Ending
//!   │                                                            ▲
//!   └─▶ Superseded ──────────────────────────────────────────────┘ told to end
//! ```

use std::time::Duration;

use proto::refusal::NoTransport;
use proto::sfu::{GoneReason, NodeState, watch_event};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Control;
use super::request::Negotiation;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Takes everything.
    Ready,
    /// Takes no new publications, and ends what is left then.
    Draining {
        /// The deadline.
        until: Instant,
    },
    /// Another process goes by this node's id: takes nothing new. Its clients are the other's to edges.
    Superseded,
    /// Takes nothing, and has nothing.
    Ending,
}

impl Phase {
    /// As edges are told.
    pub(crate) fn state(self) -> NodeState {
        match self {
            Self::Ready => NodeState::Ready,
            Self::Draining { .. } | Self::Ending => NodeState::Draining,
            Self::Superseded => NodeState::Superseded,
        }
    }

    /// How long what is there has left; zero when nobody has set an end.
    pub(crate) fn left(self, now: Instant) -> Duration {
        match self {
            Self::Draining { until } => until.saturating_duration_since(now),
            Self::Ready | Self::Superseded | Self::Ending => Duration::ZERO,
        }
    }

    /// Why a request brings something that is not taken now. `new_transport`: it opens one. `new_publication`: it brings one.
    pub(super) fn refuses(self, new_transport: bool, new_publication: bool) -> Option<NoTransport> {
        match self {
            Self::Ready => None,
            Self::Draining { .. } => new_publication.then_some(NoTransport::Draining),
            Self::Superseded => (new_transport || new_publication).then_some(NoTransport::Superseded),
            Self::Ending => Some(NoTransport::Draining),
        }
    }
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Everything has moved away.
    Empty,
    /// So many transports are still there.
    Late(usize),
}

impl Control {
    /// The phase, and each next one.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.lock().phase.subscribe()
    }

    /// Takes no new publications from now on, tells the watchers, and waits until nothing is left or the time is over. Called
    /// again it may bring the end nearer.
    pub(crate) async fn drain(&self, within: Duration) -> Drained {
        let until = self.begin_drain(Instant::now() + within);
        let mut transports = self.lock().live.subscribe();
        tokio::select! {
            biased;
            // The sender is `self`'s.
            _ = transports.wait_for(|live| *live == 0) => Drained::Empty,
            () = sleep_until(until) => Drained::Late(self.transports()),
        }
    }

    fn begin_drain(&self, until: Instant) -> Instant {
        let mut registry = self.lock();
        let until = match *registry.phase.borrow() {
            Phase::Draining { until: before } => before.min(until),
            _ => until,
        };
        registry.phase.send_replace(Phase::Draining { until });
        let draining = draining(until.saturating_duration_since(Instant::now()));
        registry.watchers.tell_all(&draining.into());
        until
    }

    /// Another process goes by this node's id.
    pub(crate) fn supersede(&self) {
        self.lock().phase.send_if_modified(|phase| {
            let changes = *phase == Phase::Ready;
            if changes {
                *phase = Phase::Superseded;
            }
            changes
        });
    }

    /// Ends everything: clients and watchers learn it at once and not by silence.
    pub(crate) fn end(&self) {
        let mut registry = self.lock();
        registry.phase.send_replace(Phase::Ending);
        self.close_all(&mut registry, GoneReason::NodeEnding);
    }
}

impl super::Registry {
    /// Refuses what is not taken in this phase, or at this load: of what is new only.
    pub(super) fn takes(&self, request: &Negotiation) -> Result<(), super::Refusal> {
        let phase = *self.phase.borrow();
        let new_transport = !self.transports.contains_key(&request.transport);
        let mut publications = request.bindings.publications.iter();
        let new_publication = publications.any(|binding| !self.publications.contains_key(&binding.id));
        let refused = phase.refuses(new_transport, new_publication);
        let overloaded = || if new_transport { self.level.refuses(new_publication) } else { None };
        refused.or_else(overloaded).map_or(Ok(()), |why| Err(super::Refusal::NoTransports(why)))
    }
}

/// What watchers are told of a drain.
pub(super) fn draining(left: Duration) -> watch_event::Event {
    watch_event::Event::Draining(proto::sfu::Draining { deadline_ms: left.as_millis() as u64 })
}
