//! Where recordings are delivered to: a directory or an object store, through `object_store`. It only ever adds: nothing that is
//! there is written to or removed. What each store can be held to is in docs/decisions/0017.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use sha2::{Digest as _, Sha256};
use telemetry::settings::{Contradiction, Secret};

use super::names::hex;
use crate::recording::settings;

/// Longest that one request may take, with what the client repeats of it. A part of 8 MiB needs 0.6 Mbit/s then; a longer time keeps
/// one of few places of delivery for a store that answers nobody.
const DEADLINE: Duration = Duration::from_mins(2);

/// Bytes that are sent or read at a time. Stores take 10,000 parts of at least 5 MiB; larger ones take longer to repeat and more memory,
/// of which each delivery under way has one part.
const PART: usize = 8 << 20;

/// What is told of an error: stores answer with pages.
const MAX_TOLD: usize = 400;

/// Options of the client of a store, by their names.
pub(super) type Options = BTreeMap<String, Secret>;

/// A place for recordings.
#[derive(Clone, Debug)]
pub(super) struct Store {
    objects: Arc<dyn ObjectStore>,
    /// Object stores take what is large in parts.
    parts: Option<Arc<dyn Multipart>>,
    below: Path,
    kind: Kind,
    part: usize,
}

/// What uploads in parts are made with.
pub(super) trait Multipart: MultipartStore + std::fmt::Debug {}

impl<T: MultipartStore + std::fmt::Debug> Multipart for T {}

#[derive(Clone, Debug)]
enum Kind {
    /// A directory. It has no deadline: an operation of the kernel that is given up goes on nevertheless, and a disk that hangs would
    /// have more and more of them.
    Directory(PathBuf),
    #[cfg_attr(not(feature = "object-stores"), allow(dead_code, reason = "only clients of object stores are these"))]
    Objects,
}

/// Why a place cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Said by its client, or by the system of a directory.
    #[error("recording.url: {0}")]
    Unusable(String),
    /// An option.
    #[error(transparent)]
    Option(#[from] Contradiction),
}

/// Why nothing was stored, or nothing read.
#[derive(Debug, thiserror::Error)]
pub(super) enum AccessError {
    #[error("{}", shortened(.0))]
    Store(#[from] Error),
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Late,
}

/// What an object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digest {
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// What became of an object that was to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    Made,
    /// There is one of this name.
    Taken,
}

impl Digest {
    /// Of this text.
    pub(super) fn of(text: &[u8]) -> Self {
        Self { bytes: text.len() as u64, sha256: hex(&Sha256::digest(text)) }
    }
}

impl Store {
    /// The place that a URL names. Asks nobody: a store may be away.
    pub(super) fn open(url: &str, options: &Options) -> Result<Self, StoreError> {
        let Some(directory) = settings::local(url) else { return remote::open(url, options) };
        let unusable = |error: String| StoreError::Unusable(error);
        fs::create_dir_all(&directory).map_err(|error| unusable(format!("{}: {error}", directory.display())))?;
        let objects = LocalFileSystem::new_with_prefix(&directory).map_err(|error| unusable(error.to_string()))?;
        let objects = Arc::new(objects.with_fsync(true));
        Ok(Self { objects, parts: None, below: Path::default(), kind: Kind::Directory(directory), part: PART })
    }

    /// A store with this client, whose objects' names begin with `below`.
    #[cfg(any(test, feature = "object-stores"))]
    pub(super) fn of<T: ObjectStore + Multipart>(client: T, below: Path) -> Self {
        let client = Arc::new(client);
        Self { objects: client.clone(), parts: Some(client), below, kind: Kind::Objects, part: PART }
    }

    /// The same with smaller parts.
    #[cfg(test)]
    pub(super) fn with_part(self, part: usize) -> Self {
        Self { part, ..self }
    }

    /// The object of this name in this folder.
    pub(super) fn key(&self, folder: &str, file: &str) -> Path {
        // Written out, so that a `%` in it is not encoded once more.
        let path =
            if self.below.is_root() { format!("{folder}/{file}") } else { format!("{}/{folder}/{file}", self.below) };
        Path::parse(path).expect("invariant: parts of names are neither empty nor dots")
    }

    /// What uploads in parts are made with; `None`: in one piece, of which the beginning is not seen.
    pub(super) fn parts(&self) -> Option<&Arc<dyn Multipart>> {
        self.parts.as_ref()
    }

