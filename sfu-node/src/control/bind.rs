//! Binding: which tracks of an answer belong to which publication or subscription, those that are live already included.

use std::collections::{HashMap, HashSet};

use rand::CryptoRng;
use sfu_core::sdp::{self, Answer, SectionPlan, SendPlan};
use sfu_core::{PublicationHandle, ShardIndex, SubscriptionHandle};

use super::Refusal;
use super::negotiate::label;
use super::plan::{Available, Use};
use super::registry::{Labels, Publication, PublishedTrack, Registry, SubscribedTrack, Subscription};
use super::request::{Bindings, Negotiation, PublicationBinding, SubscriptionBinding};

impl Registry {
    /// What each subscription can have and has.
    pub(super) fn available(&self, bindings: &Bindings) -> Result<Vec<Available>, Refusal> {
        let available = |binding: &SubscriptionBinding| {
            let source = self.publications.get(&binding.publication);
            let source = source.ok_or_else(|| Refusal::NoPublication(binding.publication.clone()))?;
            let live = self.subscriptions.get(&binding.id);
            Ok(Available {
                kinds: source.tracks.iter().map(|track| track.spec.kind).collect(),
                assigned: live
                    .into_iter()
                    .flat_map(|live| &live.tracks)
                    .map(|track| (track.send.mid.clone(), track.source))
                    .collect(),
            })
        };
        bindings.subscriptions.iter().map(available).collect()
    }

    /// What every m-line is planned for, in the words of the core. Draws an SSRC for each track that is new; those of
    /// live ones stay.
    pub(super) fn plans(
        &self,
        request: &Negotiation,
        uses: &[Use],
        ssrcs: &mut HashSet<u32>,
        random: &mut impl CryptoRng,
    ) -> Result<Vec<SectionPlan>, Refusal> {
        // The client's own SSRCs: ours would be taken for loops of them.
        let announced = request.offer.offer.sections.iter().flat_map(|section| &section.sources);
        let announced: HashSet<u32> =
            announced.flat_map(|source| [Some(source.ssrc), source.rtx_ssrc]).flatten().collect();
        let mut draw = || loop {
            let ssrc = random.next_u32();
            if ssrc != 0 && !announced.contains(&ssrc) && ssrcs.insert(ssrc) {
                return ssrc;
            }
        };
        let plan = |(used, section): (&Use, &sdp::Section)| match *used {
            Use::Nothing => Ok(SectionPlan::Reject),
            Use::Publication(_) => Ok(SectionPlan::Receive),
            Use::Subscription { subscription, track } => {
                let binding = &request.bindings.subscriptions[subscription];
                let source = self.publications.get(&binding.publication);
                let source = source.ok_or_else(|| Refusal::NoPublication(binding.publication.clone()))?;
                let live = self.subscriptions.get(&binding.id);
                let before = live.and_then(|live| live.tracks.iter().find(|track| track.send.mid == section.mid));
                let PublishedTrack { spec, label, .. } = &source.tracks[track];
                Ok(SectionPlan::Send(SendPlan {
                    stream_id: source.labels.stream.clone(),
                    track_id: label.clone(),
                    cname: source.labels.cname.clone(),
                    kind: spec.kind,
                    stereo: spec.stereo,
                    ssrc: before.map_or_else(&mut draw, |track| track.send.ssrc),
                    rtx_ssrc: match before {
                        Some(track) => track.send.rtx_ssrc,
                        None => Some(draw()),
                    },
                }))
            }
        };
        uses.iter().zip(&request.offer.offer.sections).map(plan).collect()
    }

    /// A publication with the tracks that the answer gives it.
    pub(super) fn bind_publication(
        &mut self,
        request: &Negotiation,
        index: usize,
        shard: ShardIndex,
        (uses, answer): (&[Use], &Answer),
        random: &mut impl CryptoRng,
    ) -> Result<Publication, Refusal> {
        let PublicationBinding { id, metadata, .. } = &request.bindings.publications[index];
        let handle = PublicationHandle(self.next_handle());
        let live = self.publications.get(id);
        let mut tracks = live.map(|live| live.tracks.clone()).unwrap_or_default();
        let known = tracks.len();
        for spec in answer.receive.iter().filter(|track| uses[track.section] == Use::Publication(index)) {
            match tracks.iter().find(|track| track.spec.mid == spec.mid) {
                Some(live) if same_shape(&live.spec, spec) => {}
                Some(_) => return Err(changed(&spec.mid)),
                None => {
                    let position = (tracks.len() - known) as u8;
                    tracks.push(PublishedTrack { spec: spec.clone(), label: label(random), handle, position });
                }
            }
        }
        if tracks.is_empty() {
            return Err(Refusal::NothingFor(id.to_string()));
        }
        if tracks.len() > sfu_core::MAX_TRACKS {
            return Err(Refusal::Invalid(format!("more than {} tracks in one publication", sfu_core::MAX_TRACKS)));
        }
        Ok(Publication {
            transport: request.transport.clone(),
            room: request.room.clone(),
            shard,
            metadata: metadata.clone(),
            labels: match live {
                Some(live) => live.labels.clone(),
                None => Labels { stream: label(random), cname: label(random) },
            },
            tracks,
            subscribers: live.map(|live| live.subscribers.clone()).unwrap_or_default(),
            recordings: live.map(|live| live.recordings.clone()).unwrap_or_default(),
        })
    }

    /// A subscription with the tracks that the answer gives it.
    pub(super) fn bind_subscription(
        &mut self,
        request: &Negotiation,
        index: usize,
        (uses, answer): (&[Use], &Answer),
    ) -> Result<Subscription, Refusal> {
        let SubscriptionBinding { id, publication, .. } = &request.bindings.subscriptions[index];
        let mut tracks = self.subscriptions.get(id).map(|live| live.tracks.clone()).unwrap_or_default();
        // By the publication's handle: a command names one source.
        let mut handles: HashMap<PublicationHandle, SubscriptionHandle> = HashMap::new();
        for send in &answer.send {
            let source = match uses[send.section] {
                Use::Subscription { subscription, track } if subscription == index => track,
                _ => continue,
            };
            match tracks.iter().find(|track| track.send.mid == send.mid) {
                Some(live) if live.send == *send => {}
                Some(_) => return Err(changed(&send.mid)),
                None => {
                    let of = self.publications[publication].tracks[source].handle;
                    let handle = *handles.entry(of).or_insert_with(|| SubscriptionHandle(self.next_handle()));
                    tracks.push(SubscribedTrack { send: send.clone(), source, handle });
                }
            }
        }
        if tracks.is_empty() {
            return Err(Refusal::NothingFor(id.to_string()));
        }
        Ok(Subscription { transport: request.transport.clone(), publication: publication.clone(), tracks })
    }
}

fn changed(tag: &str) -> Refusal {
    Refusal::Conflict(format!("m-line {tag} cannot be changed once in use"))
}

/// A further offer may announce other SSRCs (the core goes by the m-line's tag as well); what decides how packets are read
/// has to stay.
fn same_shape(before: &sdp::ReceiveTrack, now: &sdp::ReceiveTrack) -> bool {
    let shape = |track: &sdp::ReceiveTrack| {
        (track.kind, track.payload_type, track.rtx_payload_type, track.clock_rate, track.extensions)
    };
    shape(before) == shape(now)
}
