//! Negotiation: what an offer with its bindings changes on the node, from the request to the shard's commands.
//!
//! ```text
//!  request ─▶ checks against what is live ─▶ plan per m-line ─▶ answer ─▶ commands ─▶ (shard takes them) ─▶ commit
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use proto::ids::{Mid, Sid, TransportId};
use proto::refusal::NoTransport;
use rand::CryptoRng;
use sfu_core::sdp::{self, Answer, IceCredentials, LocalDescription, MediaKind, SdpError, SectionPlan};
use sfu_core::{Command, OpenTransport, ShardIndex, Source, SubscribeTrack, SubscriptionHandle, TransportHandle};

use super::plan::{self, PlanError, Use};
use super::registry::{
    Applied, Negotiated, Orders, Outcome, Publication, Registry, Subscription, Transport, close_publication,
    close_subscription,
};
use super::request::Negotiation;
use super::{Local, Refusal};

/// A change that is worked out and not yet made.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) shard: ShardIndex,
    /// For the transport's own shard, whole or not at all.
    pub(crate) commands: Vec<Command>,
    pub(crate) outcome: Outcome,
    change: Change,
}

#[derive(Debug)]
struct Change {
    id: TransportId,
    transport: Transport,
    publications: Vec<(Mid, Publication)>,
    subscriptions: Vec<(Sid, Subscription)>,
    ended_publications: Vec<Mid>,
    ended_subscriptions: Vec<Sid>,
}

impl Registry {
    /// The answer given before, if this very request has been carried out already.
    pub(crate) fn answered_before(&self, request: &Negotiation) -> Option<Outcome> {
        let before = &self.transports.get(&request.transport)?.negotiated;
        (before.offer == request.offer.text && before.bindings == request.bindings).then(|| before.outcome.clone())
    }

    /// Works out what the request changes. Nothing is changed yet.
    pub(crate) fn prepare(
        &mut self,
        request: &Negotiation,
        local: &Local,
        random: &mut impl CryptoRng,
    ) -> Result<Prepared, Refusal> {
        self.takes(request)?;
        self.check(request)?;
        let mut transport = self.transport_for(request, local, random)?;
        let available = self.available(&request.bindings)?;
        let offer = &request.offer.offer;
        let uses = plan::uses(offer, &request.bindings, &available)?;
        let plans = self.plans(request, &uses, &mut transport.ssrcs, random)?;
        let answer = sdp::answer(offer, &transport.describe(local), &plans)?;
        let change = self.change(request, transport, &uses, answer, plans, random)?;
        Ok(Prepared {
            shard: change.transport.shard,
            commands: self.commands(request, &change),
            outcome: change.transport.negotiated.outcome.clone(),
            change,
        })
    }

    /// Makes the change; gives orders for what it ends elsewhere.
    pub(crate) fn commit(&mut self, prepared: Prepared) -> Orders {
        let Change { id, transport, publications, subscriptions, ended_publications, ended_subscriptions } =
            prepared.change;
        let mut orders = Orders::new();
        for ended in &ended_subscriptions {
            self.forget_subscription(ended);
        }
        if let Some(before) = self.transports.get_mut(&id) {
            *before = transport;
        } else {
            self.insert(&id, transport);
        }
        for (mid, publication) in publications {
            self.publications.insert(mid, publication);
        }
        for (sid, subscription) in subscriptions {
            if let Some(publication) = self.publications.get_mut(&subscription.publication) {
                publication.subscribers.insert(sid.clone());
            }
            self.subscriptions.insert(sid, subscription);
        }
        for ended in &ended_publications {
            self.end_publication(ended, &mut orders);
        }
        orders
    }

    /// Refuses what contradicts what is live.
    fn check(&self, request: &Negotiation) -> Result<(), Refusal> {
        if let Some(transport) = self.transports.get(&request.transport) {
            if (&transport.room, &transport.client) != (&request.room, &request.client) {
                return Err(Refusal::Conflict("the transport is another client's".to_owned()));
            }
            if transport.fingerprint != request.offer.offer.fingerprint {
                return Err(Refusal::Conflict("the transport is tied to another certificate".to_owned()));
            }
            if transport.applied.sections > request.offer.offer.sections.len() {
                return Err(Refusal::Conflict("a further offer keeps the m-lines of the one before".to_owned()));
            }
        }
        for binding in &request.bindings.publications {
            if self.publications.get(&binding.id).is_some_and(|live| live.transport != request.transport) {
                return Err(Refusal::Conflict(format!("publication {} is on another transport", binding.id)));
            }
        }
        for binding in &request.bindings.subscriptions {
            let live = self.subscriptions.get(&binding.id);
            if live.is_some_and(|live| live.transport != request.transport) {
                return Err(Refusal::Conflict(format!("subscription {} is on another transport", binding.id)));
            }
            if live.is_some_and(|live| live.publication != binding.publication) {
                return Err(Refusal::Conflict(format!("subscription {} is to another publication", binding.id)));
            }
            // One of another room is as unknown as one that is not there.
            if self.publications.get(&binding.publication).is_none_or(|source| source.room != request.room) {
                return Err(Refusal::NoPublication(binding.publication.clone()));
            }
        }
        Ok(())
    }

