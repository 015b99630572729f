//! Sessions in virtual time, against the real in-memory store and a scripted SFU.

mod access;
mod errors;
mod flows;
mod properties;
mod recording;
mod timing;
mod world;
