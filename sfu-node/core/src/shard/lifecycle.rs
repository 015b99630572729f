//! How transports, publications and subscriptions come and go, and what is due for them when.

use std::time::Instant;

use super::{
    Shard,
    inbound::{InboundTrack, ReceivedSsrcs},
    output::Output,
    pace::Pace,
    source::{Origin, SourceTrack},
    transport::{Keys, Transport},
};
use crate::{
    CandidatePair,
    command::{CloseReason, Event, OpenTransport, SiblingMessage, Source, SubscribeTrack},
    dtls::{DtlsEnd, DtlsEndpoint, DtlsOutput},
    handle::{PublicationHandle, ShardIndex, SubscriptionHandle, TransportHandle},
    ice::{IceCredentials, IceLite},
    sdp::ReceiveTrack,
    srtp::{DtlsRole, session_keys},
};

impl Shard {
    pub(super) fn open_transport(&mut self, now: Instant, open: &OpenTransport) {
        if self.transport_keys.contains_key(&open.transport) {
            return;
        }
        let key = self.transports.insert(Transport {
            handle: open.transport,
            keys: None,
            outputs: Vec::new(),
            received: ReceivedSsrcs::default(),
            inbound: slab::Slab::new(),
            publications: Vec::new(),
            arrivals: None,
            ice: IceLite::new(now, &open.local),
            dtls: self.identity.accept(now, open.fingerprint),
            rtcp_ssrc: open.rtcp_ssrc,
            opened: now,
            checks: Pace::default(),
            handshakes_waiting: 0,
            handshake_from: None,
            dtls_deadline: None,
            next_report: Transport::first_report(now, open.rtcp_ssrc),
            next_transport_feedback: None,
            next_nack: None,
            scheduled: None,
        });
        self.transport_keys.insert(open.transport, key);
        self.ufrags.insert(open.local.ufrag().into(), key);
        self.schedule(key);
    }

    pub(super) fn restart_ice(&mut self, now: Instant, transport: TransportHandle, local: &IceCredentials) {
        let Some(key) = self.transport_keys.get(&transport).copied() else { return };
        if let Some(forgotten) = self.transports[key].ice.restart(now, local) {
            self.ufrags.remove(&forgotten);
        }
        self.ufrags.insert(local.ufrag().into(), key);
        self.schedule(key);
    }

    pub(super) fn publish(
        &mut self,
        transport: TransportHandle,
        publication: PublicationHandle,
        tracks: Vec<ReceiveTrack>,
    ) {
        let Some(key) = self.transport_keys.get(&transport).copied() else { return };
        if self.publications.contains_key(&publication) {
            return;
        }
        let transport = &mut self.transports[key];
        transport.publications.push(publication);
        let mut sources = Vec::new();
        for (position, spec) in tracks.into_iter().take(super::MAX_TRACKS).enumerate() {
            let origin = Origin::Transport(key);
            let source = SourceTrack::new(publication, position as u8, spec.kind, spec.clock_rate, origin);
            let source = self.sources.insert(source);
            transport.inbound.insert(InboundTrack::new(publication, spec, source));
            sources.push(Some(source));
        }
        self.publications.insert(publication, sources);
    }

    pub(super) fn subscribe(
        &mut self,
        now: Instant,
        transport: TransportHandle,
        subscription: SubscriptionHandle,
        source: Source,
        tracks: Vec<SubscribeTrack>,
    ) {
        let Some(key) = self.transport_keys.get(&transport).copied() else { return };
        if self.subscriptions.contains_key(&subscription) {
            return;
        }
        let mut outputs = Vec::new();
        for track in tracks.into_iter().take(super::MAX_TRACKS) {
            let Some(source_key) = self.source_for(source, &track) else { continue };
            let output = self.outputs.insert(Output::new(subscription, key, source_key, track));
            self.sources[source_key].outputs.push(output);
            self.transports[key].outputs.push(output);
            outputs.push(output);
            if self.wants_keyframe(output) {
                self.request_keyframe(now, source_key);
            }
        }
        if outputs.is_empty() {
            // Its publication has just ended: the transport would have nothing to remember it by.
            return;
        }
        self.subscriptions.insert(subscription, outputs);
        if source.shard != self.index {
            self.tell_attached(source.publication, source.shard);
        }
    }

