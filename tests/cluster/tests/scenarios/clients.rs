//! Clients that lose their network, one of them or all at once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cluster::account::Expected;
use cluster::deployment::Plan;
use cluster::population::Size;
use cluster::proxy::{Mode, Proxy};
use cluster::scenario::Scenario;
use tokio::time::sleep;

use crate::{UNHEARD, bound};

/// 2,000 clients that were cut at once are all back.
const ALL_BACK: Duration = Duration::from_secs(15);

/// Links to the edges that only one client uses.
fn own_links(scenario: &Scenario) -> (Vec<Proxy>, Vec<SocketAddr>) {
    let edges = scenario.deployment.addresses();
    let links: Vec<Proxy> = edges.iter().map(|edge| Proxy::start(*edge).expect("a link")).collect();
    let addresses = links.iter().map(Proxy::address).collect();
    (links, addresses)
}

fn set(links: &[Proxy], mode: Mode) {
    for link in links {
        link.set(mode);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_cut_for_20_s_resumes_and_hears_what_it_missed() {
    let mut scenario = Scenario::start("two clients are cut for 20 s", &Plan::default(), Size::USUAL).await;
    let (reset, reset_at) = own_links(&scenario);
    let (silent, silent_at) = own_links(&scenario);
    scenario.population.add("reset", "room-0", &reset_at, true, true);
    scenario.population.add("silent", "room-0", &silent_at, true, true);
    scenario.settled(Duration::from_secs(30)).await;
    let fault = scenario.fault();
    set(&reset, Mode::Refuse);
    set(&silent, Mode::Swallow);
    sleep(Duration::from_secs(20)).await;
    set(&reset, Mode::Pass);
    set(&silent, Mode::Pass);
    scenario.right_again("both links pass", Duration::from_secs(45)).await;
    let joins = |uid: &str| {
        let member = scenario.population.members.iter().find(|member| &*member.client.uid == uid).expect("it is there");
        member.client.journal().joins_after(fault)
    };
    assert_eq!(joins("reset"), (1, 0), "it resumed");
    assert!(joins("silent").1 == 0, "it resumed, or its connection came through");
    let verdict = scenario.verdict(&Expected::default()).await;
    let audit = &verdict.audit;
    assert_eq!((audit.resyncs, audit.lost_broadcasts, audit.leaves.len()), (0, 0, 0), "{audit}");
    assert!(verdict.gaps.max() < UNHEARD, "its streams flow on: {}", verdict.gaps);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_cut_for_longer_than_its_grace_begins_anew() {
    let mut scenario = Scenario::start("a client is cut for 60 s", &Plan::default(), Size::USUAL).await;
    let (links, addresses) = own_links(&scenario);
    scenario.population.add("cut", "room-0", &addresses, true, true);
    scenario.settled(Duration::from_secs(30)).await;
    let fault = scenario.fault();
    set(&links, Mode::Refuse);
    let witness = scenario.population.of_room("room-0").next().expect("a member").client.clone();
    let is_there = |there: bool| move |now: &cluster::client::Standing| now.view.members.contains("cut") == there;
    assert!(witness.until(Duration::from_mins(1), is_there(false)).await, "the others are told that it is gone");
    let gone = fault.elapsed();
    assert!(gone >= Duration::from_secs(28), "not before its grace of 30 s is over, but after {gone:?}");
    scenario.figure(&format!("gone for the others after {} ms", gone.as_millis()));
    sleep(Duration::from_mins(1).saturating_sub(fault.elapsed())).await;
    set(&links, Mode::Pass);
    scenario.right_again("the link passes", Duration::from_secs(45)).await;
    let expected = Expected { expired: ["cut".to_owned()].into(), ..Expected::default() };
    let verdict = scenario.verdict(&expected).await;
    assert_eq!(verdict.audit.leaves.get("cut"), Some(&1), "told once");
    assert_eq!((verdict.audit.leaves.len(), verdict.audit.resyncs), (1, 1), "only it begins anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_clients_cut_at_once_are_all_back_and_nothing_fails_after() {
    let size = Size { rooms: 400, members: 5, with_media: 0, publishers: 0 };
    let mut scenario = Scenario::start("2,000 clients are cut at once", &Plan::default(), size).await;
    scenario.fault();
    let begun = Instant::now();
    for member in &scenario.population.members {
        member.client.cut().await;
    }
    scenario.figure(&format!("cut within {} ms", begun.elapsed().as_millis()));
    sleep(Duration::from_millis(200)).await;
    scenario.right_again("all cut", bound(ALL_BACK)).await;
    let all_back = Instant::now();
    sleep(Duration::from_secs(5)).await;
    assert!(scenario.population.errors_after(all_back).is_empty(), "{:?}", scenario.population.errors_after(all_back));
    assert_eq!(scenario.population.refused(), 0);
    let verdict = scenario.verdict(&Expected::default()).await;
    let audit = &verdict.audit;
    assert_eq!(verdict.back.len(), 2_000);
    assert_eq!((audit.resyncs, audit.lost_broadcasts, audit.leaves.len()), (0, 0, 0), "{audit}");
    assert!(verdict.back.max() <= bound(ALL_BACK), "{}", verdict.back);
}
