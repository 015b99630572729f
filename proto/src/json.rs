//! JSON that is passed on as it came: a publication's `minfo`, a broadcast's `data`, a request's `id`. And frames as they are written.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON value kept as its text, byte for byte. Cheap to clone.
#[derive(Clone)]
pub struct RawJson(Arc<RawValue>);

impl RawJson {
    /// Checks that the text is one JSON value. Whitespace around it is dropped, inside it stays.
    pub fn new(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        let value: Box<RawValue> = serde_json::from_str(&text.into())?;
        Ok(Self(Arc::from(value)))
    }

    /// Writes a value of ours as JSON. Fails only for values JSON has no form for, such as maps with keys that aren't text.
    pub fn of(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self(Arc::from(serde_json::value::to_raw_value(value)?)))
    }

    /// The text.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// Reads the value as a type.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.get())
    }
}

impl PartialEq for RawJson {
    /// By text: two ways to write one value differ.
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for RawJson {}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Arc::from(Box::<RawValue>::deserialize(deserializer)?)))
    }
}

/// The text of a frame, which may have to wait for its client: in no more memory than it is long, where writing alone leaves up to as
/// much again.
///
/// # Panics
///
/// Where there is no JSON for the value ([`RawJson::of`]).
pub(crate) fn frame(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).expect("invariant: frames have text keys only");
    text.shrink_to_fit();
    text
}

/// Whether arrays and objects are nested no deeper than `max` anywhere in a text that is, or may be, JSON. Reads each byte
/// once and needs no stack, so it can be asked first of anything. Deep JSON that is only passed on would otherwise reach
/// other clients' readers.
pub fn depth_within(text: &str, max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > max {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_takes_no_more_memory_than_it_is_long() {
        let data = RawJson::of(&"x".repeat(100_000)).expect("JSON");
        let text = frame(&(&data, 1));
        assert_eq!((text.len(), text.capacity()), (data.get().len() + 4, text.len()));
    }

    #[test]
    fn text_is_kept_byte_for_byte() {
        for text in ["1e400", "-0.0", "[ 1 ,2]", r#"{"b":1,"a":2,"b":3}"#, r#""\u00e9""#, "12345678901234567890123"] {
            let raw = RawJson::new(text).expect("JSON");
            assert_eq!(serde_json::to_string(&raw).expect("JSON"), text);
        }
        assert!(RawJson::new("1 2").is_err());
        assert!(RawJson::new("").is_err());
    }

    #[test]
    fn depth_counts_brackets_outside_strings_only() {
        assert!(depth_within(r#"[["[[[[\"[[["]]"#, 2));
        assert!(!depth_within("[[[", 2));
        assert!(depth_within("[][][][]", 1));
        assert!(!depth_within(&"[".repeat(200_000), 64));
    }
}
