//! Whole edges over real sockets, with raw clients and with SFU nodes that fail as told.

mod configured;
mod keys;
mod large;
mod limits;
mod nodes;
mod revocation;
mod rig;
mod signalling;
