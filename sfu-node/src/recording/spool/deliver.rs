//! The task that delivers: file by file, read back and compared, the manifest last, and only then out of the spool. Every step may
//! be cut off and done again: what is in the store already is found there by its hash.
//!
//! ```text
//!  ended, or left by a killed process ─settle─▶ manifest ─▶ files in the store ─▶ manifest in the store ─▶ told ─▶ removed
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use metrics::{Counter, Gauge};
use object_store::path::Path;
use proto::ids::{RecordingId, RoomId};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::field::display;

use super::Shared;
use super::dir::{Contents, Entry};
use super::manifest::Manifest;
use super::names::{Name, Stem};
use super::queue::{Fault, Queue};
use super::recover::{Ready, SettleError, Settled, settle};
use super::store::{AccessError, Digest, Made};
use super::upload::{Source, UploadError, upload};
use crate::metrics::catalogue as known;

/// How often the spool is looked through: for what is to be measured, and for recordings that were not known.
const SURVEY: Duration = Duration::from_secs(10);

/// Recordings that are known by name; further ones are found when these are fewer. A few hundred bytes each.
const KNOWN: usize = 10_000;

/// How long deliveries may go on once the node goes away, within the second that its tasks get: enough for what was just closed and goes
/// to a directory. The rest waits for the next start.
const LAST: Duration = Duration::from_millis(900);

/// Extension of manifests.
const MANIFEST: &str = "json";

/// A recording that has been delivered. Told again if the process is killed right after.
#[derive(Clone, Debug)]
pub(crate) struct Delivered {
    /// Its manifest, as delivered.
    pub(crate) manifest: Manifest,
    /// Where the manifest is: below `recording.url`.
    pub(crate) path: String,
}

/// What others are told.
#[derive(Clone, Debug)]
pub(crate) enum SpoolEvent {
    /// The process that recorded it was killed before it could say that it has ended: its files are closed now.
    Recovered(Manifest),
    /// See there.
    Delivered(Delivered),
}

/// Hears of it. Must not wait.
pub(super) type Told = dyn Fn(SpoolEvent) + Send + Sync;

/// The task.
pub(super) struct Deliveries {
    shared: Arc<Shared>,
    told: Arc<Told>,
    queue: Queue,
    tasks: JoinSet<Done>,
    /// Which of them deliver what.
    delivering: HashMap<Id, Stem>,
    next_survey: Instant,
    surveying: bool,
    metrics: DeliveryMetrics,
}

/// What a task of it has done.
enum Done {
    Delivery(Result<Outcome, Failure>),
    Survey(std::io::Result<Contents>),
}

enum Outcome {
    Delivered,
    /// There was nothing to do.
    Gone,
}

/// A delivery that did not succeed.
struct Failure {
    /// Whose room and which recording, once that has been read.
    of: Option<(RoomId, RecordingId)>,
    error: DeliveryError,
}

struct DeliveryMetrics {
    delivered: Counter,
    failed: Counter,
    renamed: Counter,
    bytes: Gauge,
    waiting: Gauge,
    oldest: Gauge,
}

