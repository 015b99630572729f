//! ICE-lite (RFC 8445): answers the connectivity checks of one peer, keeps track of the proven paths and of consent (RFC 7675).
//!
//! A lite agent sends no checks of its own, gathers no candidates and always plays the controlled role. What is said here about
//! paths decides which addresses may send DTLS and SRTP: a path is a candidate pair over which a check with a valid
//! MESSAGE-INTEGRITY came. Nothing changes and nothing is answered before that attribute was verified. Which path is sent to:
//! see `paths`.

mod credentials;
mod paths;
mod stun;
#[cfg(test)]
pub(crate) mod tests;

use std::time::{Duration, Instant};

use ring::hmac;

pub use credentials::{CredentialError, IceCredentials};
use paths::Paths;
use stun::BindingRequest;
pub use stun::{StunError, binding_ufrag};

use crate::CandidatePair;

/// How long a path lives without a valid check (RFC 7675, section 5.1). Less would drop clients whose radio sleeps; more lets a
/// node send media to somebody who left.
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long replaced credentials stay valid unless the new ones are used. Chromium's first check on a new socket may still carry
/// the old ufrag.
const RETIRED_LIFETIME: Duration = Duration::from_secs(30);

/// How long replaced credentials stay valid once the new ones were used: checks that were already on their way.
const RETIRED_LIFETIME_AFTER_USE: Duration = Duration::from_secs(5);

/// What a valid check has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The path was proven by this check for the first time.
    pub new_path: bool,
    /// A path that had to be forgotten for it.
    pub evicted: Option<CandidatePair>,
}

/// Why a datagram was not a valid check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IceError {
    /// Not a well-formed connectivity check.
    #[error("not a usable binding request: {0}")]
    Malformed(#[from] StunError),
    /// The USERNAME names none of our ufrags.
    #[error("the username is not ours")]
    WrongUsername,
    /// MESSAGE-INTEGRITY does not match our password.
    #[error("the message integrity does not match")]
    WrongIntegrity,
    /// The peer thinks it is controlled, too; it is told so (487).
    #[error("the peer claims the controlled role")]
    RoleConflict,
    /// An attribute that we do not know but have to understand; the peer is told so (420).
    #[error("attribute {0:#06x} is unknown but has to be understood")]
    UnknownAttribute(u16),
    /// A check with replaced credentials after the new ones had nominated a path: it is only answered.
    #[error("the credentials were replaced")]
    Superseded,
}

/// The ICE-lite agent of one peer.
#[derive(Debug)]
pub struct IceLite {
    local: Local,
    retired: Option<Retired>,
    paths: Paths,
    consent_deadline: Instant,
}

#[derive(Debug)]
struct Local {
    ufrag: Box<str>,
    key: hmac::Key,
}

#[derive(Debug)]
struct Retired {
    local: Local,
    until: Instant,
    /// The new credentials have nominated a path: these are only good for answers to checks that were on their way.
    superseded: bool,
}

impl IceLite {
    /// An agent that waits for its first check. The peer's own credentials are not needed: a lite agent sends no requests, and of
    /// a request's USERNAME only our half is to be looked at (RFC 8445, section 7.3).
    pub fn new(now: Instant, local: &IceCredentials) -> Self {
        Self {
            local: Local::new(local),
            retired: None,
            paths: Paths::default(),
            consent_deadline: now + CONSENT_TIMEOUT,
        }
    }

