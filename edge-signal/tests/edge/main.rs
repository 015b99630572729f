//! Whole edges over real sockets, with raw clients and with SFU nodes that fail as told.

mod cluster;
mod configured;
mod keys;
mod large;
mod limits;
mod moving;
mod nodes;
mod outages;
mod revocation;
mod rig;
mod signalling;
