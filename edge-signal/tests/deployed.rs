//! The settings of edges in `deploy/` and in the README are settings: the real program takes them.

use std::path::Path;
use std::process::{Command, Output};

use rcgen::{CertificateParams, KeyPair};

/// Files that settings name, in a directory of their own.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let key = KeyPair::generate().expect("a key");
        let certificate =
            CertificateParams::new(["edge".to_owned()]).expect("names").self_signed(&key).expect("signed");
        for name in ["ca.pem", "cert.pem", "browsers.pem", "edge-1.pem"] {
            std::fs::write(directory.path().join(name), certificate.pem()).expect("written");
        }
        for name in ["key.pem", "browsers.key", "edge-1.key"] {
            std::fs::write(directory.path().join(name), key.serialize_pem()).expect("written");
        }
        for name in ["auth", "session", "auth.secret", "session.secret"] {
            std::fs::write(directory.path().join(name), "0123456789abcdef0123456789abcdef0123456789abcdef\n")
                .expect("written");
        }
        Self { directory }
    }

    /// `--check-config` of settings whose files are looked for here, not in `place`.
    fn check(&self, settings: &str, place: &str, variables: &[(&str, &str)]) -> Output {
        let here = self.directory.path();
        let settings = if place.is_empty() {
            settings.to_owned()
        } else {
            assert!(settings.contains(place), "{place} is not where the files are");
            settings.replace(place, here.to_str().expect("text"))
        };
        std::fs::write(here.join("edge.yaml"), settings).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_edge-signal"));
        command.args(["--check-config", "--config", "edge.yaml"]).current_dir(here);
        command.envs(variables.iter().copied()).output().expect("runs")
    }
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
    let place = "/run/credentials/edge-signal.service";
    is_taken(&Files::new().check(&read("deploy/examples/edge.yaml"), place, &[]));
}

#[test]
fn the_edges_of_the_compose_file_are_taken() {
    let edge = [("SLUICE_ID", "edge-1")];
    is_taken(&Files::new().check(&read("deploy/config/edge.yaml"), "/run/secrets", &edge));
}

#[test]
fn the_readme_s_edge_is_taken() {
    let readme = read("README.md");
    let example =
        readme.split("```yaml\n# edge.yaml").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    // Without the rest of the line that names it.
    let (_, settings) = example.split_once('\n').expect("lines");
    is_taken(&Files::new().check(settings, "", &[]));
}

#[test]
fn a_misspelt_key_is_not() {
    let settings = read("deploy/config/edge.yaml").replace("endpoints", "endpoint");
    let checked = Files::new().check(&settings, "/run/secrets", &[("SLUICE_ID", "edge-1")]);
    assert_eq!(checked.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&checked.stderr).contains("endpoint"));
}
