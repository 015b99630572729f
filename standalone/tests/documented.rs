//! Every setting that `sluice` knows stands in docs/configuration.md, with its default.

use std::process::Command;

use serde_json::Value;

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
    let output =
        Command::new(env!("CARGO_BIN_EXE_sluice")).arg("--print-config").env_clear().output().expect("sluice runs");
    assert!(output.status.success(), "{output:?}");
    let shown: Value = serde_saphyr::from_slice(&output.stdout).expect("settings are shown as YAML");
    let mut settings = Vec::new();
    leaves("", &shown, &mut settings);
    assert!(settings.len() > 30, "{settings:?}");
    for (path, default) in settings {
        // By its first column: others' rows may speak of it.
        let names_it = |line: &&str| line.split('|').nth(1).is_some_and(|names| names.contains(&format!("`{path}`")));
        let row = DOCUMENT.lines().filter(|line| line.starts_with('|')).find(names_it);
        let row = row.unwrap_or_else(|| panic!("{path} is not documented"));
        let stands_there = match &default {
            Value::Bool(default) => row.contains(&format!("`{default}`")),
            Value::Number(default) => {
                let apart = default.as_u64().is_some_and(|default| row.contains(&written(default)));
                apart || row.contains(&default.to_string())
            }
            _ => true,
        };
        assert!(stands_there, "{path} is by default {default}, but: {row}");
    }
}
