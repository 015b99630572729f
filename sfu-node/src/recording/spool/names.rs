//! What recordings are called: `<room>/<start>_<uid>_<recording>`, with names from outside written so that no file system, object
//! store, URL or shell sees more in them than a name. Two recordings never share a name, whatever their rooms are called:
//! the recording's id is in it as it is.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::ids::{PeerId, RecordingId, RoomId};
use recording::iso_8601;
use sha2::{Digest, Sha256};

/// Longest that the name of a room or peer becomes. With an id of 64, the start, a suffix for what has a taken name and an
/// extension, a file's name stays below the 255 bytes that file systems give it; more would not.
const MAX_PART: usize = 80;

/// Hexadecimal digits of a hash that stand for what was cut off a name, or tell two contents of one name apart: 48 bits.
pub(super) const HASH_DIGITS: usize = 12;

/// Names that Windows takes for devices, with any extension: recordings are copied there, too.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// The name of one recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    folder: Arc<str>,
    stem: Stem,
}

/// The last part of a recording's [`Name`], without extension: what its files in the spool are called. Sorts by start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Stem(Arc<str>);

impl Name {
    /// Of the recording that started then.
    pub(crate) fn new(room: &RoomId, uid: &PeerId, recording: &RecordingId, started: SystemTime) -> Self {
        let stem = format!("{}_{}_{recording}", compact(started), part(uid.as_str()));
        Self { folder: part(room.as_str()).into(), stem: Stem(stem.into()) }
    }

    /// What its files in the spool are called.
    pub(crate) fn stem(&self) -> &Stem {
        &self.stem
    }

    /// The folder that all of a room's recordings are in.
    pub(super) fn folder(&self) -> &str {
        &self.folder
    }

    /// A file's name within the folder.
    pub(super) fn file(&self, extension: &str) -> String {
        format!("{}.{extension}", self.stem)
    }

    /// What the file is called where another content has its name: by its own hash, so that it is the same again.
    pub(super) fn other_file(&self, extension: &str, sha256: &str) -> String {
        let hash = sha256.get(..HASH_DIGITS).unwrap_or(sha256);
        format!("{}-{hash}.{extension}", self.stem)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.folder, self.stem)
    }
}

impl Stem {
    /// The stem that this text is, if it can be one: nothing else in the spool's directory is ours.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-%".contains(&byte);
        let shaped = text.as_bytes().get(8) == Some(&b'T') && text.as_bytes().first().is_some_and(u8::is_ascii_digit);
        // An id has no `.`, so that nothing with an extension is taken for a stem.
        let ends_with_id = text.rsplit('.').next().is_some_and(|last| last.contains('_'));
        (shaped && ends_with_id && text.len() <= 200 && text.bytes().all(plain)).then(|| Self(text.into()))
    }

    /// The name of its file with this extension.
    pub(super) fn file(&self, extension: &str) -> String {
        format!("{self}.{extension}")
    }
}

impl fmt::Display for Stem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A moment in UTC to the millisecond as the basic format of ISO 8601 has it, which has no `:` and sorts by time.
fn compact(moment: SystemTime) -> String {
    iso_8601(moment).replace(['-', ':'], "")
}

/// Milliseconds since 1970; a clock that is set before that gives 0.
pub(super) fn unix_ms(moment: SystemTime) -> u64 {
    moment.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The moment that many milliseconds after the beginning of 1970, at most in the year 9999.
pub(super) fn from_unix_ms(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms.min(253_402_300_799_999))
}

/// A name from outside as a part of ours: percent-encoded but for letters, digits, `-`, `_` and `.` inside, and cut where that is too
/// long. Never empty, `.`, `..`, hidden or a device.
fn part(text: &str) -> String {
    let last = text.len().saturating_sub(1);
    let device = is_device(text);
    let mut written = String::with_capacity(text.len());
    // Ends of characters that are written whole, so that a cut never splits an escape.
    let mut fits = 0;
    for (at, byte) in text.bytes().enumerate() {
        let dot_inside = byte == b'.' && at > 0 && at < last;
        let as_it_is = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || dot_inside;
        if as_it_is && !(device && at == 0) {
            written.push(char::from(byte));
        } else {
            written.push('%');
            written.extend(digits(byte).map(|digit| digit.to_ascii_uppercase()));
        }
        if written.len() < MAX_PART - HASH_DIGITS && text.is_char_boundary(at + 1) {
            fits = written.len();
        }
    }
    if written.len() <= MAX_PART {
        return written;
    }
    written.truncate(fits);
    format!("{written}-{}", &hex(&Sha256::digest(text))[..HASH_DIGITS])
}

