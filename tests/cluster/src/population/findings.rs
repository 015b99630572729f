//! What a population has gone through so far, counted and measured. Bounds are the scenarios' business.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Member, Population};
use crate::account::Journal;
use crate::figures::Spread;
use crate::media::{Flow, Publisher};
use crate::stake::Carried;

/// How often errors were answered, by code and method.
pub type Errors = BTreeMap<i64, BTreeMap<&'static str, usize>>;

/// The errors that these members were answered since then, those of requests that were carried out later included.
pub fn errors_after<'a>(members: impl IntoIterator<Item = &'a Member>, since: Instant) -> Errors {
    let mut errors = Errors::new();
    for member in members {
        for (code, method) in member.client.journal().errors_after(since) {
            *errors.entry(code).or_default().entry(method).or_default() += 1;
        }
    }
    errors
}

impl Population {
    /// Measures gaps of media from now on.
    pub fn measure(&self) {
        self.flows().for_each(|(_, _, flow)| flow.measure());
    }

    /// The longest gap of each viewer's media from each publisher who is here, since [`Self::measure`].
    pub fn gaps(&self) -> Spread {
        let now = Instant::now();
        let here: Vec<&str> = self.members.iter().filter(|m| m.publisher.is_some()).map(|m| &*m.client.uid).collect();
        let flows = self.flows().filter(|(_, owner, _)| here.contains(&owner.as_str()));
        Spread::of(flows.map(|(_, _, flow)| flow.seen(now).longest))
    }

    /// Packets that came to somebody as another's than whose they were.
    pub fn foreign_packets(&self) -> u64 {
        self.flows().map(|(_, _, flow)| flow.seen(Instant::now()).foreign).sum()
    }

    /// Streams that were published so far.
    pub fn published(&self) -> u64 {
        self.members.iter().filter_map(|member| member.publisher.as_ref()).map(|publisher| publisher.published()).sum()
    }

    /// The stream of each who publishes, by owner.
    pub fn streams(&self) -> BTreeMap<String, Carried> {
        let stream = |publisher: &Publisher| Some(Carried { mid: publisher.mid()?, node: publisher.node()? });
        let publishers =
            self.members.iter().filter_map(|member| Some((member.client.uid.to_string(), member.publisher.as_ref()?)));
        publishers.filter_map(|(uid, publisher)| Some((uid, stream(publisher)?))).collect()
    }

    /// The node that carries most of the streams.
    pub fn busiest_node(&self) -> String {
        let mut nodes: BTreeMap<String, usize> = BTreeMap::new();
        let publishers = self.members.iter().filter_map(|member| member.publisher.as_ref());
        publishers.filter_map(|publisher| publisher.node()).for_each(|node| *nodes.entry(node).or_default() += 1);
        nodes.into_iter().max_by_key(|(_, streams)| *streams).expect("a stream is published").0
    }

    /// When connections ended since then, and with which close code, if any.
    pub fn closes_after(&self, since: Instant) -> Vec<(Instant, Option<u16>)> {
        let journals = self.members.iter().map(|member| member.client.journal());
        journals.flat_map(|journal| journal.closes_after(since).collect::<Vec<_>>()).collect()
    }

    /// How often edges turned clients away with each status since then.
    pub fn turned_away_after(&self, since: Instant) -> BTreeMap<u16, usize> {
        let mut statuses = BTreeMap::new();
        for member in &self.members {
            let journal = member.client.journal();
            journal.turned_away_after(since).for_each(|status| *statuses.entry(status).or_default() += 1);
        }
        statuses
    }

    /// The streams that their owners were asked to move since then, once for each time.
    pub fn unwanted_after(&self, since: Instant) -> Vec<String> {
        let journals = self.members.iter().map(|member| member.client.journal());
        journals.flat_map(|journal| journal.unwanted_after(since).map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// Requests that were given up since then, with the last error of each.
    pub fn given_up_after(&self, since: Instant) -> Vec<(&'static str, Option<i64>)> {
        let journals = self.members.iter().map(|member| member.client.journal());
        journals.flat_map(|journal| journal.given_up_after(since).collect::<Vec<_>>()).collect()
    }

    /// Broadcasts that were refused for good.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// How long each who lost its connection after `fault` took from then until it was back.
    pub fn back_after(&self, fault: Instant) -> Spread {
        let back = self.members.iter().filter_map(|member| member.client.journal().back_after(fault));
        Spread::of(back.map(|at| at.saturating_duration_since(fault)))
    }

    /// What happened to everybody.
    pub fn journals(&self) -> Vec<Journal> {
        self.members.iter().map(|member| member.client.journal().clone()).collect()
    }

    fn flows(&self) -> impl Iterator<Item = (&str, String, Arc<Flow>)> {
        let viewers = self.members.iter().filter_map(|member| member.viewer.as_ref());
        viewers.flat_map(|viewer| viewer.flows().into_iter().map(|(owner, flow)| (&*viewer.uid, owner, flow)))
    }
}
