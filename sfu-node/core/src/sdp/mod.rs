//! SDP (RFC 8866) as JSEP (RFC 8829) uses it: offers are parsed into types, and answered. Pure functions; no transport, no state.

mod answer;
mod error;
mod line;
mod negotiate;
mod offer;
mod parse;
mod parse_section;
#[cfg(test)]
mod tests;
mod write;

pub use answer::{
    Answer, ExtensionIds, LocalDescription, ReceiveTrack, SectionPlan, SendPlan, SendTrack, answer, restart_answer,
};
pub use error::SdpError;
pub use offer::{Codec, Direction, Extension, Feedback, MediaKind, Offer, Section, SectionKind, Setup, Source};

pub use crate::{dtls::Fingerprint, ice::IceCredentials};
