//! The settings of nodes in `deploy/` and in the README are settings: the real program takes them.

use std::path::Path;
use std::process::{Command, Output};

use rcgen::{CertificateParams, KeyPair};

/// `--check-config` of settings whose files are looked for in a directory with all of them, not in `place`.
fn check(settings: &str, place: &str, variables: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(["node".to_owned()]).expect("names").self_signed(&key).expect("signed");
    for name in ["ca.pem", "cert.pem", "node-1.pem"] {
        std::fs::write(here.join(name), certificate.pem()).expect("written");
    }
    for name in ["key.pem", "node-1.key"] {
        std::fs::write(here.join(name), key.serialize_pem()).expect("written");
    }
    let settings = if place.is_empty() {
        settings.to_owned()
    } else {
        assert!(settings.contains(place), "{place} is not where the files are");
        settings.replace(place, here.to_str().expect("text"))
    };
    std::fs::write(here.join("node.yaml"), settings).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sfu-node"));
    command.args(["--check-config", "--config", "node.yaml"]).current_dir(here);
    command.envs(variables.iter().copied()).output().expect("runs")
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn is_taken(checked: &Output) {
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn the_example_for_a_machine_of_its_own_is_taken() {
    is_taken(&check(&read("deploy/examples/node.yaml"), "/run/credentials/sfu-node.service", &[]));
}

#[test]
fn the_nodes_of_the_compose_file_are_taken() {
    let compose: serde_json::Value = serde_saphyr::from_str(&read("deploy/compose.yaml")).expect("YAML");
    for name in ["node-1", "node-2"] {
        let variables: Vec<_> =
            compose["services"][name]["environment"].as_object().expect("variables").iter().collect();
        let variables: Vec<_> = variables
            .iter()
            .map(|(key, value)| {
                let value = value.as_str().expect("text");
                (key.as_str(), if value == "${PUBLIC_IP:-127.0.0.1}" { "127.0.0.1" } else { value })
            })
            .collect();
        is_taken(&check(&read("deploy/config/node.yaml"), "", &variables));
    }
}

#[test]
fn the_readme_s_node_is_taken() {
    let readme = read("README.md");
    let example =
        readme.split("```yaml\n# node.yaml").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    // Without the rest of the line that names it.
    let (_, settings) = example.split_once('\n').expect("lines");
    is_taken(&check(settings, "", &[]));
}

#[test]
fn a_node_without_tls_on_a_network_is_not_unless_told_so() {
    let settings = read("deploy/config/node.yaml").replace("insecure_no_tls: true", "insecure_no_tls: false");
    let checked = check(&settings, "", &[("SLUICE_ID", "node-1"), ("SLUICE_GRPC__ADVERTISE", "http://node-1:7000")]);
    assert_eq!(checked.status.code(), Some(64));
}
