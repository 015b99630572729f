//! Requests of edges as types: what is in them is well-formed and bounded. Whether it can be done is the registry's to say.

use std::sync::Arc;

use proto::ids::{IdError, Mid, PeerId, RoomId, Sid, TransportId};
use proto::sfu;
use sfu_core::sdp::{Offer, SdpError};

/// Longest opaque data of a publication: a stream's `minfo` with much to spare. It is held per publication and sent to every
/// watcher.
const MAX_METADATA: usize = 16 * 1024;

/// Most bindings of one kind in a request: as many as an offer may have m-lines.
const MAX_BINDINGS: usize = 64;

/// Longest identification tag that a binding may name.
const MAX_TAG: usize = 256;

/// Why a request is not one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// An id that cannot be.
    #[error("{0}")]
    Id(#[from] IdError),
    /// The offer cannot be used.
    #[error("offer: {0}")]
    Offer(#[from] SdpError),
    /// More of something than may be.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Plural noun.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// A publication that may carry nothing.
    #[error("publication {0}: neither audio nor video")]
    NoKind(Mid),
    /// The same id twice.
    #[error("{0} is bound twice")]
    Twice(Arc<str>),
}

/// What an edge says of a publication: opaque and bounded.
pub(crate) type Metadata = Arc<[u8]>;

/// An offer, read and as it came.
#[derive(Debug, Clone)]
pub(crate) struct OfferText {
    pub(crate) text: Arc<str>,
    pub(crate) offer: Arc<Offer>,
}

impl OfferText {
    pub(crate) fn parse(text: &str) -> Result<Self, SdpError> {
        Ok(Self { offer: Arc::new(Offer::parse(text)?), text: text.into() })
    }
}

/// A whole `NegotiateRequest`.
#[derive(Debug, Clone)]
pub(crate) struct Negotiation {
    pub(crate) transport: TransportId,
    pub(crate) room: RoomId,
    pub(crate) client: PeerId,
    pub(crate) offer: OfferText,
    pub(crate) bindings: Bindings,
}

/// What an offer's m-lines are to be used for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bindings {
    pub(crate) publications: Vec<PublicationBinding>,
    pub(crate) subscriptions: Vec<SubscriptionBinding>,
}

/// M-lines by their identification tags; empty: all that nobody else names.
pub(crate) type Tags = Vec<Box<str>>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicationBinding {
    pub(crate) id: Mid,
    pub(crate) tags: Tags,
    pub(crate) metadata: Metadata,
    pub(crate) audio: bool,
    pub(crate) video: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SubscriptionBinding {
    pub(crate) id: Sid,
    pub(crate) publication: Mid,
    pub(crate) tags: Tags,
}

impl TryFrom<sfu::NegotiateRequest> for Negotiation {
    type Error = RequestError;

    fn try_from(request: sfu::NegotiateRequest) -> Result<Self, RequestError> {
        at_most(MAX_BINDINGS, request.publications.len(), "publications")?;
        at_most(MAX_BINDINGS, request.subscriptions.len(), "subscriptions")?;
        let publications: Vec<_> =
            request.publications.into_iter().map(PublicationBinding::try_from).collect::<Result<_, _>>()?;
        let subscriptions: Vec<_> =
            request.subscriptions.into_iter().map(SubscriptionBinding::try_from).collect::<Result<_, _>>()?;
        unique(publications.iter().map(|binding| binding.id.as_str()))?;
        unique(subscriptions.iter().map(|binding| binding.id.as_str()))?;
        Ok(Self {
            transport: TransportId::new(request.transport_id)?,
            room: RoomId::new(request.room_id)?,
            client: PeerId::new(request.client_id)?,
            offer: OfferText::parse(&request.offer_sdp)?,
            bindings: Bindings { publications, subscriptions },
        })
    }
}

impl TryFrom<sfu::PublicationBinding> for PublicationBinding {
    type Error = RequestError;

    fn try_from(binding: sfu::PublicationBinding) -> Result<Self, RequestError> {
        let id = Mid::new(binding.publication_id)?;
        if !binding.audio && !binding.video {
            return Err(RequestError::NoKind(id));
        }
        Ok(Self {
            id,
            tags: tags(binding.sections)?,
            metadata: metadata(&binding.metadata)?,
            audio: binding.audio,
            video: binding.video,
        })
    }
}

impl TryFrom<sfu::SubscriptionBinding> for SubscriptionBinding {
    type Error = RequestError;

    fn try_from(binding: sfu::SubscriptionBinding) -> Result<Self, RequestError> {
        Ok(Self {
            id: Sid::new(binding.subscription_id)?,
            publication: Mid::new(binding.publication_id)?,
            tags: tags(binding.sections)?,
        })
    }
}

/// What an edge says of a publication, if it is short enough.
pub(crate) fn metadata(bytes: &[u8]) -> Result<Metadata, RequestError> {
    at_most(MAX_METADATA, bytes.len(), "bytes of metadata")?;
    Ok(bytes.into())
}

fn tags(sections: Option<sfu::Sections>) -> Result<Tags, RequestError> {
    let mids = sections.unwrap_or_default().mids;
    at_most(MAX_BINDINGS, mids.len(), "m-lines of one binding")?;
    for mid in &mids {
        at_most(MAX_TAG, mid.len(), "bytes in the name of an m-line")?;
    }
    unique(mids.iter().map(String::as_str))?;
    Ok(mids.into_iter().map(Box::from).collect())
}

fn at_most(limit: usize, found: usize, what: &'static str) -> Result<(), RequestError> {
    if found > limit { Err(RequestError::TooMany { what, limit }) } else { Ok(()) }
}

fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), RequestError> {
    let mut seen = Vec::new();
    for name in names {
        if seen.contains(&name) {
            return Err(RequestError::Twice(name.into()));
        }
        seen.push(name);
    }
    Ok(())
}
