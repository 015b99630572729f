//! One step of one room: a script with its keys and arguments, in one round trip; on a cluster with a hint before it.

use std::{borrow::Cow, sync::atomic::Ordering, time::Duration};

use proto::{
    ids::{Epoch, PeerId, Position, RoomId, SessionId},
    signalling::Minfo,
};
use tokio::time::Instant;

use super::{
    Inner,
    index::Occupied,
    keys::slot_of,
    node::Command,
    reply::{Answer, Reply, Status, muted_text},
    router::CALL,
    script::Script,
};
use crate::{
    change::Hold,
    error::StoreError,
    record::{Actor, Attachment, Placement},
    witness::{CallKind, CallResult},
};

/// A step about to be made.
pub(super) struct Step<'a> {
    store: &'a Inner,
    room: &'a RoomId,
    script: &'a Script,
    keys: Vec<String>,
    arguments: Vec<Cow<'a, str>>,
    due: Option<Duration>,
    restores: bool,
    pub(super) deadline: Instant,
}

impl Inner {
    /// A step of a room.
    pub(super) fn step<'a>(&'a self, room: &'a RoomId, script: &'a Script) -> Step<'a> {
        let mut keys = self.keys.room(room);
        let share = match &self.index {
            None => {
                keys.extend([self.keys.bucket(super::keys::bucket_of(room)), self.keys.totals()]);
                String::new()
            }
            Some(index) => (self.settings.total_log_bytes / index.rooms()).to_string(),
        };
        let unique = format!("{:016x}", rand::random::<u64>());
        let arguments = vec![self.offset(), unique.into(), share.into()];
        Step { store: self, room, script, keys, arguments, due: None, restores: false, deadline: Instant::now() + CALL }
    }

    /// A step by a member.
    pub(super) fn act<'a>(&'a self, actor: &'a Actor, script: &'a Script) -> Step<'a> {
        self.step(&actor.room, script).arg(actor.peer.as_str()).session(&actor.session)
    }

    /// Tells the witness of a call, if there is one.
    pub(super) fn took<T>(&self, kind: CallKind, begun: Instant, result: &Result<T, StoreError>) {
        if let Some(witness) = &self.witness {
            witness.took(kind, CallResult::of(result), begun.elapsed());
        }
    }

    /// How far the clock is put forward, in microseconds.
    pub(super) fn offset(&self) -> Cow<'static, str> {
        match self.clock_offset.load(Ordering::Relaxed) {
            0 => Cow::Borrowed("0"),
            offset => Cow::Owned(offset.to_string()),
        }
    }
}

/// An epoch nobody else begins.
pub(super) fn new_epoch() -> String {
    Epoch::of(rand::random()).to_string()
}

impl<'a> Step<'a> {
    pub(super) fn arg(mut self, argument: impl Into<Cow<'a, str>>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    fn session(self, session: &'a SessionId) -> Self {
        self.arg(session.as_str())
    }

    /// One that may be missing.
    pub(super) fn option(self, argument: Option<&'a impl AsRef<str>>) -> Self {
        self.arg(argument.map_or("", AsRef::as_ref))
    }

    pub(super) fn flag(self, flag: bool) -> Self {
        self.arg(if flag { "1" } else { "0" })
    }

    /// How many are asked for; no more than a reply should ever hold.
    pub(super) fn limit(self, limit: usize) -> Self {
        const MOST: usize = 1_000_000;
        self.arg(limit.min(MOST).to_string())
    }

    pub(super) fn placement(self, placement: &'a Placement) -> Self {
        self.arg(placement.node.as_str()).arg(placement.boot.as_str()).arg(placement.region.as_str())
    }

    pub(super) fn attachment(self, attachment: &'a Attachment) -> Self {
        self.arg(attachment.edge.as_str()).arg(attachment.connection.0.to_string())
    }

    pub(super) fn hold(self, Hold { peer, session, connection }: &'a Hold) -> Self {
        self.arg(peer.as_str()).session(session).arg(connection.0.to_string())
    }

    pub(super) fn minfo(self, minfo: &'a Minfo) -> Self {
        self.arg(muted_text(minfo.muted())).arg(minfo.raw().get())
    }

    /// A position, if there is one.
    pub(super) fn since(self, position: Option<Position>) -> Self {
        match position {
            Some(Position { epoch, seq }) => self.arg(epoch.to_string()).arg(seq.to_string()),
            None => self.arg("").arg("0"),
        }
    }

    /// The call began earlier.
    pub(super) fn until(mut self, deadline: Instant) -> Self {
        self.deadline = deadline;
        self
    }

    /// The script looks at what the peer's requests have done. To be said of all scripts that do, with an `op` or without.
    pub(super) fn with_ops(mut self, peer: &PeerId) -> Self {
        self.keys.extend(self.store.keys.ops(self.room, peer));
        self
    }

    /// The step may set a deadline so far from now.
    pub(super) fn due_in(mut self, wait: Duration) -> Self {
        self.due = Some(wait);
        self
    }

    /// It puts back what was lost.
    pub(super) fn restoring(mut self) -> Self {
        self.restores = true;
        self
    }

    pub(super) async fn run(self) -> Result<(Status, Reply), StoreError> {
        let (store, begun) = (self.store, Instant::now());
        let kind = if self.script.reads { CallKind::Read } else { CallKind::Step };
        let result = self.make().await;
        store.took(kind, begun, &result);
        result
    }

    async fn make(self) -> Result<(Status, Reply), StoreError> {
        let Self { store, room, script, keys, arguments, due, restores, deadline } = self;
        if let (Some(index), Some(wait)) = (&store.index, due) {
            // A hint too many does no harm: nothing is done yet.
            index.hint_or_owe(room, wait, &store.offset(), deadline).await?;
        }
        let command = Command::Script { script, keys: &keys, arguments: &arguments };
        let answer = store.ear.router.call(slot_of(&keys[0]), &command, deadline).await?;
        let Answer { status, deeds, reply } = Answer::read(answer)?;
        if let Some(witness) = store.witness.as_ref().filter(|_| !deeds.is_empty()) {
            witness.saw(room, &deeds, restores);
        }
        if let Some(index) = &store.index {
            let occupied = match status {
                Status::Occupied => Occupied::Yes,
                Status::Emptied => Occupied::No,
                Status::Done | Status::NoRoom => return Ok((status, reply)),
            };
            // The step is done, whatever becomes of this.
            index.tell_or_owe(room, store.settings.ttl, occupied, &store.offset(), deadline).await;
        }
        Ok((status, reply))
    }

    /// The answer of a step that can't find its room gone.
    pub(super) async fn reply(self) -> Result<Reply, StoreError> {
        Ok(self.run().await?.1)
    }

    /// The answer; `None` if there is no such room.
    pub(super) async fn reply_of_room(self) -> Result<Option<Reply>, StoreError> {
        let (status, reply) = self.run().await?;
        Ok((status != Status::NoRoom).then_some(reply))
    }
}
