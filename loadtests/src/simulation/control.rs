//! The node's control side: it answers offers and tells shards what follows from them.

use super::{Binding, Client, ClientId, Opened, Simulation};
use crate::{
    network::{Link, Quality},
    peer::{PeerConfig, TestPeer},
};
use rand::RngExt;
use sfu_core::{
    Command, OpenTransport, PublicationHandle, ShardIndex, Source, SubscribeTrack, SubscriptionHandle, TransportHandle,
    ice::IceCredentials,
    sdp::{self, LocalDescription, MediaKind, Offer, ReceiveTrack, SectionKind, SectionPlan, SendPlan},
};
use std::{collections::HashMap, net::SocketAddr};

pub(super) struct Published {
    shard: ShardIndex,
    tracks: Vec<ReceiveTrack>,
}

impl Simulation {
    /// Opens a client that is made from `config`.
    pub fn open_with(
        &mut self,
        shard: usize,
        quality: Quality,
        config: PeerConfig,
        bindings: &[Binding],
    ) -> anyhow::Result<Opened> {
        let mut peer = TestPeer::new(self.now, config);
        let offer = Offer::parse(&peer.offer())?;
        let plans = self.plans(&offer, bindings);
        let local = IceCredentials::from_random(self.random.random());
        let answer = self.answer(&offer, &local, shard, &plans)?;
        peer.handle_answer(self.now, &answer.sdp)?;
        let transport = TransportHandle(self.handle());
        let open = OpenTransport { transport, local, fingerprint: offer.fingerprint, rtcp_ssrc: self.random.random() };
        self.command(shard, Command::OpenTransport(open));
        let (publications, subscriptions) = self.bind(shard, transport, &answer, bindings);
        let address = SocketAddr::from(([198, 51, 100, 1], 10_000 + self.clients.len() as u16));
        let client = ClientId(self.clients.len());
        self.clients.push(Client {
            peer,
            events: Vec::new(),
            failure: None,
            address,
            shard,
            up: Link::new(quality, self.random.random()),
            down: Link::new(quality, self.random.random()),
            sent_to_it: HashMap::new(),
            recording: None,
        });
        Ok(Opened { client, transport, publications, subscriptions })
    }

    fn handle(&mut self) -> u64 {
        self.handles += 1;
        self.handles
    }

    fn plans(&mut self, offer: &Offer, bindings: &[Binding]) -> Vec<SectionPlan> {
        let mut plans = vec![SectionPlan::Reject; offer.sections.len()];
        for binding in bindings {
            match binding {
                Binding::Publish(sections) => {
                    for section in sections {
                        plans[*section] = SectionPlan::Receive;
                    }
                }
                Binding::Subscribe(publication, sections) => {
                    for (section, track) in self.sources(offer, *publication, sections) {
                        let cname = track.cname.clone().unwrap_or_default().into();
                        let ssrc = self.random.random();
                        plans[section] = SectionPlan::Send(SendPlan {
                            stream_id: format!("p{}", publication.0).into(),
                            track_id: format!("t{section}").into(),
                            cname,
                            kind: track.kind,
                            stereo: track.stereo,
                            ssrc,
                            rtx_ssrc: (track.kind == MediaKind::Video).then(|| self.random.random()),
                        });
                    }
                }
            }
        }
        plans
    }

    /// The published track for each section of a subscription.
    fn sources(&self, offer: &Offer, publication: PublicationHandle, sections: &[usize]) -> Vec<(usize, ReceiveTrack)> {
        let Some(published) = self.published.get(&publication) else { return Vec::new() };
        let mut used = HashMap::new();
        sections
            .iter()
            .filter_map(|section| {
                let SectionKind::Media(kind) = offer.sections.get(*section)?.kind else { return None };
                let position: &mut usize = used.entry(kind).or_default();
                *position += 1;
                let track = published.tracks.iter().filter(|track| track.kind == kind).nth(*position - 1)?;
                Some((*section, track.clone()))
            })
            .collect()
    }

    fn answer(
        &mut self,
        offer: &Offer,
        local: &IceCredentials,
        shard: usize,
        plans: &[SectionPlan],
    ) -> anyhow::Result<sdp::Answer> {
        let description = LocalDescription {
            ice: local,
            fingerprint: &self.identity.fingerprint(),
            candidates: &[self.shards[shard].address],
            session_id: self.random.random_range(0..1 << 62),
            session_version: 1,
        };
        Ok(sdp::answer(offer, &description, plans)?)
    }

    fn bind(
        &mut self,
        shard: usize,
        transport: TransportHandle,
        answer: &sdp::Answer,
        bindings: &[Binding],
    ) -> (Vec<PublicationHandle>, Vec<SubscriptionHandle>) {
        let (mut publications, mut subscriptions) = (Vec::new(), Vec::new());
        for binding in bindings {
            match binding {
                Binding::Publish(sections) => {
                    let publication = PublicationHandle(self.handle());
                    let tracks: Vec<_> =
                        answer.receive.iter().filter(|track| sections.contains(&track.section)).cloned().collect();
                    let shard_index = ShardIndex(shard as u8);
                    self.published.insert(publication, Published { shard: shard_index, tracks: tracks.clone() });
                    self.command(shard, Command::Publish { transport, publication, tracks });
                    publications.push(publication);
                }
                Binding::Subscribe(publication, sections) => {
                    let subscription = SubscriptionHandle(self.handle());
                    subscriptions.push(subscription);
                    let Some(published) = self.published.get(publication) else { continue };
                    let source = Source { publication: *publication, shard: published.shard };
                    let tracks = subscribed(published, answer, sections);
                    self.command(shard, Command::Subscribe { transport, subscription, source, tracks });
                }
            }
        }
        (publications, subscriptions)
    }

    /// Restarts ICE of a client whose transport is `transport`.
    pub fn restart_ice(&mut self, id: ClientId, transport: TransportHandle) -> anyhow::Result<()> {
        let client = &mut self.clients[id.0];
        client.peer.restart_offer();
        let shard = client.shard;
        let local = IceCredentials::from_random(self.random.random());
        let mut answer = client.peer.answer().cloned().ok_or_else(|| anyhow::anyhow!("no answer to restart"))?;
        local.ufrag().clone_into(&mut answer.ice.ufrag);
        local.password().clone_into(&mut answer.ice.pwd);
        client.peer.handle_restart(self.now, answer);
        self.command(shard, Command::RestartIce { transport, local });
        Ok(())
    }
}

/// The tracks of a subscription: the n-th sent track of a kind is the publication's n-th of that kind.
fn subscribed(published: &Published, answer: &sdp::Answer, sections: &[usize]) -> Vec<SubscribeTrack> {
    let mut used = HashMap::new();
    let sent = answer.send.iter().filter(|track| sections.contains(&track.section));
    sent.filter_map(|send| {
        let nth: &mut usize = used.entry(send.kind).or_default();
        *nth += 1;
        let mut candidates = published.tracks.iter().enumerate().filter(|(_, track)| track.kind == send.kind);
        let (position, track) = candidates.nth(*nth - 1)?;
        let cname = track.cname.clone().unwrap_or_default().into();
        Some(SubscribeTrack { source_track: position as u8, send: send.clone(), cname })
    })
    .collect()
}
