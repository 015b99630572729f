//! Connecting the call's people: real offers over gRPC, real checks and handshakes over UDP.

use super::{scenario::Scenario, traffic::Endpoint};
use crate::{
    live::LivePeer,
    peer::{Certificate, PeerConfig, Section, TestPeer},
};
use anyhow::Context;
use proto::sfu::{NegotiateRequest, PublicationBinding, SubscriptionBinding, sfu_node_client::SfuNodeClient};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::JoinSet};
use tonic::transport::Channel;

/// Handshakes under way at once: more only makes each wait longer.
const PARALLEL: usize = 8;
/// For one person to connect, behind the others.
const CONNECT: Duration = Duration::from_mins(1);
/// The call's room.
const ROOM: &str = "fan-out";

/// Connects everybody through a node.
#[derive(Clone)]
pub struct Setup {
    client: SfuNodeClient<Channel>,
    certificate: Certificate,
    scenario: Scenario,
}

impl Setup {
    /// Reaches the node.
    pub async fn new(grpc: &str, scenario: Scenario) -> anyhow::Result<Self> {
        let client = SfuNodeClient::connect(grpc.to_owned()).await.context("reaching the node's gRPC")?;
        Ok(Self { client, certificate: Certificate::generate()?, scenario })
    }

    /// Connects the publishers.
    pub async fn publishers(&self) -> anyhow::Result<Vec<Endpoint>> {
        let mut endpoints = Vec::new();
        for number in 0..self.scenario.publishers {
            let binding = PublicationBinding {
                publication_id: publication(number),
                audio: !self.scenario.video,
                video: self.scenario.video,
                ..PublicationBinding::default()
            };
            let request = NegotiateRequest {
                transport_id: publication(number),
                client_id: format!("publisher-{number}"),
                publications: vec![binding],
                ..NegotiateRequest::default()
            };
            let seed = number as u64;
            endpoints.push(self.clone().connect(seed, vec![self.scenario.sent_section()], request, &[]).await?);
        }
        Ok(endpoints)
    }

    /// Connects the subscribers.
    pub async fn subscribers(&self) -> anyhow::Result<Vec<Endpoint>> {
        let turns = Arc::new(Semaphore::new(PARALLEL));
        let mut tasks = JoinSet::new();
        for number in 0..self.scenario.subscriber_transports() {
            let (setup, turns) = (self.clone(), turns.clone());
            tasks.spawn(async move {
                let _turn = turns.acquire().await?;
                setup.subscriber(number).await
            });
        }
        tasks.join_all().await.into_iter().collect()
    }

    async fn subscriber(self, transport: usize) -> anyhow::Result<Endpoint> {
        let per_transport = self.scenario.streams_per_transport;
        let transports_per_client = self.scenario.publishers / per_transport;
        let (person, part) = (transport / transports_per_client, transport % transports_per_client);
        let publishers: Vec<_> = (part * per_transport..(part + 1) * per_transport).collect();
        let bindings = publishers.iter().enumerate().map(|(section, publisher)| SubscriptionBinding {
            subscription_id: format!("sub-{person}-{publisher}"),
            publication_id: publication(*publisher),
            sections: Some(proto::sfu::Sections { mids: vec![section.to_string()] }),
        });
        let request = NegotiateRequest {
            transport_id: format!("transport-{transport}"),
            client_id: format!("subscriber-{person}"),
            subscriptions: bindings.collect(),
            ..NegotiateRequest::default()
        };
        let sections = vec![self.scenario.received_section(); per_transport];
        self.connect(10_000 + transport as u64, sections, request, &publishers).await
    }

    async fn connect(
        mut self,
        seed: u64,
        sections: Vec<Section>,
        request: NegotiateRequest,
        publishers: &[usize],
    ) -> anyhow::Result<Endpoint> {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
        let candidate = format!("1 1 udp 2130706431 127.0.0.1 {} typ host", socket.local_addr()?.port());
        // The reference answers `active` with `passive`, and checks back at the candidate.
        let config = PeerConfig {
            setup: "active",
            candidates: vec![candidate],
            ..PeerConfig::new(seed, self.certificate.clone(), sections)
        };
        let mut live = LivePeer::on(TestPeer::new(Instant::now(), config), socket);
        let request = NegotiateRequest { room_id: ROOM.to_owned(), offer_sdp: live.peer.offer(), ..request };
        let answer = self.client.negotiate(request).await?.into_inner().answer_sdp;
        live.peer.handle_answer(Instant::now(), &answer)?;
        live.connect(CONNECT).await?;
        let remote = live.remote().context("the answer has a candidate")?;
        let (peer, socket) = live.into_parts();
        Ok(Endpoint::new(peer, socket.into_std()?, remote, publishers))
    }
}

/// What a publisher's publication is called.
pub(crate) fn publication(number: usize) -> String {
    format!("publication-{number}")
}
