//! The examples of docs/signalling.md are what the edge reads and writes.

use proto::signalling::{ErrorCode, parse};
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../docs/signalling.md");

const METHODS: [&str; 12] = [
    "join",
    "leave",
    "keepalive",
    "publish",
    "unpublish",
    "subscribe",
    "unsubscribe",
    "broadcast",
    "getusers",
    "getpubs",
    "restart",
    "mute",
];
const NOTIFICATIONS: [&str; 10] = [
    "peer-join",
    "peer-leave",
    "stream-add",
    "stream-update",
    "stream-remove",
    "broadcast",
    "own",
    "stream-migrate",
    "peer-kick",
    "token-expiring",
];

fn examples() -> Vec<Value> {
    let blocks = DOCUMENT.split("```json\n").skip(1).map(|rest| rest.split("```").next().expect("closed"));
    blocks.map(|block| serde_json::from_str(block).unwrap_or_else(|error| panic!("{error}: {block}"))).collect()
}

#[test]
fn every_request_shown_is_understood_and_every_method_is_shown() {
    let examples = examples();
    let requests: Vec<&Value> = examples.iter().filter(|example| example["request"] == true).collect();
    for request in &requests {
        let inbound = parse(&request.to_string()).expect("of a known kind");
        let understood = inbound.request.unwrap_or_else(|rejection| panic!("{rejection}: {request}"));
        assert_eq!(understood.method(), request["method"]);
    }
    for method in METHODS {
        assert!(requests.iter().any(|request| request["method"] == method), "{method}");
    }
}

#[test]
fn every_notification_is_shown_and_no_other() {
    let examples = examples();
    let shown = || examples.iter().filter(|example| example["notification"] == true).map(|example| &example["method"]);
    for method in NOTIFICATIONS {
        assert!(shown().any(|shown| shown == method), "{method}");
    }
    for method in shown() {
        assert!(NOTIFICATIONS.iter().any(|known| known == method), "{method}");
    }
}

#[test]
fn the_table_of_errors_is_whole() {
    for code in ErrorCode::ALL {
        let row = format!("| {} | `{}` |", code.code(), code.name());
        assert!(DOCUMENT.contains(&row), "{row}");
    }
}
