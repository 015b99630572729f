//! The stand-in for S3 has its address before it is there, and nothing else.

use servers::S3;

#[tokio::test]
async fn it_is_empty_whenever_it_is_started() {
    let mut store = S3::not_started();
    let endpoint = store.endpoint();
    assert_eq!(store.object("a/b.ogg").await, None, "it is not there yet");
    store.start_empty().await;
    assert_eq!((store.keys().await, store.endpoint()), (Vec::new(), endpoint));
    assert_eq!(store.object("a/b.ogg").await, None);
    store.stop();
    assert_eq!(store.object("a/b.ogg").await, None);
    store.start_empty().await;
    assert!(store.keys().await.is_empty());
}
