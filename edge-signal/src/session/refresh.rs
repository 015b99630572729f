//! `refresh`: a new token on a live connection. It counts whole or not at all.

use proto::signalling::{AccessToken, ErrorCode, Rejection};

use super::command::{Command, Completion};
use super::flow::{Context, Flow, Next, Reply};
use crate::admission::NotAdmitted;

/// A `refresh` being carried out.
pub(super) struct RefreshFlow {
    token: AccessToken,
}

impl RefreshFlow {
    pub(super) fn new(token: AccessToken) -> Self {
        Self { token }
    }
}

impl Flow for RefreshFlow {
    fn start(&mut self, cx: &mut Context<'_>) -> Next {
        Next::Run(Command::Prove { peer: cx.peer.clone(), token: self.token.clone() })
    }

    fn resume(&mut self, cx: &mut Context<'_>, completion: Completion) -> Next {
        match completion {
            Completion::Proven(Ok(proof)) => {
                if let Some(room) = cx.rooms.names().find(|room| !proof.access.allows_room(room.as_str())) {
                    let reason = format!("the token is not for room {room}, which this connection is in");
                    return Next::reject(ErrorCode::Forbidden, reason);
                }
                cx.standing.renew(proof);
                Next::Finish(Ok(Reply::Done))
            }
            Completion::Proven(Err(error)) => rejection(error).into(),
            other => cx.mismatch(&other),
        }
    }
}

fn rejection(error: NotAdmitted) -> Rejection {
    match error.for_now() {
        None => Rejection::new(ErrorCode::Unauthenticated, error.to_string()),
        Some((_, retry_after)) => {
            Rejection { reason: error.to_string().into(), ..Rejection::rate_limited(retry_after) }
        }
    }
}
