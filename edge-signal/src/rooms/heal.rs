//! When a room's log cannot tell what happened, because the store has lost writes or everything or an edge has slept too long: members
//! are told exactly what differs between what they know and what is. Other edges may still be putting back what they hold, so bad news
//! waits a while; nothing of the new log is told before, so that whoever asks for the room's state then gets all of it.
//!
//! Where the log is the same and no longer reaches back (an edge was deaf for too long), its entries are lost to members here, what
//! was said among them: they are sent back to join again, and are told so then.

use std::sync::Arc;
use std::time::Duration;

use proto::ids::{Mid, Position, RecordingId, Seq};
use room_store::{Entry, EntryId, Event, Follower, Head, LogRead, SetBy, SetRecording, StoreError, follow};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::fanout;
use super::model::{Known, NO_ENTRY, Told};
use super::task::Task;
use crate::notice::{Notice, Signal};
use crate::revival::AFTER;

/// How long what is missing may take to come back: every edge looks at the store each second, and then puts back what it holds.
/// More: a room with somebody who is really gone hears nothing for longer; less: an edge that is late makes its members come and go.
const PATIENCE: Duration = Duration::from_millis(3_500);
/// Mean pause between two comparisons.
const PAUSE: Duration = Duration::from_millis(300);

/// A room that is being healed.
pub(super) struct Healing {
    /// When members without a socket are put back, unless that was done.
    revives: Option<Instant>,
    /// When what is still missing is taken for gone.
    until: Instant,
    /// What was accepted in the log that is gone, or in the new one, and not told when this began.
    accepted: Vec<EntryId>,
    /// What the store had forgotten to be recorded was said to it again.
    recordings_are_back: bool,
}

impl Task {
    /// One comparison. When it leads to nothing yet, the follower asks for another.
    pub(super) async fn heal(&mut self, follower: &mut Follower) -> Result<(), StoreError> {
        let compared = self.compare(follower).await;
        if let (Err(_), Some(healing)) = (&compared, &mut self.healing) {
            // Nobody can put back anything while the store is away.
            healing.until = Instant::now() + PATIENCE;
        }
        compared
    }

    async fn compare(&mut self, follower: &mut Follower) -> Result<(), StoreError> {
        let rooms = self.rooms.clone();
        let reading = rooms.inner.reading.acquire().await;
        let told = self.room.model().head();
        if let Some(told) = told
            && let LogRead::Entries(_) =
                self.config().store.log_after(&self.room.id, told.position, told.id, follow::READ_LIMIT).await?
        {
            // Nothing is lost: it was another log that somebody joined in.
            self.healing = None;
            follower.restart(told);
            return Ok(());
        }
        let now = Instant::now();
        let accepted = || self.room.said.accepted();
        let begin = || Healing {
            revives: Some(now + AFTER),
            until: now + PATIENCE,
            accepted: accepted(),
            recordings_are_back: false,
        };
        let Healing { revives, until, recordings_are_back, .. } = *self.healing.get_or_insert_with(begin);
        rooms.put_back(&self.room.id).await?;
        // Nobody is a member of a room that is not there: this edge's members have just left.
        let snapshot = self.config().store.snapshot(&self.room.id).await?.ok_or(StoreError::NotMember)?;
        let known = Known::from(snapshot);
        let differences = self.room.model().differences(&known);
        // In one and the same log nothing was lost, only not heard.
        let is_same_log = told.is_some_and(|told| told.position.epoch == known.head.position.epoch);
        if !is_same_log && !recordings_are_back {
            let forgotten = self.room.model().forgotten_recordings(&known);
            self.put_back_recordings(&forgotten).await?;
            if !forgotten.is_empty() {
                follower.handle_failure();
                return Ok(());
            }
        }
        if differences.missing > 0 && !is_same_log && (revives.is_some() || Instant::now() < until) {
            if revives.is_some_and(|at| at <= Instant::now()) {
                self.revive().await?;
            }
            follower.handle_failure();
            drop(reading);
            sleep(PAUSE.mul_f64(rand::random_range(0.5..1.5))).await;
            return Ok(());
        }
        let log = self.log_up_to(known.head).await?;
        self.converge(follower, known, differences.events, log).await;
        Ok(())
    }

