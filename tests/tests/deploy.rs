//! What is in `deploy/`, as far as it can be judged without running it: that files agree with one another and with the
//! programs. That the settings are taken is for the programs' own tests (`deployed.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository's root")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn list(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().map(text)
}

fn services(compose: &Value) -> BTreeMap<&str, &Value> {
    compose["services"].as_object().expect("services").iter().map(|(name, service)| (name.as_str(), service)).collect()
}

/// The value of a variable that compose sets for a service, its `${NAME:-default}` resolved.
fn variable<'a>(service: &'a Value, name: &str) -> &'a str {
    let value = text(&service["environment"][name]);
    value
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}')?.split_once(":-"))
        .map_or(value, |(_, default)| default)
}

/// `host:port` of an address with or without a scheme.
fn host_and_port(address: &str) -> (&str, u16) {
    let address = address.rsplit("//").next().expect("rsplit gives one at least");
    let (host, port) = address.rsplit_once(':').unwrap_or_else(|| panic!("{address} names no port"));
    (host, port.parse().expect("a port"))
}

#[test]
fn compose_names_only_what_is_there() {
    let compose = yaml("deploy/compose.yaml");
    let declared = |section: &str| -> BTreeSet<&str> {
        compose[section].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
    };
    let (networks, volumes, secrets) = (declared("networks"), declared("volumes"), declared("secrets"));
    let services = services(&compose);
    for (name, service) in &services {
        for mount in list(&service["volumes"]) {
            let (source, _) = mount.split_once(':').expect("source:target");
            match source.strip_prefix("./") {
                Some(file) => assert!(repository().join("deploy").join(file).exists(), "{name} mounts {file}"),
                None => assert!(volumes.contains(source), "{name} mounts the volume {source}"),
            }
        }
        for network in list(&service["networks"]) {
            assert!(networks.contains(network), "{name} is on {network}");
        }
        for secret in list(&service["secrets"]) {
            assert!(secrets.contains(secret), "{name} has the secret {secret}");
        }
        for other in service["depends_on"].as_object().into_iter().flatten().map(|(other, _)| other.as_str()) {
            let healthcheck = &services.get(other).unwrap_or_else(|| panic!("{name} waits for {other}"))["healthcheck"];
            let built = !services[other]["build"].is_null();
            assert!(built || healthcheck.is_object(), "{name} waits for {other}, which has no healthcheck");
        }
    }
}

#[test]
fn every_service_has_a_place_of_its_own_and_no_more_rights_than_it_needs() {
    let compose = yaml("deploy/compose.yaml");
    for (name, service) in services(&compose) {
        assert_eq!(service["read_only"], Value::Bool(true), "{name}");
        assert_eq!(list(&service["cap_drop"]).collect::<Vec<_>>(), ["ALL"], "{name}");
        assert_eq!(list(&service["security_opt"]).collect::<Vec<_>>(), ["no-new-privileges:true"], "{name}");
        let image = text(&service["image"]);
        let pinned = image.rsplit_once(':').is_some_and(|(_, tag)| tag.chars().any(|c| c.is_ascii_digit()));
        assert!(pinned || !service["build"].is_null(), "{name} runs {image}, whatever that is today");
    }
    assert_eq!(
        compose["networks"]["backend"]["internal"],
        Value::Bool(true),
        "stores and nodes speak without TLS there"
    );
}

