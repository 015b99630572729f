//! Withdrawn access is known to every edge within a second, and for as long as it must be.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use etcd_client::{Client, GetOptions, Txn, TxnOp};
use proto::ids::PeerId;
use room_store::{
    DirectoryError, MAX_REVOCATIONS, MAX_TOKEN_ID, RevocationList, Revocations, Revoked, etcd::EtcdDirectory,
};
use servers::Etcd;
use tokio::time::timeout;

use super::{directory, directory_at, seen, until, writer};

fn peer(name: &str) -> PeerId {
    PeerId::new(name).expect("valid")
}

fn list(directory: &EtcdDirectory) -> Arc<RevocationList> {
    Arc::clone(&Revocations::watch(directory).borrow())
}

async fn count(other: &mut Client) -> i64 {
    let options = GetOptions::new().with_prefix().with_count_only();
    other.get("/sluice/revoked/", Some(options)).await.expect("read").count()
}

#[tokio::test]
async fn a_revocation_is_known_here_at_once_and_elsewhere_within_a_second() {
    let etcd = Etcd::start().await;
    let (here, elsewhere) = (directory(&etcd).await, directory(&etcd).await);
    for revoked in [Revoked::Peer(peer("Zoë")), Revoked::Token("a/b c".to_owned())] {
        let mut lists = Revocations::watch(&elsewhere);
        here.revoke(revoked.clone(), Duration::from_mins(1)).await.expect("written");
        assert!(list(&here).0.contains_key(&revoked));
        let known = lists.wait_for(|list| list.0.contains_key(&revoked));
        timeout(Duration::from_secs(1), known).await.expect("within a second").expect("it lives");
    }
    let now = SystemTime::now();
    assert!(list(&elsewhere).covers(&peer("Zoë"), Some(now - Duration::from_secs(9)), None, now));
    assert!(list(&elsewhere).covers(&peer("ann"), Some(now), Some("a/b c"), now));
    assert!(!list(&elsewhere).covers(&peer("ann"), Some(now), Some("a/b"), now));
}

#[tokio::test]
async fn who_comes_later_knows_it_and_it_is_forgotten_when_its_time_is_over() {
    let etcd = Etcd::start().await;
    let (here, mut other) = (directory(&etcd).await, writer(&etcd).await);
    let (short, long) = (Revoked::Token("short".to_owned()), Revoked::Token("long".to_owned()));
    here.revoke(short.clone(), Duration::from_secs(3)).await.expect("written");
    here.revoke(long.clone(), Duration::from_hours(1)).await.expect("written");
    let late = directory(&etcd).await;
    assert!(list(&late).0.contains_key(&short));
    for directory in [&here, &late] {
        let list = seen(Revocations::watch(directory), |list| !list.0.contains_key(&short)).await;
        assert!(list.0.contains_key(&long));
    }
    until("its entry is gone as well", async || count(&mut other).await == 1).await;
}

#[tokio::test]
async fn revoking_again_covers_newer_tokens_and_never_ends_sooner() {
    let etcd = Etcd::start().await;
    let (here, elsewhere) = (directory(&etcd).await, directory(&etcd).await);
    let revoked = Revoked::Peer(peer("ann"));
    here.revoke(revoked.clone(), Duration::from_hours(1)).await.expect("written");
    let first = list(&here).0[&revoked];
    here.revoke(revoked.clone(), Duration::from_secs(1)).await.expect("written");
    let second = list(&here).0[&revoked];
    assert!(second.at > first.at);
    assert_eq!(second.until, first.until);
    // Elsewhere it is as it was written: to the millisecond.
    seen(Revocations::watch(&elsewhere), |list| {
        list.0
            .get(&revoked)
            .is_some_and(|times| times.at > first.at && times.until + Duration::from_millis(1) > first.until)
    })
    .await;
}

#[tokio::test]
async fn nobody_takes_a_revocation_back() {
    let etcd = Etcd::start().await;
    let (here, mut other) = (directory(&etcd).await, writer(&etcd).await);
    let (kept, next) = (Revoked::Token("kept".to_owned()), Revoked::Token("next".to_owned()));
    here.revoke(kept.clone(), Duration::from_hours(1)).await.expect("written");
    other.delete("/sluice/revoked/", Some(etcd_client::DeleteOptions::new().with_prefix())).await.expect("deleted");
    // Changes are heard of in order.
    let another = directory(&etcd).await;
    another.revoke(next.clone(), Duration::from_hours(1)).await.expect("written");
    let list = seen(Revocations::watch(&here), |list| list.0.contains_key(&next)).await;
    assert!(list.0.contains_key(&kept));
}

#[tokio::test]
async fn what_cannot_be_written_is_an_error() {
    let mut etcd = Etcd::start().await;
    let here = directory(&etcd).await;
    let long = Revoked::Token("x".repeat(MAX_TOKEN_ID + 1));
    assert_eq!(here.revoke(long, Duration::from_mins(1)).await, Err(DirectoryError::TooLong));
    etcd.stop();
    let gone = directory_at([etcd.endpoint()]);
    let revoked = Revoked::Token("t".to_owned());
    assert_eq!(gone.revoke(revoked.clone(), Duration::from_mins(1)).await, Err(DirectoryError::Unavailable));
    assert!(!list(&gone).0.contains_key(&revoked), "what is not kept is not promised");
}

#[tokio::test]
async fn when_as_many_are_in_force_as_are_kept_further_ones_are_refused_and_known_ones_are_not() {
    let etcd = Etcd::start().await;
    let mut other = writer(&etcd).await;
    let until = SystemTime::now() + Duration::from_hours(1);
    let until = until.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis();
    let value = format!(r#"{{"v":1,"at_ms":1,"until_ms":{until}}}"#);
    let keys: Vec<String> = (0..MAX_REVOCATIONS).map(|index| format!("/sluice/revoked/peer/p{index}")).collect();
    // As many as etcd takes at once.
    for some in keys.chunks(128) {
        let puts: Vec<TxnOp> = some.iter().map(|key| TxnOp::put(key.as_str(), value.as_str(), None)).collect();
        other.txn(Txn::new().and_then(puts)).await.expect("written");
    }
    let directory = directory(&etcd).await;
    assert_eq!(list(&directory).0.len(), MAX_REVOCATIONS);
    let new = Revoked::Token("new".to_owned());
    assert_eq!(directory.revoke(new.clone(), Duration::from_mins(1)).await, Err(DirectoryError::Full));
    let unread = directory_at([etcd.endpoint()]);
    assert_eq!(unread.revoke(new, Duration::from_mins(1)).await, Err(DirectoryError::Full), "etcd is asked as well");
    directory.revoke(Revoked::Peer(peer("p7")), Duration::from_mins(1)).await.expect("it is among them");
    assert_eq!(count(&mut other).await, MAX_REVOCATIONS as i64);
}
