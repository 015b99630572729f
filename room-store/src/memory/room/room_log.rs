//! A room's log: bounded, with its end always known.

use std::{collections::VecDeque, sync::Arc};

use proto::ids::{Epoch, PeerId, Position, Seq};

use crate::{
    change::Head,
    log::{Entry, EntryId, Event, LogRead},
    settings::RoomSettings,
};

#[derive(Clone)]
pub(in crate::memory) struct RoomLog {
    head: Head,
    entries: VecDeque<Arc<Entry>>,
    /// Bytes of what clients wrote in them.
    bytes: usize,
}

impl RoomLog {
    pub(super) fn new(epoch: Epoch) -> Self {
        let head = Head { position: Position { epoch, seq: Seq::START }, id: None };
        Self { head, entries: VecDeque::new(), bytes: 0 }
    }

    pub(in crate::memory) fn head(&self) -> Head {
        self.head
    }

    pub(super) fn append(
        &mut self,
        id: EntryId,
        cause: Option<PeerId>,
        event: Event,
        settings: &RoomSettings,
    ) -> Arc<Entry> {
        self.head = Head { position: self.head.position.next(), id: Some(id) };
        let entry = Arc::new(Entry { position: self.head.position, id, cause, event });
        self.bytes += weight(&entry);
        self.entries.push_back(Arc::clone(&entry));
        while self.entries.len() > settings.log_entries {
            self.drop_oldest();
        }
        self.trim(settings.log_bytes);
        entry
    }

    /// Bytes of what clients wrote.
    pub(in crate::memory) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets the oldest entries until no more than so many bytes are left.
    pub(in crate::memory) fn trim(&mut self, most: usize) {
        while self.bytes > most {
            self.drop_oldest();
        }
    }

    /// Forgets what was said, and what was before it.
    pub(super) fn forget_what_was_said(&mut self) {
        let is_broadcast = |entry: &Arc<Entry>| matches!(entry.event, Event::Broadcast { .. });
        let last = self.entries.iter().rposition(is_broadcast);
        for _ in 0..last.map_or(0, |last| last + 1) {
            self.drop_oldest();
        }
        self.entries.shrink_to_fit();
    }

    fn drop_oldest(&mut self) {
        self.bytes -= self.entries.pop_front().map_or(0, |oldest| weight(&oldest));
    }

    pub(in crate::memory) fn read(&self, after: Position, id: Option<EntryId>, limit: usize) -> LogRead {
        let lost = |diverged| LogRead::Lost { head: Some(self.head), diverged };
        if after.epoch != self.head.position.epoch {
            return lost(false);
        }
        let Some(behind) = self.head.position.seq.get().checked_sub(after.seq.get()) else { return lost(true) };
        if let (Some(known), Some(here)) = (id, self.id_at(after.seq))
            && known != here
        {
            return lost(true);
        }
        let Some(start) = (self.entries.len() as u64).checked_sub(behind) else { return lost(false) };
        LogRead::Entries(self.entries.range(start as usize..).take(limit).cloned().collect())
    }

    fn id_at(&self, seq: Seq) -> Option<EntryId> {
        if seq == self.head.position.seq {
            return self.head.id;
        }
        let oldest = self.entries.front()?.position.seq.get();
        let index = seq.get().checked_sub(oldest)?;
        self.entries.get(index as usize).map(|entry| entry.id)
    }
}

fn weight(entry: &Entry) -> usize {
    match &entry.event {
        Event::Broadcast { data, .. } => data.get().len(),
        Event::StreamAdd(publication)
        | Event::StreamUpdate(publication)
        | Event::Recording { stream: publication, .. } => publication.minfo.raw().get().len(),
        Event::PeerJoin(_) | Event::PeerLeave(_) | Event::StreamRemove { .. } => 0,
    }
}
