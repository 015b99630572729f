//! What is below a prefix of etcd, and every change of it: read once, then watched. A watch that was cut is resumed where it
//! was; one that cannot be (the revision was compacted, etcd is not the one it was) is followed by a new reading.
//!
//! A watch can die without a sign: the member is frozen, or cut off from the others. So its member is asked for its progress
//! every second, and is left when it is silent.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Compare, CompareOp, Event, GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchResponse,
    WatchStream,
};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::client::{CALL_TIMEOUT, CallError, Members, Pauses, unique};

/// How often the member is asked whether it still watches.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(1);
/// Silence after which it is left.
const SILENCE: Duration = Duration::from_secs(3);
/// Entries of one reading step: some 500 KB of ours. Fewer when they turn out larger than an answer may be.
const PAGE: i64 = 1_000;

/// What a feed gives.
pub(super) enum Heard {
    /// Everything, in place of what was known.
    All(Vec<KeyValue>),
    /// Changes, in order; some may be told twice, but none before an older one of its key.
    Changes(Vec<Event>),
    /// Nothing, from a member that watches.
    Quiet,
    /// The watch is lost; what comes next may come late.
    Cut,
}

/// See the module.
pub(super) struct Feed {
    members: Arc<Members>,
    prefix: String,
    /// Where the name of etcd's life is kept.
    life_key: String,
    place: Option<Place>,
    watch: Option<Watch>,
    /// The last step failed: a pause comes before the next.
    lost: bool,
    pauses: Pauses,
    /// Entries asked for at once.
    page: i64,
}

/// How far etcd is known.
struct Place {
    /// The next revision not known, or the last known one.
    next: i64,
    life: Vec<u8>,
}

struct Watch {
    stream: WatchStream,
    /// When something last came.
    heard: Instant,
    ask: Instant,
}

/// Why a watch goes no further.
enum Lost {
    /// It is cut, and may be resumed.
    Cut(String),
    /// What comes next cannot be had.
    Gap(&'static str),
}

impl From<CallError> for Lost {
    fn from(error: CallError) -> Self {
        Self::Cut(error.to_string())
    }
}

impl Feed {
    pub(super) fn new(members: Arc<Members>, prefix: String, life_key: String) -> Self {
        Self { members, prefix, life_key, place: None, watch: None, lost: false, pauses: Pauses::default(), page: PAGE }
    }

    /// The next news. Tries for as long as it takes.
    pub(super) async fn next(&mut self) -> Heard {
        loop {
            if std::mem::take(&mut self.lost) {
                self.pauses.pause().await;
            }
            let step = match (&mut self.watch, &self.place) {
                (Some(watch), Some(place)) => watch.next(place).await,
                (None, Some(_)) => self.resume().await.map(|()| None),
                (_, None) => self.read().await.map(|all| Some(Heard::All(all))).map_err(Lost::from),
            };
            match step {
                Ok(Some(heard)) => {
                    if self.watch.is_some() {
                        self.pauses.reset();
                    }
                    self.advance(&heard);
                    return heard;
                }
                Ok(None) => {}
                Err(lost) => {
                    if self.lose(lost).await {
                        return Heard::Cut;
                    }
                }
            }
        }
    }

    /// Whether there was a watch to lose.
    async fn lose(&mut self, lost: Lost) -> bool {
        self.lost = true;
        let watched = self.watch.take().is_some();
        match lost {
            Lost::Cut(reason) if watched => self.members.leave(&reason).await,
            // The call that failed has left its member.
            Lost::Cut(_) => {}
            Lost::Gap(reason) => {
                tracing::info!(prefix = self.prefix, reason, "etcd is read anew");
                self.place = None;
            }
        }
        watched
    }

    /// The watch may be cut in the middle of a revision, so that the last one is asked for again.
    fn advance(&mut self, heard: &Heard) {
        if let (Heard::Changes(events), Some(place)) = (heard, &mut self.place) {
            let last = events.iter().filter_map(Event::kv).map(KeyValue::mod_revision).max();
            place.next = place.next.max(last.unwrap_or(0));
        }
    }

