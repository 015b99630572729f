//! Every setting of a node stands in docs/configuration.md, with its default.

use proto::ids::NodeId;
use serde_json::Value;
use sfu_node::NodeConfig;
use telemetry::settings::to_yaml;

const DOCUMENT: &str = include_str!("../../docs/configuration.md");

/// The paths of all keys that hold a value, with the value.
fn leaves(path: &str, value: &Value, found: &mut Vec<(String, Value)>) {
    match value.as_object() {
        Some(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(&path, value, found);
            }
        }
        None => found.push((path.to_owned(), value.clone())),
    }
}

/// As the document writes it: thousands apart.
fn written(number: u64) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", written(number / 1_000), number % 1_000) }
}

#[test]
fn every_setting_is_documented_with_its_default() {
    let shown = to_yaml(&NodeConfig::new(NodeId::new("node-1").expect("valid")));
    let shown: Value = serde_saphyr::from_str(&shown).expect("settings are shown as YAML");
    let mut settings = Vec::new();
    leaves("", &shown, &mut settings);
    assert!(settings.len() > 20, "{settings:?}");
    for (path, default) in settings {
        // A group that is not set hides its keys: they are below.
        let begins = format!("`{path}");
        let row = DOCUMENT.lines().find(|line| line.starts_with('|') && line.contains(&begins));
        let row = row.unwrap_or_else(|| panic!("{path} is not documented"));
        let stands_there = match &default {
            Value::Bool(default) => row.contains(&format!("`{default}`")),
            Value::Number(default) => {
                let thousands = default.as_u64().map(written);
                thousands.is_some_and(|default| row.contains(&default)) || row.contains(&default.to_string())
            }
            _ => true,
        };
        assert!(stands_there, "{path} is by default {default}, but: {row}");
    }
    for path in ["grpc.tls.ca", "grpc.tls.cert", "grpc.tls.key"] {
        assert!(DOCUMENT.contains(&format!("`{path}`")), "{path} is not documented");
    }
}