    /// The transport as it will be: a new one, or the live one with the offer applied.
    fn transport_for(
        &mut self,
        request: &Negotiation,
        local: &Local,
        random: &mut impl CryptoRng,
    ) -> Result<Transport, Refusal> {
        let bindings = &request.bindings;
        let outcome = Outcome { answer: Arc::from(""), publications: Vec::new() };
        let answer = Answer { sdp: String::new(), receive: Vec::new(), send: Vec::new() };
        let rtcp_ssrc = random.next_u32();
        let mut transport = Transport {
            handle: TransportHandle(0),
            shard: ShardIndex(0),
            room: request.room.clone(),
            client: request.client.clone(),
            connected: false,
            fingerprint: request.offer.offer.fingerprint,
            local_ice: fresh_credentials(random),
            // Below 2^63, as some parsers read it into a signed integer.
            session_id: random.next_u64() >> 1,
            session_version: 0,
            rtcp_ssrc,
            ssrcs: HashSet::from([rtcp_ssrc]),
            negotiated: Negotiated { offer: request.offer.text.clone(), bindings: bindings.clone(), outcome },
            restarted: None,
            applied: Applied::new(&request.offer, Vec::new(), answer),
            publications: bindings.publications.iter().map(|binding| binding.id.clone()).collect(),
            subscriptions: bindings.subscriptions.iter().map(|binding| binding.id.clone()).collect(),
        };
        match self.transports.get(&request.transport) {
            Some(live) => {
                transport.handle = live.handle;
                transport.shard = live.shard;
                transport.connected = live.connected;
                transport.session_id = live.session_id;
                transport.session_version = live.session_version + 1;
                transport.rtcp_ssrc = live.rtcp_ssrc;
                transport.ssrcs.clone_from(&live.ssrcs);
                if live.applied.ice == request.offer.offer.ice {
                    transport.local_ice = live.local_ice.clone();
                }
            }
            None if self.transports.len() >= local.max_transports => {
                return Err(Refusal::NoTransports(NoTransport::Full));
            }
            None if self.is_busy_connecting(&request.client) => {
                return Err(Refusal::NoTransports(NoTransport::Connecting));
            }
            None => {
                transport.handle = TransportHandle(self.next_handle());
                transport.shard = self.shard_for(&request.room, &request.client);
            }
        }
        Ok(transport)
    }

    /// What becomes of everything that the request names, and of what it no longer names.
    fn change(
        &mut self,
        request: &Negotiation,
        mut transport: Transport,
        uses: &[Use],
        answer: Answer,
        plans: Vec<SectionPlan>,
        random: &mut impl CryptoRng,
    ) -> Result<Change, Refusal> {
        let mut publications = Vec::new();
        for (index, binding) in request.bindings.publications.iter().enumerate() {
            let bound = self.bind_publication(request, index, transport.shard, (uses, &answer), random)?;
            let carries = |kind| bound.tracks.iter().any(|track| track.spec.kind == kind);
            let (audio, video) = (carries(MediaKind::Audio), carries(MediaKind::Video));
            transport.negotiated.outcome.publications.push((binding.id.clone(), audio, video));
            publications.push((binding.id.clone(), bound));
        }
        let mut subscriptions = Vec::new();
        for (index, binding) in request.bindings.subscriptions.iter().enumerate() {
            subscriptions.push((binding.id.clone(), self.bind_subscription(request, index, (uses, &answer))?));
        }
        transport.negotiated.outcome.answer = answer.sdp.as_str().into();
        transport.applied = Applied::new(&request.offer, plans, answer);
        let live = self.transports.get(&request.transport);
        let ended_publications = live.map(|live| &live.publications - &transport.publications).unwrap_or_default();
        let ended_subscriptions = live.map(|live| &live.subscriptions - &transport.subscriptions).unwrap_or_default();
        Ok(Change {
            id: request.transport.clone(),
            transport,
            publications,
            subscriptions,
            ended_publications: ended_publications.into_iter().collect(),
            ended_subscriptions: ended_subscriptions.into_iter().collect(),
        })
    }

