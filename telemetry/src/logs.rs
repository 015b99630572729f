//! Logs to stderr, as text for people or JSON for machines. Stdout belongs to the program's own output.

use std::io::{IsTerminal, stderr};

use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

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
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line, the event's fields beside `timestamp`, `level`, `target` and `message`.
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

    fn filter(&self) -> Result<EnvFilter, LogError> {
        EnvFilter::try_new(&self.level).map_err(|error| LogError::Level { level: self.level.clone(), error })
    }
}

/// Why logs cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `log.level` is neither a level nor directives.
    #[error("{level:?} is not a log level: {error}")]
    Level {
        /// As written.
        level: String,
        /// What is wrong with it.
        error: tracing_subscriber::filter::ParseError,
    },
    /// A process has one log.
    #[error("logs are set up already")]
    Twice,
}

/// Sends the process' events to stderr from now on. Once per process.
pub fn init_logs(settings: &LogSettings) -> Result<(), LogError> {
    let subscriber = subscriber(settings, stderr().is_terminal(), stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)
}

fn subscriber<W>(settings: &LogSettings, colour: bool, writer: W) -> Result<Box<dyn Subscriber + Send + Sync>, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(settings.filter()?).with_writer(writer);
    Ok(match settings.format {
        LogFormat::Text => Box::new(builder.with_ansi(colour).finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).with_current_span(true).finish()),
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("one writer").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, level: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let settings = LogSettings { format, level: level.to_owned() };
        let subscriber = subscriber(&settings, false, move || writer.clone()).expect("valid level");
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(node = "sz_1", "started");
            tracing::debug!("details");
        });
        let bytes = lines.0.lock().expect("no writer").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn text_has_fields_and_honours_the_level() {
        let text = written(LogFormat::Text, "info");
        assert!(text.contains("started") && text.contains("node=\"sz_1\"") && !text.contains("details"), "{text}");
        assert!(written(LogFormat::Text, "debug").contains("details"));
        assert_eq!(written(LogFormat::Text, "warn"), "");
        assert!(written(LogFormat::Text, "warn,telemetry=debug").contains("details"));
    }

    #[test]
    fn json_is_one_object_per_line() {
        let text = written(LogFormat::Json, "debug");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        for part in ["{", "\"level\":\"INFO\"", "\"message\":\"started\"", "\"node\":\"sz_1\"", "\"timestamp\":"] {
            assert!(lines[0].contains(part), "{part} in {}", lines[0]);
        }
    }

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
