//! Where in etcd what is kept, and what a key found there is. Written by anybody who may write to etcd: a key that is not
//! made of valid ids is told from one that is not ours to read.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use proto::ids::{EdgeId, NodeId, PeerId, RegionId};

use crate::revocation::{MAX_TOKEN_ID, Revoked};

/// Makes the keys below one prefix.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// With a slash at its end.
    root: String,
}

/// What a key names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// A node's entry.
    Node(RegionId, NodeId),
    /// What a node registered as, once.
    Once(RegionId, NodeId),
    /// An edge's entry.
    Edge(EdgeId),
    /// What operators say of a region.
    Region(RegionId),
    /// A revocation.
    Revoked(Revoked),
    /// A node's answer to the question of this name.
    Answered(String),
    /// Something that no map is made of, perhaps of a newer version.
    Other,
    /// A place of ours with a name that cannot be one.
    Malformed,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { root: format!("{prefix}/") }
    }

    /// What everything begins with.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// Where the name of this etcd's life is.
    pub(super) fn life(&self) -> String {
        format!("{}life", self.root)
    }

    pub(super) fn node(&self, region: &RegionId, node: &NodeId) -> String {
        format!("{}nodes/{region}/{node}", self.root)
    }

    pub(super) fn once(&self, region: &RegionId, node: &NodeId) -> String {
        format!("{}once/{region}/{node}", self.root)
    }

    /// Who has a node's name, in whatever region.
    pub(super) fn name(&self, node: &NodeId) -> String {
        format!("{}names/{node}", self.root)
    }

    pub(super) fn edge(&self, edge: &EdgeId) -> String {
        format!("{}edges/{edge}", self.root)
    }

    /// What all revocations begin with.
    pub(super) fn revocations(&self) -> String {
        format!("{}revoked/", self.root)
    }

    /// A token's id may hold any character, so it is written in base64url.
    pub(super) fn revoked(&self, revoked: &Revoked) -> String {
        match revoked {
            Revoked::Peer(peer) => format!("{}revoked/peer/{peer}", self.root),
            Revoked::Token(id) => format!("{}revoked/token/{}", self.root, BASE64_URL_SAFE_NO_PAD.encode(id)),
        }
    }

    /// What the questions to a node begin with.
    pub(super) fn questions(&self, node: &NodeId) -> String {
        format!("{}asked/{node}/", self.root)
    }

    pub(super) fn asked(&self, node: &NodeId, question: &str) -> String {
        format!("{}asked/{node}/{question}", self.root)
    }

    pub(super) fn answered(&self, node: &NodeId, question: &str) -> String {
        format!("{}answered/{node}/{question}", self.root)
    }

    pub(super) fn parse(&self, key: &[u8]) -> Key {
        let Some(path) = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(&self.root)) else {
            return Key::Malformed;
        };
        let Some((kind, name)) = path.split_once('/') else { return Key::Other };
        let known = match kind {
            "nodes" => pair(name).map(|(region, node)| Key::Node(region, node)),
            "once" => pair(name).map(|(region, node)| Key::Once(region, node)),
            "edges" => name.parse().ok().map(Key::Edge),
            "regions" => name.parse().ok().map(Key::Region),
            "revoked" => revoked(name).map(Key::Revoked),
            "answered" => pair::<NodeId, _>(name).map(|(_, question)| Key::Answered(question)),
            _ => return Key::Other,
        };
        known.unwrap_or(Key::Malformed)
    }
}

fn pair<A: std::str::FromStr, B: std::str::FromStr>(name: &str) -> Option<(A, B)> {
    let (first, second) = name.split_once('/')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

fn revoked(name: &str) -> Option<Revoked> {
    let (kind, name) = name.split_once('/')?;
    match kind {
        "peer" => PeerId::new(name).ok().map(Revoked::Peer),
        "token" => {
            let id = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(name).ok()?).ok()?;
            (id.len() <= MAX_TOKEN_ID).then_some(Revoked::Token(id))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let keys = Keys::new("/sluice");
        let (region, node) = (RegionId::new("eu-1").expect("valid"), NodeId::new("sfu.1").expect("valid"));
        assert_eq!(keys.node(&region, &node), "/sluice/nodes/eu-1/sfu.1");
        assert_eq!(keys.parse(keys.node(&region, &node).as_bytes()), Key::Node(region, node.clone()));
        let region = RegionId::new("eu-1").expect("valid");
        assert_eq!(keys.parse(keys.once(&region, &node).as_bytes()), Key::Once(region, node.clone()));
        let edge = EdgeId::new("edge_1").expect("valid");
        assert_eq!(keys.parse(keys.edge(&edge).as_bytes()), Key::Edge(edge));
        for revoked in [
            Revoked::Peer(PeerId::new("Zoë ☎").expect("valid")),
            Revoked::Token("a/b\n\u{0}".to_owned()),
            Revoked::Token(String::new()),
        ] {
            assert_eq!(keys.parse(keys.revoked(&revoked).as_bytes()), Key::Revoked(revoked));
        }
        assert_eq!(keys.parse(keys.answered(&node, "q1").as_bytes()), Key::Answered("q1".to_owned()));
        assert_eq!(keys.parse(b"/sluice/regions/eu"), Key::Region(RegionId::new("eu").expect("valid")));
    }

    #[test]
    fn names_that_cannot_be_ours_are_malformed_and_places_we_do_not_know_are_left_alone() {
        let keys = Keys::new("/sluice");
        let long = format!("/sluice/revoked/token/{}", BASE64_URL_SAFE_NO_PAD.encode("x".repeat(MAX_TOKEN_ID + 1)));
        for bad in [
            "/sluice/nodes/eu",
            "/sluice/nodes//n",
            "/sluice/nodes/eu/a b",
            "/sluice/nodes/eu/a/b",
            "/sluice/edges/",
            "/sluice/revoked/peer/",
            "/sluice/revoked/token/!",
            "/sluice/revoked/all/x",
            "/other/nodes/eu/n",
            &long,
        ] {
            assert_eq!(keys.parse(bad.as_bytes()), Key::Malformed, "{bad}");
        }
        assert_eq!(keys.parse(b"/sluice/nodes/eu/\xff"), Key::Malformed);
        for other in ["/sluice/life", "/sluice/names/n", "/sluice/asked/n/q", "/sluice/later/x"] {
            assert_eq!(keys.parse(other.as_bytes()), Key::Other, "{other}");
        }
    }
}
