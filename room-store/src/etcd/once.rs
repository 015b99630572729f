//! What a node registered as, said in etcd for much longer than its entry lives: an edge that starts while the node alone has lost
//! etcd finds there where to ask it what it still carries.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::PutOptions;
use tokio::time::sleep;

use super::{client::CallError, client::Pauses, shared::Shared};

/// How long it stands when nobody says it any more: longer than anybody leaves a node without etcd. Nodes that are gone take some
/// hundred bytes for as long.
const STANDS: Duration = Duration::from_hours(24);
/// How often it is said: an etcd that has lost everything is without it until then.
const EVERY: Duration = Duration::from_mins(10);

/// Keeps saying it.
pub(super) async fn say(shared: Arc<Shared>, key: String, value: String) {
    let (mut pauses, mut before) = (Pauses::default(), None);
    loop {
        match say_once(&shared, &key, &value).await {
            Ok(lease) => {
                if let Some(before) = before.replace(lease) {
                    // Nothing is under it any more; it would end by itself.
                    let _ = shared.members.call(|mut client| async move { client.lease_revoke(before).await }).await;
                }
                pauses.reset();
                sleep(EVERY).await;
            }
            Err(error) => {
                tracing::debug!(key, %error, "what the node registered as is not written");
                pauses.pause().await;
            }
        }
    }
}

async fn say_once(shared: &Shared, key: &str, value: &str) -> Result<i64, CallError> {
    let lease = shared.grant(STANDS).await?;
    let (key, value, under) = (key.to_owned(), value.to_owned(), PutOptions::new().with_lease(lease));
    let put = shared.members.call(|mut client| async move { client.put(key, value, Some(under)).await }).await;
    if put.is_err() {
        // Not to leave one behind at each try. Where this fails, too, it ends by itself.
        let _ = shared.members.call(|mut client| async move { client.lease_revoke(lease).await }).await;
    }
    put.map(|_| lease)
}
