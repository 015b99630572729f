//! Settings of a program: one YAML file, overlaid by the environment, read into the program's own types.
//!
//! ```
//! # use serde::{Deserialize, Serialize};
//! use telemetry::settings::{Contradiction, Settings, Sources};
//!
//! #[derive(Debug, Default, Deserialize, Serialize)]
//! #[serde(deny_unknown_fields, default)]
//! struct Media { shards: u16 }
//!
//! #[derive(Debug, Default, Deserialize, Serialize)]
//! #[serde(deny_unknown_fields, default)]
//! struct Config { media: Media }
//!
//! impl Settings for Config {
//!     fn check(&self) -> Result<(), Contradiction> {
//!         if self.media.shards > 64 { return Err(Contradiction::new("media.shards", "at most 64")); }
//!         Ok(())
//!     }
//! }
//!
//! let sources = Sources::text("sluice.yaml", "media:\n  shards: 65\n").with_environment([("SLUICE_MEDIA__SHARDS", "2")]);
//! let config: Config = sources.load().expect("valid");
//! assert_eq!(config.media.shards, 2);
//! ```
//!
//! - A key's variable is `SLUICE_` + its path in capitals, `__` between levels. Its value is taken as the type the key
//!   has; a list is written with commas (`a,b`) or as YAML (`[a, b]`), a map as YAML (`{a: 1}`).
//!   One that names a PEM file (`…TLS__CA`, `…TLS__CERT`, `…TLS__KEY`) may hold what would stand in the file.
//! - Derive with `deny_unknown_fields` on every struct: that is what makes a misspelt key an error.
//! - Every error names the key and where its value came from: the file's line, or the variable.
//!
//! It does not read command lines, and it starts nothing.

mod pem;
mod period;
mod read;
mod secret;
mod tree;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use period::Period;
pub use secret::Secret;
use tree::Node;

/// Exit code of a program whose settings or arguments are unusable (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// What every variable of ours begins with.
pub const PREFIX: &str = "SLUICE_";

/// A settings file larger than this is not one.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A program's settings. `check` says what the types cannot: ranges and contradictions between keys.
pub trait Settings: DeserializeOwned + Serialize {
    /// Refuses values that each are well-formed but cannot be used (together).
    fn check(&self) -> Result<(), Contradiction>;

    /// For `--check-config`: refuses what could not be started with on this machine, as far as that is found without asking others or changing
    /// anything. A start finds it by itself.
    fn try_out(&self) -> Result<(), Contradiction> {
        Ok(())
    }

    /// Where a program that runs by them answers `/healthz` without TLS, if it does.
    fn operators_address(&self) -> Option<SocketAddr> {
        None
    }

    /// Why a key that this program does not know is none of its keys, where other programs have it.
    fn elsewhere(_key: &str) -> Option<&'static str> {
        None
    }
}

/// Why a well-formed value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct Contradiction {
    key: String,
    reason: String,
}

impl Contradiction {
    /// `key` is the path of the key to change, with dots (`media.shards`); `reason` says what is wrong with its value.
    pub fn new(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { key: key.into(), reason: reason.into() }
    }
}

/// Unusable settings: which key, where its value came from, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SettingsError {
    key: String,
    origin: Origin,
    reason: String,
}

impl SettingsError {
    /// Path of the key, with dots; empty when the file as a whole is meant.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Line of the file the value stands in, from 1; `None` when it came from the environment or is a default.
    pub fn line(&self) -> Option<u64> {
        match self.origin {
            Origin::File { line, .. } => Some(line),
            Origin::Environment(_) | Origin::Default => None,
        }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File { path, line: 0 } => write!(f, "{}: ", path.display())?,
            Origin::File { path, line } => write!(f, "{}:{line}: ", path.display())?,
            Origin::Environment(variable) => write!(f, "environment variable {variable}: ")?,
            Origin::Default => {}
        }
        match self.key.as_str() {
            "" => f.write_str(&self.reason),
            key => write!(f, "{key}: {}", self.reason),
        }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// Line 0: the file as a whole.
    File { path: Arc<Path>, line: u64 },
    /// Name of the variable.
    Environment(Arc<str>),
    /// Neither: the program's default.
    Default,
}

/// The file and the environment that settings are read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    file: Option<(PathBuf, Text)>,
    environment: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
enum Text {
    OnDisk,
    Given(String),
}