#[test]
fn services_find_one_another_where_they_listen() {
    let compose = yaml("deploy/compose.yaml");
    let services = services(&compose);
    let edge = yaml("deploy/config/edge.yaml");
    let node = yaml("deploy/config/node.yaml");
    let redis = read("deploy/config/redis.conf");
    let proxy = read("deploy/config/haproxy.cfg");

    let (host, port) = host_and_port(text(&edge["redis"]["url"]));
    assert!(services.contains_key(host), "{host}");
    assert!(redis.lines().any(|line| line == format!("port {port}")), "Redis on {port}");

    for endpoints in [&edge["etcd"]["endpoints"], &node["etcd"]["endpoints"]] {
        let (host, port) = host_and_port(list(endpoints).next().expect("an endpoint"));
        let command: Vec<_> = list(&services[host]["command"]).collect();
        assert!(command.contains(&format!("--listen-client-urls=http://0.0.0.0:{port}").as_str()), "{command:?}");
    }

    let (_, grpc) = host_and_port(text(&node["grpc"]["listen"]));
    let (_, clients) = host_and_port(text(&edge["listen"]));
    let (_, admin) = host_and_port(text(&edge["admin_listen"]));
    for (name, service) in &services {
        if name.starts_with("node-") {
            assert_eq!(host_and_port(variable(service, "SLUICE_GRPC__ADVERTISE")), (*name, grpc));
            assert_eq!(variable(service, "SLUICE_ID"), *name);
        }
        if name.starts_with("edge-") {
            assert!(proxy.contains(&format!("server {name} {name}:{clients}\n")), "{name} is not behind the proxy");
            assert_eq!(variable(service, "SLUICE_ID"), *name);
        }
    }
    assert!(proxy.contains(&format!("check port {admin} ")), "the proxy asks the edges' operators' port");

    follows_addresses(&proxy);

    let subnet = text(&compose["networks"]["backend"]["ipam"]["config"][0]["subnet"]);
    assert_eq!(list(&edge["trusted_proxies"]).collect::<Vec<_>>(), [subnet]);
    for name in [&edge["auth"]["hs256_secret_file"], &edge["session"]["secret_file"]] {
        let secret = text(name).strip_prefix("/run/secrets/").expect("a secret of compose");
        assert!(compose["secrets"][secret].is_object(), "{secret}");
    }
}

/// Who is not scraped is not watched, and nothing says so.
#[test]
fn prometheus_asks_every_edge_and_node_and_grafana_asks_prometheus() {
    let compose = yaml("deploy/compose.yaml");
    let services = services(&compose);
    let prometheus = yaml("deploy/prometheus/prometheus.yml");
    let asked = |job: &str| -> BTreeSet<String> {
        let jobs = prometheus["scrape_configs"].as_array().expect("jobs");
        let job = jobs.iter().find(|it| it["job_name"] == job).unwrap_or_else(|| panic!("no job {job}"));
        list(&job["static_configs"][0]["targets"]).map(str::to_owned).collect()
    };
    for (job, settings, kind) in [("edge", "edge.yaml", "edge-"), ("sfu", "node.yaml", "node-")] {
        let settings = yaml(&format!("deploy/config/{settings}"));
        let (_, admin) = host_and_port(text(&settings["admin_listen"]));
        let running = services.keys().filter(|name| name.starts_with(kind));
        assert_eq!(asked(job), running.map(|name| format!("{name}:{admin}")).collect(), "{job}");
    }
    let mounts: Vec<_> = list(&services["prometheus"]["volumes"]).collect();
    for file in list(&prometheus["rule_files"]).chain(["prometheus.yml"]) {
        let mount = format!("./prometheus/{file}:/etc/prometheus/{file}:ro");
        assert!(mounts.contains(&mount.as_str()), "{file} is not there");
    }

    let sources = yaml("deploy/grafana/provisioning/datasources/prometheus.yaml");
    let (host, _) = host_and_port(text(&sources["datasources"][0]["url"]));
    let shared =
        list(&services[host]["networks"]).any(|it| list(&services["grafana"]["networks"]).any(|other| it == other));
    assert!(shared, "Grafana does not reach {host}");
    let dashboards = yaml("deploy/grafana/provisioning/dashboards/sluice.yaml");
    let place = text(&dashboards["providers"][0]["options"]["path"]);
    let mount = format!("./grafana/dashboards:{place}:ro");
    assert!(list(&services["grafana"]["volumes"]).any(|it| it == mount), "{mount}");
}

/// Neither asks strangers for much: Prometheus for nothing.
#[test]
fn what_operators_look_at_is_shown_to_this_machine_alone() {
    let compose = yaml("deploy/compose.yaml");
    for name in ["prometheus", "grafana"] {
        let service = &compose["services"][name];
        assert!(list(&service["ports"]).count() > 0, "{name}");
        assert!(list(&service["ports"]).all(|port| port.starts_with("127.0.0.1:")), "{name}");
        assert!(list(&service["networks"]).all(|network| network != "frontend"), "{name}");
    }
    assert_eq!(
        text(&compose["services"]["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"]),
        "/run/secrets/grafana"
    );
}

