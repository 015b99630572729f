//! What is never written, whoever logs it: what crates of others say at DEBUG and TRACE, where headers and frames are printed, and
//! every line and span with a field that is named for a secret. Our own code has none; this is for the day it gets one by mistake.

use tracing::{Level, Metadata};

/// Crates of ours, as targets begin with them; the spans of requests are in `sluice`.
const OURS: [&str; 10] = [
    "edge_signal",
    "loadtests",
    "proto",
    "recording",
    "room_store",
    "servers",
    "sfu_core",
    "sfu_node",
    "sluice",
    "telemetry",
];

/// Names of fields, and what the names of others contain.
const SECRET_NAMES: [&str; 7] = ["authorization", "body", "fingerprint", "jsep", "offer", "answer", "sdp"];
const SECRET_PARTS: [&str; 6] = ["credential", "password", "passphrase", "secret", "token", "ice_pwd"];

/// Whether lines or spans of this place in the code may be, whatever `log.level` says. Asked once of each place.
pub(super) fn may_be(metadata: &Metadata<'_>) -> bool {
    let ours = is_ours(metadata.target());
    let secret = metadata.fields().iter().find(|field| is_secret(field.name()));
    debug_assert!(!ours || secret.is_none(), "{secret:?} at {:?}:{:?}", metadata.file(), metadata.line());
    secret.is_none() && (ours || *metadata.level() <= Level::INFO)
}

fn is_ours(target: &str) -> bool {
    let root = target.split("::").next().unwrap_or_default();
    OURS.contains(&root)
}

fn is_secret(name: &str) -> bool {
    SECRET_NAMES.contains(&name) || SECRET_PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_others_are_not_ours() {
        for ours in ["edge_signal", "sfu_node::grpc", "room_store::redis::node", "sluice"] {
            assert!(is_ours(ours), "{ours}");
        }
        for other in ["h2::codec", "hyper", "sluice_of_others", "tungstenite::protocol", "librdkafka", ""] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn fields_named_for_secrets_are_known() {
        for name in ["token", "access_token", "hs256_secret", "sdp", "offer", "redis_password", "body"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["room", "peer", "mid", "error", "message", "took_ms", "node"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
