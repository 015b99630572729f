//! What a deployment's clients go through when parts of it fail: each scenario is a test, under the load of 20 rooms of 5 members
//! with media in 5 rooms (400 rooms where 2,000 clients are cut), with an account of every notification and of every gap in media.
//! docs/tests.md says which is for what.
//!
//! The goals are those of an idle machine. Here many scenarios run at a time on two cores, so each bound is three times its goal;
//! the figures that are printed say how it was.

mod clients;
mod edges;
mod etcd;
mod logs;
mod nodes;
mod ordinary;
mod overload;
mod recordings;
mod redis;
mod rolling;

use std::time::Duration;

/// Media that a fault does not concern: packets come every 40 ms, and this machine is busy with other scenarios.
const UNHEARD: Duration = Duration::from_millis(500);

/// What clients may be answered in some scenarios, by the contract (docs/signalling.md). `bad_mid`: of a stream that has ended, by one who
/// is not told of that yet.
const BAD_MID: i64 = 3;
/// `no_sfu`: there is none.
const NO_SFU: i64 = 10;
/// `store_unavailable`.
const STORE_UNAVAILABLE: i64 = 11;
/// `sfu_unreachable`: of a stream whose node is dead and not found dead yet.
const SFU_UNREACHABLE: i64 = 12;

/// Three times the goal.
const fn bound(goal: Duration) -> Duration {
    goal.saturating_mul(3)
}
