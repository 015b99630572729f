//! Reading what scripts answer and publish. The scripts say how it is written.

use std::sync::Arc;

use deadpool_redis::redis::Value;
use proto::{
    ids::{EdgeId, Epoch, Mid, PeerId, Position, Seq, SessionId, Sid},
    json::RawJson,
    signalling::{Minfo, Muted},
};

use crate::{
    change::{Head, LossReason},
    error::{Conflict, StoreError},
    feed::RoomEvent,
    log::{Entry, EntryId, Event, RemoveReason},
    record::{Attachment, Carrier, ConnectionId, Member, Placement, Publication, Released, Subscription},
    witness::{Deed, Fact, LeaveReason, UnsubscribeReason},
};

/// What separates fields.
const SEP: char = '\u{1}';

/// An answer that no script of ours gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the room store's answer can't be read")]
pub(super) struct Malformed;

impl From<Malformed> for StoreError {
    /// Whatever has been done may have been done.
    fn from(malformed: Malformed) -> Self {
        tracing::error!(error = %malformed, "what is in Redis is not what this version writes");
        Self::Timeout
    }
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Done,
    /// And somebody is in the room now, where nobody was.
    Occupied,
    /// And nobody is in the room any more.
    Emptied,
    /// There is no such room.
    NoRoom,
}

/// An answer, read part by part.
#[derive(Debug)]
pub(super) struct Reply(std::vec::IntoIter<Value>);

/// What a step answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: Status,
    /// What it did.
    pub(super) deeds: Vec<Deed>,
    /// What was asked for.
    pub(super) reply: Reply,
}

impl Answer {
    pub(super) fn read(value: Value) -> Result<Self, StoreError> {
        let Value::Array(parts) = value else { return Err(Malformed.into()) };
        let mut parts = parts.into_iter();
        let (status, deeds) = match parts.next().ok_or(Malformed)? {
            Value::Array(list) => read_deeds(list)?,
            status => (text(status)?, Vec::new()),
        };
        let status = match status.as_str() {
            "ok" => Status::Done,
            "ok+" => Status::Occupied,
            "ok-" => Status::Emptied,
            "none" => Status::NoRoom,
            refusal => return Err(refused(refusal)?),
        };
        Ok(Self { status, deeds, reply: Reply(parts) })
    }
}

/// A status, and what was done with it.
fn read_deeds(list: Vec<Value>) -> Result<(String, Vec<Deed>), Malformed> {
    let mut texts = list.into_iter().map(text);
    let mut next = || texts.next().ok_or(Malformed)?;
    let (status, epoch) = (next()?, parse::<Epoch>(&next()?)?);
    let deeds = texts.map(|text| read_deed(epoch, &text?));
    Ok((status, deeds.collect::<Result<_, _>>()?))
}

fn read_deed(epoch: Epoch, text: &str) -> Result<Deed, Malformed> {
    let parts: Vec<&str> = text.split(SEP).collect();
    let [seq, kind, ids @ ..] = &parts[..] else { return Err(Malformed) };
    let fact = match (*kind, ids) {
        ("O", []) => Fact::RoomOpened,
        ("C", []) => Fact::RoomClosed,
        ("J", [peer]) => Fact::PeerJoined { peer: parse(peer)? },
        ("L", [peer, why]) => {
            let why = LeaveReason::ALL.into_iter().find(|reason| reason.name() == *why).ok_or(Malformed)?;
            Fact::PeerLeft { peer: parse(peer)?, why }
        }
        ("A", [owner, mid, node]) => {
            Fact::StreamPublished { owner: parse(owner)?, mid: parse(mid)?, node: parse(node)? }
        }
        ("R", [owner, mid, why]) => {
            Fact::StreamUnpublished { owner: parse(owner)?, mid: parse(mid)?, why: read_reason(why)? }
        }
        ("S", [subscriber, sid, mid, node]) => Fact::StreamSubscribed {
            subscriber: parse(subscriber)?,
            sid: parse(sid)?,
            mid: parse(mid)?,
            node: parse(node)?,
        },
        ("U", [subscriber, sid, mid, why]) => {
            let why = UnsubscribeReason::ALL.into_iter().find(|reason| reason.name() == *why).ok_or(Malformed)?;
            Fact::StreamUnsubscribed { subscriber: parse(subscriber)?, sid: parse(sid)?, mid: parse(mid)?, why }
        }
        _ => return Err(Malformed),
    };
    Ok(Deed { position: Position { epoch, seq: read_seq(seq)? }, fact })
}

