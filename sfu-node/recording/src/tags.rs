//! What a file says of itself: whose it is, and, once it is complete, what is missing in it.
//!
//! In Ogg they are comments of `OpusTags`, in `WebM` simple tags; the names are the same.

use std::time::{Duration, SystemTime};

use crate::{Kind, StreamInfo, Summary, TrackSummary};

/// The longest value. Ids are shorter; what is longer is somebody's attempt.
const MAX_VALUE: usize = 512;

/// Names and values, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tags(pub(crate) Vec<(String, String)>);

impl Tags {
    /// What is known when a recording begins.
    pub(crate) fn begun(info: &StreamInfo) -> Self {
        let mut tags = Self::default();
        tags.push("ROOM", &info.room);
        tags.push("UID", &info.uid);
        tags.push("MID", &info.mid);
        tags.push("RECORDING", &info.recording);
        tags.push("DATE", &iso_8601(info.started));
        tags.push("ENCODER", &info.encoder);
        tags
    }

    /// Adds what was lost, dropped and filled.
    pub(crate) fn add_account(&mut self, summary: &Summary) {
        for track in &summary.tracks {
            self.add_track(track);
        }
    }

    /// Says that a process was killed while it wrote the file, so that nothing is known of what is missing.
    pub(crate) fn add_recovered(&mut self) {
        self.push("RECOVERED", "yes");
    }

    /// The value of a tag.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Bytes that [`Self::add_account`] and [`Self::add_recovered`] add at most, with what containers need for them.
    pub(crate) const RESERVED: usize = 1_024;

    fn add_track(&mut self, track: &TrackSummary) {
        let of = match track.kind {
            Kind::Audio => "AUDIO",
            Kind::Video => "VIDEO",
        };
        self.push(&format!("{of}_PACKETS"), &track.packets.to_string());
        self.push(&format!("{of}_LOST"), &track.lost.to_string());
        self.push(&format!("{of}_LATE"), &track.late.to_string());
        self.push(&format!("{of}_DROPPED"), &track.dropped.to_string());
        match track.kind {
            Kind::Audio => self.push("AUDIO_FILLED_MS", &track.filled.as_millis().to_string()),
            Kind::Video => self.push("VIDEO_UNDECODABLE", &track.undecodable.to_string()),
        }
    }

    /// Adds a tag. Characters that steer terminals and readers are replaced, for values come from outside.
    fn push(&mut self, name: &str, value: &str) {
        let mut clean = String::new();
        for character in value.chars().map(|any| if any.is_control() { char::REPLACEMENT_CHARACTER } else { any }) {
            if clean.len() + character.len_utf8() > MAX_VALUE {
                break;
            }
            clean.push(character);
        }
        self.0.push((name.to_owned(), clean));
    }
}

/// A time in UTC to the millisecond, as `2026-03-01T12:34:56.789Z`. Times before 1970 are told as 1970.
#[must_use]
pub fn iso_8601(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// Year, month and day that lie `days` after 1970 began. Years are counted from March, so that a leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_told_in_utc() {
        let at = |seconds: u64, millis: u64| {
            iso_8601(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis))
        };
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400, 7), "2000-02-29T00:00:00.007Z");
        assert_eq!(at(1_772_368_496, 789), "2026-03-01T12:34:56.789Z");
        assert_eq!(at(4_107_542_399, 999), "2100-02-28T23:59:59.999Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn values_from_outside_are_cut_and_cleaned() {
        let mut tags = Tags::default();
        tags.push("ROOM", "a\0b\u{1b}[31m\n");
        assert_eq!(tags.get("ROOM"), Some("a\u{fffd}b\u{fffd}[31m\u{fffd}"));
        tags.push("UID", &"é".repeat(500));
        assert_eq!(tags.get("UID").map(str::len), Some(MAX_VALUE));
    }

    #[test]
    fn the_reserve_holds_the_longest_account() {
        let track = |kind| TrackSummary {
            packets: u64::MAX,
            lost: u64::MAX,
            late: u64::MAX,
            dropped: u64::MAX,
            undecodable: u64::MAX,
            filled: Duration::MAX,
            ..TrackSummary::new(kind, "", "")
        };
        let mut tags = Tags::default();
        let tracks = vec![track(Kind::Audio), track(Kind::Video)];
        tags.add_account(&Summary { tracks, ..Summary::default() });
        tags.add_recovered();
        // 40 bytes of WebM around each name and value are more than it takes.
        let len: usize = tags.0.iter().map(|(name, value)| name.len() + value.len() + 40).sum();
        assert!(len <= Tags::RESERVED, "{len}");
    }
}
