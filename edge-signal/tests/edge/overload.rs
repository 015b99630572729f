//! An edge that has more to do than it can carry, as a process of its own: what others do is not in its measures.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::http::StatusCode;

use crate::rig::PATIENCE;
use crate::rig::client::Client;
use crate::rig::process::EdgeProcess;
use crate::rig::sfu::TestSfu;

const REFUSED: &str = "sluice_edge_connections_refused_total{reason=\"overloaded\"}";
/// How long after the load an edge may take to let somebody in.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// Gates that are never the reason.
const WIDE: &str = "limits: {connection_rate: 1000000, connection_burst: 1000000, edge_connection_rate: 1000000, \
                    edge_connection_burst: 1000000, connections_per_uid: 1000000}\n";

/// An edge with these settings, and the node that makes it ready.
async fn edge(settings: &str) -> (TestSfu, EdgeProcess) {
    let sfu = TestSfu::start("sfu-1", "boot-1").await;
    let nodes = format!("nodes: [{{id: sfu-1, grpc: 'http://{}'}}]\nlog: {{level: warn}}\n", sfu.address);
    let edge = EdgeProcess::start(&format!("{nodes}{settings}")).await;
    (sfu, edge)
}

/// Whether somebody is let in; else it is because of the load, and before the upgrade.
async fn is_let_in(edge: &EdgeProcess, peer: &str) -> bool {
    match Client::with(edge.address, &format!("peer={peer}"), &[]).await {
        Ok(_) => true,
        Err(Error::Http(answer)) => {
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            let after: u64 = answer.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
            assert!((2..=4).contains(&after), "{after}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

async fn refused(edge: &EdgeProcess) {
    let refused = async {
        while is_let_in(edge, "newcomer").await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, refused).await.expect("refused in time");
}

async fn let_in_again(edge: &EdgeProcess) {
    let let_in = async {
        while !is_let_in(edge, "newcomer").await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(BACK_WITHIN, let_in).await.expect("let in again in time");
}

/// Comers without end, as fast as they are answered.
fn storm(edge: &EdgeProcess, over: &Arc<AtomicBool>) -> JoinSet<()> {
    let mut storm = JoinSet::new();
    for n in 0..8 {
        let (address, over) = (edge.address, Arc::clone(over));
        storm.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let _ = Client::with(address, &format!("peer=storm{n}"), &[]).await;
            }
        });
    }
    storm
}

/// The machine gives the edge a quarter of one of its processors, in turns so short that they are no lateness of its own, until this is dropped: a
/// test can come at that three times over, which it cannot at a whole machine that it runs on itself.
struct Squeezed<'a> {
    edge: &'a EdgeProcess,
    turns: JoinHandle<()>,
}

impl<'a> Squeezed<'a> {
    fn new(edge: &'a EdgeProcess) -> Self {
        let process = edge.id();
        let turns = tokio::spawn(async move {
            loop {
                for (signal, time) in [(Signal::STOP, 15), (Signal::CONT, 5)] {
                    // It has not ended: `edge` kills it, and lives longer than this.
                    let _ = kill_process(process, signal);
                    sleep(Duration::from_millis(time)).await;
                }
            }
        });
        Self { edge, turns }
    }
}

impl Drop for Squeezed<'_> {
    fn drop(&mut self) {
        self.turns.abort();
        self.edge.signal(Signal::CONT);
    }
}

/// Somebody comes, joins and goes. Whether they were let in.
async fn visit(address: SocketAddr, n: u64) -> bool {
    let visit = async {
        match Client::with(address, &format!("peer=visitor{n}"), &[]).await {
            Ok(mut client) => client.ask("join", json!({"rid": format!("room{}", n % 64)})).await["ok"] == true,
            Err(_) => false,
        }
    };
    timeout(PATIENCE, visit).await.expect("an answer in time")
}

/// How many visitors a second it lets in if there is always the next one.
async fn carried(edge: &EdgeProcess) -> f64 {
    let (begun, time, mut visitors) = (Instant::now(), Duration::from_secs(2), JoinSet::new());
    for line in 0..16_u64 {
        let address = edge.address;
        visitors.spawn(async move {
            let mut let_in = 0_u32;
            while begun.elapsed() < time {
                let_in += u32::from(visit(address, line).await);
            }
            let_in
        });
    }
    f64::from(visitors.join_all().await.into_iter().sum::<u32>()) / begun.elapsed().as_secs_f64()
}

/// Visitors who wait for an answer at the same time.
const AT_A_TIME: usize = 512;

