//! Where rooms and SFU nodes are known.
//!
//! - [`RoomStore`]: rooms, their members and streams, and each room's ordered log. Edges keep all their shared state in it.
//! - [`NodeDirectory`] and [`NodeRegistry`]: which SFU nodes live, where, how loaded.
//!
//! Both are traits with an in-memory twin here ([`MemoryRooms`], [`MemoryNodes`], [`StaticNodes`]). The twins are not
//! mocks: the all-in-one program runs on [`MemoryRooms`] and [`StaticNodes`], and all pass the same contract suite (feature `contract`) as every other
//! implementation. Nothing here knows sockets, SDP or gRPC.

pub mod change;
#[cfg(feature = "contract")]
pub mod contract;
pub mod directory;
pub mod edges;
pub mod error;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod feed;
mod feeds;
pub mod follow;
pub mod log;
pub mod memory;
pub mod nodes;
pub mod record;
#[cfg(feature = "redis")]
pub mod redis;
pub mod revocation;
pub mod settings;
pub mod store;
pub mod token;
pub mod witness;

pub use change::*;
pub use directory::{DirectoryError, LEASE_TTL, NodeDirectory, NodeRegistration, NodeRegistry};
pub use edges::{EdgeDirectory, EdgeMap, EdgeRecord, EdgeRegistration};
pub use error::{Conflict, StoreError};
pub use feed::{FeedItem, RoomEvent, RoomFeed};
pub use follow::{Follow, Follower};
pub use log::{Entry, EntryId, Event, LogRead, RemoveReason};
pub use memory::{MemoryNodes, MemoryRooms, StaticNodes};
pub use nodes::{Capacity, Load, NodeMap, NodeRecord, NodeState, Region};
pub use record::{Actor, Attachment, Carrier, ConnectionId, Member, Placement, Publication, Released, Subscription};
pub use revocation::{
    MAX_REVOCATIONS, MAX_TOKEN_ID, MemoryRevocations, RevocationList, Revocations, Revoked, RevokedTimes,
};
pub use settings::{Limits, RoomSettings};
pub use store::{Life, RoomStore};
pub use token::{SessionSigner, WeakSecret};
pub use witness::{CallKind, CallResult, Deed, Fact, LeaveReason, UnsubscribeReason, Witness};
