//! `record`: the store says first what is to be recorded, then the stream's node is told.
//!
//! ```text
//! on    Setting ──▶ Starting ──▶ answer
//!                      │ the node does not
//!                      └─▶ Undoing ──▶ refusal
//! off   Looking ──▶ Clearing ──▶ Stopping ──▶ answer
//! ```
//!
//! Of two who ask at once the store takes the first, and both are answered with its recording.

use std::sync::Arc;

use proto::ids::{Mid, OpId, RecordingId, RoomId};
use proto::refusal::NoRecording;
use proto::signalling::answer::RecordAnswer;
use proto::signalling::{ErrorCode, Rejection};
use rand::RngExt as _;
use room_store::{Actor, Publication, SetBy, SetRecording, StoreError};

use super::command::{Command, Completion, Detached};
use super::flow::{Context, Flow, Next, Reply};
use crate::auth::Grant;
use crate::nodes::{SfuError, record_request};

/// A `record` being carried out.
pub(super) struct RecordFlow {
    rid: RoomId,
    mid: Mid,
    on: bool,
    op: Option<OpId>,
    step: Step,
}

enum Step {
    Looking { actor: Actor },
    Clearing { was: Arc<Publication>, recording: RecordingId },
    Stopping { was: Arc<Publication>, recording: RecordingId },
    Setting { actor: Actor, drawn: RecordingId },
    Starting { actor: Actor, stream: Arc<Publication>, recording: RecordingId, is_new: bool },
    Undoing { rejection: Rejection },
    Over,
}

impl RecordFlow {
    pub(super) fn new(rid: RoomId, mid: Mid, on: bool, op: Option<OpId>) -> Self {
        Self { rid, mid, on, op, step: Step::Over }
    }

    fn set(&self, cx: &mut Context<'_>, actor: Actor) -> (Step, Next) {
        let drawn = RecordingId::of(cx.rng.random());
        let next = set(&actor, &self.mid, None, Some(drawn.clone()));
        (Step::Setting { actor, drawn }, next)
    }

    /// The store has it recorded, by this request or an earlier one.
    fn is_set(actor: Actor, stream: Arc<Publication>, drawn: &RecordingId) -> (Step, Next) {
        let Some(recording) = stream.recording.clone() else {
            // It had one when it was asked for, and has none any more.
            return (Step::Over, Next::reject(ErrorCode::Conflict, "the recording has just ended"));
        };
        let next = tell(&stream, &recording, true);
        let is_new = recording == *drawn;
        (Step::Starting { actor, stream, recording, is_new }, next)
    }

    /// Begun by this request.
    fn not_started(
        &self,
        cx: &mut Context<'_>,
        actor: &Actor,
        error: &SfuError,
        of: (&Publication, &RecordingId),
    ) -> (Step, Next) {
        let (stream, recording) = of;
        if *error == SfuError::Unreachable {
            // It may have begun all the same.
            cx.detach(end(&self.rid, stream, recording));
        }
        let next = set(actor, &self.mid, Some(recording.clone()), None);
        (Step::Undoing { rejection: rejection(error) }, next)
    }

    fn looked(&self, cx: &Context<'_>, actor: &Actor, stream: Arc<Publication>) -> (Step, Next) {
        let access = cx.standing.access();
        let is_ordered = stream.always_recorded || cx.config.recording.covers(&self.rid);
        if is_ordered && !access.allows(Grant::Admin) {
            let reason =
                "this stream is recorded by order of its room or its owner's token: only an admin may end that";
            return (Step::Over, Next::reject(ErrorCode::Forbidden, reason));
        }
        let Some(recording) = stream.recording.clone() else { return (Step::Over, answer(None)) };
        let next = set(actor, &self.mid, Some(recording.clone()), None);
        (Step::Clearing { was: stream, recording }, next)
    }

    fn not_stopped(&self, cx: &mut Context<'_>, error: &SfuError, was: &Publication, recording: RecordingId) -> Next {
        match error {
            // It ended with its stream or its node.
            SfuError::NotFound | SfuError::Restarted => answer(Some(recording)),
            _ => {
                cx.detach(end(&self.rid, was, &recording));
                rejection(error).into()
            }
        }
    }
}

impl Flow for RecordFlow {
    fn start(&mut self, cx: &mut Context<'_>) -> Next {
        let actor = match cx.actor(&self.rid) {
            Ok(actor) => actor,
            Err(rejection) => return rejection.into(),
        };
        let (step, next) = if self.on {
            self.set(cx, actor)
        } else {
            let look = Command::Publication { actor: actor.clone(), mid: self.mid.clone() };
            (Step::Looking { actor }, Next::Run(look))
        };
        self.step = step;
        next
    }