/// By the marks that are set unless somebody sets others.
#[tokio::test(flavor = "multi_thread")]
async fn of_three_times_what_an_edge_carries_it_refuses_some_and_serves_those_inside() {
    let (_sfu, edge) = edge(&format!("overload: {{}}\n{WIDE}")).await;
    let mut inside = Client::joined(edge.address, "inside", "r").await;
    let squeezed = Squeezed::new(&edge);
    let mut rate = 3.0 * carried(&edge).await;
    let (memory, refused) = (edge.metric("process_resident_memory_bytes").await, edge.metric(REFUSED).await);
    let (mut visitors, mut slowest) = (JoinSet::new(), Duration::ZERO);
    let (begun, mut come, mut owed) = (Instant::now(), 0_u64, 0.0);
    let (mut then, mut looked) = (begun, begun);
    while begun.elapsed() < Duration::from_secs(5) {
        owed += rate * then.elapsed().as_secs_f64();
        then = Instant::now();
        while let Some(came) = visitors.try_join_next() {
            came.expect("an answer, whichever");
        }
        // More at a time would not get an answer in time, and would have gone.
        owed = owed.min((AT_A_TIME - visitors.len()) as f64);
        while owed >= 1.0 {
            visitors.spawn(visit(edge.address, come));
            (come, owed) = (come + 1, owed - 1.0);
        }
        // Where others keep the machine busy, it carried less a moment ago than it does now: then it is not too much yet.
        if looked.elapsed() > Duration::from_secs(1) {
            looked = Instant::now();
            rate *= if edge.metric(REFUSED).await > refused { 1.0 } else { 2.0 };
        }
        let asked = Instant::now();
        inside.done("keepalive", json!({"rid": "r"})).await;
        slowest = slowest.max(asked.elapsed());
        sleep(Duration::from_millis(5)).await;
    }
    assert!(edge.metric(REFUSED).await > refused, "of {come}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    visitors.join_all().await;
    let_in_again(&edge).await;
    let more = edge.metric("process_resident_memory_bytes").await - memory;
    assert!(more < 64e6, "{more}");
    drop(squeezed);
}

/// A mark so low that what comes is many times what the edge can carry by it, on a machine that has all the time it wants.
#[tokio::test(flavor = "multi_thread")]
async fn an_edge_with_too_much_to_do_refuses_newcomers_answers_those_inside_and_takes_newcomers_soon_after() {
    let (_sfu, edge) = edge(&format!("overload: {{cpu: 0.1, lag: 10s, memory: 1}}\n{WIDE}")).await;
    let mut inside = Client::joined(edge.address, "inside", "r").await;
    let memory = edge.metric("process_resident_memory_bytes").await;
    let over = Arc::new(AtomicBool::new(false));
    let storm = storm(&edge, &over);
    refused(&edge).await;
    assert!(edge.metric(REFUSED).await > 0.0);
    let mut slowest = Duration::ZERO;
    for _ in 0..100 {
        let asked = Instant::now();
        inside.done("keepalive", json!({"rid": "r"})).await;
        slowest = slowest.max(asked.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    over.store(true, Ordering::Relaxed);
    storm.join_all().await;
    let_in_again(&edge).await;
    inside.done("keepalive", json!({"rid": "r"})).await;
    assert!(edge.metric(REFUSED).await > 0.0);
    let more = edge.metric("process_resident_memory_bytes").await - memory;
    assert!(more < 64e6, "{more}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_because_of_the_load_has_used_up_nothing_of_its_address() {
    let (_sfu, edge) =
        edge("overload: {memory: 0.000001, lag: 10s, cpu: 1}\nlimits: {connection_rate: 1, connection_burst: 20}\n")
            .await;
    let overloaded = async {
        while edge.metric("sluice_edge_overloaded").await < 1.0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, overloaded).await.expect("overloaded in time");
    let before = edge.metric(REFUSED).await;
    for _ in 0..50 {
        assert!(!is_let_in(&edge, "newcomer").await);
    }
    assert!(edge.metric(REFUSED).await >= before + 50.0);
    assert!(edge.metric("sluice_edge_connections_refused_total{reason=\"rate\"}").await < 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_runs_late_refuses_newcomers_until_it_does_not() {
    let (_sfu, edge) = edge(&format!("overload: {{lag: 300ms, cpu: 1, memory: 1}}\n{WIDE}")).await;
    let is_refused = async {
        loop {
            // As on a machine that gives it no time.
            edge.signal(Signal::STOP);
            sleep(Duration::from_millis(700)).await;
            edge.signal(Signal::CONT);
            sleep(Duration::from_millis(50)).await;
            if !is_let_in(&edge, "newcomer").await {
                return;
            }
        }
    };
    timeout(PATIENCE, is_refused).await.expect("refused in time");
    let_in_again(&edge).await;
}
