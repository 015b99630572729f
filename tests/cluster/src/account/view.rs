//! A room as one of its members knows it: who else is there and what they publish.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::notice::{Malformed, Notice};

/// A stream, as told.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Whose.
    pub uid: String,
    /// Its description.
    pub minfo: Value,
    /// The recording that is made of it.
    pub recording: Option<String>,
}

/// A room without the member who looks at it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// The other members.
    pub members: BTreeSet<String>,
    /// Their streams by `mid`.
    pub streams: BTreeMap<String, Stream>,
}

impl View {
    /// Reads `users` and `pubs` of a join's answer.
    pub fn read(answer: &Value) -> Result<Self, Malformed> {
        let missing = |what| Malformed(what, answer.to_string());
        let list = |key: &str| answer[key].as_array().ok_or_else(|| missing("a list is missing"));
        let mut view = Self::default();
        for user in list("users")? {
            let uid = user["uid"].as_str().ok_or_else(|| missing("a user without uid"))?;
            if !view.members.insert(uid.to_owned()) {
                return Err(missing("a user twice"));
            }
        }
        for stream in list("pubs")? {
            let (Some(mid), Some(uid)) = (stream["mid"].as_str(), stream["uid"].as_str()) else {
                return Err(missing("a stream without mid or uid"));
            };
            let recording = stream["recording"].as_str().map(str::to_owned);
            let stream = Stream { uid: uid.to_owned(), minfo: stream["minfo"].clone(), recording };
            let known = view.streams.insert(mid.to_owned(), stream);
            if known.is_some() {
                return Err(missing("a stream twice"));
            }
        }
        Ok(view)
    }

    /// Takes over what `viewer` was told. The error says why it cannot follow from what was told before.
    pub fn apply(&mut self, viewer: &str, notice: &Notice) -> Result<(), &'static str> {
        if notice.uid() == viewer {
            return match notice {
                Notice::StreamRemove { .. } | Notice::PeerLeave { .. } | Notice::Recording { .. } => Ok(()),
                _ => Err("what a member did itself is told to it"),
            };
        }
        match notice {
            Notice::PeerJoin { uid } => self.members.insert(uid.clone()).then_some(()).ok_or("a member joins again"),
            Notice::PeerLeave { uid } => {
                let streams = self.streams.values().any(|stream| stream.uid == *uid);
                let known = self.members.remove(uid);
                match (known, streams) {
                    (false, _) => Err("somebody leaves who was not there"),
                    (true, true) => Err("a member leaves before its streams are removed"),
                    (true, false) => Ok(()),
                }
            }
            Notice::StreamAdd { uid, mid, minfo, recording } => {
                let stream = Stream { uid: uid.clone(), minfo: minfo.clone(), recording: recording.clone() };
                if !self.members.contains(uid) {
                    Err("a stream of somebody who is not there")
                } else if self.streams.insert(mid.clone(), stream).is_some() {
                    Err("a stream is added again")
                } else {
                    Ok(())
                }
            }
            Notice::StreamUpdate { mid, minfo, .. } => match self.streams.get_mut(mid) {
                Some(stream) => {
                    stream.minfo = minfo.clone();
                    Ok(())
                }
                None => Err("a stream changes that was not there"),
            },
            Notice::Recording { mid, on, recording, .. } => match self.streams.get_mut(mid) {
                Some(stream) if *on => {
                    stream.recording = Some(recording.clone());
                    Ok(())
                }
                Some(stream) if stream.recording.as_ref() == Some(recording) => {
                    stream.recording = None;
                    Ok(())
                }
                Some(_) => Err("a recording ends that was not there"),
                None => Err("a stream is recorded that was not there"),
            },
            Notice::StreamRemove { mid, .. } => {
                self.streams.remove(mid).map(|_| ()).ok_or("a stream is removed that was not there")
            }
            Notice::Broadcast { uid, .. } => {
                self.members.contains(uid).then_some(()).ok_or("a broadcast of somebody who is not there")
            }
        }
    }
}