    /// Tells the shard that has a publication which of its tracks have subscribers here.
    fn tell_attached(&mut self, publication: PublicationHandle, owner: ShardIndex) {
        let sources = self.publications.get(&publication).into_iter().flatten().enumerate();
        let tracks = sources.fold(0, |tracks, (track, source)| tracks | u16::from(source.is_some()) << track);
        self.tell_sibling(owner, SiblingMessage::Attach(publication, tracks, self.index));
    }

    /// The key of the source that `track` is fed from; a source that a sibling feeds is made when it is first needed.
    fn source_for(&mut self, source: Source, track: &SubscribeTrack) -> Option<usize> {
        let position = usize::from(track.source_track);
        if position >= super::MAX_TRACKS {
            return None;
        }
        if source.shard == self.index {
            return self.source_key(source.publication, track.source_track);
        }
        let sources = self.publications.entry(source.publication).or_default();
        if sources.len() <= position {
            sources.resize(position + 1, None);
        }
        if sources[position].is_none() {
            let origin = Origin::Sibling(source.shard);
            let send = &track.send;
            let relayed = SourceTrack::new(source.publication, track.source_track, send.kind, send.clock_rate, origin);
            sources[position] = Some(self.sources.insert(relayed));
        }
        sources[position]
    }

    /// A sibling has subscribers of these tracks of a publication of this shard, and of no others.
    pub(super) fn attach(&mut self, now: Instant, publication: PublicationHandle, tracks: u16, sibling: ShardIndex) {
        let Some(sources) = self.publications.get(&publication).cloned() else {
            // Gone, or a message that came before the publication: the sibling asks again.
            return;
        };
        for key in sources.into_iter().flatten() {
            let source = &mut self.sources[key];
            if matches!(source.origin, Origin::Sibling(_)) {
                return;
            }
            if tracks & (1 << source.track) == 0 {
                source.detach(sibling);
                continue;
            }
            let newly = source.attach(sibling);
            let (track, clock) = (source.track, source.clock);
            // Every time: the one before may have been lost, and the sibling learns that the publication is still there.
            self.tell_sibling(sibling, SiblingMessage::Clock(publication, track, clock));
            if newly {
                self.request_keyframe(now, key);
            }
        }
    }

    pub(super) fn close_subscription(&mut self, subscription: SubscriptionHandle) {
        for key in self.subscriptions.remove(&subscription).into_iter().flatten() {
            let output = self.outputs.remove(key);
            if let Some(transport) = self.transports.get_mut(output.transport) {
                transport.outputs.retain(|other| *other != key);
            }
            let Some(source) = self.sources.get_mut(output.source) else { continue };
            // Keeps the order and the cursor of a fan-out that is under way.
            if let Some(at) = source.outputs.iter().position(|other| *other == key) {
                source.outputs.remove(at);
                source.cursor -= usize::from(at < source.cursor);
            }
            self.release_relayed(output.source);
        }
    }

    /// A source fed by a sibling goes with its last subscriber here.
    fn release_relayed(&mut self, key: usize) {
        let Some(source) = self.sources.get(key).filter(|source| source.outputs.is_empty()) else { return };
        let Origin::Sibling(owner) = source.origin else { return };
        let (publication, track) = (source.publication, usize::from(source.track));
        self.remove_source(key);
        if let Some(sources) = self.publications.get_mut(&publication) {
            sources[track] = None;
            if sources.iter().all(Option::is_none) {
                self.publications.remove(&publication);
            }
        }
        self.tell_attached(publication, owner);
    }

    pub(super) fn close_publication(&mut self, publication: PublicationHandle) {
        let Some(sources) = self.publications.get(&publication) else { return };
        let mut siblings = 0;
        for key in sources.iter().flatten() {
            let source = &self.sources[*key];
            siblings |= source.siblings;
            let Origin::Transport(transport) = source.origin else { return };
            if let Some(transport) = self.transports.get_mut(transport) {
                transport.forget(publication);
            }
        }
        self.remove_publication(publication);
        self.tell_all(siblings, SiblingMessage::Closed(publication));
    }

    /// A sibling says that a publication has ended.
    pub(super) fn close_relayed(&mut self, publication: PublicationHandle) {
        let is_relayed = |key: &usize| matches!(self.sources[*key].origin, Origin::Sibling(_));
        if self.publications.get(&publication).is_some_and(|sources| sources.iter().flatten().all(is_relayed)) {
            self.remove_publication(publication);
        }
    }

    /// Forgets a publication's sources. Their outputs stay with their subscriptions, silent.
    fn remove_publication(&mut self, publication: PublicationHandle) {
        for key in self.publications.remove(&publication).into_iter().flatten().flatten() {
            self.remove_source(key);
        }
    }