/// Why a recording is not delivered yet.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    #[error(transparent)]
    Settle(#[from] SettleError),
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error("the spool: {0}")]
    Spool(#[from] std::io::Error),
    #[error("{0} came out of the store other than it went in")]
    Differs(Path),
    #[error("other files have its names in the store")]
    Taken,
    #[error("its delivery broke off: {0}")]
    Broken(#[from] JoinError),
}

impl From<AccessError> for DeliveryError {
    fn from(error: AccessError) -> Self {
        Self::Upload(error.into())
    }
}

impl DeliveryError {
    fn fault(&self) -> Fault {
        match self {
            Self::Upload(UploadError::Store(_)) => Fault::Store,
            _ => Fault::Recording,
        }
    }
}

impl Deliveries {
    pub(super) fn new(shared: Arc<Shared>, told: Arc<Told>) -> Self {
        Self {
            shared,
            told,
            queue: Queue::default(),
            tasks: JoinSet::new(),
            delivering: HashMap::new(),
            next_survey: Instant::now(),
            surveying: false,
            metrics: DeliveryMetrics::register(),
        }
    }

    /// Delivers until `shutdown`, and then for a moment what it can.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            shutdown.run_until_cancelled(self.step()).await;
        }
        let rest = async {
            while !self.is_idle() {
                self.step().await;
            }
        };
        if timeout(LAST, rest).await.is_err() {
            tracing::info!(recordings = self.queue.len(), "what is not delivered yet waits for the next start");
        }
    }

    /// Begins what can begin, and waits for what happens next. Cut off, it has lost nothing.
    async fn step(&mut self) {
        self.begin();
        let again = self.queue.poll_timeout();
        let again =
            if self.surveying { again } else { Some(again.map_or(self.next_survey, |at| at.min(self.next_survey))) };
        let woken = async {
            match again {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(done) = self.tasks.join_next_with_id() => self.handle(done),
            () = self.shared.wake.notified() => {}
            () = woken => {}
        }
    }

    fn begin(&mut self) {
        for stem in self.shared.take_closed() {
            // Further ones are found in the directory.
            if self.queue.len() < KNOWN {
                self.queue.push(stem);
            }
        }
        let now = Instant::now();
        while let Some(stem) = self.queue.poll_next(now) {
            let (shared, told) = (self.shared.clone(), self.told.clone());
            let renamed = self.metrics.renamed.clone();
            let of = stem.clone();
            let task = self.tasks.spawn(async move { Done::Delivery(deliver(shared, &of, &*told, &renamed).await) });
            self.delivering.insert(task.id(), stem);
        }
        if !self.surveying && self.next_survey <= now {
            self.surveying = true;
            let dir = self.shared.dir.clone();
            self.tasks.spawn_blocking(move || Done::Survey(dir.contents(KNOWN)));
        }
    }

    fn handle(&mut self, done: Result<(Id, Done), JoinError>) {
        let id = match &done {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        match (self.delivering.remove(&id), done) {
            (Some(stem), Ok((_, Done::Delivery(Ok(outcome))))) => self.handle_done(&stem, &outcome),
            (Some(stem), Ok((_, Done::Delivery(Err(failure))))) => self.handle_failure(&stem, &failure),
            (Some(stem), Err(error)) => self.handle_failure(&stem, &Failure { of: None, error: error.into() }),
            (_, Ok((_, Done::Survey(Ok(contents))))) => self.handle_survey(&contents),
            (_, Ok((_, Done::Survey(Err(error))))) => {
                tracing::error!(dir = %self.shared.dir.path().display(), %error, "the spool cannot be read");
                self.survey_later();
            }
            (None, _) => self.survey_later(),
        }
    }

    fn handle_done(&mut self, stem: &Stem, outcome: &Outcome) {
        self.shared.forget(stem);
        self.queue.handle_done(stem);
        if matches!(outcome, Outcome::Delivered) {
            self.metrics.delivered.increment(1);
        }
    }

    fn handle_failure(&mut self, stem: &Stem, Failure { of, error }: &Failure) {
        self.metrics.failed.increment(1);
        let (room, recording) = of.as_ref().map(|(room, recording)| (display(room), display(recording))).unzip();
        let failures = self.queue.handle_failure(stem, error.fault(), Instant::now(), rand::random_range(0.0..1.0));
        match error.fault() {
            Fault::Store => {
                tracing::warn!(room, recording, files = %stem, %error, failures, "not delivered: trying again");
            }
            // Tried again every minute, it need not be said as often.
            Fault::Recording if failures.is_power_of_two() => {
                tracing::error!(room, recording, files = %stem, %error, failures, "not delivered: trying again");
            }
            Fault::Recording => {}
        }
    }

    fn handle_survey(&mut self, contents: &Contents) {
        let now = SystemTime::now();
        let (mut waiting, mut oldest) = (0, Duration::ZERO);
        for (stem, written) in self.shared.not_active(&contents.oldest) {
            waiting += 1;
            oldest = oldest.max(now.duration_since(*written).unwrap_or_default());
            if self.queue.len() < KNOWN {
                self.queue.push(stem.clone());
            }
        }
        self.metrics.bytes.set(contents.bytes as f64);
        self.metrics.waiting.set(f64::from(waiting));
        self.metrics.oldest.set(oldest.as_secs_f64());
        self.survey_later();
    }

    fn survey_later(&mut self) {
        self.surveying = false;
        self.next_survey = Instant::now() + SURVEY;
    }

    /// Whether nothing more can be done now, with what has ended by now.
    fn is_idle(&mut self) -> bool {
        self.begin();
        self.queue.is_idle(Instant::now())
    }
}

impl DeliveryMetrics {
    fn register() -> Self {
        let result = |result: &'static str| known::RECORDING_DELIVERIES.counter(&[("result", result)]);
        Self {
            delivered: result("delivered"),
            failed: result("failed"),
            renamed: result("renamed"),
            bytes: known::SPOOL_BYTES.gauge(&[]),
            waiting: known::SPOOL_WAITING.gauge(&[]),
            oldest: known::SPOOL_OLDEST.gauge(&[]),
        }
    }
}

/// Delivers one recording.
async fn deliver(shared: Arc<Shared>, stem: &Stem, told: &Told, renamed: &Counter) -> Result<Outcome, Failure> {
    let (dir, of, end) = (shared.dir.clone(), stem.clone(), shared.unwritten_end(stem));
    let settled = tokio::task::spawn_blocking(move || settle(&dir, &of, end)).await;
    let settled = settled.map_err(DeliveryError::from).and_then(|settled| settled.map_err(DeliveryError::from));
    let Settled::Ready(ready) = settled.map_err(|error| Failure { of: None, error })? else {
        return Ok(Outcome::Gone);
    };
    let of = (ready.manifest.room().clone(), ready.manifest.recording().clone());
    deliver_ready(shared, stem, *ready, told, renamed).await.map_err(|error| Failure { of: Some(of), error })
}

async fn deliver_ready(
    shared: Arc<Shared>,
    stem: &Stem,
    Ready { name, mut manifest, is_new }: Ready,
    told: &Told,
    renamed: &Counter,
) -> Result<Outcome, DeliveryError> {
    if is_new && manifest.is_recovered() && !shared.is_abandoned(stem) {
        told(SpoolEvent::Recovered(manifest.clone()));
    }
    let mut usual = true;
    for file in &mut manifest.files {
        let content = Digest { bytes: file.bytes, sha256: file.sha256.clone() };
        let (path, upload) = (Entry::Media(file.kind), Entry::Upload(file.kind));
        let (path, upload) = (shared.dir.file(stem, path), shared.dir.file(stem, upload));
        let stored =
            store(&shared, &name, file.kind.extension(), &What::File(Source { path, upload, content })).await?;
        usual &= stored == file.name;
        file.name = stored;
    }
    let stored = store(&shared, &name, MANIFEST, &What::Text(manifest.to_json())).await?;
    usual &= stored == name.file(MANIFEST);
    if !usual {
        renamed.increment(1);
        tracing::error!(room = %manifest.room(), recording = %manifest.recording(), files = ?manifest.files, manifest = stored, "delivered under another name: something else has its own");
    }
    let path = format!("{}/{stored}", name.folder());
    tracing::info!(room = %manifest.room(), recording = %manifest.recording(), path, "recording delivered");
    told(SpoolEvent::Delivered(Delivered { manifest, path }));
    let (dir, of) = (shared.dir.clone(), stem.clone());
    tokio::task::spawn_blocking(move || dir.mark_delivered(&of).and_then(|()| dir.remove(&of))).await??;
    Ok(Outcome::Delivered)
}

/// What is to be in the store.
enum What {
    File(Source),
    Text(String),
}

/// Sees to it that this is in the store: under its name or, where something else has that, under another one. Says which.
async fn store(shared: &Shared, name: &Name, extension: &str, what: &What) -> Result<String, DeliveryError> {
    let content = match what {
        What::File(source) => source.content.clone(),
        What::Text(text) => Digest::of(text.as_bytes()),
    };
    for candidate in [name.file(extension), name.other_file(extension, &content.sha256)] {
        let key = shared.store.key(name.folder(), &candidate);
        if store_as(shared, &key, &content, what).await? == Made::Made {
            return Ok(candidate);
        }
    }
    Err(DeliveryError::Taken)
}

/// The same, under this name. `Taken`: something else has it.
async fn store_as(shared: &Shared, key: &Path, content: &Digest, what: &What) -> Result<Made, DeliveryError> {
    let store = &shared.store;
    if let Some(found) = store.digest(key, content.bytes).await? {
        if found != *content {
            return Ok(Made::Taken);
        }
        let (store, key) = (store.clone(), key.clone());
        tokio::task::spawn_blocking(move || store.publish(&key)).await?;
        return Ok(Made::Made);
    }
    let made = match what {
        What::File(source) => upload(store, key, source).await?,
        What::Text(text) => store.make(key, text.clone().into_bytes()).await?,
    };
    match (store.digest(key, content.bytes).await?, made) {
        (Some(found), _) if found == *content => Ok(Made::Made),
        (_, Made::Taken) => Ok(Made::Taken),
        (_, Made::Made) => Err(DeliveryError::Differs(key.clone())),
    }
}