    /// Bytes that are sent at a time; what is longer is sent in parts.
    pub(super) fn part(&self) -> usize {
        self.part
    }

    /// The client.
    pub(super) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// An operation of the client, with its deadline.
    pub(super) async fn within<T>(&self, operation: impl Future<Output = Result<T, Error>>) -> Result<T, AccessError> {
        match self.kind {
            Kind::Directory(_) => Ok(operation.await?),
            Kind::Objects => Ok(tokio::time::timeout(DEADLINE, operation).await.map_err(|_| AccessError::Late)??),
        }
    }

    /// Length of the object, if there is one.
    pub(super) async fn size(&self, key: &Path) -> Result<Option<u64>, AccessError> {
        match self.within(self.objects.head(key)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(AccessError::Store(Error::NotFound { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads an object back, if there is one. What is not as long as expected is not read.
    pub(super) async fn digest(&self, key: &Path, expected: u64) -> Result<Option<Digest>, AccessError> {
        match self.size(key).await? {
            None => return Ok(None),
            Some(bytes) if bytes != expected => return Ok(Some(Digest { bytes, sha256: String::new() })),
            Some(_) => {}
        }
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        // Part by part, as it was sent: the client's deadline is for a request with all that it answers.
        while bytes < expected {
            let part = bytes..expected.min(bytes + self.part as u64);
            let part = self.within(self.objects.get_range(key, part)).await?;
            hash.update(&part);
            bytes += part.len() as u64;
            if part.is_empty() {
                break;
            }
        }
        Ok(Some(Digest { bytes, sha256: hex(&hash.finalize()) }))
    }

    /// Makes a small object, if there is none of its name: decided by the store, in one step.
    pub(super) async fn make(&self, key: &Path, content: Vec<u8>) -> Result<Made, AccessError> {
        self.clear_leftovers(key);
        let content = PutPayload::from(content);
        let create = PutOptions::from(PutMode::Create);
        match self.within(self.objects.put_opts(key, content.clone(), create)).await {
            Ok(_) => Ok(Made::Made),
            Err(AccessError::Store(Error::AlreadyExists { .. })) => Ok(Made::Taken),
            // One that cannot decide it, by its settings: names are unique, and we look.
            Err(AccessError::Store(Error::NotImplemented { .. } | Error::NotSupported { .. })) => {
                if self.size(key).await?.is_some() {
                    return Ok(Made::Taken);
                }
                self.within(self.objects.put(key, content)).await?;
                Ok(Made::Made)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether it is a directory of ours.
    pub(super) fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    /// Gives a file of the spool a second name in a directory, unless something has that: nothing is copied, and a full disk is no
    /// hindrance. `None`: it is on another file system, or on one that cannot do it. Blocks.
    pub(super) fn link(&self, file: &std::path::Path, key: &Path) -> Option<Made> {
        let Kind::Directory(root) = &self.kind else { return None };
        let path = root.join(key.as_ref());
        let folder = path.parent()?;
        fs::create_dir_all(folder).ok()?;
        match fs::hard_link(file, &path) {
            Ok(()) => {
                self.publish(key);
                Some(Made::Made)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Some(Made::Taken),
            Err(_) => None,
        }
    }

    /// Makes a file of ours in a directory what it is to be there, also when the process that gave it its name was killed right after. In the
    /// spool it was for nobody but us: from here on it is for whom the folder is, but not to be executed. Blocks.
    pub(super) fn publish(&self, key: &Path) {
        let Kind::Directory(root) = &self.kind else { return };
        let path = root.join(key.as_ref());
        let Some(folder) = path.parent() else { return };
        let mode = fs::metadata(folder).map(|folder| folder.permissions().mode() & 0o666);
        let opened = mode.and_then(|mode| fs::set_permissions(&path, Permissions::from_mode(mode)));
        if let Err(error) = opened.and_then(|()| fs::File::open(folder)?.sync_all()) {
            tracing::debug!(%key, %error, "a file is in its place, but perhaps not for all, or not for long");
        }
    }

    /// Removes what a killed process left of this object in a directory: the client's and our own names of a file that is being
    /// written. Another process that writes it would have to have our spool.
    pub(super) fn clear_leftovers(&self, key: &Path) {
        let Kind::Directory(root) = &self.kind else { return };
        let path = root.join(key.as_ref());
        for suffix in ["#1", ".part", ".part#1"] {
            let mut leftover = path.clone().into_os_string();
            leftover.push(suffix);
            // There is none, but after a crash.
            let _ = fs::remove_file(leftover);
        }
    }
}

/// Whether the client of `url` knows these options. Their values are its own business, and so is what the environment says.
pub(crate) fn check_options(url: &str, options: &Options) -> Result<(), Contradiction> {
    options.keys().try_for_each(|key| remote::check(url, key))
}

/// Whether a client of `url` can be made with these options, with what the environment says. Asks nobody.
pub(crate) fn try_store(url: &str, options: &Options) -> Result<(), Contradiction> {
    let error = match remote::open(url, options) {
        Ok(_) => return Ok(()),
        Err(StoreError::Option(wrong)) => return Err(wrong),
        Err(StoreError::Unusable(error)) => error,
    };
    let is_to_blame = |key: &&String| {
        let mut others = options.clone();
        others.remove(*key);
        remote::open(url, &others).is_ok()
    };
    let key = options.keys().find(is_to_blame).map(|key| format!("recording.store.{key}"));
    Err(Contradiction::new(key.unwrap_or_else(|| "recording.url".to_owned()), error))
}

fn unknown_option(key: &str) -> Contradiction {
    Contradiction::new(format!("recording.store.{key}"), "is no option of the store that recording.url names")
}

fn shortened(error: &Error) -> String {
    let text = error.to_string();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TOLD).collect()
}

#[cfg(feature = "object-stores")]
mod remote {
    //! Clients of object stores. Each reads the environment variables that are usual for it, then the options.

    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
    use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
    use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
    use object_store::{ClientConfigKey, RetryConfig};

    use super::{Contradiction, Duration, Options, Path, Store, StoreError, unknown_option};

    /// Longest that a request may take, unless `timeout` among the options says otherwise: a part over a slow line.
    const REQUEST_TIMEOUT: &str = "60s";

    /// For short troubles, so that a long upload is not begun again for them. Longer ones are waited for elsewhere.
    fn retry() -> RetryConfig {
        RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() }
    }

    macro_rules! client {
        ($builder:ident, $key:ident, $url:expr, $options:expr, $below:expr) => {{
            let builder = $builder::from_env().with_url($url).with_retry(retry());
            let builder = builder.with_config($key::Client(ClientConfigKey::Timeout), REQUEST_TIMEOUT);
            let builder = $options.iter().try_fold(builder, |builder, (key, value)| {
                let known: $key = key.to_ascii_lowercase().parse().map_err(|_| unknown_option(key))?;
                Ok::<_, Contradiction>(builder.with_config(known, value.expose()))
            })?;
            Store::of(builder.build().map_err(|error| StoreError::Unusable(error.to_string()))?, $below)
        }};
    }

    pub(super) fn open(url: &str, options: &Options) -> Result<Store, StoreError> {
        // The clients take the process' own choice of cryptography. It is made already, unless nothing else uses TLS.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let unusable = |why: &str| StoreError::Unusable(why.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(|| unusable("is no URL"))?;
        let (_, below) = rest.split_once('/').unwrap_or((rest, ""));
        let below = Path::from_url_path(below).map_err(|error| unusable(&error.to_string()))?;
        Ok(match scheme {
            "s3" => client!(AmazonS3Builder, AmazonS3ConfigKey, url, options, below),
            "gs" => client!(GoogleCloudStorageBuilder, GoogleConfigKey, url, options, below),
            "az" => client!(MicrosoftAzureBuilder, AzureConfigKey, url, options, below),
            _ => return Err(unusable("is neither a directory nor an object store that is known")),
        })
    }

    pub(super) fn check(url: &str, key: &str) -> Result<(), Contradiction> {
        let lower = key.to_ascii_lowercase();
        let known = match url.split_once("://") {
            Some(("s3", _)) => lower.parse::<AmazonS3ConfigKey>().is_ok(),
            Some(("gs", _)) => lower.parse::<GoogleConfigKey>().is_ok(),
            Some(("az", _)) => lower.parse::<AzureConfigKey>().is_ok(),
            _ => false,
        };
        if known { Ok(()) } else { Err(unknown_option(key)) }
    }
}

#[cfg(not(feature = "object-stores"))]
mod remote {
    //! A program that delivers to directories alone.

    use super::{Contradiction, Options, Store, StoreError, unknown_option};

    pub(super) fn open(_: &str, _: &Options) -> Result<Store, StoreError> {
        Err(StoreError::Unusable(
            "is no directory, and this program was built without the feature object-stores".to_owned(),
        ))
    }

    pub(super) fn check(_: &str, key: &str) -> Result<(), Contradiction> {
        Err(unknown_option(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let place = tempfile::tempdir().expect("a directory");
        let url = settings::file_url(&place.path().join("a b")).expect("a path");
        let store = Store::open(&url, &Options::new()).expect("a directory");
        (place, store)
    }

    #[tokio::test]
    async fn names_are_in_a_directory_as_they_are() {
        let (place, store) = store();
        let key = store.key("%2E%2E", "%43ON_20.ogg");
        assert_eq!(store.make(&key, b"sound".to_vec()).await.expect("made"), Made::Made);
        assert_eq!(fs::read(place.path().join("a b/%2E%2E/%43ON_20.ogg")).expect("there"), b"sound");
        assert_eq!(store.digest(&key, 5).await.expect("read"), Some(Digest::of(b"sound")));
    }

    #[tokio::test]
    async fn what_is_there_is_not_overwritten() {
        let (_place, store) = store();
        let key = store.key("room", "a.json");
        assert_eq!(store.make(&key, b"first".to_vec()).await.expect("made"), Made::Made);
        assert_eq!(store.make(&key, b"second".to_vec()).await.expect("answered"), Made::Taken);
        assert_eq!(store.digest(&key, 5).await.expect("read"), Some(Digest::of(b"first")));
        assert_ne!(store.digest(&key, 6).await.expect("read"), Some(Digest::of(b"second")));
        assert_eq!(store.digest(&store.key("room", "b.json"), 5).await.expect("read"), None);
    }

    #[tokio::test]
    async fn what_a_killed_process_left_half_written_goes() {
        let (place, store) = store();
        let room = place.path().join("a b/room");
        fs::create_dir_all(&room).expect("made");
        for leftover in ["a.ogg#1", "a.ogg.part", "a.ogg.part#1", "other.ogg#1"] {
            fs::write(room.join(leftover), "half").expect("written");
        }
        store.make(&store.key("room", "a.ogg"), b"whole".to_vec()).await.expect("made");
        let mut names: Vec<_> =
            fs::read_dir(&room).expect("read").map(|file| file.expect("read").file_name()).collect();
        names.sort();
        assert_eq!(names, ["a.ogg", "other.ogg#1"]);
    }

    #[cfg(feature = "object-stores")]
    #[test]
    fn options_that_no_store_knows_are_refused() {
        let options = |key: &str| Options::from([(key.to_owned(), Secret::new("x"))]);
        for (url, key) in [
            ("s3://bucket", "endpoint"),
            ("s3://bucket", "aws_secret_access_key"),
            ("s3://bucket", "allow_http"),
            ("s3://bucket", "AWS_REGION"),
            ("gs://bucket", "google_service_account"),
            ("az://container", "account_name"),
        ] {
            check_options(url, &options(key)).expect(key);
        }
        for (url, key) in [("s3://bucket", "edpoint"), ("gs://bucket", "aws_endpoint"), ("file:///a", "endpoint")] {
            let refused = check_options(url, &options(key)).expect_err(key).to_string();
            assert!(refused.starts_with(&format!("recording.store.{key}: ")), "{refused}");
        }
        assert!(Store::open("s3://bucket", &options("edpoint")).is_err());
    }

    #[cfg(feature = "object-stores")]
    #[test]
    fn a_store_that_is_away_can_be_opened() {
        let options = [("endpoint", "http://127.0.0.1:1"), ("allow_http", "true"), ("region", "r")];
        let options = options.map(|(key, value)| (key.to_owned(), Secret::new(value))).into();
        let store = Store::open("s3://bucket/below/it", &options).expect("nobody is asked");
        assert_eq!(store.key("room", "a.ogg").as_ref(), "below/it/room/a.ogg");
    }

    #[cfg(not(feature = "object-stores"))]
    #[test]
    fn without_the_feature_an_object_store_is_refused() {
        let refused = Store::open("s3://bucket", &Options::new()).expect_err("no client").to_string();
        assert!(refused.contains("object-stores"), "{refused}");
    }
}
