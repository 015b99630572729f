//! `./test` itself, as far as it changes the machine it runs on: its own functions, in a shell where nothing is installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository's root")
}

/// The text of the script's functions of these names.
fn functions(names: &[&str]) -> String {
    let script = std::fs::read_to_string(repository().join("test")).expect("read");
    let text = |name: &&str| {
        let begin = script.find(&format!("\n{name}() {{\n")).unwrap_or_else(|| panic!("there is no {name}"));
        let length = script[begin..].find("\n}\n").expect("an end");
        script[begin..begin + length + 3].to_owned()
    };
    names.iter().map(text).collect()
}

/// Runs `action` after the script's functions of these names; what else they call does nothing, unless `action` says otherwise.
fn run(directory: &Path, names: &[&str], action: &str) -> Output {
    let nothing_happens = "set -uo pipefail
        POLICY=$1/policy scratch=$1/scratch policy_made= renewal=
        as_root() { \"$@\"; }
        end_survivors() { :; }
        have() { false; }
        service() { :; }
        trap 'exit 143' TERM\n";
    let script = format!("{nothing_happens}{}\n{action}\n", functions(names));
    let shell = Command::new("bash").args(["-c", &script, "test"]).arg(directory).current_dir(repository()).output();
    shell.expect("bash")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const INSTALLING: [&str; 3] = ["let_packages_start_services", "on_exit", "install_servers"];

#[test]
fn packages_may_start_services_again_though_a_signal_ends_their_installation() {
    let directory = tempfile::tempdir().expect("a directory");
    let action = "trap on_exit EXIT
        apt_install() { \"$POLICY\"; echo \"policy: $?\"; kill -TERM $$; }
        install_servers redis-server
        echo survived";
    let output = run(directory.path(), &INSTALLING, action);
    assert_eq!(output.status.code(), Some(143), "{}", said(&output));
    assert!(said(&output).contains("policy: 101") && !said(&output).contains("survived"), "{}", said(&output));
    assert!(!directory.path().join("policy").exists());
}

#[test]
fn servers_that_somebody_elses_policy_let_start_are_stopped() {
    let directory = tempfile::tempdir().expect("a directory");
    let policy = directory.path().join("policy");
    std::fs::write(&policy, "#!/bin/sh\nexit 0\n").expect("written");
    let action = "apt_install() { echo started; }
        service() { echo \"service $*\" >&3; }
        install_servers redis-server etcd-server prometheus 3>&1";
    let output = run(directory.path(), &INSTALLING, action);
    assert!(output.status.success(), "{}", said(&output));
    let lines: Vec<_> = said(&output).lines().map(str::to_owned).collect();
    let installed = ["installing: redis-server etcd-server prometheus", "started"];
    let stopped = ["service redis-server stop", "service etcd stop", "service prometheus stop"];
    assert_eq!(lines, [&installed[..], &stopped].concat());
    assert_eq!(std::fs::read_to_string(policy).expect("still there"), "#!/bin/sh\nexit 0\n");
}

#[test]
fn each_phase_that_starts_servers_has_them_installed() {
    let directory = tempfile::tempdir().expect("a directory");
    for (phase, installs) in [("unit", true), ("cluster", true), ("browser", true), ("client", false)] {
        let action = format!(
            "wanted() {{ [ \"$1\" = {phase} ]; }}
            have() {{ case $1 in redis-server | redis-sentinel | etcd | prometheus) false ;; esac; }}
            apt_install() {{ :; }}; protoc() {{ :; }}; cargo() {{ :; }}
            install_servers() {{ echo \"servers: $*\"; }}
            install_toolchain"
        );
        let output = run(directory.path(), &["install_toolchain"], &action);
        assert!(output.status.success(), "{phase}: {}", said(&output));
        let servers = "servers: redis-server redis-sentinel etcd-server prometheus\n";
        assert_eq!(said(&output), if installs { servers } else { "" }, "{phase}");
    }
}
