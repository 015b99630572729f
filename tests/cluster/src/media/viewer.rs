//! Somebody who watches: subscribes to every stream of its room for as long as it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use loadtests::peer::{PeerEvent, Section};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::negotiation::{Accepted, Failure, connect, negotiate};
use super::{Flow, PACKET_EVERY, REQUEST_WITHIN, label};
use crate::client::{Backoff, Client, Refusal, Standing};

type Flows = Arc<Mutex<BTreeMap<String, Arc<Flow>>>>;

/// A viewer. It ends when dropped.
#[derive(Debug)]
pub struct Viewer {
    /// Whose.
    pub uid: Arc<str>,
    flows: Flows,
    task: JoinHandle<()>,
}

impl Viewer {
    /// Watches for this client from now on.
    pub fn start(client: &Arc<Client>) -> Self {
        let flows = Flows::default();
        let task = tokio::spawn(follow(Arc::clone(client), Arc::clone(&flows)));
        Self { uid: Arc::clone(&client.uid), flows, task }
    }

    /// What it gets of each owner of a stream it has ever seen.
    pub fn flows(&self) -> Vec<(String, Arc<Flow>)> {
        let flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        flows.iter().map(|(owner, flow)| (owner.clone(), Arc::clone(flow))).collect()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Ends a subscription's task with whoever started it.
struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Has one task for each stream of the room.
async fn follow(client: Arc<Client>, flows: Flows) {
    let mut standing = client.standing();
    let mut watching: BTreeMap<String, Watching> = BTreeMap::new();
    loop {
        let streams: BTreeMap<String, String> = {
            let now = standing.borrow_and_update();
            now.view.streams.iter().map(|(mid, stream)| (mid.clone(), stream.uid.clone())).collect()
        };
        let mids: BTreeSet<&String> = streams.keys().collect();
        watching.retain(|mid, _| mids.contains(mid));
        for (mid, owner) in streams {
            let flow = {
                let mut flows = flows.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(flows.entry(owner.clone()).or_default())
            };
            let (client, name) = (Arc::clone(&client), mid.clone());
            watching.entry(mid).or_insert_with(|| Watching(tokio::spawn(watch(client, name, owner, flow))));
        }
        if standing.changed().await.is_err() {
            return;
        }
    }
}

/// Subscribes to a stream, and again for as long as it is there.
async fn watch(client: Arc<Client>, mid: String, owner: String, flow: Arc<Flow>) {
    let mut backoff = Backoff::default();
    loop {
        match view(&client, &mid, &owner, &flow).await {
            Ok(()) => {}
            Err(Failure::Refused(Refusal::Ended)) => return,
            Err(_) => sleep(backoff.next()).await,
        }
    }
}

/// One subscription, from the request until the server has lost it.
async fn view(client: &Arc<Client>, mid: &str, owner: &str, flow: &Flow) -> Result<(), Failure> {
    let mut accepted = negotiate(client, "subscribe", Section::RECEIVE_AUDIO, json!({"mid": mid})).await?;
    let joins = client.standing().borrow().joins;
    let ended = match connect(&mut accepted).await {
        Ok(()) => receive(client, &mut accepted, joins, &label(owner), flow).await,
        Err(failure) => Err(failure),
    };
    let _ = accepted.peer.peer.close();
    let _ = accepted.peer.flush().await;
    let (client, data) = (Arc::clone(client), json!({"mid": mid, "sid": accepted.id}));
    tokio::spawn(async move {
        let _ = client.request("unsubscribe", data, REQUEST_WITHIN, || ()).await;
    });
    ended
}

async fn receive(
    client: &Client,
    accepted: &mut Accepted,
    joins: u64,
    expected: &[u8],
    flow: &Flow,
) -> Result<(), Failure> {
    loop {
        match accepted.peer.event_until(Instant::now() + 10 * PACKET_EVERY).await? {
            Some(PeerEvent::Media(media)) if media.payload == expected => flow.packet(Instant::now()),
            Some(PeerEvent::Media(_)) => flow.foreign(),
            Some(PeerEvent::Closed) => return Ok(()),
            None if is_gone(&client.standing().borrow(), &accepted.id, joins) => return Ok(()),
            Some(_) | None => {}
        }
    }
}

/// At a later join the server said that it does not have the subscription.
fn is_gone(standing: &Standing, sid: &str, joins: u64) -> bool {
    standing.joins > joins && standing.joined && !standing.own.sids.contains(sid)
}
