//! The examples of docs/signalling.md are what the edge reads and writes.

use proto::signalling::{ErrorCode, Notification, methods, parse};
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../docs/signalling.md");

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
        assert!(inbound.request.is_ok(), "{inbound:?}: {request}");
    }
    for method in methods() {
        assert!(requests.iter().any(|request| request["method"] == method), "{method}");
    }
}

#[test]
fn every_notification_is_shown_and_no_other() {
    let examples = examples();
    let shown = || examples.iter().filter(|example| example["notification"] == true).map(|example| &example["method"]);
    for method in Notification::METHODS {
        assert!(shown().any(|shown| shown == method), "{method}");
    }
    for method in shown() {
        assert!(Notification::METHODS.iter().any(|known| known == method), "{method}");
    }
}

#[test]
fn the_table_of_errors_is_whole() {
    for code in ErrorCode::ALL {
        let row = format!("| {} | `{}` |", code.code(), code.name());
        assert!(DOCUMENT.contains(&row), "{row}");
    }
}
