//! Whole edges over real sockets, with raw clients and with SFU nodes that fail as told.

mod cluster;
mod configured;
mod deaths;
mod draining;
mod ending;
mod events;
mod keys;
mod killed;
mod large;
mod limits;
mod live;
mod moving;
mod mutual_tls;
mod nodes;
mod outages;
mod overload;
mod recordings;
mod regions;
mod returning;
mod revocation;
mod rig;
mod series;
mod signalling;
mod store_settings;
mod surveyed;