#[test]
fn what_a_node_has_recorded_outlives_its_container_and_is_no_other_nodes() {
    const SPOOL: &str = "/var/lib/sluice-recordings";
    let compose = yaml("deploy/compose.yaml");
    let mut taken = BTreeSet::new();
    for (name, service) in services(&compose).iter().filter(|(name, _)| name.starts_with("node-")) {
        let spool = list(&service["volumes"]).find_map(|mount| mount.strip_suffix(&format!(":{SPOOL}")));
        let spool = spool.unwrap_or_else(|| panic!("{name} has no spool"));
        assert!(taken.insert(spool.to_owned()), "{name} shares a spool");
    }
    assert!(!taken.is_empty());
    let place = format!("spool_dir: {SPOOL}\n");
    assert!(["config", "examples"].iter().all(|at| read(&format!("deploy/{at}/node.yaml")).contains(&place)));
    let made = format!("install -d -m 0700 -o 10001 -g 10001 {SPOOL}\n");
    assert!(read("deploy/docker/Dockerfile").contains(&made), "a volume takes the owner of what it is mounted at");
}

/// A container that is replaced has another address: the proxy must not keep the first for ever, nor need one to start.
fn follows_addresses(proxy: &str) {
    let of = |line: &str, key: &str| line.split_whitespace().skip_while(|word| *word != key).nth(1).map(str::to_owned);
    let servers = proxy.lines().find(|line| line.trim().starts_with("default-server ")).expect("of the edges");
    let resolvers = of(servers, "resolvers").expect("names are asked for again");
    let start = of(servers, "init-addr").unwrap_or_default();
    assert_eq!(start.rsplit(',').next(), Some("none"), "{servers}");
    let section = proxy.split_once(&format!("\nresolvers {resolvers}\n")).expect("what it names").1;
    let section: Vec<_> = section.lines().take_while(|line| line.starts_with(' ')).map(str::trim).collect();
    let nameserver = section.iter().find_map(|line| of(line, "nameserver").and_then(|name| of(line, &name)));
    assert_eq!(nameserver.as_deref(), Some("127.0.0.11:53"), "the one of Docker's networks");
    assert!(section.contains(&"hold valid 5s"), "{section:?}");
}

#[test]
fn each_node_publishes_the_ports_of_its_media_and_no_two_the_same() {
    let compose = yaml("deploy/compose.yaml");
    let shards = yaml("deploy/config/node.yaml")["media"]["shards"].as_u64().expect("a number of shards");
    let mut taken = BTreeSet::new();
    for (name, service) in services(&compose).into_iter().filter(|(name, _)| name.starts_with("node-")) {
        let first: u64 = variable(service, "SLUICE_MEDIA__FIRST_PORT").parse().expect("a port");
        let range = format!("{first}-{}", first + shards - 1);
        let published: Vec<_> = list(&service["ports"]).collect();
        assert_eq!(published, [format!("{range}:{range}/udp")], "{name}");
        assert!((first..first + shards).all(|port| taken.insert(port)), "{name} shares a port with another node");
    }
    assert!(!taken.is_empty());
}

