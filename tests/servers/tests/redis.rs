//! The servers are what they are said to be.

use servers::{Redis, RedisCluster, RedisSentinels, Reply};

#[tokio::test]
async fn a_server_comes_back_on_its_port_empty_or_as_it_was() {
    for (mut redis, kept) in [(Redis::start().await, false), (Redis::durable().await, true)] {
        let port = redis.port();
        redis.command(&["SET", "key", "value"]).await;
        redis.stop();
        redis.start_again().await;
        assert_eq!(redis.port(), port);
        let expected = if kept { Reply::Text("value".to_owned()) } else { Reply::Nil };
        assert_eq!(redis.command(&["GET", "key"]).await, expected);
    }
}

#[tokio::test]
async fn a_server_is_gone_on_drop() {
    let redis = Redis::start().await;
    let port = redis.port();
    drop(redis);
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err());
}

#[tokio::test]
async fn sentinels_make_another_server_the_master() {
    let mut redis = RedisSentinels::start().await;
    let first = redis.master().await.port();
    redis.servers()[0].stop();
    let mut second = first;
    for _ in 0..600 {
        second = redis.master().await.port();
        if second != first {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_ne!(second, first);
}

#[tokio::test]
async fn a_cluster_serves_every_slot() {
    let mut redis = RedisCluster::start().await;
    let reply = redis.servers()[0].command(&["CLUSTER", "INFO"]).await;
    assert!(reply.text().contains("cluster_slots_ok:16384"));
}
