//! What is said to a shard, what it says back, and what shards of one node say to each other.

use std::sync::Arc;

use crate::{
    handle::{PublicationHandle, ShardIndex, SubscriptionHandle, TransportHandle},
    ring::Packet,
    sdp::{Fingerprint, IceCredentials, ReceiveTrack, SendTrack},
};

/// Orders of the node's control side. Names that a shard does not (or no longer) know are ignored: a command may cross an event
/// about the end of what it names.
#[derive(Debug)]
pub enum Command {
    /// A new transport, waiting for its client's first connectivity check.
    OpenTransport(OpenTransport),
    /// Binds the tracks of a publication to a transport.
    Publish {
        /// The transport that carries it.
        transport: TransportHandle,
        /// The new publication.
        publication: PublicationHandle,
        /// Its tracks; at most [`crate::MAX_TRACKS`] count.
        tracks: Vec<ReceiveTrack>,
    },
    /// Binds the tracks of a subscription to a transport.
    Subscribe {
        /// The transport that carries it.
        transport: TransportHandle,
        /// The new subscription.
        subscription: SubscriptionHandle,
        /// What is subscribed to.
        source: Source,
        /// Its tracks.
        tracks: Vec<SubscribeTrack>,
    },
    /// New ICE credentials for a transport (RFC 8445, section 2.4).
    RestartIce {
        /// The transport.
        transport: TransportHandle,
        /// Ours; the ufrag is unique among the node's live transports.
        local: IceCredentials,
    },
    /// Ends a transport with everything bound to it; DTLS is told (`close_notify`).
    CloseTransport(TransportHandle),
    /// Ends a publication; its transport stays.
    ClosePublication(PublicationHandle),
    /// Ends a subscription; its transport stays.
    CloseSubscription(SubscriptionHandle),
}

/// All that a transport needs from its offer and answer.
#[derive(Debug)]
pub struct OpenTransport {
    /// Its name.
    pub transport: TransportHandle,
    /// Our ICE credentials; the ufrag is unique among the node's live transports.
    pub local: IceCredentials,
    /// What the client's DTLS certificate must hash to.
    pub fingerprint: Fingerprint,
    /// SSRC of the RTCP that we originate towards this client.
    pub rtcp_ssrc: u32,
}

/// Where a publication is received.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The publication.
    pub publication: PublicationHandle,
    /// The shard of its transport.
    pub shard: ShardIndex,
}

/// One track of a subscription.
#[derive(Debug)]
pub struct SubscribeTrack {
    /// Position of the track in the publication's `tracks`.
    pub source_track: u8,
    /// How it is sent.
    pub send: SendTrack,
    /// Canonical name of the publisher (RFC 3550, section 6.5.1), as in the answer: receivers synchronise tracks of one name.
    pub cname: Arc<str>,
}

/// What a shard tells the node's control side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// ICE and DTLS are up; media may flow.
    TransportConnected(TransportHandle),
    /// The transport is gone with everything bound to it.
    TransportClosed(TransportHandle, CloseReason),
}

/// Why a transport ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// By [`Command::CloseTransport`].
    Commanded,
    /// It did not connect in time.
    NeverConnected,
    /// No valid consent check for 30 s (RFC 7675, section 5.1).
    ConsentExpired,
    /// The handshake failed or the certificate was not the one of the offer.
    DtlsFailed,
    /// The client closed DTLS.
    ClosedByClient,
}

/// What one shard tells another of the same node. Whoever is no shard and says [`SiblingMessage::Attach`] under an index of its own,
/// as a recorder does, is lent packets like one. Media cross as references to immutable packets; the queue that carries them is
/// bounded and what does not fit is lost like a packet on a network.
#[derive(Clone, Debug)]
pub enum SiblingMessage {
    /// The sender has subscribers for these tracks of this publication (a bit each, by position) and for no others: lend it
    /// their packets from now on. Repeated every second.
    Attach(PublicationHandle, u16, ShardIndex),
    /// A packet of a track.
    Media(PublicationHandle, u8, Arc<Packet>),
    /// A subscriber of the sender misses the packet with this index, which never came there: lend it again.
    LendAgain(PublicationHandle, u8, u64, ShardIndex),
    /// The publisher's clock as of its last sender report. Also the answer to every [`Self::Attach`].
    Clock(PublicationHandle, u8, crate::clock::SenderClock),
    /// A subscriber of the sender needs a keyframe of this track.
    KeyframeRequest(PublicationHandle, u8),
    /// The publication has ended.
    Closed(PublicationHandle),
}
