//! Clients that lose their network, one of them or all at once.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cluster::account::Expected;
use cluster::deployment::Plan;
use cluster::figures::Spread;
use cluster::population::{Size, errors_after};
use cluster::proxy::{Mode, Proxy};
use cluster::scenario::Scenario;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::{BAD_MID, UNHEARD, bound};

/// 2,000 clients that were cut at once are all back.
const ALL_BACK: Duration = Duration::from_secs(15);

/// A store that takes longer for a PING is overloaded, and not only beside others on two cores: edges give a call two and a half times
/// as long.
const NOT_OVERLOADED: Duration = Duration::from_secs(1);

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

/// Past the time at which somebody must be gone: for edges to look, on a machine that is busy.
const LATE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_cut_for_longer_than_their_grace_begin_anew() {
    // A fifth of 5 minutes, and a fifth of the default times.
    let (plan, cut) = (
        Plan { ttl: Duration::from_secs(12), grace: Duration::from_secs(6), ..Plan::default() },
        Duration::from_mins(1),
    );
    let mut scenario = Scenario::start("clients are cut for five times their ttl", &plan, Size::USUAL).await;
    let (reset, reset_at) = own_links(&scenario);
    let (silent, silent_at) = own_links(&scenario);
    scenario.population.add("reset", "room-0", &reset_at, true, true);
    scenario.population.add("silent", "room-0", &silent_at, true, true);
    scenario.settled(Duration::from_secs(30)).await;
    // Edges put nobody out before they have seen the store for a ttl.
    sleep(plan.ttl).await;
    let fault = scenario.fault();
    set(&reset, Mode::Refuse);
    set(&silent, Mode::Swallow);
    let witness = scenario.population.of_room("room-0").next().expect("a member").client.clone();
    let gone = async |uid: &str| {
        let is_gone = witness.until(cut, |now| !now.view.members.contains(uid)).await;
        assert!(is_gone, "the others are not told that {uid} is gone");
        fault.elapsed()
    };
    let (reset_gone, silent_gone) = tokio::join!(gone("reset"), gone("silent"));
    scenario.figure(&format!("gone for others: reset after {reset_gone:.1?}, silent after {silent_gone:.1?}"));
    let earliest = plan.grace.saturating_sub(Duration::from_secs(1));
    assert!((earliest..plan.grace + LATE).contains(&reset_gone), "its grace is over: {reset_gone:?}");
    // Who falls silent was last heard of up to a third of the ttl before.
    assert!((plan.ttl / 2..plan.ttl + LATE).contains(&silent_gone), "its lease is over: {silent_gone:?}");
    sleep(cut.saturating_sub(fault.elapsed())).await;
    set(&reset, Mode::Pass);
    set(&silent, Mode::Pass);
    scenario.right_again("the links pass", Duration::from_secs(45)).await;
    let expired = ["reset".to_owned(), "silent".to_owned()];
    let account = Expected { expired: expired.clone().into(), ..Expected::default() }.with_errors([BAD_MID]);
    let verdict = scenario.verdict(&account).await;
    let leaves: Vec<(String, usize)> = verdict.audit.leaves.clone().into_iter().collect();
    assert_eq!(leaves, expired.map(|uid| (uid, 1)), "told once of each, and of nobody else");
    assert_eq!(verdict.audit.resyncs, 2, "only they begin anew");
    assert_eq!(verdict.back.len(), 2, "only they lost their connections");
}

/// How long the store takes to answer a connection that asks nothing of it, looked at every 20 ms until `done`. On a thread of its own:
/// the clients' are busy.
fn pings(port: u16, done: &AtomicBool) -> io::Result<Spread> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut took = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let (begun, mut answer) = (Instant::now(), [0; 7]);
        stream.write_all(b"PING\r\n")?;
        stream.read_exact(&mut answer)?;
        assert_eq!(&answer, b"+PONG\r\n");
        took.push(begun.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(Spread::of(took))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_clients_cut_at_once_are_all_back_and_nothing_fails_after() {
    let size = Size { rooms: 400, members: 5, with_media: 2, publishers: 1 };
    // What it expects is of a machine that does nothing else: all of them are in this process.
    let plan = Plan { alone: true, ..Plan::default() };
    let mut scenario = Scenario::start("2,000 clients are cut at once", &plan, size).await;
    let (redis, done) = (scenario.deployment.redis().port(), Arc::new(AtomicBool::new(false)));
    let pinged = spawn_blocking({
        let done = Arc::clone(&done);
        move || pings(redis, &done)
    });
    scenario.fault();
    let begun = Instant::now();
    for member in &scenario.population.members {
        member.client.cut().await;
    }
    scenario.figure(&format!("cut within {} ms", begun.elapsed().as_millis()));
    sleep(Duration::from_millis(200)).await;
    scenario.right_again("all cut", bound(ALL_BACK)).await;
    done.store(true, Ordering::Relaxed);
    let pings = pinged.await.expect("it ran").expect("Redis answers");
    scenario.figure(&format!("Redis answered a PING meanwhile: {pings}"));
    assert!(pings.at(0.99) <= NOT_OVERLOADED, "the store is overloaded: {pings}");
    let all_back = Instant::now();
    sleep(Duration::from_secs(5)).await;
    let errors = errors_after(&scenario.population.members, all_back);
    assert!(errors.is_empty(), "{errors:?}");
    assert!(scenario.population.turned_away_after(all_back).is_empty());
    let verdict = scenario.verdict(&Expected::default()).await;
    let audit = &verdict.audit;
    assert_eq!(verdict.back.len(), 2_000);
    assert_eq!((audit.resyncs, audit.lost_broadcasts, audit.leaves.len()), (0, 0, 0), "{audit}");
    assert!(verdict.back.max() <= bound(ALL_BACK), "{}", verdict.back);
    assert!(verdict.turned_away.keys().all(|status| *status == 503), "only asked to wait: {:?}", verdict.turned_away);
    assert_eq!(verdict.gaps.len(), 2 * 4);
    // All 2,000 come back in the process that also sends and receives the media.
    assert!(verdict.gaps.max() < bound(UNHEARD), "media goes on without signalling: {}", verdict.gaps);
}