#[test]
fn images_are_pinned_not_root_watched_and_made_of_files_that_are_there() {
    let dockerfile = read("deploy/docker/Dockerfile").replace("\\\n", " ");
    let mut arguments = BTreeMap::new();
    // Those of them that the stage knows.
    let mut known = BTreeSet::new();
    let mut stages = BTreeSet::new();
    let mut checks = 0;
    let mut user = None;
    for line in dockerfile.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (instruction, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        let words: Vec<_> = rest.split_whitespace().collect();
        // Elsewhere it stands for nothing, silently.
        let unknown = |name: &&String| instruction != "FROM" && rest.contains(name.as_str()) && !known.contains(*name);
        assert_eq!(arguments.keys().find(unknown), None, "not declared after FROM: {line}");
        match instruction {
            "ARG" => {
                let (name, value) = rest.split_once('=').map_or((rest, None), |(name, value)| (name, Some(value)));
                let name = format!("${{{name}}}");
                if let Some(value) = value {
                    arguments.insert(name.clone(), value.to_owned());
                }
                assert!(arguments.contains_key(&name), "a value for what it is built with: {line}");
                known.insert(name);
            }
            "FROM" => {
                let mut image = words[0].to_owned();
                for (name, value) in &arguments {
                    image = image.replace(name, value);
                }
                let tag = image.rsplit_once(':').map(|(_, tag)| tag);
                let pinned = tag.is_some_and(|tag| tag.chars().any(|c| c.is_ascii_digit()));
                assert!(pinned || stages.contains(image.as_str()), "{image} is whatever it is today");
                assert_eq!(words[1], "AS", "{line}");
                stages.insert(words[2].to_owned());
                known.clear();
            }
            "COPY" => {
                let from = words.iter().find_map(|word| word.strip_prefix("--from="));
                let sources: Vec<_> = words[..words.len() - 1].iter().filter(|word| !word.starts_with("--")).collect();
                match from {
                    Some(stage) => assert!(stages.contains(stage), "{line}"),
                    None => sources.iter().for_each(|file| assert!(repository().join(file).exists(), "{line}")),
                }
            }
            "USER" => user = Some(words[0].to_owned()),
            "HEALTHCHECK" => checks += 1,
            "RUN" | "ENV" | "WORKDIR" | "EXPOSE" | "ENTRYPOINT" | "CMD" | "STOPSIGNAL" => (),
            other => panic!("{other} is not looked at here"),
        }
    }
    assert_eq!(arguments["${RUST}"], read("rust-toolchain.toml").split('"').nth(1).expect("a channel"));
    assert!(["edge-signal", "sfu-node"].iter().all(|stage| stages.contains(*stage)), "{stages:?}");
    assert_eq!(user.as_deref(), Some("10001:10001"));
    assert_eq!(checks, 2);
}

#[test]
fn programs_that_images_have_are_built_and_an_edge_s_has_the_one_for_operators() {
    let dockerfile = read("deploy/docker/Dockerfile").replace("\\\n", " ");
    let build = dockerfile.lines().find(|line| line.contains("cargo build")).expect("a build");
    let edge = dockerfile.split("\nFROM ").find(|stage| stage.starts_with("base AS edge-signal\n")).expect("a stage");
    assert!(edge.contains("COPY --from=build /out/sluice /usr/local/bin/sluice\n"), "{edge}");
    for copied in dockerfile.split("--from=build /out/").skip(1) {
        let program = copied.split_whitespace().next().expect("a name");
        assert!(build.contains(&format!(" -p {program} ")), "{program} is not built");
        assert!(build.split_whitespace().any(|it| it == format!("target/release/{program}")), "{program} is not kept");
    }
}

#[test]
fn what_is_sent_to_the_image_s_build_has_every_crate_of_the_workspace() {
    let sent = read(".dockerignore");
    let sent: BTreeSet<_> = sent.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let manifest = read("Cargo.toml");
    let members = manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).expect("members").0;
    for member in members.split('"').skip(1).step_by(2) {
        let folder = member.split('/').next().expect("a folder");
        assert!(sent.contains(folder), "{folder} is missing");
    }
    for file in ["Cargo.toml", "Cargo.lock", "deploy/docker"] {
        assert!(sent.contains(file), "{file}");
    }
}

/// Keys and values of a unit, in order; a key may come several times.
fn unit(name: &str) -> Vec<(String, String)> {
    let keys = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    read(&format!("deploy/systemd/{name}.service"))
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(keys)
        .collect()
}

