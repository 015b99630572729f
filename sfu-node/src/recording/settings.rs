//! What is set for recordings: the keys below `recording`. docs/configuration.md lists them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use serde::{Deserialize, Serialize};
use telemetry::settings::{Contradiction, Period, Secret};

/// Where the spool is below a local `recording.url`, unless it is set: one file system, so that delivery is a rename.
const SPOOL_BELOW: &str = ".spool";

/// Recordings at once that may be set: a file descriptor or two each, and a shard's time for a message per packet.
const MAX_RECORDINGS: u32 = 10_000;

/// Keys below `recording`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordingConfig {
    /// Where finished recordings are delivered to: `file:///…`, `s3://…`, `gs://…`, `az://…`. Absent: this node records nothing.
    pub url: Option<String>,
    /// Options of the store that `url` names, as its client calls them (`aws_endpoint`, `aws_access_key_id`, …).
    pub store: BTreeMap<String, Secret>,
    /// Where recordings are written, and wait for delivery. By default `.spool` below a local `url`.
    pub spool_dir: Option<PathBuf>,
    /// When what is written has to be on the disk itself.
    pub fsync: Fsync,
    /// Recordings at once; further ones are refused.
    pub max: u32,
    /// How long one may become; then it ends.
    pub max_length: Period,
    /// Free bytes that are left on the spool's file system: with less no recording begins, and those that run end.
    pub min_free: u64,
}

/// When a file is synced to its disk. What the kernel has been given survives the end of the process, not that of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// When the kernel thinks fit.
    Never,
    /// Once, when the recording ends.
    Close,
    /// With every page and cluster: a machine that loses power loses a second.
    Page,
}

impl Default for RecordingConfig {
    fn default() -> Self {
        Self {
            url: None,
            store: BTreeMap::new(),
            spool_dir: None,
            fsync: Fsync::Close,
            max: 1_000,
            max_length: Period::seconds(24 * 3_600),
            // Half a minute of a thousand videos: time for those that run to be closed in order.
            min_free: 256 * 1024 * 1024,
        }
    }
}

impl RecordingConfig {
    /// Where recordings are written; `None`: nothing is recorded.
    pub fn spool(&self) -> Option<PathBuf> {
        let url = self.url.as_ref()?;
        self.spool_dir.clone().or_else(|| local(url).map(|directory| directory.join(SPOOL_BELOW)))
    }

    /// What is wrong with these keys.
    pub fn check(&self) -> Result<(), Contradiction> {
        let wrong = |key: &str, why: &str| Err(Contradiction::new(format!("recording.{key}"), why));
        if let Some(url) = &self.url {
            self.check_url(url)?;
        } else if !self.store.is_empty() {
            return wrong("store", "is for recording.url, which is not set");
        } else if self.spool_dir.is_some() {
            return wrong("spool_dir", "is for recordings on their way to recording.url, which is not set");
        }
        if self.spool_dir.as_ref().is_some_and(|spool| !spool.is_absolute()) {
            return wrong("spool_dir", "must be an absolute path");
        }
        if self.max == 0 || self.max > MAX_RECORDINGS {
            return wrong("max", "must be 1 to 10,000");
        }
        if std::time::Duration::from(self.max_length).as_secs() == 0 {
            return wrong("max_length", "must be a second at least");
        }
        Ok(())
    }

    /// What of it cannot be used on this machine, as far as that is found without asking a store or changing anything.
    pub fn try_out(&self) -> Result<(), Contradiction> {
        let Some(url) = &self.url else { return Ok(()) };
        let try_directory = |key: &str, directory: &Path| {
            can_be_made(directory).map_err(|why| Contradiction::new(format!("recording.{key}"), why))
        };
        match local(url) {
            Some(directory) => try_directory("url", &directory)?,
            None => super::spool::try_store(url, &self.store)?,
        }
        self.spool_dir.as_deref().map_or(Ok(()), |spool| try_directory("spool_dir", spool))
    }

    fn check_url(&self, url: &str) -> Result<(), Contradiction> {
        let wrong = |why: &str| Err(Contradiction::new("recording.url", why));
        match url.split_once("://") {
            Some(("file", _)) if local(url).is_none() => {
                return wrong("must be file:// and the absolute path of a directory, as in file:///var/lib/recordings");
            }
            Some(("file", _)) if !self.store.is_empty() => {
                return Err(Contradiction::new(
                    "recording.store",
                    "is for object stores, and recording.url is a directory",
                ));
            }
            Some(("file", _)) => return Ok(()),
            Some(("s3" | "gs" | "az", bucket)) if bucket.is_empty() || bucket.starts_with('/') => {
                return wrong("names no bucket");
            }
            Some(("s3" | "gs" | "az", _)) => {}
            _ => {
                return wrong(
                    "must be file:///directory, s3://bucket, gs://bucket or az://container, with or without a path",
                );
            }
        }
        if cfg!(not(feature = "object-stores")) {
            return wrong(
                "is an object store, which this program was built without (feature object-stores): use sfu-node",
            );
        }
        if self.spool_dir.is_none() {
            return Err(Contradiction::new(
                "recording.spool_dir",
                "is needed with an object store: a directory on a disk with room for what waits for delivery",
            ));
        }
        super::spool::check_options(url, &self.store)
    }
}

