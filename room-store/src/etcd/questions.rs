//! Whether a node's process is alive, asked through etcd: an edge that a node refuses cannot tell a dead node from a road that
//! is closed to it alone. The edge writes a question under the node's name; the node answers under the question's lease, so
//! that both are gone with it.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Event, EventType, KeyValue, PutOptions};
use proto::ids::{BootId, NodeId};
use tokio::time::{Instant, timeout};

use super::{
    client::{CALL_TIMEOUT, Members, unique},
    feed::{Feed, Heard},
    keys::Keys,
    shared::Shared,
    values,
};

/// Questions that are answered of those found at once: more edges than one node has.
const MOST_AT_ONCE: usize = 1_000;
/// How much longer than the wait the question stands.
const MARGIN: Duration = Duration::from_secs(2);

/// Asks. See [`crate::NodeDirectory::is_alive`].
pub(super) async fn ask(shared: &Arc<Shared>, node: &NodeId, boot: Option<&BootId>, within: Duration) -> Option<bool> {
    if !shared.is_reachable() || !shared.mirror().has_node(node) {
        return None;
    }
    let question = unique();
    let (_waiting, answer) = shared.wait_for(&question);
    let patience = Instant::now() + CALL_TIMEOUT;
    let ttl = (within + MARGIN).as_secs().saturating_add(1).min(60) as i64;
    let granted = shared.members.insist(patience, |mut client| async move { client.lease_grant(ttl, None).await });
    let lease = granted.await.ok()?.id();
    let key = shared.keys.asked(node, &question);
    let asked = shared.members.insist(patience, |mut client| {
        let key = key.clone();
        async move { client.put(key, values::of_question(), Some(PutOptions::new().with_lease(lease))).await }
    });
    asked.await.ok()?;
    let answered = match timeout(within, answer).await {
        Ok(answered) => answered.ok()?,
        // Before silence counts, etcd must say itself that there is none: our watch may be late.
        Err(_) => match look(shared, node, &question).await? {
            Some(answered) => answered,
            None => return Some(false),
        },
    };
    Some(boot.is_none_or(|boot| answered.as_ref() == Some(boot)))
}

/// The answer that is there now; outside: cannot tell.
#[allow(clippy::option_option, reason = "whether it is known, whether there is one, whether it names its start")]
async fn look(shared: &Shared, node: &NodeId, question: &str) -> Option<Option<Option<BootId>>> {
    let key = shared.keys.answered(node, question);
    let found = shared.members.call(|mut client| async move { client.get(key, None).await }).await.ok()?;
    match found.kvs().first() {
        Some(entry) => values::answer(entry.value()).ok().map(Some),
        None => Some(None),
    }
}

/// Answers the questions to a node, until it is dropped.
pub(super) async fn answer(members: Arc<Members>, keys: Keys, node: NodeId, boot: Option<BootId>) {
    let mut feed = Feed::new(Arc::clone(&members), keys.questions(&node), keys.life());
    loop {
        let asked: Vec<KeyValue> = match feed.next().await {
            Heard::All(all) => all,
            Heard::Changes(events) => {
                let puts = events.iter().filter(|event| event.event_type() == EventType::Put);
                puts.filter_map(Event::kv).cloned().collect()
            }
            Heard::Quiet | Heard::Cut => continue,
        };
        for question in asked.iter().take(MOST_AT_ONCE) {
            let Some(name) = question_in(question, &keys.questions(&node)) else { continue };
            let (key, value) = (keys.answered(&node, name), values::of_answer(boot.as_ref()));
            let options = PutOptions::new().with_lease(question.lease());
            let put = members.call(|mut client| async move { client.put(key, value, Some(options)).await }).await;
            if let Err(error) = put {
                tracing::debug!(%error, "a question is not answered");
            }
        }
    }
}

/// The question's name. One without a lease is none: its answer would stay for ever.
fn question_in<'a>(entry: &'a KeyValue, prefix: &str) -> Option<&'a str> {
    let name = entry.key_str().ok()?.strip_prefix(prefix)?;
    let good = (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (good && entry.lease() != 0).then_some(name)
}
