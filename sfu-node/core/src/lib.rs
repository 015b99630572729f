//! The media core of an SFU node: what happens to datagrams between two sockets.
//!
//! Sans-IO: a [`Shard`] is told the time, is given received datagrams and commands, and gives back datagrams to send and
//! events. It reads no clock, opens no socket, writes no log and knows no async runtime. What is random (SSRCs, ICE credentials) it
//! is given, with two exceptions: [`dtls::Identity::generate`], called once by the node, and DTLS handshakes, whose library draws
//! from the operating system and reads a clock for the time stamp in its hello. The threads, sockets and queues around it are the
//! `sfu-node` crate's; rooms, names and policy are the edge's.
//!
//! Three things are kept apart: a *transport* (one ICE/DTLS/SRTP association with a client), a *publication* (tracks that
//! enter here) and a *subscription* (tracks that leave here). A transport may carry many of either.

pub mod batch;
pub mod clock;
mod command;
pub mod dtls;
mod handle;
mod histogram;
pub mod ice;
pub mod nack;
mod pair;
pub mod reception;
pub mod rewrite;
mod ring;
pub mod rtcp;
pub mod rtp;
pub mod sdp;
pub mod seq;
mod shard;
pub mod srtp;
pub mod twcc;
pub mod vp8;

pub use batch::{RxBatch, TxBatch};
pub use command::{CloseReason, Command, Event, OpenTransport, SiblingMessage, Source, SubscribeTrack};
pub use handle::{PublicationHandle, ShardIndex, SubscriptionHandle, TransportHandle};
pub use histogram::Histogram;
pub use pair::CandidatePair;
pub use ring::{Packet, PacketFields};
pub use shard::{Counters, MAX_SIBLINGS, MAX_TRACKS, Shard, ShardConfig};