#[test]
fn units_run_as_nobody_within_limits_and_hand_over_the_files_that_settings_name() {
    for (service, settings) in [("edge-signal", "edge.yaml"), ("sfu-node", "node.yaml")] {
        let unit = unit(service);
        let all = |key: &str| -> Vec<&str> {
            unit.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str()).collect()
        };
        let given = "${CREDENTIALS_DIRECTORY}";
        assert_eq!(all("ExecStart"), [format!("/usr/local/bin/{service} --config {given}/{settings}")]);
        for (key, value) in [("DynamicUser", "yes"), ("NoNewPrivileges", "yes"), ("ProtectSystem", "strict")] {
            assert_eq!(all(key), [value], "{service}: {key}");
        }
        assert_eq!(all("RestartPreventExitStatus"), ["64"], "{service}: wrong settings are not tried again");
        for limit in ["LimitNOFILE", "TasksMax", "MemoryMax", "TimeoutStopSec"] {
            assert_eq!(all(limit).len(), 1, "{service}: {limit}");
        }
        let credentials: BTreeMap<_, _> =
            all("LoadCredential").iter().map(|entry| entry.split_once(':').expect("name:file")).collect();
        let place = format!("/etc/sluice/{settings}");
        assert_eq!(credentials.get(settings), Some(&place.as_str()), "{service}: passwords stand in its settings");
        let handed: BTreeSet<_> = credentials.into_keys().filter(|name| *name != settings).collect();
        let example = read(&format!("deploy/examples/{settings}"));
        let place = format!("/run/credentials/{service}.service/");
        let named: BTreeSet<_> = example
            .split(&place)
            .skip(1)
            .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').next().expect("a name"))
            .collect();
        assert_eq!(handed, named, "{service}");
    }
}

#[test]
fn files_of_tls_have_the_same_keys_in_the_settings_of_both_services() {
    let (edge, node) = (yaml("deploy/examples/edge.yaml"), yaml("deploy/examples/node.yaml"));
    for tls in [&edge["grpc"]["tls"], &edge["etcd"]["tls"], &node["grpc"]["tls"], &node["etcd"]["tls"]] {
        let keys: BTreeSet<_> = tls.as_object().expect("files").iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, BTreeSet::from(["ca", "cert", "key"]));
    }
}

/// A length of time of a file here, all of which are in seconds.
fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{text} is not in seconds"))
}

/// Who is killed before has not sent all of its clients, or streams, elsewhere.
#[test]
fn who_is_told_to_end_is_given_longer_than_that_takes() {
    let compose = yaml("deploy/compose.yaml");
    let set = |settings: &Value, key: &str, default: u64| settings["drain"][key].as_str().map_or(default, seconds);
    for (service, settings, kind) in [("edge-signal", "edge.yaml", "edge-"), ("sfu-node", "node.yaml", "node-")] {
        let takes = |place: &str| {
            let settings = yaml(&format!("deploy/{place}/{settings}"));
            // By default, and what an edge has beyond its spread.
            if kind == "edge-" { set(&settings, "spread", 10) + 12 } else { set(&settings, "timeout", 30) }
        };
        let unit = unit(service);
        let (_, given) = unit.iter().find(|(key, _)| key == "TimeoutStopSec").expect("a limit");
        assert!(seconds(given) > takes("examples"), "{service}: {given}");
        for (name, service) in services(&compose).into_iter().filter(|(name, _)| name.starts_with(kind)) {
            assert!(seconds(text(&service["stop_grace_period"])) > takes("config"), "{name}");
        }
    }
}

/// Browsers take no certificate of an authority of one's own, and nodes none of a public one, which is for servers only.
#[test]
fn browsers_are_shown_another_certificate_than_nodes_and_etcd() {
    let edge = yaml("deploy/examples/edge.yaml");
    for file in ["cert", "key"] {
        let shown = text(&edge["tls"][file]);
        for inside in ["grpc", "etcd"] {
            assert_ne!(shown, text(&edge[inside]["tls"][file]), "tls.{file} and {inside}.tls.{file}");
        }
    }
}

#[test]
fn units_are_what_systemd_takes() {
    // The unit's program is not installed here, so another stands in.
    let directory = std::env::temp_dir().join(format!("sluice-units-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let verdicts: Vec<_> = ["edge-signal", "sfu-node"]
        .map(|name| {
            let path = directory.join(format!("{name}.service"));
            let unit = read(&format!("deploy/systemd/{name}.service"));
            std::fs::write(&path, unit.replace(&format!("/usr/local/bin/{name}"), "/bin/true")).expect("written");
            Command::new("systemd-analyze").arg("verify").arg(&path).output().expect("systemd-analyze")
        })
        .into();
    std::fs::remove_dir_all(&directory).expect("removed");
    for verdict in verdicts {
        let said = String::from_utf8_lossy(&verdict.stderr);
        let about_ours: Vec<_> =
            said.lines().filter(|line| line.contains("edge-signal") || line.contains("sfu-node")).collect();
        assert_eq!(about_ours, Vec::<&str>::new());
    }
}
