//! Nothing fails: the account of an ordinary hour in short, which the others are held against.

use std::time::Duration;

use cluster::account::Expected;
use cluster::deployment::Plan;
use cluster::population::Size;
use cluster::scenario::Scenario;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_nothing_fails_everybody_hears_everything_once_and_media_flows() {
    let mut scenario = Scenario::start("nothing fails", &Plan::default(), Size::USUAL).await;
    scenario.fault();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let verdict = scenario.verdict(&Expected::default()).await;
    assert!(verdict.back.is_empty(), "nobody lost its connection: {}", verdict.back);
    assert_eq!((verdict.audit.resyncs, verdict.audit.lost_broadcasts), (0, 0));
    assert!(verdict.audit.said > 200 && verdict.audit.notifications > 4 * verdict.audit.said, "{}", verdict.audit);
    assert_eq!(verdict.gaps.len(), 5 * (2 * 4), "each publisher of 5 rooms has 4 viewers");
    assert!(verdict.gaps.max() < Duration::from_secs(1), "{}", verdict.gaps);
}
