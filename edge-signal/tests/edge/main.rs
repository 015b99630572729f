//! Whole edges over real sockets, with raw clients and with SFU nodes that fail as told.

mod cluster;
mod configured;
mod large;
mod moving;
mod nodes;
mod outages;
mod rig;
mod signalling;