    /// Everything, at one revision.
    async fn read(&mut self) -> Result<Vec<KeyValue>, CallError> {
        let life = self.life().await?;
        let mut all: Vec<KeyValue> = Vec::new();
        let mut revision = 0;
        loop {
            let from = all.last().map_or_else(|| self.prefix.clone().into_bytes(), |last| after(last.key()));
            let options = GetOptions::new()
                .with_range(end_of(self.prefix.as_bytes()))
                .with_limit(self.page)
                .with_revision(revision);
            let read = self.members.call(|mut client| async move { client.get(from, Some(options)).await }).await;
            let mut page = match read {
                Err(error) if error.is_too_large() && self.page > 1 => {
                    self.page /= 2;
                    continue;
                }
                read => read?,
            };
            if revision == 0 {
                revision = page.header().map_or(0, etcd_client::ResponseHeader::revision);
            }
            let more = page.more();
            all.append(&mut page.take_kvs());
            if !more {
                self.place = Some(Place { next: revision + 1, life });
                return Ok(all);
            }
        }
    }

    /// Watches on from where it was, if this is still the same etcd.
    async fn resume(&mut self) -> Result<(), Lost> {
        let life = self.life().await?;
        let Some(place) = &self.place else { return Ok(()) };
        if life != place.life {
            return Err(Lost::Gap("it has lost what it knew"));
        }
        let (prefix, options) = (
            self.prefix.clone(),
            WatchOptions::new().with_prefix().with_start_revision(place.next).with_progress_notify().with_fragment(),
        );
        let stream = self.members.call(|mut client| async move { client.watch(prefix, Some(options)).await }).await?;
        let now = Instant::now();
        self.watch = Some(Watch { stream, heard: now, ask: now });
        Ok(())
    }

    /// The random name of this etcd's life: another after it has lost everything.
    async fn life(&self) -> Result<Vec<u8>, CallError> {
        let key = self.life_key.clone();
        // Read first, by itself: an etcd that is full refuses whatever might write, and can be read.
        let read = self.members.call(|mut client| async move { client.get(key, None).await }).await?;
        match read.kvs().first() {
            Some(entry) => Ok(entry.value().to_vec()),
            None => self.begin_life().await,
        }
    }

    /// Names this etcd's life, unless somebody else just has.
    async fn begin_life(&self) -> Result<Vec<u8>, CallError> {
        let key = self.life_key.clone();
        let absent = [Compare::create_revision(key.clone(), CompareOp::Equal, 0)];
        let name = unique();
        let made = Txn::new()
            .when(absent)
            .and_then([TxnOp::put(key.clone(), name.clone(), None)])
            .or_else([TxnOp::get(key, None)]);
        let answer = self.members.call(|mut client| async move { client.txn(made).await }).await?;
        let known = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(get) => get.kvs().first().map(|entry| entry.value().to_vec()),
            _ => None,
        });
        Ok(known.unwrap_or_else(|| name.into_bytes()))
    }
}

impl Watch {
    /// `None`: it was asked for its progress.
    async fn next(&mut self, place: &Place) -> Result<Option<Heard>, Lost> {
        tokio::select! {
            message = self.stream.message() => match message {
                Ok(Some(response)) => {
                    self.heard = Instant::now();
                    read_response(&response, place).map(Some)
                }
                Ok(None) => Err(Lost::Cut("the watch has ended".to_owned())),
                Err(error) => Err(Lost::Cut(error.to_string())),
            },
            () = sleep_until(self.heard + SILENCE) => Err(Lost::Cut("the watch is silent".to_owned())),
            () = sleep_until(self.ask) => {
                self.ask = Instant::now() + ASK_EVERY;
                let asked = timeout_at(self.ask.min(Instant::now() + CALL_TIMEOUT), self.stream.request_progress()).await;
                match asked {
                    Ok(Ok(())) => Ok(None),
                    Ok(Err(error)) => Err(Lost::Cut(error.to_string())),
                    Err(_) => Err(Lost::Cut("the watch takes no question".to_owned())),
                }
            }
        }
    }
}

fn read_response(response: &WatchResponse, place: &Place) -> Result<Heard, Lost> {
    if response.compact_revision() > 0 {
        return Err(Lost::Gap("its past was compacted"));
    }
    if response.canceled() {
        return Err(Lost::Cut(format!("the watch was refused: {}", response.cancel_reason())));
    }
    // A member behind the others, or one whose past was put back. A progress message proves nothing forward: etcd before
    // 3.4.25 sends it ahead of the changes it speaks of.
    if response.header().is_some_and(|header| header.revision() + 1 < place.next) {
        return Err(Lost::Gap("it is behind what is known"));
    }
    if response.events().is_empty() { Ok(Heard::Quiet) } else { Ok(Heard::Changes(response.events().to_vec())) }
}

/// The first key after this one.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// The first key after all that begin with `prefix`, which is not empty and ends with a slash.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}
