//! `log.*`.

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::LogError;
use crate::settings::Contradiction;

/// The keys below `log`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// How a line is written.
    pub format: LogFormat,
    /// What is written: a level (`error`, `warn`, `info`, `debug`, `trace`), or filter directives
    /// (`info,sfu_node=debug`).
    pub level: String,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people, to stderr; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line with the names of the Elastic Common Schema, to stdout.
    Json,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: "info".to_owned() }
    }
}

impl LogSettings {
    /// Refuses a level that is none. A bare word is taken for a level, never for a target: as that, a misspelt level would
    /// silence everything.
    pub fn check(&self) -> Result<(), Contradiction> {
        let mut words = self.level.split(',').filter(|word| !word.contains(['=', '[']));
        if let Some(word) = words.find(|word| word.parse::<LevelFilter>().is_err()) {
            let reason = format!("{word:?} is not one of: off, error, warn, info, debug, trace");
            return Err(Contradiction::new("log.level", reason));
        }
        self.filter().map(drop).map_err(|error| Contradiction::new("log.level", error.to_string()))
    }

    pub(super) fn filter(&self) -> Result<EnvFilter, LogError> {
        EnvFilter::try_new(&self.level).map_err(|error| LogError::Level { level: self.level.clone(), error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_level_is_refused() {
        let check = |level: &str| LogSettings { level: level.to_owned(), ..LogSettings::default() }.check();
        for level in ["a=b=c", "loud", "info,loud", "info,sfu_node=loud"] {
            assert!(check(level).expect_err(level).to_string().starts_with("log.level: "));
        }
        for level in ["info", "WARN", "off", "info,sfu_node=debug", "warn,[room]=debug"] {
            check(level).expect(level);
        }
    }
}
