//! The values kept in etcd: JSON with its version as `v`. Fields unknown here are ignored, so that newer programs may add
//! some; whatever else is not as it should be makes the whole value unreadable. What is in the key is not in the value.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Uri;
use proto::ids::{BootId, EdgeId, NodeId, RegionId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    edges::EdgeRecord,
    nodes::{Capacity, Load, NodeRecord, NodeState, Region},
    revocation::RevokedTimes,
};

/// What is written, and the only version that is read.
const VERSION: u32 = 1;
/// Ours have some hundred bytes.
const MAX_VALUE: usize = 4 * 1024;
/// A region's distances may be many.
const MAX_REGION_VALUE: usize = 64 * 1024;
const MAX_ADDRESS: usize = 256;
const MAX_PROGRAM_VERSION: usize = 64;

/// Why a value cannot be used. Never quotes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("{0} bytes are too many")]
    Large(usize),
    #[error("not the JSON expected, at column {0}")]
    Json(usize),
    #[error("of version {0}, which is not known here")]
    Version(u32),
    #[error("{0} cannot be used")]
    Field(&'static str),
}

#[derive(Serialize, Deserialize)]
struct NodeValue {
    v: u32,
    boot: Option<BootId>,
    address: String,
    weight: u32,
    capacity: CapacityValue,
    state: StateValue,
    load: LoadValue,
    reports: u64,
    version: String,
}

#[derive(Serialize, Deserialize)]
struct CapacityValue {
    egress_bps: u64,
    tracks: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StateValue {
    Ready,
    Draining,
    /// A newer program's; surely one that does not ask for more.
    #[serde(other)]
    Unknown,
}

#[derive(Serialize, Deserialize)]
struct LoadValue {
    cpu: f32,
    egress_bps: u64,
    tracks: u64,
    packets_per_second: u64,
    loss: f32,
    // Older programs do not write what follows.
    #[serde(default)]
    busy: f32,
    #[serde(default)]
    delay_us: u32,
    #[serde(default)]
    memory: f32,
    #[serde(default)]
    pressure: f32,
    #[serde(default)]
    age_ms: u32,
}

#[derive(Serialize, Deserialize)]
struct EdgeValue {
    v: u32,
    boot: BootId,
    region: RegionId,
    sees_store: bool,
    takes_clients: bool,
}

/// Written by hand, so everything may be left out.
#[derive(Deserialize)]
struct RegionValue {
    #[serde(default = "this_version")]
    v: u32,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default)]
    distances: BTreeMap<RegionId, u32>,
}

#[derive(Serialize, Deserialize)]
struct RevokedValue {
    v: u32,
    at_ms: u64,
    until_ms: u64,
}

#[derive(Serialize)]
struct QuestionValue {
    v: u32,
}

#[derive(Serialize, Deserialize)]
struct AnswerValue {
    v: u32,
    boot: Option<BootId>,
}

fn this_version() -> u32 {
    VERSION
}

fn one() -> u32 {
    1
}

/// A node's value, whose load is this old by now.
pub(super) fn of_node(record: &NodeRecord, age: Duration) -> String {
    let NodeRecord { node: _, region: _, boot, address, weight, capacity, state, load, reports, version } = record;
    json(&NodeValue {
        v: VERSION,
        boot: boot.clone(),
        address: address.clone(),
        weight: *weight,
        capacity: CapacityValue { egress_bps: capacity.egress_bps, tracks: capacity.tracks },
        state: match state {
            NodeState::Ready => StateValue::Ready,
            NodeState::Draining => StateValue::Draining,
        },
        load: LoadValue {
            cpu: finite(load.cpu),
            egress_bps: load.egress_bps,
            tracks: load.tracks,
            packets_per_second: load.packets_per_second,
            loss: finite(load.loss),
            busy: finite(load.busy),
            delay_us: load.delay_us,
            memory: finite(load.memory),
            pressure: finite(load.pressure),
            age_ms: load.age_ms.saturating_add(u32::try_from(age.as_millis()).unwrap_or(u32::MAX)),
        },
        reports: *reports,
        version: version.clone(),
    })
}

