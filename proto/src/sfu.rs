//! The gRPC service between edges and SFU nodes, generated from `proto/sluice/v1/sfu.proto`.
//!
//! Not written by hand: `UPDATE=1 cargo test -p proto --test generated` writes it, and the same test proves it fresh.

#![allow(
    clippy::all,
    clippy::pedantic,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code follows its generator's rules"
)]

include!("generated/sluice.v1.rs");

impl GoneReason {
    /// For metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unknown",
            Self::Closed => "closed",
            Self::NeverConnected => "never_connected",
            Self::ConsentExpired => "consent_expired",
            Self::DtlsFailed => "dtls_failed",
            Self::ClosedByClient => "closed_by_client",
            Self::NodeEnding => "node_ending",
        }
    }
}

impl RecordingEnd {
    /// For logs: as manifests, events and metrics have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unknown",
            Self::DiskFull => "disk_full",
            Self::Failed => "failed",
            Self::Limit => "limit",
            Self::NodeEnding => "node_ending",
            Self::Stopped => "stopped",
        }
    }
}