/// Whether files can be made in this directory, which need not be there: then it can be made in what is there of its path.
fn can_be_made(directory: &Path) -> Result<(), String> {
    for there in directory.ancestors() {
        let unusable = |why: &dyn std::fmt::Display| Err(format!("{}: {why}", there.display()));
        match fs::metadata(there) {
            Ok(found) if !found.is_dir() => return unusable(&"is no directory"),
            Ok(_) => {
                let may = Access::WRITE_OK | Access::EXEC_OK;
                let allowed = accessat(CWD, there, may, AtFlags::EACCESS);
                return allowed.or_else(|error| unusable(&format_args!("cannot be written to: {error}")));
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return unusable(&error),
        }
    }
    Err(format!("{}: is nowhere", directory.display()))
}

/// The directory that a `file://` URL names.
pub(crate) fn local(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("file://").filter(|path| path.starts_with('/'))?;
    let decoded = decode(path)?;
    (!decoded.contains('\0')).then(|| decoded.into())
}

/// Undoes percent encoding (RFC 3986, section 2.1).
fn decode(path: &str) -> Option<String> {
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push((digit()? * 16 + digit()?) as u8);
    }
    String::from_utf8(decoded).ok()
}

/// The `file://` URL of a directory, which is made absolute.
pub fn file_url(directory: &Path) -> io::Result<String> {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;

    let mut url = "file://".to_owned();
    for byte in std::path::absolute(directory)?.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => url.push(char::from(*byte)),
            _ => write!(url, "%{byte:02X}").expect("invariant: text takes text"),
        }
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn to(url: &str) -> RecordingConfig {
        RecordingConfig { url: Some(url.to_owned()), ..RecordingConfig::default() }
    }

    fn refused(config: &RecordingConfig) -> String {
        config.check().expect_err("not to be taken").to_string()
    }

    #[test]
    fn a_node_records_nothing_unless_told_where_to() {
        let config = RecordingConfig::default();
        assert_eq!((config.check(), config.spool()), (Ok(()), None));
    }

    #[test]
    fn a_local_directory_has_its_spool_in_itself_unless_told_otherwise() {
        let config = to("file:///var/lib/my%20recordings");
        config.check().expect("a directory");
        assert_eq!(config.spool().as_deref(), Some(Path::new("/var/lib/my recordings/.spool")));
        let config = RecordingConfig { spool_dir: Some("/fast".into()), ..config };
        assert_eq!(config.spool().as_deref(), Some(Path::new("/fast")));
    }

    #[cfg(feature = "object-stores")]
    #[test]
    fn an_object_store_needs_a_spool() {
        for url in ["s3://bucket", "gs://bucket/below", "az://container/"] {
            assert!(refused(&to(url)).starts_with("recording.spool_dir: "));
            RecordingConfig { spool_dir: Some("/spool".into()), ..to(url) }.check().expect("both");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for url in [
            "",
            "recordings",
            "/recordings",
            "file://recordings",
            "file:///%zz",
            "file:///%00",
            "s3://",
            "s3:///a",
            "ftp://a",
        ] {
            let said = refused(&RecordingConfig { spool_dir: Some("/spool".into()), ..to(url) });
            assert!(said.starts_with("recording.url: "), "{url}: {said}");
        }
    }

    #[test]
    fn keys_without_an_effect_are_refused() {
        let store = BTreeMap::from([("aws_endpoint".to_owned(), Secret::new("http://127.0.0.1:1"))]);
        let spool = Some(PathBuf::from("/spool"));
        let nowhere = RecordingConfig::default();
        assert!(refused(&RecordingConfig { store: store.clone(), ..nowhere.clone() }).starts_with("recording.store: "));
        assert!(refused(&RecordingConfig { spool_dir: spool, ..nowhere }).starts_with("recording.spool_dir: "));
        assert!(refused(&RecordingConfig { store, ..to("file:///a") }).starts_with("recording.store: "));
        assert!(
            refused(&RecordingConfig { spool_dir: Some("a".into()), ..to("file:///a") })
                .starts_with("recording.spool_dir")
        );
        for max in [0, MAX_RECORDINGS + 1] {
            assert!(refused(&RecordingConfig { max, ..to("file:///a") }).starts_with("recording.max: "));
        }
        let max_length = Period::milliseconds(999);
        assert!(refused(&RecordingConfig { max_length, ..to("file:///a") }).starts_with("recording.max_length: "));
    }

    #[test]
    fn a_directory_becomes_a_url_and_the_url_that_directory() {
        for name in ["/plain", "/with space", "/ümlaut%41", "/a?b#c"] {
            let url = file_url(Path::new(name)).expect("absolute");
            assert_eq!(local(&url).as_deref(), Some(Path::new(name)), "{url}");
        }
        assert!(file_url(Path::new("below")).expect("absolute").ends_with("/below"));
    }
}
