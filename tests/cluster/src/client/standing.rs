//! Where a client stands at the moment, for those who wait for it or follow it.

use std::collections::BTreeSet;

use crate::account::{Notice, Place, View};

/// Where a client stands.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// It is in the room, and requests can be sent.
    pub joined: bool,
    /// How often it has joined.
    pub joins: u64,
    /// It will not come back: why.
    pub ended: Option<String>,
    /// What it knows of the room.
    pub view: View,
    /// The last entry it knows.
    pub place: Option<Place>,
    /// Its own streams and subscriptions, as the last answer to a join said.
    pub own: Own,
    /// Streams of its own that the server has removed.
    pub gone: BTreeSet<String>,
    /// Streams of its own that the server wants elsewhere.
    pub unwanted: BTreeSet<String>,
    /// Marks it has heard: who has said that it will say no more.
    pub marks: BTreeSet<(String, u64)>,
}

/// What survived of a client's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    /// Streams.
    pub mids: BTreeSet<String>,
    /// Subscriptions.
    pub sids: BTreeSet<String>,
}

impl Standing {
    /// Takes over a notice. What does not fit the view is the audit's business.
    pub(super) fn handle_notice(&mut self, uid: &str, place: Place, notice: &Notice) {
        self.place = Some(place);
        let _ = self.view.apply(uid, notice);
        match notice {
            Notice::StreamRemove { uid: owner, mid, .. } if owner == uid => _ = self.gone.insert(mid.clone()),
            Notice::Broadcast { uid, data } => {
                if let Some(mark) = data["mark"].as_u64() {
                    self.marks.insert((uid.clone(), mark));
                }
            }
            _ => {}
        }
    }
}