/// A node, from its key and value.
pub(super) fn node(region: RegionId, node: NodeId, value: &[u8]) -> Result<NodeRecord, Unreadable> {
    let value: NodeValue = parse(value, MAX_VALUE, |value: &NodeValue| value.v)?;
    let LoadValue { cpu, egress_bps, tracks, packets_per_second, loss, busy, delay_us, memory, pressure, age_ms } =
        value.load;
    if !is_address(&value.address) {
        return Err(Unreadable::Field("address"));
    }
    if value.version.len() > MAX_PROGRAM_VERSION || value.version.chars().any(char::is_control) {
        return Err(Unreadable::Field("version"));
    }
    if ![cpu, loss, busy, memory, pressure].into_iter().all(f32::is_finite) {
        return Err(Unreadable::Field("load"));
    }
    Ok(NodeRecord {
        node,
        boot: value.boot,
        region,
        address: value.address,
        weight: value.weight,
        capacity: Capacity { egress_bps: value.capacity.egress_bps, tracks: value.capacity.tracks },
        state: match value.state {
            StateValue::Ready => NodeState::Ready,
            StateValue::Draining | StateValue::Unknown => NodeState::Draining,
        },
        load: Load { cpu, busy, egress_bps, tracks, packets_per_second, loss, delay_us, memory, pressure, age_ms },
        reports: value.reports,
        version: value.version,
    })
}

/// An edge's value.
pub(super) fn of_edge(record: &EdgeRecord) -> String {
    let EdgeRecord { edge: _, boot, region, sees_store, takes_clients } = record;
    json(&EdgeValue {
        v: VERSION,
        boot: boot.clone(),
        region: region.clone(),
        sees_store: *sees_store,
        takes_clients: *takes_clients,
    })
}

/// An edge, from its key and value.
pub(super) fn edge(edge: EdgeId, value: &[u8]) -> Result<EdgeRecord, Unreadable> {
    let EdgeValue { v: _, boot, region, sees_store, takes_clients } =
        parse(value, MAX_VALUE, |value: &EdgeValue| value.v)?;
    Ok(EdgeRecord { edge, boot, region, sees_store, takes_clients })
}

/// A region.
pub(super) fn region(value: &[u8]) -> Result<Region, Unreadable> {
    let RegionValue { v: _, weight, distances } = parse(value, MAX_REGION_VALUE, |value: &RegionValue| value.v)?;
    Ok(Region { weight, distances })
}

/// A revocation's value, to the millisecond.
pub(super) fn of_revoked(times: RevokedTimes) -> String {
    let ms = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    json(&RevokedValue { v: VERSION, at_ms: ms(times.at), until_ms: ms(times.until) })
}

/// A revocation.
pub(super) fn revoked(value: &[u8]) -> Result<RevokedTimes, Unreadable> {
    let value: RevokedValue = parse(value, MAX_VALUE, |value: &RevokedValue| value.v)?;
    let time = |ms| UNIX_EPOCH.checked_add(Duration::from_millis(ms)).ok_or(Unreadable::Field("time"));
    Ok(RevokedTimes { at: time(value.at_ms)?, until: time(value.until_ms)? })
}

/// A question: all there is to it is in its key.
pub(super) fn of_question() -> String {
    json(&QuestionValue { v: VERSION })
}

/// A node's answer.
pub(super) fn of_answer(boot: Option<&BootId>) -> String {
    json(&AnswerValue { v: VERSION, boot: boot.cloned() })
}

/// Which start of a node answered.
pub(super) fn answer(value: &[u8]) -> Result<Option<BootId>, Unreadable> {
    Ok(parse(value, MAX_VALUE, |value: &AnswerValue| value.v)?.boot)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("invariant: text, numbers and flags are JSON")
}

fn parse<T: DeserializeOwned>(value: &[u8], most: usize, version: fn(&T) -> u32) -> Result<T, Unreadable> {
    if value.len() > most {
        return Err(Unreadable::Large(value.len()));
    }
    let parsed: T = serde_json::from_slice(value).map_err(|error| Unreadable::Json(error.column()))?;
    match version(&parsed) {
        VERSION => Ok(parsed),
        other => Err(Unreadable::Version(other)),
    }
}

/// JSON knows no other numbers.
fn finite(share: f32) -> f32 {
    if share.is_finite() { share } else { 0.0 }
}

