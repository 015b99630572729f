//! Pieces of JSON, written straight into a line.

use std::fmt;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest value of a field, in bytes before they are escaped, which makes at most six of each; the rest is cut off. What is told of
/// hostile input stays small.
const MAX_VALUE: usize = 8 * 1024;

const HEX: &[u8; 16] = b"0123456789abcdef";

const SECONDS_A_DAY: u64 = 86_400;

/// Appends `text`, escaped, without quotes around it.
pub(super) fn escape(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut plain_from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' && byte != 0x7f {
            continue;
        }
        out.extend_from_slice(&bytes[plain_from..at]);
        plain_from = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => {
                let digits = [HEX[usize::from(other >> 4)], HEX[usize::from(other & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
        }
    }
    out.extend_from_slice(&bytes[plain_from..]);
}

/// Appends `text` as a JSON string of bounded length.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    Escaped::new(out).push(text);
    out.push(b'"');
}

/// Appends what `value` prints as a JSON string of bounded length.
pub(super) fn formatted(out: &mut Vec<u8>, value: fmt::Arguments<'_>) {
    out.push(b'"');
    // It fails where it is cut off, or where the value's own code does.
    let _ = fmt::write(&mut Escaped::new(out), value);
    out.push(b'"');
}

/// Text that is escaped on its way, as far as there is room.
struct Escaped<'a> {
    out: &'a mut Vec<u8>,
    room: usize,
}

impl<'a> Escaped<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, room: MAX_VALUE }
    }

    fn push(&mut self, text: &str) -> bool {
        let fits = text.len() <= self.room;
        let text = if fits { text } else { &text[..text.floor_char_boundary(self.room)] };
        escape(self.out, text);
        self.room -= text.len();
        if !fits {
            self.room = 0;
            self.out.extend_from_slice("…".as_bytes());
        }
        fits
    }
}

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.push(text) { Ok(()) } else { Err(fmt::Error) }
    }
}

/// Appends a number.
pub(super) fn number(out: &mut Vec<u8>, value: impl fmt::Display) {
    write!(out, "{value}").expect("invariant: memory takes what is written");
}

/// Appends a count; what [`number`] does, without its detour.
pub(super) fn count(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a floating-point number; those that JSON has none for are text.
pub(super) fn float(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() { number(out, value) } else { formatted(out, format_args!("{value}")) }
}

/// The second whose text a thread has written last: most lines of a thread are of the same one.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: Option<u64>,
    /// `2026-11-30T14:59:07`
    text: Vec<u8>,
}

impl Clock {
    /// Appends the time as RFC 3339 has it, to the microsecond, in UTC.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, now: SystemTime) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            self.text.clear();
            let (year, month, day) = date(since.as_secs() / SECONDS_A_DAY);
            let of_day = since.as_secs() % SECONDS_A_DAY;
            let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
            number(&mut self.text, format_args!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"));
        }
        out.extend_from_slice(&self.text);
        let micros = since.subsec_micros();
        out.push(b'.');
        for power in [100_000, 10_000, 1_000, 100, 10, 1] {
            out.push(b'0' + (micros / power % 10) as u8);
        }
        out.push(b'Z');
    }
}

/// Year, month and day in the Gregorian calendar, days counted from 1970-01-01. A year is taken to begin in March, so that the day
/// which is there only sometimes is its last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_text_is_read_back_as_it_was() {
        let all: String = (0..0x180).filter_map(char::from_u32).chain("\u{2028}𝄞\"\\".chars()).collect();
        let json = written(|out| string(out, &all));
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), all);
        let json = written(|out| formatted(out, format_args!("{all}")));
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), all);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let long = "ö".repeat(MAX_VALUE);
        for json in [written(|out| string(out, &long)), written(|out| formatted(out, format_args!("x{long}")))] {
            let text: String = serde_json::from_str(&json).expect("JSON");
            assert!(text.ends_with("ö…") && text.len() < MAX_VALUE + 8, "{}", text.len());
        }
    }

    #[test]
    fn numbers_are_numbers() {
        assert_eq!(written(|out| count(out, 0)), "0");
        assert_eq!(written(|out| count(out, u64::MAX)), u64::MAX.to_string());
        assert_eq!(written(|out| float(out, 0.5)), "0.5");
        assert_eq!(written(|out| float(out, f64::NAN)), "\"NaN\"");
    }

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        let mut clock = Clock::default();
        let mut at = |seconds, micros| {
            let now = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(micros);
            written(|out| clock.write(out, now))
        };
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(951_782_399, 999_999), "2000-02-28T23:59:59.999999Z");
        assert_eq!(at(951_782_400, 1), "2000-02-29T00:00:00.000001Z");
        assert_eq!(at(951_868_800, 0), "2000-03-01T00:00:00.000000Z");
        assert_eq!(at(4_107_542_399, 0), "2100-02-28T23:59:59.000000Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
    }
}