    fn remove_source(&mut self, key: usize) {
        let source = self.sources.remove(key);
        self.ready.remove(key);
        self.windowed.retain(|other| *other != key);
        self.owed_keyframes.retain(|other| *other != key);
        for output in source.outputs {
            self.outputs[output].source = Output::NO_SOURCE;
        }
    }

    pub(super) fn close_commanded(&mut self, now: Instant, transport: TransportHandle) {
        let Some(key) = self.transport_keys.get(&transport).copied() else { return };
        self.transports[key].dtls.close();
        self.drain_dtls(now, key, None);
        self.close_transport(transport, CloseReason::Commanded);
    }

    fn close_transport(&mut self, transport: TransportHandle, reason: CloseReason) {
        let Some(key) = self.transport_keys.remove(&transport) else { return };
        for publication in std::mem::take(&mut self.transports[key].publications) {
            self.close_publication(publication);
        }
        let subscriptions: Vec<_> =
            self.transports[key].outputs.iter().map(|output| self.outputs[*output].subscription).collect();
        for subscription in subscriptions {
            self.close_subscription(subscription);
        }
        let ice = self.transports.remove(key).ice;
        for ufrag in ice.ufrags() {
            self.ufrags.remove(ufrag);
        }
        for path in ice.paths() {
            self.forget_path(path, key);
        }
        self.events.push_back(Event::TransportClosed(transport, reason));
    }

    /// Forgets the client's end of a path that is gone, unless another path has it, too.
    pub(super) fn forget_path(&mut self, path: CandidatePair, key: usize) {
        let address = path.remote;
        let transport = self.transports.get(key);
        if transport.is_some_and(|transport| transport.ice.paths().any(|other| other.remote == address)) {
            return;
        }
        if let Some(proven) =
            self.addresses.get(&address).copied().filter(|proven| self.proven[*proven].transport == key)
        {
            self.addresses.remove(&address);
            self.proven.remove(proven);
        }
    }

    /// Puts the transport into the wheel for its next deadline, if it is not there early enough already.
    pub(super) fn schedule(&mut self, key: usize) {
        let transport = &mut self.transports[key];
        let deadline = transport.deadline();
        // In ticks: its own place is later than its deadline, and a key that is early or stale would be set anew for ever.
        if transport.scheduled.is_none_or(|scheduled| self.wheel.comes_up(deadline) < scheduled) {
            transport.scheduled = Some(self.wheel.set(key, deadline));
        }
    }