/// Something to connect to: a scheme, a host, and nothing behind the port.
fn is_address(text: &str) -> bool {
    text.len() <= MAX_ADDRESS
        && text.parse::<Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|it| !it.host().is_empty() && !it.as_str().contains('@'))
                && uri.path() == "/"
                && uri.query().is_none()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> NodeRecord {
        NodeRecord {
            node: "n".parse().expect("valid"),
            boot: Some("00aa".parse().expect("valid")),
            region: "eu".parse().expect("valid"),
            address: "https://10.0.0.7:7000".to_owned(),
            weight: 3,
            capacity: Capacity::default(),
            state: NodeState::Draining,
            load: Load {
                cpu: 0.25,
                busy: 0.5,
                tracks: 9,
                delay_us: 250,
                pressure: 0.625,
                age_ms: 2,
                ..Load::default()
            },
            reports: 7,
            version: "0.1.0".to_owned(),
        }
    }

    fn read_node(value: &str) -> Result<NodeRecord, Unreadable> {
        node(record().region, record().node, value.as_bytes())
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(read_node(&of_node(&record(), Duration::ZERO)), Ok(record()));
        let said = EdgeRecord {
            edge: "e".parse().expect("valid"),
            boot: "b".parse().expect("valid"),
            region: "eu".parse().expect("valid"),
            sees_store: true,
            takes_clients: false,
        };
        assert_eq!(edge(said.edge.clone(), of_edge(&said).as_bytes()), Ok(said));
        let times =
            RevokedTimes { at: UNIX_EPOCH + Duration::from_millis(1_234), until: UNIX_EPOCH + Duration::from_hours(1) };
        assert_eq!(revoked(of_revoked(times).as_bytes()), Ok(times));
        let boot = record().boot;
        assert_eq!(answer(of_answer(boot.as_ref()).as_bytes()), Ok(boot));
    }

    #[test]
    fn how_long_a_load_has_waited_to_be_written_is_told_with_it() {
        let waited = read_node(&of_node(&record(), Duration::from_millis(480))).expect("readable");
        assert_eq!(waited.load.age_ms, 482);
        let waited = read_node(&of_node(&record(), Duration::MAX)).expect("readable");
        assert_eq!(waited.load.age_ms, u32::MAX);
    }

    #[test]
    fn records_of_older_programs_are_read() {
        let older = r#"{"v":1,"boot":"00aa","address":"https://10.0.0.7:7000","weight":3,
            "capacity":{"egress_bps":1000000000,"tracks":5000},"state":"draining",
            "load":{"cpu":0.25,"egress_bps":0,"tracks":9,"packets_per_second":0,"loss":0.0},"reports":7,"version":"0.1.0"}"#;
        let load = Load { cpu: 0.25, tracks: 9, ..Load::default() };
        assert_eq!(read_node(older), Ok(NodeRecord { load, ..record() }));
    }

    #[test]
    fn fields_and_states_of_newer_programs_are_no_error() {
        let newer = of_node(&record(), Duration::ZERO).replacen("{\"v\":1", r#"{"v":1,"temperature":{"cpu":60}"#, 1);
        assert_eq!(read_node(&newer), Ok(record()));
        let closing = newer.replace("\"draining\"", "\"closing\"");
        assert_eq!(read_node(&closing).map(|node| node.state), Ok(NodeState::Draining));
    }

    #[test]
    fn operators_may_leave_out_what_a_region_does_not_need() {
        assert_eq!(region(b"{}"), Ok(Region { weight: 1, distances: BTreeMap::new() }));
        let distances = [("us".parse().expect("valid"), 80)].into();
        assert_eq!(region(br#"{"weight":2,"distances":{"us":80}}"#), Ok(Region { weight: 2, distances }));
    }

    #[test]
    fn values_that_are_not_as_they_should_be_are_refused() {
        let good = of_node(&record(), Duration::ZERO);
        let with = |from: &str, to: &str| {
            assert!(good.contains(from), "{from} in {good}");
            read_node(&good.replace(from, to))
        };
        assert_eq!(with("\"v\":1", "\"v\":2"), Err(Unreadable::Version(2)));
        for address in ["", "10.0.0.7:7000", "ftp://a:1", "http://", "http://a:1/x", "http://u@a:1", "http://a b"] {
            assert_eq!(with("https://10.0.0.7:7000", address), Err(Unreadable::Field("address")), "{address}");
        }
        assert_eq!(with("0.1.0", "0.1.0\\n"), Err(Unreadable::Field("version")));
        assert_eq!(with("0.1.0", &"1".repeat(65)), Err(Unreadable::Field("version")));
        assert_eq!(with("0.1.0", &"1".repeat(MAX_VALUE)), Err(Unreadable::Large(good.len() + MAX_VALUE - 5)));
        for (from, to) in [
            ("0.25", "1e99"),
            ("0.625", "1e99"),
            ("\"00aa\"", "\"a b\""),
            ("3", "-3"),
            ("\"weight\":3,", ""),
            ("}", ""),
        ] {
            assert!(with(from, to).is_err(), "{from} → {to}");
        }
        for not_json in [&b""[..], b"null", b"[]", b"\xff", b"{\"v\":1}"] {
            assert!(node(record().region, record().node, not_json).is_err());
            assert!(edge("e".parse().expect("valid"), not_json).is_err());
            assert!(revoked(not_json).is_err());
        }
        assert!(region(br#"{"distances":{"a b":1}}"#).is_err());
        assert!(revoked(br#"{"v":1,"at_ms":1,"until_ms":18446744073709551615}"#).is_ok(), "far, but a time");
        let deep = "[".repeat(MAX_VALUE);
        assert!(region(deep.as_bytes()).is_err());
    }
}