/// Whether Windows takes it for a device.
fn is_device(text: &str) -> bool {
    let base = text.split('.').next().unwrap_or(text).to_ascii_lowercase();
    let numbered =
        |kind: &str| base.strip_prefix(kind).is_some_and(|n| n.len() == 1 && n.as_bytes()[0].is_ascii_digit());
    DEVICES.contains(&base.as_str()) || numbered("com") || numbered("lpt")
}

/// Bytes in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| digits(*byte)).collect()
}

/// Both hexadecimal digits of a byte.
fn digits(byte: u8) -> [char; 2] {
    [byte >> 4, byte & 15].map(|half| char::from_digit(u32::from(half), 16).expect("invariant: below 16"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(room: &str, uid: &str, recording: &str, ms: u64) -> Name {
        let (room, uid) = (RoomId::new(room).expect("a room"), PeerId::new(uid).expect("a uid"));
        Name::new(&room, &uid, &RecordingId::new(recording).expect("an id"), from_unix_ms(ms))
    }

    #[test]
    fn a_recording_is_named_by_room_start_peer_and_id() {
        let name = name("weekly", "alice", "0abcDEF", 1_796_050_321_123);
        assert_eq!(name.to_string(), "weekly/20261130T145201.123Z_alice_0abcDEF");
        assert_eq!(name.file("ogg"), "20261130T145201.123Z_alice_0abcDEF.ogg");
        assert_eq!(name.other_file("ogg", "0123456789abcdef"), "20261130T145201.123Z_alice_0abcDEF-0123456789ab.ogg");
        assert_eq!(Stem::parse(&name.stem().to_string()).as_ref(), Some(name.stem()));
    }

    #[test]
    fn starts_are_written_in_utc() {
        assert_eq!(compact(from_unix_ms(951_782_400_001)), "20000229T000000.001Z");
        assert_eq!(compact(from_unix_ms(u64::MAX)), "99991231T235959.999Z");
        assert_eq!(compact(UNIX_EPOCH - Duration::from_secs(1)), "19700101T000000.000Z", "a clock that is wrong");
    }

    #[test]
    fn names_from_outside_stay_names() {
        for (text, written) in [
            ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
            ("..", "%2E%2E"),
            (".", "%2E"),
            (".hidden", "%2Ehidden"),
            ("dots.", "dots%2E"),
            ("a.b", "a.b"),
            ("CON", "%43ON"),
            ("nul.txt", "%6Eul.txt"),
            ("com1", "%63om1"),
            ("com10", "com10"),
            ("\0", "%00"),
            ("a b%20c", "a%20b%2520c"),
            ("Größe", "Gr%C3%B6%C3%9Fe"),
            ("-rf", "-rf"),
            ("a\\b:c|d\"e", "a%5Cb%3Ac%7Cd%22e"),
        ] {
            assert_eq!(part(text), written, "{text:?}");
        }
    }

    #[test]
    fn long_names_are_cut_and_still_differ() {
        let (long, longer) = (part(&"x".repeat(500)), part(&"x".repeat(501)));
        assert_eq!((long.len(), longer.len()), (80, 80));
        assert_ne!(long, longer);
        let wide = part(&"ü".repeat(128));
        assert!(wide.len() <= 80 && wide.starts_with("%C3%BC%C3%BC"), "{wide}");
        let (kept, _) = wide.rsplit_once('-').expect("a hash");
        assert_eq!(kept.len() % 6, 0, "no character is cut in two: {wide}");
    }

    #[test]
    fn what_lies_in_the_directory_besides_is_no_stem() {
        for foreign in [
            "",
            "lock",
            "lost+found",
            "../20261130T145201.123Z_a_b",
            "20261130T_/x",
            "20261130T145201.123Z_a_b.part",
            &"20261130T_".repeat(30),
        ] {
            assert_eq!(Stem::parse(foreign), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn no_name_leaves_its_place(text in any::<String>(), id in "[A-Za-z0-9_-]{1,64}") {
            let written = part(&text);
            prop_assert!(written.len() <= MAX_PART);
            prop_assert!(written.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-%".contains(&byte)));
            prop_assert!(!written.starts_with('.') && !written.ends_with('.') && !is_device(&written));
            prop_assert_eq!(written.is_empty(), text.is_empty());
            if let (Ok(room), Ok(uid)) = (RoomId::new(&text), PeerId::new(&text)) {
                let name = Name::new(&room, &uid, &RecordingId::new(&id).expect("an id"), from_unix_ms(0));
                prop_assert!(name.other_file("webm.upload", &"0".repeat(64)).len() <= 255);
                prop_assert!(name.stem().to_string().ends_with(&id), "nothing is cut off the id");
                prop_assert_eq!(Stem::parse(&name.stem().to_string()), Some(name.stem().clone()));
                prop_assert_eq!(object_store::path::Path::parse(name.to_string()).expect("a path").parts_count(), 2);
            }
        }
    }
}