    /// Does what is due for a transport. Keys in the wheel may be early, stale, or of a transport that took the place of another.
    pub(super) fn transport_timeout(&mut self, now: Instant, key: usize) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        transport.scheduled = transport.scheduled.filter(|scheduled| *scheduled > now);
        let handle = transport.handle;
        if let Some(forgotten) = transport.ice.poll_retired(now) {
            self.ufrags.remove(&forgotten);
        }
        while let Some(left) = self.transports[key].ice.expire_path(now) {
            self.forget_path(left, key);
        }
        let transport = &mut self.transports[key];
        if transport.keys.is_none() && now >= transport.opened + Transport::CONNECT_TIMEOUT {
            return self.close_transport(handle, CloseReason::NeverConnected);
        }
        if now >= transport.ice.consent_deadline() {
            return self.close_transport(handle, CloseReason::ConsentExpired);
        }
        if transport.dtls_deadline.is_some_and(|deadline| now >= deadline) {
            transport.dtls_deadline = None;
            transport.dtls.handle_timeout(now);
            let from = transport.handshake_from;
            self.drain_dtls(now, key, from);
            if !self.transports.contains(key) {
                return;
            }
        }
        self.send_feedback(now, key);
        self.schedule(key);
    }

    /// Takes one waiting handshake datagram: each may cost a signature or a key agreement, during which packets wait.
    pub(super) fn handle_next_handshake(&mut self, now: Instant) {
        let Some(handshake) = self.handshakes.pop_front() else { return };
        let Some(key) = self.transport_keys.get(&handshake.transport).copied() else { return };
        let transport = &mut self.transports[key];
        transport.handshakes_waiting -= 1;
        match transport.dtls.handle_datagram(now, &handshake.datagram) {
            Ok(()) => transport.handshake_from = Some(handshake.from),
            Err(_) => self.counters.dropped_handshake += 1,
        }
        self.drain_dtls(now, key, Some(handshake.from));
        if self.transports.contains(key) {
            self.schedule(key);
        }
    }

    /// Does what DTLS wants done, with its datagrams to where it was last heard from. A client may use one path for its handshake
    /// while it still checks others.
    fn drain_dtls(&mut self, now: Instant, key: usize, from: Option<CandidatePair>) {
        let mut buf = std::mem::take(&mut self.scratch);
        buf.resize(crate::batch::TxBatch::DATAGRAM_BYTES, 0);
        let closed = loop {
            let transport = &mut self.transports[key];
            match transport.dtls.poll(&mut buf) {
                DtlsOutput::Datagram(len) => {
                    if let Some(path) = from.map_or(transport.ice.path(), |from| transport.ice.path_back(from)) {
                        self.send_control(path, &buf[..len]);
                    }
                }
                DtlsOutput::Connected { profile, keying_material } => {
                    // Once per transport: new keys under running counters would reuse nonces.
                    if transport.keys.is_some() {
                        continue;
                    }
                    match session_keys(profile, &keying_material, DtlsRole::Server) {
                        Ok((opener, sealer)) => transport.keys = Some(Keys { opener, sealer }),
                        Err(_) => break Some(CloseReason::DtlsFailed),
                    }
                    if let Some(from) = from {
                        self.transports[key].ice.connect(now, from);
                    }
                    self.connected(now, key);
                }
                DtlsOutput::Closed(DtlsEnd::Failed(_)) => {
                    self.counters.handshakes_failed += 1;
                    break Some(CloseReason::DtlsFailed);
                }
                DtlsOutput::Closed(DtlsEnd::ClosedByPeer) => break Some(CloseReason::ClosedByClient),
                DtlsOutput::Closed(DtlsEnd::ClosedByUs) => break Some(CloseReason::Commanded),
                DtlsOutput::Idle { timeout } => {
                    transport.dtls_deadline = timeout;
                    break None;
                }
            }
        };
        self.scratch = buf;
        if let Some(reason) = closed {
            self.close_transport(self.transports[key].handle, reason);
        }
    }

    fn connected(&mut self, now: Instant, key: usize) {
        self.counters.transports_connected += 1;
        let transport = &mut self.transports[key];
        transport.next_report = Transport::first_report(now, transport.rtcp_ssrc);
        self.events.push_back(Event::TransportConnected(transport.handle));
        for position in 0..self.transports[key].outputs.len() {
            let output = self.transports[key].outputs[position];
            if self.wants_keyframe(output) {
                self.request_keyframe(now, self.outputs[output].source);
            }
        }
    }

    /// Repairs what a lost message between siblings, or a lost keyframe request, has left undone.
    pub(super) fn housekeep(&mut self, now: Instant) {
        for (_, source) in &mut self.sources {
            source.end_leases(now);
        }
        let relayed: Vec<_> =
            self.publications.iter().filter_map(|(publication, sources)| self.relayed(*publication, sources)).collect();
        for (publication, owner) in relayed {
            if self.is_abandoned(publication) {
                self.remove_publication(publication);
            } else {
                self.tell_attached(publication, owner);
            }
        }
        let waiting: Vec<_> =
            self.outputs.iter().filter(|(key, _)| self.wants_keyframe(*key)).map(|(_, output)| output.source).collect();
        for source in waiting {
            self.request_keyframe(now, source);
        }
    }

    /// Whether an output waits for a keyframe, and could do something with it.
    fn wants_keyframe(&self, output: usize) -> bool {
        let output = &self.outputs[output];
        output.awaits_keyframe && !output.is_shed_at(self.shedding) && self.transports[output.transport].keys.is_some()
    }

    /// The shard that feeds this publication, if that is a sibling.
    fn relayed(
        &self,
        publication: PublicationHandle,
        sources: &[Option<usize>],
    ) -> Option<(PublicationHandle, ShardIndex)> {
        match self.sources[*sources.iter().flatten().next()?].origin {
            Origin::Sibling(owner) => Some((publication, owner)),
            Origin::Transport(_) => None,
        }
    }

    /// Counts a renewal. True when the shard that has the publication has answered none for very long.
    fn is_abandoned(&mut self, publication: PublicationHandle) -> bool {
        let mut abandoned = true;
        for key in self.publications.get(&publication).into_iter().flatten().flatten() {
            let source = &mut self.sources[*key];
            source.unanswered += 1;
            abandoned &= source.unanswered > SourceTrack::MAX_UNANSWERED;
        }
        abandoned
    }
}