    /// What the transport's shard has to do.
    fn commands(&self, request: &Negotiation, change: &Change) -> Vec<Command> {
        let Change { transport, .. } = change;
        let mut commands = Vec::new();
        match self.transports.get(&change.id) {
            None => commands.push(Command::OpenTransport(OpenTransport {
                transport: transport.handle,
                local: transport.local_ice.clone(),
                fingerprint: request.offer.offer.fingerprint,
                rtcp_ssrc: transport.rtcp_ssrc,
            })),
            Some(live) if live.local_ice != transport.local_ice => {
                commands.push(Command::RestartIce { transport: live.handle, local: transport.local_ice.clone() });
            }
            Some(_) => {}
        }
        for ended in &change.ended_subscriptions {
            let ended = self.subscriptions.get(ended);
            let closes = ended.into_iter().flat_map(|ended| close_subscription(transport.shard, ended));
            commands.extend(closes.map(|(_, command)| command));
        }
        for ended in &change.ended_publications {
            let closes = self.publications.get(ended).into_iter().flat_map(close_publication);
            commands.extend(closes.map(|(_, command)| command));
        }
        for (mid, publication) in &change.publications {
            let known = self.publications.get(mid).map_or(0, |live| live.tracks.len());
            let new = &publication.tracks[known..];
            if let Some(first) = new.first() {
                commands.push(Command::Publish {
                    transport: transport.handle,
                    publication: first.handle,
                    tracks: new.iter().map(|track| track.spec.clone()).collect(),
                });
            }
        }
        for (sid, subscription) in &change.subscriptions {
            let known = self.subscriptions.get(sid).map_or(0, |live| live.tracks.len());
            commands.extend(self.subscribe_commands(transport.handle, subscription, known));
        }
        commands
    }

    /// One command per source handle, for the tracks from `known` on.
    fn subscribe_commands(
        &self,
        transport: TransportHandle,
        subscription: &Subscription,
        known: usize,
    ) -> Vec<Command> {
        let Some(source) = self.publications.get(&subscription.publication) else { return Vec::new() };
        let new = &subscription.tracks[known..];
        let mut handles: Vec<SubscriptionHandle> = Vec::new();
        for track in new {
            if !handles.contains(&track.handle) {
                handles.push(track.handle);
            }
        }
        let command = |handle: SubscriptionHandle| {
            let of_handle = || new.iter().filter(move |track| track.handle == handle);
            let publication = source.tracks[of_handle().next()?.source].handle;
            Some(Command::Subscribe {
                transport,
                subscription: handle,
                source: Source { publication, shard: source.shard },
                tracks: of_handle()
                    .map(|track| SubscribeTrack {
                        source_track: source.tracks[track.source].position,
                        send: track.send.clone(),
                        cname: source.labels.cname.clone(),
                    })
                    .collect(),
            })
        };
        handles.into_iter().filter_map(command).collect()
    }
}

impl Transport {
    /// Our side, for an answer.
    pub(super) fn describe<'a>(&'a self, local: &'a Local) -> LocalDescription<'a> {
        LocalDescription {
            ice: &self.local_ice,
            fingerprint: &local.fingerprint,
            candidates: &local.candidates[usize::from(self.shard.0)],
            session_id: self.session_id,
            session_version: self.session_version,
        }
    }
}

impl From<PlanError> for Refusal {
    fn from(error: PlanError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<SdpError> for Refusal {
    fn from(error: SdpError) -> Self {
        Self::Invalid(format!("offer: {error}"))
    }
}

/// A ufrag has 48 random bits: among ten thousand live ones the next collides once in 10¹⁰, and then fails to connect.
pub(super) fn fresh_credentials(random: &mut impl CryptoRng) -> IceCredentials {
    let mut bytes = [0; 24];
    random.fill_bytes(&mut bytes);
    IceCredentials::from_random(bytes)
}

/// A name of 64 random bits, fit for SDP.
pub(super) fn label(random: &mut impl CryptoRng) -> Arc<str> {
    format!("{:016x}", random.next_u64()).into()
}
