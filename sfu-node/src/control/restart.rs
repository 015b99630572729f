//! ICE restart of a transport (RFC 8445, section 2.4): new credentials, everything else as it was.

use std::sync::Arc;

use proto::ids::TransportId;
use rand::CryptoRng;
use sfu_core::sdp::{self, Answer, IceCredentials, LocalDescription};
use sfu_core::{Command, ShardIndex};

use super::negotiate::fresh_credentials;
use super::registry::{Applied, Registry};
use super::request::OfferText;
use super::{Local, Refusal};

/// What a restart comes to.
#[derive(Debug)]
pub(crate) enum Restart {
    /// This very offer was answered before.
    Before(Arc<str>),
    /// To be ordered and committed.
    New { shard: ShardIndex, command: Box<Command>, ice: IceCredentials, answer: Box<Answer> },
}

impl Registry {
    /// Works out an ICE restart. Nothing is changed yet.
    pub(crate) fn restart(
        &mut self,
        id: &TransportId,
        offer: &OfferText,
        local: &Local,
        random: &mut impl CryptoRng,
    ) -> Result<Restart, Refusal> {
        let live = self.transports.get(id).ok_or_else(|| Refusal::NoTransport(id.clone()))?;
        if let Some((before, answer)) = &live.restarted
            && *before == offer.text
        {
            return Ok(Restart::Before(answer.clone()));
        }
        let ice = fresh_credentials(random);
        let description =
            LocalDescription { ice: &ice, session_version: live.session_version + 1, ..live.describe(local) };
        let Applied { offer: before, plans, answer: given, .. } = &live.applied;
        let before = sdp::Offer::parse(before)?;
        let answer = sdp::restart_answer(&before, given, &offer.offer, &description, plans)?;
        let command = Command::RestartIce { transport: live.handle, local: ice.clone() };
        Ok(Restart::New { shard: live.shard, command: Box::new(command), ice, answer: Box::new(answer) })
    }

    /// Makes a restart's change, once the shard has its command; gives the answer.
    pub(crate) fn commit_restart(
        &mut self,
        id: &TransportId,
        offer: &OfferText,
        ice: IceCredentials,
        answer: Answer,
    ) -> Arc<str> {
        let sdp: Arc<str> = answer.sdp.as_str().into();
        if let Some(live) = self.transports.get_mut(id) {
            live.local_ice = ice;
            live.session_version += 1;
            live.restarted = Some((offer.text.clone(), sdp.clone()));
            live.applied = Applied::new(offer, std::mem::take(&mut live.applied.plans), answer);
        }
        sdp
    }
}