    fn resume(&mut self, cx: &mut Context<'_>, completion: Completion) -> Next {
        let (step, next) = match (std::mem::replace(&mut self.step, Step::Over), completion) {
            (Step::Setting { actor, drawn }, Completion::Publication(Ok(stream))) => {
                Self::is_set(actor, stream, &drawn)
            }
            (Step::Setting { drawn, .. }, Completion::Publication(Err(error))) => {
                if error == StoreError::Timeout && self.op.is_none() {
                    cx.detach(Detached::EndRecording {
                        room: self.rid.clone(),
                        mid: self.mid.clone(),
                        recording: drawn,
                        placement: None,
                    });
                }
                (Step::Over, cx.store_failed(&self.rid, error))
            }
            (Step::Starting { recording, .. } | Step::Stopping { recording, .. }, Completion::Recorded(Ok(()))) => {
                (Step::Over, answer(Some(recording)))
            }
            // It runs, without what a further offer has added: that is for who publishes to change.
            (
                Step::Starting { recording, .. },
                Completion::Recorded(Err(SfuError::NoRecording(NoRecording::Outgrown))),
            ) => (Step::Over, answer(Some(recording))),
            // It was begun before: that its node does not answer now ends nothing. What the node says is over, is.
            (Step::Starting { is_new: false, .. }, Completion::Recorded(Err(error)))
                if !matches!(error, SfuError::NoRecording(_)) =>
            {
                (Step::Over, rejection(&error).into())
            }
            (Step::Starting { actor, stream, recording, .. }, Completion::Recorded(Err(error))) => {
                self.not_started(cx, &actor, &error, (&stream, &recording))
            }
            // Where it could not be undone, the comparison of store and node does it.
            (Step::Undoing { rejection }, Completion::Publication(_)) => (Step::Over, rejection.into()),
            (Step::Looking { actor }, Completion::Publication(Ok(stream))) => self.looked(cx, &actor, stream),
            (Step::Clearing { was, recording }, Completion::Publication(Ok(_))) => {
                let next = tell(&was, &recording, false);
                (Step::Stopping { was, recording }, next)
            }
            (Step::Looking { .. } | Step::Clearing { .. }, Completion::Publication(Err(error))) => {
                (Step::Over, cx.store_failed(&self.rid, error))
            }
            (Step::Stopping { was, recording }, Completion::Recorded(Err(error))) => {
                (Step::Over, self.not_stopped(cx, &error, &was, recording))
            }
            (_, other) => (Step::Over, cx.mismatch(&other)),
        };
        self.step = step;
        next
    }

    /// Who has given up asks again with its `op`, and finds what was begun. Without one, what was not answered is not left on; what
    /// was to end, ends.
    fn give_up(&mut self, cx: &mut Context<'_>, completion: Completion) {
        match (std::mem::replace(&mut self.step, Step::Over), completion) {
            (Step::Setting { drawn, .. }, completion) if self.op.is_none() => {
                let stream = match &completion {
                    Completion::Publication(Ok(stream)) if stream.recording.as_ref() == Some(&drawn) => Some(stream),
                    Completion::Publication(Ok(_)) => return,
                    _ => None,
                };
                let placement = stream.map(|stream| stream.placement.clone());
                cx.detach(Detached::EndRecording {
                    room: self.rid.clone(),
                    mid: self.mid.clone(),
                    recording: drawn,
                    placement,
                });
            }
            (Step::Starting { stream, recording, is_new: true, .. }, _) if self.op.is_none() => {
                cx.detach(end(&self.rid, &stream, &recording));
            }
            (Step::Clearing { was, recording }, Completion::Publication(Ok(_)))
            | (Step::Stopping { was, recording }, Completion::Recorded(Err(_))) => {
                cx.detach(end(&self.rid, &was, &recording));
            }
            _ => {}
        }
    }
}

/// Has the store change what is recorded.
pub(super) fn set(actor: &Actor, mid: &Mid, expected: Option<RecordingId>, recording: Option<RecordingId>) -> Next {
    let by = SetBy::Client(actor.clone());
    Next::Run(Command::SetRecording(SetRecording { by, mid: mid.clone(), expected, recording }))
}

/// Has the stream's node begin or end it.
pub(super) fn tell(stream: &Publication, recording: &RecordingId, on: bool) -> Next {
    let request = record_request(&stream.mid, &stream.placement, recording, on);
    Next::Run(Command::Record { node: stream.placement.node.clone(), request })
}

/// Ends it in the store and on the node, as soon as both can be reached.
pub(super) fn end(room: &RoomId, stream: &Publication, recording: &RecordingId) -> Detached {
    Detached::EndRecording {
        room: room.clone(),
        mid: stream.mid.clone(),
        recording: recording.clone(),
        placement: Some(stream.placement.clone()),
    }
}

fn answer(recording: Option<RecordingId>) -> Next {
    Next::Finish(Ok(Reply::Recorded(RecordAnswer { recording })))
}

fn rejection(error: &SfuError) -> Rejection {
    let code = match error {
        SfuError::Unreachable | SfuError::Restarted => ErrorCode::SfuUnreachable,
        SfuError::NotFound => ErrorCode::BadMid,
        SfuError::NoRecording(_)
        | SfuError::BadSdp(_)
        | SfuError::Full(_)
        | SfuError::Connecting(_)
        | SfuError::Failed(_) => ErrorCode::Conflict,
    };
    Rejection::new(code, error.to_string())
}
