//! `publish`: choose nodes, keep the stream's place, have a node take it, confirm it.
//!
//! ```text
//! Placing ──▶ Reserving ──▶ Negotiating ──▶ Confirming ──▶ answer
//!    ▲                           │ │              ▲
//!    │                           │ └─▶ Recording ─┤ what is recorded is so before anybody knows the stream;
//!    │                           │       ├─▶ Unrecording   a node that cannot does not keep it from being published
//!    │                           │       └─▶ Regrowing ─▶ Recording   what it lacks since a further offer, another has
//!    └───────── Moving ◀─────────┘ the node did not take it, another may
//! ```

use std::sync::Arc;

use proto::ids::{Mid, NodeId, OpId, RecordingId, RoomId, TransportId};
use proto::refusal::NoRecording;
use proto::sfu::{NegotiateRequest, NegotiateResponse, NegotiatedPublication, PublicationBinding};
use proto::signalling::answer::{Answer, PublishAnswer};
use proto::signalling::{ErrorCode, Minfo, Publish, Rejection};
use rand::RngExt as _;
use room_store::{Actor, Conflict, Placement, Publication, Released, ReservePublication, StoreError};

use super::command::{Command, Completion, Detached};
use super::flow::{Context, Flow, Next, Reply};
use super::offer::sent_kinds;
use super::record;
use super::{BACK_OFF, Note, Output};
use crate::nodes::{Metadata, SfuError};

/// Largest description of a stream: it is in every snapshot and in the room's log.
pub(crate) const MAX_MINFO_BYTES: usize = 4 * 1024;
/// Nodes asked one after the other. Each can take seconds not to answer, and the client is to be answered in ten.
const MAX_NODES: usize = 3;
/// How often an id is drawn anew that is taken: of 10¹⁰ it is, practically never.
const MAX_DRAWS: u32 = 3;

/// A `publish` being carried out.
pub(super) struct PublishFlow {
    request: Publish,
    op: Option<OpId>,
    /// Nodes that did not take it.
    avoid: Vec<NodeId>,
    /// Why the last of them did not.
    refusal: Option<SfuError>,
    draws: u32,
    step: Step,
}

enum Step {
    Placing,
    Reserving {
        actor: Actor,
        mid: Mid,
        candidates: Vec<Placement>,
    },
    Negotiating {
        actor: Actor,
        stream: Arc<Publication>,
    },
    Recording {
        actor: Actor,
        stream: Arc<Publication>,
        recording: RecordingId,
        /// The one that it takes the place of.
        before: Option<RecordingId>,
        answer_sdp: String,
    },
    Regrowing {
        actor: Actor,
        stream: Arc<Publication>,
        recording: RecordingId,
        before: RecordingId,
        answer_sdp: String,
    },
    Unrecording {
        actor: Actor,
        stream: Arc<Publication>,
        answer_sdp: String,
    },
    Confirming {
        actor: Actor,
        stream: Arc<Publication>,
        answer_sdp: String,
    },
    /// The place on the node that did not take it is given back, so that another can be asked; with its `op`, too.
    Moving {
        stream: Arc<Publication>,
    },
}

impl PublishFlow {
    pub(super) fn new(request: Publish, op: Option<OpId>) -> Self {
        Self { request, op, avoid: Vec::new(), refusal: None, draws: 0, step: Step::Placing }
    }

    fn room(&self) -> &RoomId {
        &self.request.rid
    }

    fn ask_for_nodes(&self, cx: &Context<'_>) -> Next {
        let (room, region, avoid) = (self.room().clone(), cx.region.cloned(), self.avoid.clone());
        Next::Run(Command::Candidates { room, region, avoid, is_recorded: self.is_recorded(cx) })
    }

    /// From its beginning, whoever says so.
    fn is_recorded(&self, cx: &Context<'_>) -> bool {
        self.is_always_recorded(cx) || self.request.minfo.record() == Some(true)
    }

    /// By order of its room or its owner's token.
    fn is_always_recorded(&self, cx: &Context<'_>) -> bool {
        cx.standing.access().is_recorded() || cx.config.recording.covers(self.room())
    }

    fn placed(&mut self, cx: &mut Context<'_>, candidates: Vec<Placement>) -> Next {
        if candidates.is_empty() {
            return self
                .refusal
                .take()
                .map_or_else(|| Next::reject(ErrorCode::NoSfu, "no SFU is available"), rejection);
        }
        let actor = match cx.actor(self.room()) {
            Ok(actor) => actor,
            Err(rejection) => return rejection.into(),
        };
        self.reserve(cx, actor, candidates)
    }