    /// What members were told to be recorded still is, by its node, which stops when nobody wants it any more: that the store has
    /// forgotten it is no reason. One that has ended meanwhile is not begun again: its node says so when the room is compared with it.
    async fn put_back_recordings(&mut self, forgotten: &[(Mid, RecordingId)]) -> Result<(), StoreError> {
        for (mid, recording) in forgotten {
            let set = SetRecording {
                by: SetBy::Edge(self.room.id.clone()),
                mid: mid.clone(),
                expected: None,
                recording: Some(recording.clone()),
            };
            match self.config().store.set_recording(set).await {
                Err(error) if error.is_transient() => return Err(error),
                // Its stream has just ended.
                Ok(_) | Err(_) => {}
            }
        }
        if let Some(healing) = &mut self.healing {
            healing.recordings_are_back = true;
        }
        Ok(())
    }

    /// Puts back those who were told to be here and whose sockets closed on this edge.
    async fn revive(&mut self) -> Result<(), StoreError> {
        let mut departed = self.config().members.departed(&self.room.id, Instant::now());
        {
            let told = self.room.model();
            departed.retain(|away| told.member(&away.assertion.hold.peer).is_some());
        }
        let sessions = departed.into_iter().map(|away| away.assertion).collect();
        // It may be another try.
        self.rooms.put_back_absent(&self.room.id, sessions, true).await?;
        if let Some(healing) = &mut self.healing {
            healing.revives = None;
        }
        Ok(())
    }

    /// The new log up to a place, as far as it can be had from its beginning.
    async fn log_up_to(&self, head: Head) -> Result<Vec<Arc<Entry>>, StoreError> {
        let mut after = Position { epoch: head.position.epoch, seq: Seq::START };
        let from = self.room.model().head().filter(|from| from.position.epoch == head.position.epoch);
        if from.is_some() {
            // The same log: its beginning is long told.
            return Ok(Vec::new());
        }
        let mut entries = Vec::new();
        loop {
            let LogRead::Entries(few) =
                self.config().store.log_after(&self.room.id, after, None, follow::READ_LIMIT).await?
            else {
                return Ok(Vec::new());
            };
            let is_all = few.len() < follow::READ_LIMIT;
            entries.extend(few.into_iter().filter(|entry| entry.position.seq <= head.position.seq));
            match entries.last() {
                Some(last) if !is_all && last.position.seq < head.position.seq => after = last.position,
                _ => return Ok(entries),
            }
        }
    }

    async fn converge(&mut self, follower: &mut Follower, known: Known, differences: Vec<Told>, log: Vec<Arc<Entry>>) {
        let (id, head) = (&self.room.id, known.head);
        for entry in &log {
            self.room.said.told(entry.id);
        }
        let lost = self.healing.take().map_or(0, |healing| self.room.said.lost(&healing.accepted));
        let from = self.room.model().head().map_or(head.position, |head| head.position);
        let metrics = &self.config().metrics;
        metrics.rooms_healed.increment(1);
        if from.epoch == head.position.epoch {
            let missed = head.position.seq.get().saturating_sub(from.seq.get());
            metrics.entries_missed.increment(missed);
            tracing::warn!(room = %id, missed, "the log does not reach back any more: members are sent back to join again");
        } else {
            metrics.broadcasts_lost.increment(lost as u64);
            tracing::debug!(room = %id, differences = differences.len(), lost, "room compared with the store");
        }
        // What was said since the new log began belongs to it and is told; its place is that of the state it was said in.
        let said = log.iter().filter(|entry| matches!(entry.event, Event::Broadcast { .. }));
        let said = said.map(|entry| (entry.cause.clone(), entry.event.clone()));
        let at_head = |(cause, event)| Entry { position: head.position, id: NO_ENTRY, cause, event };
        let entries: Vec<Entry> = differences.into_iter().chain(said).map(at_head).collect();
        for entry in &entries {
            if let Event::StreamAdd(stream) = &entry.event {
                self.watch(&stream.placement);
            }
        }
        let notices = entries.iter().map(|entry| Notice::new(&self.room.id, entry)).collect();
        let muted = self.config().members.muted_otherwise(&self.room.id, &known.publications);
        self.tell(Signal::Converge { from, to: head.position, notices });
        // For those who have joined in the new log already: each goes on from where it joined.
        for few in log.chunks(fanout::BATCH) {
            for entry in few {
                self.tell(Signal::Notice(Notice::new(&self.room.id, entry)));
            }
            yield_now().await;
        }
        self.room.model().adopt(known);
        // How a stream was before a change was lost is no news to its owner, who is about to have it so again.
        for entry in entries.iter().filter(|entry| !matches!(entry.event, Event::StreamUpdate(_))) {
            self.config().members.hear(&self.room.id, &entry.event);
        }
        if from.epoch != head.position.epoch {
            // Ends of streams may be among what the log lost.
            self.rooms.compare_later(&self.room.id);
        }
        follower.restart(head);
        self.mute_again(muted);
    }
}
