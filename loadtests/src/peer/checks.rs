//! The peer's side of ICE: connectivity checks, consent, and answers to the server's checks.

use super::{TestPeer, stun};
use rand::RngExt;
use std::time::{Duration, Instant};

/// Between connectivity checks until one is answered.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Between consent checks afterwards; browsers take 2.5–5 s.
const CONSENT_INTERVAL: Duration = Duration::from_secs(3);
/// Checks that may be under way at once; older ones count as lost.
const MAX_CHECKS: usize = 8;

impl TestPeer {
    pub(super) fn handle_stun(&mut self, now: Instant, datagram: &[u8]) {
        let (Some(message), Some(answer)) = (stun::Message::parse(datagram), &self.answer) else { return };
        match message.kind {
            stun::Kind::Request if message.is_signed_with(&self.local.pwd) => {
                if let Some(remote) = answer.candidates.first() {
                    self.outgoing.push_back(stun::binding_success(message.transaction, *remote, &self.local.pwd));
                }
            }
            stun::Kind::Success if message.is_signed_with(&answer.ice.pwd) => {
                let Some(known) = self.checks.iter().position(|check| *check == message.transaction) else { return };
                self.checks.drain(..=known);
                self.mapped = message.mapped_address();
                if !self.reachable {
                    self.reachable = true;
                    self.next_check = Some(now + CONSENT_INTERVAL);
                }
            }
            _ => {}
        }
    }

    pub(super) fn check(&mut self, now: Instant) {
        let Some(answer) = &self.answer else { return };
        let transaction = self.random.random();
        if self.checks.len() == MAX_CHECKS {
            self.checks.pop_front();
        }
        self.checks.push_back(transaction);
        let username = format!("{}:{}", answer.ice.ufrag, self.local.ufrag);
        let request = stun::BindingRequest {
            transaction,
            username: &username,
            priority: 0x6E7F_1EFF,
            tie_breaker: self.session_id,
            role: stun::Role::Controlling,
            nominate: true,
        };
        self.outgoing.push_back(request.encode(&answer.ice.pwd));
        self.next_check = Some(now + if self.reachable { CONSENT_INTERVAL } else { CHECK_INTERVAL });
    }
}
