//! A stream's description by its publisher (`minfo`): a JSON object that is stored and forwarded as given, of which an edge
//! reads only what it needs.
//!
//! Muting is told inside it, as `"muted": {"audio": bool, "video": bool}`. A client may publish muted by giving that key
//! itself. A client that doesn't know it loses nothing.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
    ser::SerializeMap,
};

use crate::json::RawJson;

/// Key that says what is muted.
const MUTED: &str = "muted";

/// Which media of a stream its publisher has muted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Muted {
    /// The microphone is off.
    pub audio: bool,
    /// The camera or screen is off.
    pub video: bool,
}

impl Muted {
    /// Applies a change; what it doesn't name stays.
    #[must_use]
    pub fn with(self, audio: Option<bool>, video: Option<bool>) -> Self {
        Self { audio: audio.unwrap_or(self.audio), video: video.unwrap_or(self.video) }
    }
}

/// A valid `minfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minfo {
    raw: RawJson,
    audio: Option<bool>,
    video: Option<bool>,
    record: Option<bool>,
    muted: Muted,
}

/// Why a JSON value is not a `minfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MinfoError {
    /// Not a JSON object.
    #[error("minfo is not an object")]
    NotAnObject,
    /// `audio`, `video` or `record` is there, but neither true nor false.
    #[error("minfo.{0} is not a boolean")]
    NotABoolean(&'static str),
}

impl Minfo {
    /// Reads what an edge needs and keeps the text.
    pub fn new(raw: RawJson) -> Result<Self, MinfoError> {
        let fields: Fields = raw.parse().map_err(|_| MinfoError::NotAnObject)?;
        let kind = |key| match fields.get(key) {
            None => Ok(None),
            Some(value) => value.parse_bool().map(Some).ok_or(MinfoError::NotABoolean(key)),
        };
        let (audio, video, record) = (kind("audio")?, kind("video")?, kind("record")?);
        let muted = fields.get(MUTED).map(Field::parse_muted).unwrap_or_default();
        Ok(Self { raw, audio, video, record, muted })
    }

    /// The text.
    pub fn raw(&self) -> &RawJson {
        &self.raw
    }

    /// Whether the publisher says there is audio. `None`: it doesn't say.
    pub fn audio(&self) -> Option<bool> {
        self.audio
    }

    /// Whether the publisher says there is video. `None`: it doesn't say.
    pub fn video(&self) -> Option<bool> {
        self.video
    }

    /// Whether the publisher wants it recorded from its beginning. `None`: it doesn't say.
    pub fn record(&self) -> Option<bool> {
        self.record
    }

    /// What is muted.
    pub fn muted(&self) -> Muted {
        self.muted
    }

    /// The same with other media muted. Every other key keeps its place and its value's text.
    #[must_use]
    pub fn with_muted(&self, muted: Muted) -> Self {
        if muted == self.muted {
            return self.clone();
        }
        let mut fields: Fields = self.raw.parse().expect("invariant: checked to be an object when it was made");
        fields.set(MUTED, RawJson::of(&muted).expect("invariant: two booleans are JSON"));
        let raw = RawJson::of(&fields).expect("invariant: raw values under text keys are JSON");
        Self { raw, muted, ..*self }
    }
}

impl Serialize for Minfo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Minfo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(RawJson::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// An object's keys in their order, with their values' text. Of a key given twice, the last counts, as for most readers.
struct Fields(Vec<(String, Field)>);

struct Field(RawJson);

impl Field {
    fn parse_bool(&self) -> Option<bool> {
        self.0.parse().ok()
    }

    /// What is not said, or not as a boolean, is not muted.
    fn parse_muted(&self) -> Muted {
        let Ok(fields) = self.0.parse::<Fields>() else { return Muted::default() };
        let on = |key| fields.get(key).and_then(Self::parse_bool).unwrap_or(false);
        Muted { audio: on("audio"), video: on("video") }
    }
}

impl Fields {
    fn get(&self, key: &str) -> Option<&Field> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Sets the key in the place it has, or at the end.
    fn set(&mut self, key: &str, value: RawJson) {
        let mut found = false;
        for (_, field) in self.0.iter_mut().filter(|(name, _)| name == key) {
            *field = Field(value.clone());
            found = true;
        }
        if !found {
            self.0.push((key.to_owned(), Field(value)));
        }
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry()? {
                    fields.push((name, Field(value)));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, &value.0)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minfo(text: &str) -> Minfo {
        Minfo::new(RawJson::new(text).expect("JSON")).expect("minfo")
    }

    #[test]
    fn it_is_kept_as_given() {
        let text = r#"{ "videotype":1,"audio":true,"mine":[1e9, null] }"#;
        let info = minfo(text);
        assert_eq!(serde_json::to_string(&info).expect("JSON"), text);
        assert_eq!((info.audio(), info.video()), (Some(true), None));
    }

    #[test]
    fn muting_changes_only_its_own_keys() {
        let info = minfo(r#"{"video":true,"n":1.50,"audio":true}"#);
        let muted = info.with_muted(Muted { audio: true, video: false });
        assert_eq!(muted.raw().get(), r#"{"video":true,"n":1.50,"audio":true,"muted":{"audio":true,"video":false}}"#);
        let back = muted.with_muted(Muted::default());
        assert_eq!(back.raw().get(), r#"{"video":true,"n":1.50,"audio":true,"muted":{"audio":false,"video":false}}"#);
        assert_eq!(back.muted(), Muted::default());
        assert_eq!(Minfo::new(muted.raw().clone()).expect("minfo"), muted);
        assert_eq!(info.with_muted(info.muted()), info, "nothing changes, nothing is added");
    }

    #[test]
    fn a_client_may_publish_muted() {
        assert_eq!(minfo(r#"{"muted":{"video":true}}"#).muted(), Muted { audio: false, video: true });
        for odd in [r#"{"muted":true}"#, r#"{"muted":{"audio":"yes"}}"#, r#"{"muted":null}"#] {
            assert_eq!(minfo(odd).muted(), Muted::default(), "{odd}");
        }
    }

    #[test]
    fn what_is_no_minfo_is_refused() {
        let parse = |text: &str| Minfo::new(RawJson::new(text).expect("JSON"));
        assert_eq!(parse("[]"), Err(MinfoError::NotAnObject));
        assert_eq!(parse("null"), Err(MinfoError::NotAnObject));
        assert_eq!(parse(r#"{"audio":1}"#), Err(MinfoError::NotABoolean("audio")));
        assert_eq!(parse(r#"{"record":"yes"}"#), Err(MinfoError::NotABoolean("record")));
    }
}