    fn reserve(&mut self, cx: &mut Context<'_>, actor: Actor, candidates: Vec<Placement>) -> Next {
        let mid = Mid::of(cx.peer, cx.rng.random());
        let request = ReservePublication {
            actor: actor.clone(),
            mid: mid.clone(),
            minfo: self.request.minfo.clone(),
            candidates: candidates.clone(),
            recording: self.is_recorded(cx).then(|| RecordingId::of(cx.rng.random())),
            always_recorded: self.is_always_recorded(cx),
            op: self.op.clone(),
        };
        self.step = Step::Reserving { actor, mid, candidates };
        Next::Run(Command::ReservePublication(request))
    }

    fn reserved(&mut self, cx: &Context<'_>, actor: Actor, stream: Arc<Publication>) -> Next {
        let minfo = &stream.minfo;
        let metadata = Metadata::of(&stream, actor.session.clone(), cx.opened_ms);
        let request = NegotiateRequest {
            transport_id: TransportId::from(&stream.mid).to_string(),
            room_id: self.room().to_string(),
            client_id: actor.peer.to_string(),
            offer_sdp: self.request.offer.0.clone(),
            publications: vec![PublicationBinding {
                publication_id: stream.mid.to_string(),
                sections: None,
                metadata: metadata.to_bytes(),
                audio: minfo.audio() != Some(false),
                video: minfo.video() != Some(false),
            }],
            subscriptions: Vec::new(),
            boot_id: stream.placement.boot.to_string(),
        };
        let node = stream.placement.node.clone();
        self.step = Step::Negotiating { actor, stream };
        Next::Run(Command::Negotiate { node, request })
    }

    fn negotiated(
        &mut self,
        cx: &mut Context<'_>,
        actor: Actor,
        stream: Arc<Publication>,
        answer: NegotiateResponse,
    ) -> Next {
        if let Some(kind) = missing_kind(&stream.minfo, answer.publications.first()) {
            take_back(cx, actor, &stream);
            let reason = format!("minfo says {kind}, but the offer sends none that can be used");
            return Next::reject(ErrorCode::BadMinfo, reason);
        }
        let answer_sdp = answer.answer_sdp;
        match stream.recording.clone() {
            Some(recording) => self.record(actor, stream, (recording, None), answer_sdp),
            None => self.confirm(actor, stream, answer_sdp),
        }
    }

    fn record(
        &mut self,
        actor: Actor,
        stream: Arc<Publication>,
        (recording, before): (RecordingId, Option<RecordingId>),
        answer_sdp: String,
    ) -> Next {
        let next = record::tell(&stream, &recording, true);
        self.step = Step::Recording { actor, stream, recording, before, answer_sdp };
        next
    }

    /// A recording has the kinds that its stream had when it began: where this offer has added one, another recording has all.
    fn outgrown(
        &mut self,
        cx: &mut Context<'_>,
        actor: Actor,
        stream: Arc<Publication>,
        before: RecordingId,
        answer_sdp: String,
    ) -> Next {
        let recording = RecordingId::of(cx.rng.random());
        let next = record::set(&actor, &stream.mid, Some(before.clone()), Some(recording.clone()));
        self.step = Step::Regrowing { actor, stream, recording, before, answer_sdp };
        next
    }

    /// A call is worth more than its recording: it goes on without. One that was published before has its recording already, which
    /// a node that does not answer now does not end. One that was to take another's place leaves it to that.
    fn not_recorded(
        &mut self,
        cx: &mut Context<'_>,
        actor: Actor,
        stream: Arc<Publication>,
        (recording, before): (RecordingId, Option<RecordingId>),
        error: &SfuError,
        answer_sdp: String,
    ) -> Next {
        if stream.confirmed && *error == SfuError::Unreachable {
            return self.confirm(actor, stream, answer_sdp);
        }
        let (room, trace) = (self.room().clone(), cx.trace);
        cx.out.push_back(Output::Note(Note::NotRecorded {
            room,
            mid: stream.mid.clone(),
            error: error.to_string(),
            trace,
        }));
        if *error == SfuError::Unreachable {
            cx.detach(record::end(self.room(), &stream, &recording));
        }
        let next = record::set(&actor, &stream.mid, Some(recording), before);
        self.step = Step::Unrecording { actor, stream, answer_sdp };
        next
    }

    fn confirm(&mut self, actor: Actor, stream: Arc<Publication>, answer_sdp: String) -> Next {
        let command = Command::ConfirmPublication { actor: actor.clone(), mid: stream.mid.clone() };
        self.step = Step::Confirming { actor, stream, answer_sdp };
        Next::Run(command)
    }

