//! Nothing fails: what the others are held against.

use std::time::Duration;

use cluster::account::Expected;
use cluster::deployment::Plan;
use cluster::population::Size;
use cluster::scenario::Scenario;

use crate::{BAD_MID, UNHEARD};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_nothing_fails_everybody_hears_everything_once_and_media_flows() {
    let mut scenario = Scenario::start("nothing fails", &Plan::default(), Size::USUAL).await;
    scenario.fault();
    scenario.nobody_notices(Duration::from_secs(5)).await;
    let verdict = scenario.verdict(&Expected::default()).await;
    assert_eq!((verdict.audit.resyncs, verdict.audit.lost_broadcasts, verdict.back.len()), (0, 0, 0));
    assert!(verdict.audit.said > 200 && verdict.audit.notifications > 4 * verdict.audit.said, "{}", verdict.audit);
    assert_eq!(verdict.gaps.len(), 5 * 2 * 4, "each publisher of 5 rooms has 4 viewers");
    assert!(verdict.gaps.max() < UNHEARD, "{}", verdict.gaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_lives_on_when_all_members_of_one_edge_leave() {
    let mut scenario = Scenario::start("one edge's members leave", &Plan::default(), Size::USUAL).await;
    let [one, other] = scenario.deployment.addresses()[..] else { panic!("two edges") };
    for number in 0..4 {
        scenario.population.add(&format!("one{number}"), "room", &[one], number == 0, true);
        scenario.population.add(&format!("other{number}"), "room", &[other], number == 0, true);
    }
    scenario.settled(Duration::from_secs(30)).await;
    scenario.fault();
    let leaving = scenario.population.dismiss(|member| member.client.uid.starts_with("one"));
    for member in &leaving {
        member.client.leave(Duration::from_secs(30)).await.expect("leaves");
    }
    scenario.gone.extend(leaving);
    scenario.settled(Duration::from_secs(30)).await;
    scenario.population.add("late", "room", &[one], false, true);
    scenario.settled(Duration::from_secs(30)).await;
    // Who watched one who leaves is told so over two ways: its media may end first, and it asks for the stream once more.
    let verdict = scenario.verdict(&Expected::default().with_errors([BAD_MID])).await;
    assert_eq!(verdict.audit.leaves.values().collect::<Vec<_>>(), [&1; 4], "each left once");
    assert_eq!(verdict.audit.lost_broadcasts, 0);
}