    /// Takes a datagram that [`binding_ufrag`] assigned to this agent. `out` is cleared and holds the answer to be sent to `from`
    /// afterwards, whatever is returned; it stays empty for anyone who does not know our password, and is never much longer
    /// than the request.
    pub fn handle_request(
        &mut self,
        now: Instant,
        from: CandidatePair,
        datagram: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Accepted, IceError> {
        out.clear();
        let request = BindingRequest::parse(datagram)?;
        let (local, is_current) = self.named(now, request.local_ufrag).ok_or(IceError::WrongUsername)?;
        if !request.is_signed_by(&local.key) {
            return Err(IceError::WrongIntegrity);
        }
        if let Some(unknown) = request.unknown {
            request.write_unknown_attribute(unknown, &local.key, out);
            return Err(IceError::UnknownAttribute(unknown));
        }
        if request.controlled {
            request.write_role_conflict(&local.key, out);
            return Err(IceError::RoleConflict);
        }
        request.write_success(from.remote, &local.key, out);
        if is_current {
            if let Some(retired) = &mut self.retired {
                retired.until = retired.until.min(now + RETIRED_LIFETIME_AFTER_USE);
                retired.superseded |= request.use_candidate;
            }
        } else if self.retired.as_ref().is_some_and(|retired| retired.superseded) {
            return Err(IceError::Superseded);
        }
        let proven = self.paths.check(now, from, request.use_candidate, is_current);
        self.consent_deadline = now + CONSENT_TIMEOUT;
        Ok(Accepted { new_path: proven.is_new, evicted: proven.evicted })
    }

    /// ICE restart: from now on checks carry these credentials; the replaced ones stay valid for 30 s, or for 5 s after the first
    /// use of the new ones, and once those have nominated a path they change nothing any more. The selected path stays until another
    /// is nominated, and the new credentials have 30 s for their first check. Returns a ufrag that is forgotten at once, because the
    /// credentials before the replaced ones were still waiting to expire.
    pub fn restart(&mut self, now: Instant, local: &IceCredentials) -> Option<Box<str>> {
        let replaced = std::mem::replace(&mut self.local, Local::new(local));
        let retired = Retired { local: replaced, until: now + RETIRED_LIFETIME, superseded: false };
        self.consent_deadline = self.consent_deadline.max(now + CONSENT_TIMEOUT);
        self.paths.outdate();
        self.retired.replace(retired).map(|forgotten| forgotten.local.ufrag)
    }

    /// When consent ends: 30 s after the last valid check of any path, or after the start or a restart while there was none.
    pub fn consent_deadline(&self) -> Instant {
        self.consent_deadline
    }

    /// When [`Self::poll_retired`] will have something to give.
    pub fn retired_deadline(&self) -> Option<Instant> {
        self.retired.as_ref().map(|retired| retired.until)
    }

    /// The ufrag of replaced credentials, once they have expired: datagrams that name it need not come here any more.
    pub fn poll_retired(&mut self, now: Instant) -> Option<Box<str>> {
        self.retired.take_if(|retired| retired.until <= now).map(|retired| retired.local.ufrag)
    }

    /// Our ufrags that checks may name now: the current one, then the replaced one.
    pub fn ufrags(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.local.ufrag).chain(self.retired.as_ref().map(|retired| &*retired.local.ufrag))
    }

    /// Something authentic and new that is no check came from `from`: media or their reports. Called for every packet.
    #[inline]
    pub fn speak(&mut self, now: Instant, from: CandidatePair) {
        self.paths.speak(now, from);
    }

    /// The handshake with the peer was completed by what came from `from`: what we had sent there has arrived.
    pub fn connect(&mut self, now: Instant, from: CandidatePair) {
        self.paths.select(now, from);
    }

    /// The path that the peer uses, as far as is known.
    pub fn selected(&self) -> Option<CandidatePair> {
        self.paths.selected()
    }

    /// Where to send: the selected path, or while there is none the one that was checked last.
    pub fn path(&self) -> Option<CandidatePair> {
        self.paths.current()
    }

    /// Where to answer to what came from `from`: there, as long as that is a proven path.
    pub fn path_back(&self, from: CandidatePair) -> Option<CandidatePair> {
        Some(from).filter(|from| self.paths.contains(*from)).or_else(|| self.path())
    }

    /// All proven paths, at most sixteen.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = CandidatePair> {
        self.paths.pairs()
    }

    /// When [`Self::expire_path`] will have something to give.
    pub fn path_deadline(&self) -> Option<Instant> {
        self.paths.deadline()
    }

    /// Forgets a path from which no valid check has come for 30 s and gives its address: nothing may be sent there any more, be it
    /// the selected one (RFC 7675, section 5.1). Call until `None`.
    pub fn expire_path(&mut self, now: Instant) -> Option<CandidatePair> {
        self.paths.expire(now)
    }

    fn named(&self, now: Instant, ufrag: &str) -> Option<(&Local, bool)> {
        if *self.local.ufrag == *ufrag {
            return Some((&self.local, true));
        }
        let retired = self.retired.as_ref().filter(|retired| now < retired.until)?;
        (*retired.local.ufrag == *ufrag).then_some((&retired.local, false))
    }
}

impl Local {
    fn new(credentials: &IceCredentials) -> Self {
        Self {
            ufrag: credentials.ufrag().into(),
            key: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, credentials.password().as_bytes()),
        }
    }
}