    fn refused(&mut self, cx: &mut Context<'_>, actor: Actor, stream: Arc<Publication>, error: SfuError) -> Next {
        let not_here = matches!(error, SfuError::Unreachable | SfuError::Full(_) | SfuError::Restarted);
        if stream.confirmed {
            // It was published when this was asked for the first time: it lives on where it is, whoever cannot reach it there.
            return rejection(error);
        }
        let others_may = not_here && self.avoid.len() + 1 < MAX_NODES;
        if !others_may {
            take_back(cx, actor, &stream);
            return rejection(error);
        }
        self.avoid.push(stream.placement.node.clone());
        self.refusal = Some(error);
        let command = Command::RemovePublication { actor, mid: stream.mid.clone() };
        self.step = Step::Moving { stream };
        Next::Run(command)
    }

    fn moved(&mut self, cx: &mut Context<'_>, stream: &Publication, removed: Result<Released, StoreError>) -> Next {
        // The node may have taken it all the same, and only its answer was lost.
        cx.detach(close(stream));
        match removed {
            Ok(released) => {
                cx.detach(Detached::Close(released));
                self.step = Step::Placing;
                self.ask_for_nodes(cx)
            }
            Err(error) => cx.store_failed(&self.request.rid, error),
        }
    }

    fn not_confirmed(&mut self, cx: &mut Context<'_>, actor: Actor, stream: &Publication, error: StoreError) -> Next {
        if !(error.is_transient() && self.op.is_some()) {
            take_back(cx, actor, stream);
        }
        match error {
            StoreError::UnknownPublication => {
                Next::reject(ErrorCode::PublishFailed, "the stream ended while it was being published")
            }
            error => cx.store_failed(&self.request.rid, error),
        }
    }
}

impl Flow for PublishFlow {
    fn start(&mut self, cx: &mut Context<'_>) -> Next {
        if let Err(rejection) = cx.actor(self.room()) {
            return rejection.into();
        }
        if let Some(rejection) = contradiction(&self.request) {
            return rejection;
        }
        self.ask_for_nodes(cx)
    }

    fn resume(&mut self, cx: &mut Context<'_>, completion: Completion) -> Next {
        match (std::mem::replace(&mut self.step, Step::Placing), completion) {
            (Step::Placing, Completion::Candidates(candidates)) => self.placed(cx, candidates),
            (Step::Reserving { actor, .. }, Completion::Publication(Ok(stream))) => self.reserved(cx, actor, stream),
            (
                Step::Reserving { actor, candidates, .. },
                Completion::Publication(Err(StoreError::Conflict(Conflict::IdTaken))),
            ) if self.draws < MAX_DRAWS => {
                self.draws += 1;
                self.reserve(cx, actor, candidates)
            }
            (Step::Reserving { actor, mid, .. }, Completion::Publication(Err(error))) => {
                // Whether the place was kept is unknown; without an `op` nobody will ask for it.
                if error == StoreError::Timeout && self.op.is_none() {
                    cx.detach(Detached::RemovePublication { actor, mid });
                }
                cx.store_failed(&self.request.rid, error)
            }
            (Step::Negotiating { actor, stream }, Completion::Negotiated(Ok(answer))) => {
                self.negotiated(cx, actor, stream, answer)
            }
            (Step::Negotiating { actor, stream }, Completion::Negotiated(Err(error))) => {
                self.refused(cx, actor, stream, error)
            }
            (
                Step::Recording { actor, stream, recording, before: None, answer_sdp },
                Completion::Recorded(Err(SfuError::NoRecording(NoRecording::Outgrown))),
            ) => self.outgrown(cx, actor, stream, recording, answer_sdp),
            (Step::Regrowing { actor, recording, before, answer_sdp, .. }, Completion::Publication(Ok(stream)))
                if stream.recording.as_ref() == Some(&recording) =>
            {
                self.record(actor, stream, (recording, Some(before)), answer_sdp)
            }
            // Where the second could not be written, the comparison of store and node does it; where the third could not, or somebody else
            // was first, what is recorded is so as it was.
            (Step::Recording { actor, stream, answer_sdp, .. }, Completion::Recorded(Ok(())))
            | (
                Step::Unrecording { actor, stream, answer_sdp } | Step::Regrowing { actor, stream, answer_sdp, .. },
                Completion::Publication(_),
            ) => self.confirm(actor, stream, answer_sdp),
            (Step::Recording { actor, stream, recording, before, answer_sdp }, Completion::Recorded(Err(error))) => {
                self.not_recorded(cx, actor, stream, (recording, before), &error, answer_sdp)
            }
            (Step::Confirming { answer_sdp, .. }, Completion::Publication(Ok(stream))) => {
                Next::Finish(Ok(Reply::Published(PublishAnswer {
                    jsep: Answer(answer_sdp),
                    mid: stream.mid.clone(),
                    sfuid: stream.placement.node.clone(),
                    recording: stream.recording.clone(),
                })))
            }
            (Step::Confirming { actor, stream, .. }, Completion::Publication(Err(error))) => {
                self.not_confirmed(cx, actor, &stream, error)
            }
            (Step::Moving { stream }, Completion::Released(removed)) => self.moved(cx, &stream, removed),
            (_, other) => cx.mismatch(&other),
        }
    }

