//! The edge: clients' WebSocket sessions, the choice of SFU nodes, and the calls to them.
//!
//! - [`Edge::start`] serves clients until its token is cancelled; the program `edge-signal` and `sluice` are thin shells
//!   around it.
//! - A client's session is a machine without I/O (`session`); `connection` is its shell, `ws` its door.
//! - An edge owns nothing: members, streams and the rooms' logs are the store's ([`room_store::RoomStore`]), media state is the
//!   nodes'. What an edge holds is sockets, and what it needs to tell them what happened.

mod admission;
pub mod auth;
mod clocks;
mod connection;
mod departure;
mod drain_routes;
mod events;
mod files;
mod gate;
mod handshake;
pub mod https;
mod jwks;
mod leases;
mod live_routes;
mod members;
mod metrics;
mod migrate;
mod neighbours;
mod nodes;
mod notice;
mod operators;
mod origin;
mod overload;
mod pipe;
pub mod placement;
mod presence;
mod proxies;
mod proxy_header;
mod rate;
mod reconcile;
mod recorded_rooms;
mod revival;
mod revocation_routes;
mod revoking;
mod room_rates;
mod rooms;
mod rtc_config;
mod server;
mod session;
pub mod settings;
mod sight;
mod sockets;
mod stores;
mod sweep;
mod ws;

pub use self::metrics::CATALOGUE;
pub use nodes::{BadAddress, Connector, SfuError, TcpConnector};
pub use proxies::{Network, NotANetwork};
pub use server::{Edge, EdgeParts, StartError};
pub use settings::EdgeSettings;
pub use stores::Stores;