impl Reply {
    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        text(self.0.next().ok_or(Malformed)?)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Malformed> {
        Ok(self.text()? == "1")
    }

    pub(super) fn id<T: std::str::FromStr>(&mut self) -> Result<T, Malformed> {
        self.text()?.parse().map_err(|_| Malformed)
    }

    /// A list of texts.
    pub(super) fn texts(&mut self) -> Result<Vec<String>, Malformed> {
        let Some(Value::Array(list)) = self.0.next() else { return Err(Malformed) };
        list.into_iter().map(text).collect()
    }

    pub(super) fn head(&mut self) -> Result<Head, Malformed> {
        let position = self.position()?;
        let id = self.text()?;
        Ok(Head { position, id: (!id.is_empty()).then(|| entry_id(&id)).transpose()? })
    }

    fn position(&mut self) -> Result<Position, Malformed> {
        Ok(Position { epoch: self.id::<Epoch>()?, seq: read_seq(&self.text()?)? })
    }

    pub(super) fn publication(&mut self) -> Result<Arc<Publication>, Malformed> {
        let (mid, text) = (self.text()?, self.text()?);
        read_publication(&mid, &text)
    }

    pub(super) fn subscription(&mut self) -> Result<Arc<Subscription>, Malformed> {
        let (sid, text) = (self.text()?, self.text()?);
        read_subscription(&sid, &text)
    }

    /// By mid.
    pub(super) fn publications(&mut self) -> Result<Vec<Arc<Publication>>, Malformed> {
        let mut records = pairs(&self.texts()?, read_publication)?;
        records.sort_by(|one, other| one.mid.cmp(&other.mid));
        Ok(records)
    }

    /// By sid.
    pub(super) fn subscriptions(&mut self) -> Result<Vec<Arc<Subscription>>, Malformed> {
        let mut records = pairs(&self.texts()?, read_subscription)?;
        records.sort_by(|one, other| one.sid.cmp(&other.sid));
        Ok(records)
    }

    /// By uid, as they are given.
    pub(super) fn members(&mut self) -> Result<Vec<Arc<Member>>, Malformed> {
        self.texts()?.iter().map(|text| read_member(text.strip_prefix("m\u{1}").ok_or(Malformed)?)).collect()
    }

    pub(super) fn released(&mut self) -> Result<Released, Malformed> {
        let mut released = Released::default();
        for fields in self.texts()?.chunks(5) {
            let [kind, id, node, boot, region] = fields else { return Err(Malformed) };
            let placement = read_placement(node, boot, region)?;
            match kind.as_str() {
                "p" => released.publications.push((id.parse().map_err(|_| Malformed)?, placement)),
                _ => released.subscriptions.push((id.parse().map_err(|_| Malformed)?, placement)),
            }
        }
        Ok(released)
    }

    /// Places of what was asked, and why it is lost.
    pub(super) fn lost(&mut self) -> Result<Vec<(usize, LossReason)>, Malformed> {
        pairs(&self.texts()?, |place, reason| {
            let reason = if reason == "gone" { LossReason::Gone } else { LossReason::Superseded };
            Ok((place.parse().map_err(|_| Malformed)?, reason))
        })
    }

    pub(super) fn attachment(&mut self) -> Result<Option<Attachment>, Malformed> {
        match &self.texts()?[..] {
            [] => Ok(None),
            [edge, connection] => read_attachment(edge, connection).map(Some),
            _ => Err(Malformed),
        }
    }

    /// Entries that follow a position.
    pub(super) fn entries(&mut self, after: Position) -> Result<Vec<Arc<Entry>>, Malformed> {
        let mut position = after;
        let texts = self.texts()?;
        let entries = texts.iter().map(|text| {
            position = position.next();
            read_entry(position, text)
        });
        entries.collect()
    }

    /// Busiest first.
    pub(super) fn carriers(&mut self) -> Result<Vec<Carrier>, Malformed> {
        let mut carriers: Vec<Carrier> = Vec::new();
        pairs(&self.texts()?, |field, count| {
            let [kind, node, boot, region] = fields(field)?;
            let placement = read_placement(node, boot, region)?;
            let count = count.parse::<usize>().map_err(|_| Malformed)?;
            let known = carriers.iter_mut().find(|carrier| carrier.placement == placement);
            let (publications, subscriptions) = if kind == "p" { (count, 0) } else { (0, count) };
            match known {
                Some(carrier) => {
                    carrier.publications += publications;
                    carrier.subscriptions += subscriptions;
                }
                None => carriers.push(Carrier { placement, publications, subscriptions }),
            }
            Ok(())
        })?;
        carriers.sort_by_key(|carrier| std::cmp::Reverse((carrier.publications, carrier.subscriptions)));
        Ok(carriers)
    }
}

