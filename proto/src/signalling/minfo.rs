//! A stream's description by its publisher (`minfo`): a JSON object that is stored and forwarded as given, of which an edge
//! reads only what it needs.
//!
//! Muting is told inside it, as keys of the same manner as the seed's: `"audiomuted": true`, `"videomuted": true`. A client
//! may publish muted by giving them itself. A client that doesn't know them loses nothing.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;

use crate::json::RawJson;

/// Key that says a stream's audio is muted.
pub const AUDIO_MUTED: &str = "audiomuted";
/// Key that says a stream's video is muted.
pub const VIDEO_MUTED: &str = "videomuted";

/// Which media of a stream its publisher has muted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
    muted: Muted,
}

/// Why a JSON value is not a `minfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MinfoError {
    /// Not a JSON object.
    #[error("minfo is not an object")]
    NotAnObject,
    /// `audio` or `video` is there, but neither true nor false.
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
        let (audio, video) = (kind("audio")?, kind("video")?);
        let on = |key| fields.get(key).and_then(Field::parse_bool).unwrap_or(false);
        let muted = Muted { audio: on(AUDIO_MUTED), video: on(VIDEO_MUTED) };
        Ok(Self { raw, audio, video, muted })
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
        fields.set(AUDIO_MUTED, muted.audio);
        fields.set(VIDEO_MUTED, muted.video);
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

struct Field(Box<RawValue>);

impl Field {
    fn parse_bool(&self) -> Option<bool> {
        match self.0.get() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }
}

impl Fields {
    fn get(&self, key: &str) -> Option<&Field> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Sets the key in place, or adds it when it is to say something: an absent key means false.
    fn set(&mut self, key: &str, on: bool) {
        let value = || Field(serde_json::value::to_raw_value(&on).expect("invariant: a boolean is JSON"));
        let mut found = false;
        for (_, field) in self.0.iter_mut().filter(|(name, _)| name == key) {
            *field = value();
            found = true;
        }
        if on && !found {
            self.0.push((key.to_owned(), value()));
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
        assert_eq!(muted.raw().get(), r#"{"video":true,"n":1.50,"audio":true,"audiomuted":true}"#);
        let back = muted.with_muted(Muted::default());
        assert_eq!(back.raw().get(), r#"{"video":true,"n":1.50,"audio":true,"audiomuted":false}"#);
        assert_eq!(back.muted(), Muted::default());
        assert_eq!(Minfo::new(muted.raw().clone()).expect("minfo"), muted);
    }

    #[test]
    fn a_client_may_publish_muted() {
        assert_eq!(minfo(r#"{"videomuted":true}"#).muted(), Muted { audio: false, video: true });
    }

    #[test]
    fn what_is_no_minfo_is_refused() {
        let parse = |text: &str| Minfo::new(RawJson::new(text).expect("JSON"));
        assert_eq!(parse("[]"), Err(MinfoError::NotAnObject));
        assert_eq!(parse("null"), Err(MinfoError::NotAnObject));
        assert_eq!(parse(r#"{"audio":1}"#), Err(MinfoError::NotABoolean("audio")));
    }
}
