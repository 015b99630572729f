//! How an offer is read. Everything is bounded; lines and attributes that mean nothing here are skipped.

use std::str::FromStr;

use super::{
    Offer, SdpError, Section, Setup,
    line::{Line, is_token, lines},
    parse_section::SectionLines,
};
use crate::{dtls::Fingerprint, ice::IceCredentials};

/// Longest offer, in bytes: the signalling's limit for a message.
const MAX_OFFER: usize = 256 * 1024;

/// Most m-lines. A transport that carries a room of 30 has 60.
pub(super) const MAX_SECTIONS: usize = 64;

impl FromStr for Offer {
    type Err = SdpError;

    fn from_str(sdp: &str) -> Result<Self, SdpError> {
        Self::parse(sdp)
    }
}

impl Offer {
    /// Reads an offer of at most 256 KiB and 64 m-lines. Candidates are not looked at: a lite agent sends nothing that was not
    /// asked for, so no address or host name of an offer is ever used.
    pub fn parse(sdp: &str) -> Result<Self, SdpError> {
        if sdp.len() > MAX_OFFER {
            return Err(SdpError::TooLong { limit: MAX_OFFER });
        }
        let mut session = SessionLines::default();
        let mut sections: Vec<SectionLines<'_>> = Vec::new();
        for (position, line) in lines(sdp).enumerate() {
            let line = line?;
            if position == 0 && (line.kind, line.value) != (b'v', "0") {
                return Err(line.syntax("the first line must be v=0"));
            }
            match (line.kind, sections.last_mut()) {
                (b'm', _) => line.push(&mut sections, MAX_SECTIONS, "m-lines", SectionLines::open(line)?)?,
                (b'a', Some(section)) => section.attribute(line)?,
                (b'a', None) => session.attribute(line)?,
                _ => {}
            }
        }
        session.into_offer(sections)
    }
}

/// What says how the transport is to be secured; on the session, on m-lines, or both.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TransportLines<'a> {
    ufrag: Option<Line<'a>>,
    password: Option<Line<'a>>,
    fingerprint: Option<Fingerprint>,
    unusable_fingerprint: Option<Line<'a>>,
    setup: Option<Line<'a>>,
}

impl<'a> TransportLines<'a> {
    /// Takes an attribute; false if it is not about the transport.
    pub(super) fn attribute(&mut self, line: Line<'a>) -> bool {
        match line.attribute().0 {
            "ice-ufrag" => self.ufrag = Some(line),
            "ice-pwd" => self.password = Some(line),
            "setup" => self.setup = Some(line),
            "fingerprint" => match line.attribute().1.parse::<Fingerprint>() {
                Ok(one) if self.fingerprint.is_none_or(|other| one.is_stronger_than(&other)) => {
                    self.fingerprint = Some(one);
                }
                Ok(_) => {}
                Err(_) => self.unusable_fingerprint = Some(line),
            },
            _ => return false,
        }
        true
    }

    /// What is said here, else what is said there.
    fn or(self, other: Self) -> Self {
        Self {
            ufrag: self.ufrag.or(other.ufrag),
            password: self.password.or(other.password),
            fingerprint: self.fingerprint.or(other.fingerprint),
            unusable_fingerprint: self.unusable_fingerprint.or(other.unusable_fingerprint),
            setup: self.setup.or(other.setup),
        }
    }

    fn credentials(&self) -> Result<IceCredentials, SdpError> {
        let ufrag = self.ufrag.ok_or(SdpError::Missing("a=ice-ufrag"))?;
        let password = self.password.ok_or(SdpError::Missing("a=ice-pwd"))?;
        IceCredentials::new(ufrag.attribute().1, password.attribute().1).map_err(|source| {
            let line = if source == crate::ice::CredentialError::Ufrag { ufrag } else { password };
            SdpError::Credential { line: line.number, source }
        })
    }

