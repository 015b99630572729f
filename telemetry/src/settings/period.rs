//! A length of time in a settings file: `500ms`, `30s`, `2m`, `1h`, or a bare number of seconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time as settings write it; a whole number of milliseconds, up to a year.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    milliseconds: u64,
}

/// Beyond this a number is more likely a mistake of unit than a wish.
const MAX: Duration = Duration::from_hours(366 * 24);

/// Longest unit first, so that a period is shown in the largest one that divides it.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Period {
    /// A number of seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self { milliseconds: seconds.saturating_mul(1_000) }
    }

    /// A number of milliseconds.
    pub const fn milliseconds(milliseconds: u64) -> Self {
        Self { milliseconds }
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        Duration::from_millis(period.milliseconds)
    }
}

/// Not a length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a length of time up to a year: write it like 500ms, 30s, 2m or 1h")]
pub struct NotAPeriod;

impl FromStr for Period {
    type Err = NotAPeriod;

    fn from_str(text: &str) -> Result<Self, NotAPeriod> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = if unit.is_empty() { "s" } else { unit.trim() };
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(NotAPeriod)?;
        let milliseconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*factor)).ok_or(NotAPeriod)?;
        if Duration::from_millis(milliseconds) > MAX {
            return Err(NotAPeriod);
        }
        Ok(Self { milliseconds })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, factor) = match self.milliseconds {
            0 => ("s", 1_000),
            n => *UNITS.iter().find(|(_, factor)| n % factor == 0).expect("invariant: one divides everything"),
        };
        write!(f, "{}{name}", self.milliseconds / factor)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl de::Visitor<'_> for Written {
            type Value = Period;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time like 500ms, 30s, 2m or 1h")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Period, E> {
                text.trim().parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Period, E> {
                seconds.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_written_as_people_write_them() {
        for (text, milliseconds, shown) in [
            ("500ms", 500, "500ms"),
            ("30s", 30_000, "30s"),
            ("90", 90_000, "90s"),
            ("120s", 120_000, "2m"),
            ("1h", 3_600_000, "1h"),
            ("0", 0, "0s"),
        ] {
            let period: Period = text.parse().expect("a period");
            assert_eq!(period, Period::milliseconds(milliseconds), "{text}");
            assert_eq!(period.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_period_is_refused() {
        for text in ["", "s", "-1s", "1.5s", "1d", "9999999h", "99999999999999999999", "1 2s"] {
            assert_eq!(text.parse::<Period>(), Err(NotAPeriod), "{text}");
        }
    }
}
