//! Which m-line of an offer carries what. Pure: it knows offers and bindings, not transports, rooms or shards.

use std::sync::Arc;

use sfu_core::sdp::{MediaKind, Offer, Section, SectionKind};

use super::request::{Bindings, Tags};

/// What an m-line is used for; indices are those of the request's bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Nothing: it is refused.
    Nothing,
    /// The publication with this index enters here.
    Publication(usize),
    /// The track with this index of the subscription with this index leaves here.
    Subscription { subscription: usize, track: usize },
}

/// What a subscription can be given, and has been given before.
#[derive(Debug, Default)]
pub(crate) struct Available {
    /// Kinds of the publication's tracks, in order.
    pub(crate) kinds: Vec<MediaKind>,
    /// M-lines that carry a track already, by identification tag.
    pub(crate) assigned: Vec<(Box<str>, usize)>,
}

/// Why the bindings do not fit the offer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("the offer has no m-line with a=mid:{0}")]
    NoSuchTag(Box<str>),
    #[error("m-line {0} is bound twice")]
    BoundTwice(Box<str>),
    #[error("{0} and {1} both claim the m-lines that nobody names")]
    BothClaimRest(Arc<str>, Arc<str>),
}

/// One use per m-line. `available` has an entry per subscription.
pub(crate) fn uses(offer: &Offer, bindings: &Bindings, available: &[Available]) -> Result<Vec<Use>, PlanError> {
    let owners = owners(offer, bindings)?;
    let mut uses = vec![Use::Nothing; offer.sections.len()];
    for (index, binding) in bindings.publications.iter().enumerate() {
        let owned = Owner::Publication(index);
        let allows = |kind| match kind {
            MediaKind::Audio => binding.audio,
            MediaKind::Video => binding.video,
        };
        let mut taken = Vec::new();
        for (section, used) in sections_of(offer, &owners, owned, &mut uses) {
            let Some(kind) = usable(section) else { continue };
            // Of m-lines that are claimed without being named, the first of each kind: a client that offers two cameras
            // in one stream is told so by the refusal of the second.
            if allows(kind) && (!binding.tags.is_empty() || !taken.contains(&kind)) {
                *used = Use::Publication(index);
                // One on which the client sends nothing (for now) takes nobody's place.
                if section.direction.sends() {
                    taken.push(kind);
                }
            }
        }
    }
    for (index, available) in available.iter().enumerate().take(bindings.subscriptions.len()) {
        let owned = Owner::Subscription(index);
        let mut free: Vec<usize> = (0..available.kinds.len()).collect();
        free.retain(|track| available.assigned.iter().all(|(_, assigned)| assigned != track));
        for (section, used) in sections_of(offer, &owners, owned, &mut uses) {
            let Some(kind) = usable(section) else { continue };
            let before = available.assigned.iter().find(|(tag, _)| *tag == section.mid).map(|(_, track)| *track);
            let suits = |track: &usize| section.direction.receives() && available.kinds[*track] == kind;
            let track = before.or_else(|| free.iter().position(suits).map(|position| free.remove(position)));
            if let Some(track) = track {
                *used = Use::Subscription { subscription: index, track };
            }
        }
    }
    Ok(uses)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Publication(usize),
    Subscription(usize),
}

/// Who each m-line belongs to.
fn owners(offer: &Offer, bindings: &Bindings) -> Result<Vec<Option<Owner>>, PlanError> {
    let mut owners = vec![None; offer.sections.len()];
    let mut rest: Option<(Owner, &str)> = None;
    let publications = bindings.publications.iter().enumerate();
    let subscriptions = bindings.subscriptions.iter().enumerate();
    let all = publications
        .map(|(index, binding)| (Owner::Publication(index), binding.id.as_str(), &binding.tags))
        .chain(subscriptions.map(|(index, binding)| (Owner::Subscription(index), binding.id.as_str(), &binding.tags)));
    for (owner, id, tags) in all {
        if tags.is_empty()
            && let Some((_, other)) = rest.replace((owner, id))
        {
            return Err(PlanError::BothClaimRest(other.into(), id.into()));
        }
        claim(offer, &mut owners, owner, tags)?;
    }
    if let Some((owner, _)) = rest {
        for slot in owners.iter_mut().filter(|slot| slot.is_none()) {
            *slot = Some(owner);
        }
    }
    Ok(owners)
}

fn claim(offer: &Offer, owners: &mut [Option<Owner>], owner: Owner, tags: &Tags) -> Result<(), PlanError> {
    for tag in tags {
        let index = offer.sections.iter().position(|section| section.mid == *tag);
        let index = index.ok_or_else(|| PlanError::NoSuchTag(tag.clone()))?;
        if owners[index].replace(owner).is_some() {
            return Err(PlanError::BoundTwice(tag.clone()));
        }
    }
    Ok(())
}

fn sections_of<'a>(
    offer: &'a Offer,
    owners: &'a [Option<Owner>],
    owner: Owner,
    uses: &'a mut [Use],
) -> impl Iterator<Item = (&'a Section, &'a mut Use)> {
    let owned = owners.iter().map(move |other| *other == Some(owner));
    offer.sections.iter().zip(uses).zip(owned).filter(|(_, owned)| *owned).map(|(pair, _)| pair)
}

/// The kind of media that an m-line could carry.
fn usable(section: &Section) -> Option<MediaKind> {
    match section.kind {
        SectionKind::Media(kind) if !section.port_zero => Some(kind),
        _ => None,
    }
}
