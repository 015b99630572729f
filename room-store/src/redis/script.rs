//! The scripts: each a file of its own behind what all have in common, with the settings as constants.

use std::fmt::Write as _;

use sha1::{Digest, Sha1};

use crate::settings::{Limits, RoomSettings};

/// A script and its name on the server.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) text: String,
    pub(super) sha: String,
    /// It writes nothing.
    pub(super) reads: bool,
}

impl Script {
    /// `flags`: what the server may do with it, after `#!lua`. Without any it is refused before it begins where it could not write.
    fn new(flags: &str, parts: &[&str]) -> Self {
        let text = format!("#!lua{flags}\n{}", parts.join("\n"));
        let sha = Sha1::digest(text.as_bytes()).iter().fold(String::new(), |mut sha, byte| {
            let _ = write!(sha, "{byte:02x}"); // A string takes all that is written.
            sha
        });
        Self { text, sha, reads: flags.contains("no-writes") }
    }
}

macro_rules! scripts {
    ($($name:ident: $flags:literal [$($part:literal),*];)*) => {
        /// All of them.
        #[derive(Debug)]
        pub(super) struct Scripts {
            $(pub(super) $name: Script,)*
            pub(super) due_rooms: Script,
            pub(super) hint: Script,
            pub(super) settle: Script,
        }

        impl Scripts {
            /// `indexed`: whether a step may touch the index of due rooms and the totals, as on a single server.
            pub(super) fn new(settings: &RoomSettings, indexed: bool) -> Self {
                let constants = constants(settings, indexed);
                Self {
                    $($name: Script::new($flags, &[
                        &constants,
                        include_str!("lua/step.lua"),
                        $(include_str!(concat!("lua/", $part, ".lua")),)*
                        include_str!(concat!("lua/", stringify!($name), ".lua")),
                    ]),)*
                    due_rooms: Script::new(" flags=no-writes", &[include_str!("lua/due_rooms.lua")]),
                    hint: Script::new("", &[include_str!("lua/hint.lua")]),
                    settle: Script::new("", &[include_str!("lua/settle.lua")]),
                }
            }
        }
    };
}

scripts! {
    join: "" ["members", "streams", "ops"];
    leave: "" ["members", "streams", "ops"];
    refresh: "" ["members", "refreshing"];
    socket_closed: "" ["members", "streams"];
    reserve_publication: "" ["members", "streams", "ops"];
    confirm_publication: "" ["members", "streams"];
    unpublish: "" ["members", "streams", "ops"];
    publication_lost: "" ["members", "streams"];
    mute: "" ["members", "streams"];
    set_recording: "" ["members", "streams"];
    reserve_subscription: "" ["members", "streams", "ops"];
    confirm_subscription: "" ["members", "streams"];
    unsubscribe: "" ["members", "streams", "ops"];
    subscription_lost: "" ["members", "streams"];
    broadcast: "" ["members", "ops"];
    members_page: "" ["members"];
    publications_page: "" ["members", "streams"];
    publication: "" ["members", "streams"];
    subscription: "" ["members", "streams"];
    subscriptions_on: " flags=no-writes" [];
    carriers: " flags=no-writes" [];
    log_after: " flags=no-writes" [];
    snapshot: " flags=no-writes" ["members"];
    head: " flags=no-writes" [];
    start_epoch: "" [];
    reassert: "" ["members", "streams", "refreshing"];
    expire_due: "" ["members", "streams"];
}

/// A number that Lua's doubles hold, and Redis prints, exactly.
fn number(of: usize) -> u64 {
    (of as u64).min(1 << 53)
}

fn constants(settings: &RoomSettings, indexed: bool) -> String {
    let micros = |duration: std::time::Duration| (duration.as_micros() as u64).min(1 << 50);
    let RoomSettings {
        ttl,
        grace,
        reservation,
        log_entries,
        log_bytes,
        total_log_bytes,
        ops,
        broadcast_ops,
        limits,
        ..
    } = settings;
    let Limits { rooms, members, publications, subscriptions } = limits;
    let values = [
        ("TTL", micros(*ttl)),
        ("GRACE", micros(*grace)),
        ("RESERVATION", micros(*reservation)),
        ("LOG_ENTRIES", number(*log_entries)),
        ("LOG_BYTES", number(*log_bytes)),
        ("TOTAL_LOG_BYTES", number(*total_log_bytes)),
        ("MAX_OPS", number(*ops)),
        ("MAX_BROADCAST_OPS", number(*broadcast_ops)),
        ("MAX_RETIRED", number(settings.retired())),
        ("MAX_ROOMS", number(*rooms)),
        ("MAX_MEMBERS", number(*members)),
        ("MAX_PUBLICATIONS", number(*publications)),
        ("MAX_SUBSCRIPTIONS", number(*subscriptions)),
    ];
    let lines = values.map(|(name, value)| format!("local {name} = {value}\n"));
    format!("{}local INDEXED = {indexed}", lines.concat())
}