    fn fingerprint(&self) -> Result<Fingerprint, SdpError> {
        match (self.fingerprint, self.unusable_fingerprint) {
            (Some(fingerprint), _) => Ok(fingerprint),
            (None, None) => Err(SdpError::Missing("a=fingerprint")),
            (None, Some(line)) => match line.attribute().1.parse::<Fingerprint>() {
                Ok(fingerprint) => Ok(fingerprint),
                Err(source) => Err(SdpError::Fingerprint { line: line.number, source }),
            },
        }
    }

    fn setup(&self) -> Result<Setup, SdpError> {
        let Some(line) = self.setup else {
            return Ok(Setup::Active); // the default of an offer (RFC 4145, section 4)
        };
        match line.attribute().1 {
            "active" => Ok(Setup::Active),
            "actpass" => Ok(Setup::ActPass),
            "passive" => Err(SdpError::Role("a=setup:passive")),
            "holdconn" => Err(SdpError::Role("a=setup:holdconn")),
            _ => Err(line.syntax("a=setup must be active, passive, actpass or holdconn")),
        }
    }
}

#[derive(Debug, Default)]
struct SessionLines<'a> {
    transport: TransportLines<'a>,
    ice_lite: bool,
    extmap_allow_mixed: bool,
    bundle: Option<Vec<Box<str>>>,
}

impl<'a> SessionLines<'a> {
    fn attribute(&mut self, line: Line<'a>) -> Result<(), SdpError> {
        match line.attribute() {
            _ if self.transport.attribute(line) => {}
            ("ice-lite", _) => self.ice_lite = true,
            ("extmap-allow-mixed", _) => self.extmap_allow_mixed = true,
            ("group", group) if self.bundle.is_none() => {
                let mut words = group.split_ascii_whitespace();
                if words.next() == Some("BUNDLE") {
                    let mut mids = Vec::new();
                    for mid in words {
                        line.push(&mut mids, MAX_SECTIONS, "mids in a group", mid.into())?;
                    }
                    self.bundle = Some(mids);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn into_offer(self, drafts: Vec<SectionLines<'a>>) -> Result<Offer, SdpError> {
        if drafts.is_empty() {
            return Err(SdpError::NoSections);
        }
        let mut transports = Vec::with_capacity(drafts.len());
        let mut sections: Vec<Section> = Vec::with_capacity(drafts.len());
        for draft in drafts {
            transports.push(draft.transport);
            let (mid_line, section) = draft.into_section()?;
            if sections.iter().any(|other| other.mid == section.mid) {
                return Err(SdpError::DuplicateMid { line: mid_line, mid: section.mid });
            }
            sections.push(section);
        }
        let bundle = self.bundle.unwrap_or_default();
        let transport = transports[transport_section(&sections, &bundle)].or(self.transport);
        if self.ice_lite {
            return Err(SdpError::Role("a=ice-lite"));
        }
        Ok(Offer {
            ice: transport.credentials()?,
            fingerprint: transport.fingerprint()?,
            setup: transport.setup()?,
            extmap_allow_mixed: self.extmap_allow_mixed,
            bundle,
            sections,
        })
    }
}

/// The m-line whose transport the others share: the first of the BUNDLE group that is not refused (RFC 8843, section 7.2.1), else
/// the first one.
fn transport_section(sections: &[Section], bundle: &[Box<str>]) -> usize {
    let usable = |mid: &str| sections.iter().position(|section| *section.mid == *mid && !section.port_zero);
    let lone = || sections.iter().position(|section| !section.port_zero);
    bundle.iter().find_map(|mid| usable(mid)).or_else(lone).unwrap_or(0)
}

/// A mid: a token. RTP carries up to 16 bytes of it, longer ones just cannot be demultiplexed by.
pub(super) fn mid(line: Line<'_>) -> Result<Box<str>, SdpError> {
    let mid = line.attribute().1;
    if !is_token(mid, 64) {
        return Err(line.syntax("a=mid must be a token of 1 to 64 characters"));
    }
    Ok(mid.into())
}