    fn give_up(&mut self, cx: &mut Context<'_>, completion: Completion) {
        if self.op.is_some() {
            return;
        }
        match (std::mem::replace(&mut self.step, Step::Placing), completion) {
            (Step::Reserving { actor, .. }, Completion::Publication(Ok(stream)))
            | (
                Step::Negotiating { actor, stream }
                | Step::Recording { actor, stream, .. }
                | Step::Regrowing { actor, stream, .. }
                | Step::Unrecording { actor, stream, .. }
                | Step::Confirming { actor, stream, .. },
                _,
            ) => {
                take_back(cx, actor, &stream);
            }
            (Step::Reserving { actor, mid, .. }, _) => cx.detach(Detached::RemovePublication { actor, mid }),
            (Step::Moving { stream }, Completion::Released(_)) => cx.detach(close(&stream)),
            (Step::Placing | Step::Moving { .. }, _) => {}
        }
    }
}

/// What a node's refusal means to the client.
fn rejection(error: SfuError) -> Next {
    match error {
        SfuError::Unreachable => Next::reject(ErrorCode::SfuUnreachable, "the SFU did not answer in time: retry"),
        SfuError::Restarted => Next::reject(ErrorCode::SfuUnreachable, "the SFU was restarted: retry"),
        SfuError::Full(reason) => Next::reject(ErrorCode::NoSfu, reason),
        SfuError::Connecting(_) => Rejection::rate_limited(BACK_OFF).into(),
        SfuError::BadSdp(reason) => Next::reject(ErrorCode::BadSdp, reason),
        SfuError::NotFound => Next::reject(ErrorCode::PublishFailed, "the SFU does not know the stream"),
        SfuError::NoRecording(_) => Next::reject(ErrorCode::PublishFailed, error.to_string()),
        SfuError::Failed(reason) => Next::reject(ErrorCode::PublishFailed, reason),
    }
}

/// Ends the stream in the store, and on its node whether the store still knew it or not.
fn take_back(cx: &mut Context<'_>, actor: Actor, stream: &Publication) {
    cx.detach(Detached::RemovePublication { actor, mid: stream.mid.clone() });
    cx.detach(close(stream));
}

fn close(stream: &Publication) -> Detached {
    let publications = vec![(stream.mid.clone(), stream.placement.clone())];
    Detached::Close(Released { publications, subscriptions: Vec::new() })
}

/// What is wrong between a `minfo`, its limits and its offer, as far as it can be seen without the SFU.
fn contradiction(request: &Publish) -> Option<Next> {
    let minfo = &request.minfo;
    if minfo.raw().get().len() > MAX_MINFO_BYTES {
        return Some(Next::reject(ErrorCode::TooLarge, "minfo is longer than 4 KiB"));
    }
    let sent = sent_kinds(&request.offer.0);
    let reason = match (minfo.audio(), minfo.video()) {
        (Some(false), Some(false)) => "minfo says neither audio nor video",
        (Some(false), _) if sent.audio => "minfo says no audio, but the offer sends some",
        (_, Some(false)) if sent.video => "minfo says no video, but the offer sends some",
        _ => return None,
    };
    Some(Next::reject(ErrorCode::BadMinfo, reason))
}

/// A kind that the `minfo` promises and the node could not take from the offer.
fn missing_kind(minfo: &Minfo, taken: Option<&NegotiatedPublication>) -> Option<&'static str> {
    let (audio, video) = taken.map_or((false, false), |taken| (taken.audio, taken.video));
    match (minfo.audio(), minfo.video()) {
        (Some(true), _) if !audio => Some("audio"),
        (_, Some(true)) if !video => Some("video"),
        _ => None,
    }
}