fn text(value: Value) -> Result<String, Malformed> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).map_err(|_| Malformed),
        Value::SimpleString(text) => Ok(text),
        _ => Err(Malformed),
    }
}

fn pairs<T>(texts: &[String], mut read: impl FnMut(&str, &str) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
    let pairs = texts.chunks(2).map(|pair| match pair {
        [one, other] => read(one, other),
        _ => Err(Malformed),
    });
    pairs.collect()
}

/// So many fields, the last of which may hold separators.
fn fields<const N: usize>(text: &str) -> Result<[&str; N], Malformed> {
    let parts: Vec<&str> = text.splitn(N, SEP).collect();
    parts.try_into().map_err(|_| Malformed)
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Malformed> {
    text.parse().map_err(|_| Malformed)
}

fn refused(name: &str) -> Result<StoreError, Malformed> {
    Ok(match name {
        "NotMember" => StoreError::NotMember,
        "UnknownPublication" => StoreError::UnknownPublication,
        "UnknownSubscription" => StoreError::UnknownSubscription,
        "NotOwner" => StoreError::NotOwner,
        "RoomFull" => Conflict::RoomFull.into(),
        "TooManyRooms" => Conflict::TooManyRooms.into(),
        "TooManyPublications" => Conflict::TooManyPublications.into(),
        "TooManySubscriptions" => Conflict::TooManySubscriptions.into(),
        "IdTaken" => Conflict::IdTaken.into(),
        "OpReused" => Conflict::OpReused.into(),
        "OpSpent" => Conflict::OpSpent.into(),
        "TooManyOps" => Conflict::TooManyOps.into(),
        "NoNode" => Conflict::NoNode.into(),
        _ => return Err(Malformed),
    })
}

/// As entries' ids are written: 16 hexadecimal digits.
pub(super) fn entry_text(EntryId(id): EntryId) -> String {
    format!("{id:016x}")
}

fn entry_id(text: &str) -> Result<EntryId, Malformed> {
    u64::from_str_radix(text, 16).map(EntryId).map_err(|_| Malformed)
}

fn read_seq(text: &str) -> Result<Seq, Malformed> {
    Seq::new(parse(text)?).map_err(|_| Malformed)
}

fn read_placement(node: &str, boot: &str, region: &str) -> Result<Placement, Malformed> {
    Ok(Placement { node: parse(node)?, boot: parse(boot)?, region: parse(region)? })
}

fn read_attachment(edge: &str, connection: &str) -> Result<Attachment, Malformed> {
    Ok(Attachment { edge: parse(edge)?, connection: ConnectionId(parse(connection)?) })
}

fn read_member(text: &str) -> Result<Arc<Member>, Malformed> {
    let [peer, edge] = fields(text)?;
    Ok(Arc::new(Member { peer: parse::<PeerId>(peer)?, edge: parse::<EdgeId>(edge)? }))
}

/// As muting is written: audio, video.
pub(super) fn muted_text(muted: Muted) -> String {
    format!("{}{}", u8::from(muted.audio), u8::from(muted.video))
}

fn read_publication(mid: &str, text: &str) -> Result<Arc<Publication>, Malformed> {
    let [confirmed, _op, owner, node, boot, region, muted, recording, minfo] = fields(text)?;
    let minfo = RawJson::new(minfo).ok().and_then(|raw| Minfo::new(raw).ok()).ok_or(Malformed)?;
    let (always, recording) = recording.split_at_checked(1).ok_or(Malformed)?;
    let (audio, video) = (muted.get(..1).ok_or(Malformed)? == "1", muted.get(1..).ok_or(Malformed)? == "1");
    Ok(Arc::new(Publication {
        mid: parse::<Mid>(mid)?,
        owner: parse(owner)?,
        minfo: minfo.with_muted(Muted { audio, video }),
        placement: read_placement(node, boot, region)?,
        confirmed: confirmed == "1",
        recording: (!recording.is_empty()).then(|| parse(recording)).transpose()?,
        always_recorded: always == "1",
    }))
}

fn read_subscription(sid: &str, text: &str) -> Result<Arc<Subscription>, Malformed> {
    let [confirmed, _op, subscriber, mid, node, boot, region] = fields(text)?;
    Ok(Arc::new(Subscription {
        sid: parse::<Sid>(sid)?,
        subscriber: parse(subscriber)?,
        mid: parse(mid)?,
        placement: read_placement(node, boot, region)?,
        confirmed: confirmed == "1",
    }))
}

fn read_entry(position: Position, text: &str) -> Result<Arc<Entry>, Malformed> {
    let [_weight, id, cause, kind, payload] = fields(text)?;
    let cause = (!cause.is_empty()).then(|| parse(cause)).transpose()?;
    let publication = || {
        let [mid, text] = fields(payload)?;
        read_publication(mid, text)
    };
    let event = match kind {
        "J" => Event::PeerJoin(read_member(payload)?),
        "L" => Event::PeerLeave(parse(payload)?),
        "A" => Event::StreamAdd(publication()?),
        "U" => Event::StreamUpdate(publication()?),
        "O" => {
            let [recording, mid, text] = fields(payload)?;
            Event::Recording { stream: read_publication(mid, text)?, recording: parse(recording)? }
        }
        "R" => {
            let [owner, mid, reason] = fields(payload)?;
            Event::StreamRemove { owner: parse(owner)?, mid: parse(mid)?, reason: read_reason(reason)? }
        }
        "B" => {
            let [peer, data] = fields(payload)?;
            Event::Broadcast { peer: parse(peer)?, data: RawJson::new(data).map_err(|_| Malformed)? }
        }
        _ => return Err(Malformed),
    };
    Ok(Arc::new(Entry { position, id: entry_id(id)?, cause, event }))
}

fn read_reason(name: &str) -> Result<RemoveReason, Malformed> {
    let all = [
        RemoveReason::Unpublished,
        RemoveReason::OwnerLeft,
        RemoveReason::OwnerExpired,
        RemoveReason::TransportEnded,
        RemoveReason::NodeLost,
    ];
    all.into_iter().find(|reason| reason.name() == name).ok_or(Malformed)
}

/// What a room's channel says. `None`: nothing that can be read.
pub(super) fn read_event(message: &[u8]) -> Option<RoomEvent> {
    let message = std::str::from_utf8(message).ok()?;
    let event = match message.split_once(SEP)? {
        ("E", rest) => {
            let [epoch, seq, entry] = fields(rest).ok()?;
            let position = Position { epoch: parse(epoch).ok()?, seq: read_seq(seq).ok()? };
            RoomEvent::Entry(read_entry(position, entry).ok()?)
        }
        ("N", epoch) => {
            let position = Position { epoch: parse(epoch).ok()?, seq: Seq::START };
            RoomEvent::EpochStarted(Head { position, id: None })
        }
        ("S", rest) => {
            let [peer, session, edge, connection, resumed] = fields(rest).ok()?;
            RoomEvent::Superseded {
                peer: parse(peer).ok()?,
                session: parse::<SessionId>(session).ok()?,
                attachment: read_attachment(edge, connection).ok()?,
                resumed: resumed == "1",
            }
        }
        _ => return None,
    };
    Some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_read_is_no_event_and_no_panic() {
        let event = "E\u{1}000000000000feed\u{1}7\u{1}0\u{1}00000000000000ff\u{1}a\u{1}J\u{1}a\u{1}edge";
        assert!(matches!(read_event(event.as_bytes()), Some(RoomEvent::Entry(_))));
        for at in 0..event.len() {
            assert_eq!(read_event(&event.as_bytes()[..at]).filter(|_| at < event.len() - 3), None, "{at}");
        }
        assert_eq!(read_event(b"\xff\x01"), None);
        assert_eq!(read_event(b"X\x01"), None);
    }

    #[test]
    fn a_broadcast_may_hold_anything_json_may() {
        let message = "E\u{1}000000000000feed\u{1}7\u{1}3\u{1}00000000000000ff\u{1}\u{1}B\u{1}a\u{1}[1,\n\t\"\u{7f}\"]";
        let Some(RoomEvent::Entry(entry)) = read_event(message.as_bytes()) else { panic!("an entry") };
        let Event::Broadcast { data, .. } = &entry.event else { panic!("a broadcast") };
        assert_eq!((data.get(), &entry.cause), ("[1,\n\t\"\u{7f}\"]", &None));
    }
}
