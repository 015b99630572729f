//! Identifiers, as newtypes that exist only when they are valid. They are made at the border (a frame, a setting, a gRPC
//! message) and from then on carry their proof with them. Cheap to clone: text is shared, numbers are copied.
//!
//! No identifier is ever taken apart: who owns a stream is stored, not read out of its `mid`.

mod position;
mod text;

pub use position::{Epoch, Position, PositionError, Seq};
pub use text::{
    BootId, EdgeId, IdError, IdProblem, Mid, NodeId, OpId, PeerId, RecordingId, RegionId, RoomId, SessionId,
    SessionToken, Sid, TransportId,
};