impl Sources {
    /// The file at `path`, if any, and this process' environment.
    pub fn of_process(path: Option<PathBuf>) -> Self {
        let environment = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Self { file: path.map(|path| (path, Text::OnDisk)), environment: Vec::new() }.with_environment(environment)
    }

    /// `text` as if it stood in a file called `name`, and no environment.
    pub fn text(name: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { file: Some((name.into(), Text::Given(text.into()))), environment: Vec::new() }
    }

    /// Replaces the environment; variables that do not begin with [`PREFIX`], or that Kubernetes sets, are left out.
    #[must_use]
    pub fn with_environment<K: Into<String>, V: Into<String>>(mut self, all: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut ours: Vec<(String, String)> =
            all.into_iter().map(|(k, v)| (k.into(), v.into())).filter(|(k, _)| is_ours(k)).collect();
        // The order of an environment means nothing; sorted, the same one always gives the same error first.
        ours.sort();
        self.environment = ours;
        self
    }

    /// Reads, overlays, types and checks the settings.
    pub fn load<T: Settings>(&self) -> Result<T, SettingsError> {
        self.load_with(|_| ())
    }

    /// As [`Self::load`], with `change` between reading and checking: flags of a command line, which win over both.
    pub fn load_with<T: Settings>(&self, change: impl FnOnce(&mut T)) -> Result<T, SettingsError> {
        let root = self.merged()?;
        let mut settings: T = read::settings(&root).map_err(|error| match T::elsewhere(&error.key) {
            Some(reason) => SettingsError { reason: reason.to_owned(), ..error },
            None => error,
        })?;
        change(&mut settings);
        settings.check().map_err(|Contradiction { key, reason }| SettingsError {
            origin: root.origin_of(&key),
            key,
            reason,
        })?;
        Ok(settings)
    }

    fn merged(&self) -> Result<Node, SettingsError> {
        let mut root = match &self.file {
            None => Node::empty(Origin::Default),
            Some((path, Text::Given(text))) => tree::parse_file(path, text)?,
            Some((path, Text::OnDisk)) => tree::parse_file(path, &read_bounded(path)?)?,
        };
        for (variable, value) in &self.environment {
            root.overlay(variable, value)?;
        }
        Ok(root)
    }
}

/// What is in force, as YAML, secrets masked.
pub fn to_yaml<T: Settings>(settings: &T) -> String {
    serde_saphyr::to_string(settings).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
}

/// For a service called `sluice`, Kubernetes gives every pod beside it `SLUICE_SERVICE_HOST`, `SLUICE_PORT_8080_TCP` and others.
fn is_ours(variable: &str) -> bool {
    let Some(name) = variable.strip_prefix(PREFIX) else { return false };
    let of_kubernetes = name == "PORT"
        || name == "SERVICE_HOST"
        || ["SERVICE_PORT", "PORT_"].iter().any(|start| name.starts_with(start)) && !name.contains("__");
    !of_kubernetes
}

