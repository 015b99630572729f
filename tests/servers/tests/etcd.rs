//! The etcd that tests start is a real one, and can be taken down and up again.

use servers::{Etcd, EtcdCluster};

#[tokio::test]
async fn one_server_keeps_its_address_when_it_is_started_again() {
    let mut etcd = Etcd::start().await;
    let before = (etcd.endpoint(), etcd.process_id());
    etcd.stop();
    assert!(!etcd.is_healthy().await);
    etcd.start_again().await;
    assert!(etcd.is_healthy().await);
    assert_eq!(etcd.endpoint(), before.0);
    assert_ne!(etcd.process_id(), before.1);
}

#[tokio::test]
async fn one_that_hangs_does_not_answer_until_it_goes_on() {
    let etcd = Etcd::tls().await;
    etcd.pause();
    assert!(!etcd.is_healthy().await);
    etcd.resume();
    assert!(etcd.is_healthy().await);
    assert!(etcd.endpoint().starts_with("https://"));
}

#[tokio::test]
async fn another_leads_when_the_leader_is_killed() {
    let mut etcd = EtcdCluster::start().await;
    let leader = etcd.leader().await;
    let first = leader.endpoint();
    leader.stop();
    assert_ne!(etcd.leader().await.endpoint(), first);
    etcd.start_again().await;
    assert_eq!(etcd.endpoints().len(), 3);
    assert!(etcd.endpoints().contains(&first));
}
