//! What members say, with the account of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use crate::account::Happened;
use crate::client::{Client, Refusal};
use crate::media::Publisher;

/// Mean time between two broadcasts of a member.
const TALK_EVERY: Duration = Duration::from_secs(2);
/// A last word that nobody knows the fate of is said again, so often.
const LAST_WORDS: u64 = 5;
/// One in so many broadcasts of a publisher comes with a change of what it has muted.
const MUTES: u32 = 4;
/// The number of a member's last broadcast: after it, it says no more.
const LAST: u64 = 1_000_000;

/// What a member does with its time.
pub(super) struct Talker {
    pub(super) client: Arc<Client>,
    pub(super) publisher: Option<Arc<Publisher>>,
    pub(super) talking: watch::Receiver<bool>,
    pub(super) refused: Arc<AtomicUsize>,
    pub(super) ask_again: Duration,
}

impl Talker {
    /// Says something every now and then, until told to stop; what it has begun it ends.
    pub(super) async fn run(mut self) {
        for n in 1..LAST - 1 {
            let pause = TALK_EVERY.mul_f64(rand::random_range(0.5..1.5));
            if tokio::time::timeout(pause, self.talking.wait_for(|on| !on)).await.is_ok() {
                return;
            }
            if let Some(publisher) = self.publisher.as_ref().filter(|_| rand::random_ratio(1, MUTES)) {
                publisher.mute(rand::random());
            }
            match say(&self.client, n, false, self.ask_again).await {
                // It was let die in the middle of a word. Whether it had to end, the account knows.
                Err(Refusal::Ended) => return,
                Err(refusal) if !refusal.is_passing() => _ = self.refused.fetch_add(1, Ordering::Relaxed),
                _ => {}
            }
        }
    }
}

/// Broadcasts, with the account of it: only once it can be asked for, so that the account knows in which epoch that was. After a
/// passing refusal nobody knows whether it was carried out.
async fn say(client: &Client, n: u64, mark: bool, ask_again: Duration) -> Result<(), Refusal> {
    if !client.until(ask_again, |now| now.joined || now.ended.is_some()).await {
        return Err(Refusal::Unanswered);
    }
    client.note(Happened::Says(n));
    let mut data = json!({"n": n, "text": format!("{} says {n}", client.uid)});
    if mark {
        data["mark"] = json!(n);
    }
    client.request("broadcast", json!({"data": data}), ask_again, || client.note(Happened::Repeats(n))).await?;
    client.note(Happened::Said(n));
    Ok(())
}

/// Says something, now. Whether it is carried out, the account knows.
pub(super) async fn last_but_one(client: &Client, ask_again: Duration) {
    let _ = say(client, LAST - 1, false, ask_again).await;
}

/// Says that it will say no more; the number of the one that was carried out.
pub(super) async fn last_word(client: &Client, ask_again: Duration) -> Option<u64> {
    for n in LAST..LAST + LAST_WORDS {
        if say(client, n, true, ask_again).await.is_ok() {
            return Some(n);
        }
    }
    None
}
