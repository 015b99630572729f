//! What a client and an edge say to each other over a WebSocket: the typed form of the signalling contract.
//!
//! In: [`parse`] turns a text frame into an [`Inbound`], whose fields are valid or whose refusal has the contract's code.
//! Out: [`answer::accepted`], [`answer::refused`] and [`Notification::to_frame`] write frames. What the contract leaves to
//! the server's state (membership, ownership) is not decided here.

pub mod answer;
mod error;
mod fields;
mod frame;
pub mod minfo;
mod notification;
mod request;

pub use error::{ErrorCode, Rejection};
pub use frame::{Dropped, Inbound, MAX_DEPTH, MAX_ID_BYTES, MAX_INBOUND_BYTES, RequestId, methods, parse};
pub use minfo::{Minfo, Muted};
pub use notification::Notification;
pub use request::{AccessToken, Cursor, Join, Offer, Publish, Request, StreamRef, Subscribe};

/// Longest outbound frame, in bytes (go-protoo's read limit is 128 KiB).
pub const MAX_OUTBOUND_BYTES: usize = 128 * 1024 - 1;