fn read_bounded(path: &Path) -> Result<String, SettingsError> {
    let whole_file = |reason: String| SettingsError {
        key: String::new(),
        origin: Origin::File { path: path.into(), line: 0 },
        reason,
    };
    let length = std::fs::metadata(path).map_err(|e| whole_file(format!("cannot be read: {e}")))?.len();
    if length > MAX_FILE_BYTES {
        return Err(whole_file(format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    std::fs::read_to_string(path).map_err(|e| whole_file(format!("cannot be read: {e}")))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    struct Media {
        shards: u16,
        ip: Vec<IpAddr>,
        affinity: Option<bool>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Format {
        #[default]
        Text,
        Json,
    }

    #[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
    #[serde(deny_unknown_fields, default)]
    struct Config {
        id: String,
        weight: f64,
        media: Media,
        format: Format,
        ttl: Period,
        secret: Option<Secret>,
    }

    impl Settings for Config {
        fn check(&self) -> Result<(), Contradiction> {
            if self.media.shards > 8 {
                return Err(Contradiction::new("media.shards", "at most 8"));
            }
            Ok(())
        }
    }

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, SettingsError> {
        Sources::text("node.yaml", text).with_environment(environment.iter().copied()).load()
    }

    fn refused(text: &str, environment: &[(&str, &str)]) -> String {
        load(text, environment).expect_err("unusable").to_string()
    }

    #[test]
    fn a_file_is_read_into_types() {
        let config = load(
            "id: sz_1\nweight: 1\nmedia:\n  shards: 4\n  ip: [10.0.0.1, '::1']\n  affinity: true\nformat: json\nttl: 90s\n",
            &[],
        )
        .expect("valid");
        assert_eq!(config.id, "sz_1");
        assert!((config.weight - 1.0).abs() < f64::EPSILON);
        assert_eq!(config.media.shards, 4);
        assert_eq!(config.media.ip.len(), 2);
        assert_eq!(config.media.affinity, Some(true));
        assert_eq!(config.format, Format::Json);
        assert_eq!(Duration::from(config.ttl), Duration::from_secs(90));
    }

    #[test]
    fn nothing_at_all_gives_the_defaults() {
        assert_eq!(load("", &[]).expect("valid"), Config::default());
        assert_eq!(load("# only a comment\n", &[]).expect("valid"), Config::default());
        assert_eq!(Sources::default().load::<Config>().expect("valid"), Config::default());
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let config = load("id: a\nmedia: {shards: 2}\n", &[("SLUICE_MEDIA__SHARDS", "3"), ("SLUICE_FORMAT", "json")]);
        let config = config.expect("valid");
        assert_eq!((config.id.as_str(), config.media.shards, config.format), ("a", 3, Format::Json));
    }

    #[test]
    fn a_variable_is_taken_as_the_type_of_its_key() {
        let secret = "00000000000000000000000000000001";
        let config =
            load("", &[("SLUICE_SECRET", secret), ("SLUICE_ID", "17"), ("SLUICE_WEIGHT", "2")]).expect("valid");
        assert_eq!(config.secret.as_ref().map(Secret::expose), Some(secret));
        assert_eq!(config.id, "17");
        assert!((config.weight - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_variable_for_a_file_of_certificates_may_hold_what_would_stand_in_it() {
        #[derive(Default, Deserialize, Serialize)]
        #[serde(deny_unknown_fields, default)]
        struct Files {
            ca: Option<PathBuf>,
            text: String,
        }
        impl Settings for Files {
            fn check(&self) -> Result<(), Contradiction> {
                Ok(())
            }
        }
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB,\n-----END CERTIFICATE-----\n";
        let files: Files =
            Sources::default().with_environment([("SLUICE_CA", pem), ("SLUICE_TEXT", pem)]).load().expect("valid");
        assert_eq!(std::fs::read_to_string(files.ca.expect("a file")).expect("readable"), pem);
        assert_eq!(files.text, pem);
        let files: Files = Sources::default().with_environment([("SLUICE_CA", "/etc/ca.pem")]).load().expect("valid");
        assert_eq!(files.ca, Some(PathBuf::from("/etc/ca.pem")));
    }

    #[test]
    fn a_variable_holds_a_list_with_commas_or_as_yaml() {
        for value in ["10.0.0.1, ::1", "[10.0.0.1, '::1']"] {
            let config = load("", &[("SLUICE_MEDIA__IP", value)]).expect("valid");
            assert_eq!(config.media.ip, ["10.0.0.1".parse::<IpAddr>().expect("ip"), "::1".parse().expect("ip")]);
        }
        assert_eq!(load("media: {ip: [::1]}", &[("SLUICE_MEDIA__IP", "")]).expect("valid").media.ip, [] as [IpAddr; 0]);
        assert_eq!(load("", &[("SLUICE_MEDIA", "{shards: 7}")]).expect("valid").media.shards, 7);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = load("id: a\nmedia:\n  shard: 4\n", &[]).expect_err("unknown");
        assert_eq!((error.key(), error.line()), ("media.shard", Some(3)));
        assert!(error.to_string().starts_with("node.yaml:3: media.shard: unknown"), "{error}");
        let error = refused("", &[("SLUICE_MEDIA__SHARD", "4")]);
        assert!(error.starts_with("environment variable SLUICE_MEDIA__SHARD: media.shard: unknown"), "{error}");
    }

    #[test]
    fn a_bad_value_is_named_with_its_line() {
        for (text, start) in [
            ("media:\n\n  shards: many\n", "node.yaml:3: media.shards: "),
            ("media:\n  shards: 70000\n", "node.yaml:2: media.shards: "),
            ("media:\n  shards: -1\n", "node.yaml:2: media.shards: "),
            ("media:\n  ip:\n    - 10.0.0.1\n    - nowhere\n", "node.yaml:4: media.ip.1: "),
            ("media: 4\n", "node.yaml:1: media: "),
            ("id: [1]\n", "node.yaml:1: id: "),
            ("id: 17\n", "node.yaml:1: id: "),
            ("\nformat: xml\n", "node.yaml:2: format: "),
            ("ttl: soon\n", "node.yaml:1: ttl: "),
        ] {
            let error = refused(text, &[]);
            assert!(error.starts_with(start), "{text:?} gave {error:?}");
        }
        let error = refused("", &[("SLUICE_MEDIA__SHARDS", "many")]);
        assert!(error.starts_with("environment variable SLUICE_MEDIA__SHARDS: media.shards: "), "{error}");
    }

    #[test]
    fn a_contradiction_points_at_the_value_or_its_default() {
        assert_eq!(refused("media:\n  shards: 9\n", &[]), "node.yaml:2: media.shards: at most 8");
        assert_eq!(
            refused("", &[("SLUICE_MEDIA__SHARDS", "9")]),
            "environment variable SLUICE_MEDIA__SHARDS: media.shards: at most 8"
        );
    }

    #[test]
    fn flags_are_applied_before_the_check() {
        let sources = Sources::text("node.yaml", "media: {shards: 9}");
        let flag = |shards| sources.load_with(|config: &mut Config| config.media.shards = shards);
        assert_eq!(flag(2).expect("a flag wins").media.shards, 2);
        assert_eq!(flag(10).expect_err("checked after the flag").key(), "media.shards");
    }

    #[test]
    fn what_is_not_yaml_is_refused_with_its_line() {
        let error = refused("id: a\nmedia: [\n", &[]);
        assert!(error.starts_with("node.yaml:"), "{error}");
        let error = refused("id: a\nid: b\n", &[]);
        assert!(error.starts_with("node.yaml:2: "), "{error}");
        assert!(refused("- a\n", &[]).contains("map"), "a list is no settings file");
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_of_our_name_is_not_ours() {
        let set = [
            ("SLUICE_SERVICE_HOST", "10.0.0.1"),
            ("SLUICE_SERVICE_PORT", "80"),
            ("SLUICE_SERVICE_PORT_HTTP", "80"),
            ("SLUICE_PORT", "tcp://10.0.0.1:80"),
            ("SLUICE_PORT_80_TCP_ADDR", "10.0.0.1"),
        ];
        assert!(load("", &set).is_ok());
        assert!(load("", &[("SLUICE_PORTS", "1")]).is_err(), "a slip of the pen is still named");
    }

    #[test]
    fn variables_that_cannot_be_a_path_are_refused() {
        for name in ["SLUICE_", "SLUICE___ID", "SLUICE_MEDIA__"] {
            assert!(refused("", &[(name, "1")]).starts_with(&format!("environment variable {name}: ")));
        }
        let error = refused("id: a\n", &[("SLUICE_ID__X", "1")]);
        assert!(error.starts_with("environment variable SLUICE_ID__X: id.x: "), "{error}");
    }

    #[test]
    fn a_missing_file_says_so() {
        let error = Sources { file: Some(("/nonexistent.yaml".into(), Text::OnDisk)), environment: Vec::new() };
        let error = error.load::<Config>().expect_err("missing").to_string();
        assert!(error.starts_with("/nonexistent.yaml: cannot be read"), "{error}");
    }

    #[test]
    fn a_file_on_disk_is_read() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(file.path(), "id: disk\n").expect("written");
        let sources = Sources { file: Some((file.path().into(), Text::OnDisk)), environment: Vec::new() };
        assert_eq!(sources.load::<Config>().expect("valid").id, "disk");
    }

    #[test]
    fn secrets_are_masked_when_settings_are_shown() {
        let config = load("secret: hunter2hunter2\nid: a\n", &[]).expect("valid");
        let shown = to_yaml(&config);
        assert!(!shown.contains("hunter2") && shown.contains("***") && shown.contains("id: a"), "{shown}");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn errors_do_not_repeat_a_secret() {
        let error = refused("secret: [hunter2]\n", &[]);
        assert!(!error.contains("hunter2"), "{error}");
        let error = refused("secret: 12345678901\n", &[]);
        assert!(!error.contains("12345678901"), "{error}");
    }
}
