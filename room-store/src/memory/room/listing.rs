//! Reading a room.

use std::{ops::Bound, sync::Arc};

use proto::ids::{Mid, NodeId, PeerId, Sid};

use super::{Room, Step, same_place};
use crate::{
    change::{Page, Snapshot},
    error::StoreError,
    record::{Actor, Carrier, Member, Placement, Publication, Subscription},
};

impl Room {
    pub(in crate::memory) fn members_page(
        &mut self,
        step: &mut Step<'_>,
        actor: &Actor,
        after: Option<&PeerId>,
        limit: usize,
    ) -> Result<Page<Arc<Member>>, StoreError> {
        self.acting(step, actor)?;
        let members = self.members.range::<PeerId, _>((from(after), Bound::Unbounded)).map(|(_, state)| &state.member);
        Ok(page(members.filter(|member| member.peer != actor.peer).cloned(), limit))
    }

    pub(in crate::memory) fn publications_page(
        &mut self,
        step: &mut Step<'_>,
        actor: &Actor,
        after: Option<&Mid>,
        limit: usize,
    ) -> Result<Page<Arc<Publication>>, StoreError> {
        self.acting(step, actor)?;
        let records =
            self.publications.range::<Mid, _>((from(after), Bound::Unbounded)).map(|(_, state)| &state.record);
        Ok(page(records.filter(|record| record.confirmed && record.owner != actor.peer).cloned(), limit))
    }

    pub(in crate::memory) fn publication(
        &mut self,
        step: &mut Step<'_>,
        actor: &Actor,
        mid: &Mid,
    ) -> Result<Arc<Publication>, StoreError> {
        self.acting(step, actor)?;
        let record = self.publications.get(mid).map(|state| &state.record);
        let visible = record.filter(|record| record.confirmed || record.owner == actor.peer);
        visible.cloned().ok_or(StoreError::UnknownPublication)
    }

    pub(in crate::memory) fn subscription(
        &mut self,
        step: &mut Step<'_>,
        actor: &Actor,
        sid: &Sid,
    ) -> Result<Arc<Subscription>, StoreError> {
        self.acting(step, actor)?;
        let record = self.subscriptions.get(sid).map(|state| &state.record);
        record.filter(|record| record.subscriber == actor.peer).cloned().ok_or(StoreError::UnknownSubscription)
    }

    pub(in crate::memory) fn subscriptions_on(
        &self,
        node: &NodeId,
        after: Option<&Sid>,
        limit: usize,
    ) -> Page<Arc<Subscription>> {
        let records =
            self.subscriptions.range::<Sid, _>((from(after), Bound::Unbounded)).map(|(_, state)| &state.record);
        page(records.filter(|record| record.confirmed && record.placement.node == *node).cloned(), limit)
    }

    pub(in crate::memory) fn snapshot(&self) -> Snapshot {
        let records = self.publications.values().map(|state| &state.record);
        Snapshot {
            head: self.log.head(),
            members: self.members.values().map(|state| Arc::clone(&state.member)).collect(),
            publications: records.filter(|record| record.confirmed).cloned().collect(),
        }
    }

    pub(in crate::memory) fn carriers(&self) -> Vec<Carrier> {
        let mut carriers: Vec<Carrier> = Vec::new();
        let publications = self.publications.values().map(|state| (&state.record.placement, 1, 0));
        let subscriptions = self.subscriptions.values().map(|state| (&state.record.placement, 0, 1));
        for (placement, publications, subscriptions) in publications.chain(subscriptions) {
            let carrier = carrier(&mut carriers, placement);
            carrier.publications += publications;
            carrier.subscriptions += subscriptions;
        }
        carriers.sort_by_key(|carrier| std::cmp::Reverse((carrier.publications, carrier.subscriptions)));
        carriers
    }
}

fn carrier<'a>(carriers: &'a mut Vec<Carrier>, placement: &Placement) -> &'a mut Carrier {
    let index = carriers.iter().position(|carrier| same_place(&carrier.placement, placement));
    let index = index.unwrap_or_else(|| {
        carriers.push(Carrier { placement: placement.clone(), publications: 0, subscriptions: 0 });
        carriers.len() - 1
    });
    &mut carriers[index]
}

fn from<T>(after: Option<&T>) -> Bound<&T> {
    after.map_or(Bound::Unbounded, Bound::Excluded)
}

/// One more than asked for tells whether there are more.
fn page<T>(items: impl Iterator<Item = T>, limit: usize) -> Page<T> {
    let mut items: Vec<_> = items.take(limit.saturating_add(1)).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    Page { items, more }
}
