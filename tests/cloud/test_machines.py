"""A region, as far as it can be had without a cloud: what Terraform renders for instances boots them, with real cloud-init and systemd, in network
namespaces; etcd and Redis by TLS, two edges of Fargate's own description, two SFU nodes in the built images; and two people in a call across them."""

import json
import os
import subprocess
import threading

import pytest

import terraform_rig
from rig import CLOUD, HERE, PYTHON, TARGET, Machine, Network, image_store, run, until

REGION = "eu-central-1"
ENDPOINT = "http://10.0.0.1:5000"
EDGES = ["10.0.128.21", "10.0.144.22"]
NODES = {"node-1": ("10.0.0.21", "198.51.100.21"), "node-2": ("10.0.16.22", "198.51.100.22")}
# The load balancer's addresses in two zones, which one name stands for.
BALANCERS = {"calls.example.com": "10.0.0.5", "b.calls.example.com": "10.0.16.5"}
REDIS = "10.0.128.30"


# For what a failed test prints.
STARTED = {}


def authority(directory):
    """Whom systems trust, in place of Amazon and the others; certificates of it for what is reached by its name."""
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test", "-keyout", directory / "ca.key", "-out", directory / "ca.pem")

    def certificate(name, host):
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", directory / f"{name}.key", "-out", directory / f"{name}.csr")
        (directory / f"{name}.ext").write_text(f"subjectAltName=DNS:{host}\n")
        run("openssl", "x509", "-req", "-in", directory / f"{name}.csr", "-CA", directory / "ca.pem", "-CAkey", directory / "ca.key", "-days", "2", "-out", directory / f"{name}.pem", "-extfile", directory / f"{name}.ext")
        return directory / f"{name}.pem", directory / f"{name}.key"

    return certificate


class Region:
    """Applied and booted."""

    def __init__(self, network):
        self.network = network
        directory = network.directory
        images = terraform_rig.COMMON["images"]
        self.images = image_store({"edge-signal": images["edge"], "sfu-node": images["node"]})
        environment = {"AWS_ENDPOINT_URL": ENDPOINT, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
        network.start(CLOUD / "bin/moto_server", "-p", "5001", log="moto.log")
        self.lifecycle = directory / "lifecycle.jsonl"
        network.start(PYTHON, HERE / "front.py", "10.0.0.1", "5000", "5001", self.lifecycle, log="front.log")
        inside = ["ip", "netns", "exec", network.name]
        until(lambda: run(*inside, "curl", "-fsS", "-o", "/dev/null", f"{ENDPOINT}/moto-api/").returncode == 0, "the stand-in for AWS")
        self.aws = lambda *command: json.loads(run(*inside, "env", *[f"{k}={v}" for k, v in environment.items()], PYTHON, HERE / "ask.py", *command).stdout)
        zone = self.aws("route53", "create_hosted_zone", json.dumps({"Name": "calls.example.com", "CallerReference": "test"}))["HostedZone"]["Id"]
        self.configuration = terraform_rig.Configuration(directory, "minimal", prefix=inside, environment=environment).init()
        self.more = {"zone_id": zone.split("/")[-1]}
        self.apply()
        self.outputs = json.loads(self.configuration.terraform("output", "-json").stdout)
        self.metadata = directory / "metadata.json"
        self.machines_said = {}
        self.tell()
        network.start(PYTHON, HERE / "metadata.py", self.metadata, log="metadata.log")
        self.machines = STARTED

    def apply(self):
        self.state = self.configuration.apply(**self.more)
        # It lets nobody in but by TLS, which this stand-in for AWS is not reached by.
        self.aws("s3", "delete_bucket_policy", json.dumps({"Bucket": self.of("aws_s3_bucket.etcd")["bucket"]}))

    def of(self, suffix):
        (found,) = [values for address, values in self.state.items() if address.endswith(suffix)]
        return found

    def tell(self, address=None, **what):
        """What EC2 says to the machine at this address."""
        if address:
            self.machines_said.setdefault(address, {}).update(what)
        temporary = self.metadata.with_suffix(".new")
        temporary.write_text(json.dumps(self.machines_said))
        temporary.rename(self.metadata)

    def told(self, action, hook):
        """Of which machines something was said to their group, and what."""
        lines = [json.loads(line) for line in self.lifecycle.read_text().splitlines()] if self.lifecycle.exists() else []
        return {line["InstanceId"]: line.get("LifecycleActionResult") for line in lines if (line["Action"], line["LifecycleHookName"]) == (action, hook)}

    def secret(self, arn):
        return self.aws("secretsmanager", "get_secret_value", json.dumps({"SecretId": arn}))["SecretString"]

    def secret_of(self, name):
        return self.secret(self.of(f'aws_secretsmanager_secret.this["{name}"]')["arn"])


@pytest.fixture(scope="module")
def region():
    terraform_rig.prepare()
    network = Network()
    try:
        yield start(Region(network))
    finally:
        if os.environ.get("TEST_TRACE"):
            for name, machine in STARTED.items():
                print(f"== journal of {name}\n{machine.journal(100)}" if name.startswith(("etcd", "node")) else "")
            for path in sorted(network.directory.glob("*.log")):
                print(f"== {path.name}\n{path.read_text(errors='replace')[-4000:]}")
        network.close()


def start(region):
    network, directory = region.network, region.network.directory
    certificate = authority(directory)
    redis_host = region.of("aws_elasticache_replication_group.this")["primary_endpoint_address"]
    etcd = {f"etcd-{index}.sluice.internal": region.of(f'aws_network_interface.etcd["etcd-{index}"]')["private_ips"][0] for index in range(3)}
    network.name_hosts({redis_host: REDIS, **BALANCERS, **etcd})

    # Redis by TLS, with the password that was made.
    cert, key = certificate("redis", redis_host)
    region.network.cable("redis", f"{REDIS}/16")
    token = region.secret_of("token")
    network.start(
        "redis-server", "--bind", REDIS, "--port", "0", "--tls-port", "6379", "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no",
        "--requirepass", token, "--save", "", "--appendonly", "no", "--dir", directory, log="redis.log", namespace=f"{network.name}-redis",
    )

    # etcd's three machines.
    region.etcd = list(etcd.values())
    for index in range(3):
        boot_etcd(region, index, f"volume-{index}")

    # SFU nodes.
    user_data = region.of("aws_launch_template.node")["user_data"]
    for name, (address, public) in NODES.items():
        region.tell(address, **{"instance-id": f"i-{name}", "local-ipv4": address, "public-ipv4": public, "autoscaling/target-lifecycle-state": "InService"})
        machine = Machine(network, name, address, ENDPOINT, region.images, public=public)
        machine.boot(user_data, f"i-{name}")
        region.machines[name] = machine

    # Edges, as Fargate starts them: their secrets have to be there.
    (container,) = json.loads(region.of("aws_ecs_task_definition.edge")["container_definitions"])
    until(lambda: region.secret_of("edge"), "the edges' certificate", within=180)
    (directory / "trusted.pem").write_text((directory / "ca.pem").read_text())
    for index, address in enumerate(EDGES):
        machine = Machine(network, f"edge-{index}", address, ENDPOINT, region.images, binds=[f"--bind-ro={directory / 'trusted.pem'}:/srv/trusted.pem"])
        machine.contain(*fargate(region, container, address))
        region.machines[f"edge-{index}"] = machine
        region.container = container
    for zone, (host, address) in enumerate(BALANCERS.items()):
        cert, key = certificate(f"balancer-{zone}", host)
        network.cable(f"balancer-{zone}", f"{address}/16")
        network.start(PYTHON, HERE / "balancer.py", address, cert, key, *(EDGES if zone == 0 else reversed(EDGES)), log="balancer.log", namespace=f"{network.name}-balancer-{zone}")
    ready = lambda port: lambda address: run("ip", "netns", "exec", network.name, "curl", "-fsS", "-o", "/dev/null", f"http://{address}:{port}/readyz").returncode == 0
    for address, _ in NODES.values():
        until(lambda: ready(9091)(address), f"the node at {address}", within=180)
    for address in EDGES:
        until(lambda: ready(9080)(address), f"the edge at {address}", within=120)
    return region


def boot_etcd(region, index, volume, name=None):
    name, address = name or f"etcd-{index}", region.etcd[index]
    data = region.network.directory / volume
    data.mkdir(exist_ok=True)
    region.tell(address, **{"instance-id": f"i-{name}", "local-ipv4": address})
    machine = Machine(region.network, name, address, ENDPOINT, region.images, binds=[f"--bind={data}:/var/lib/etcd"])
    machine.boot(region.of(f'aws_instance.etcd["etcd-{index}"]')["user_data_base64"], f"i-{name}")
    region.machines[name] = machine
    return machine


def fargate(region, container, address):
    """What Fargate makes of a container's description, for podman."""
    variables = {each["name"]: each["value"] for each in container["environment"]}
    for each in container["secrets"]:
        # arn:aws:secretsmanager:region:account:secret:name, then a key of its JSON, a stage and a version.
        parts = each["valueFrom"].split(":")
        text = region.secret(":".join(parts[:7]))
        variables[each["name"]] = json.loads(text)[parts[7]] if len(parts) > 7 and parts[7] else text
    command = ["podman", "run", "--rm", "--name", "edge", "--network", "host", "--hostname", f"ip-{address.replace('.', '-')}.{REGION}.compute.internal"]
    command += ["--user", container["user"], "--cap-drop", "all", "--read-only", "--log-driver", "passthrough", "--volume", "/srv/trusted.pem:/etc/ssl/certs/ca-certificates.crt:ro"]
    for name, value in variables.items():
        command += ["--env", f"{name}={value}"]
    return [*command, container["image"], *container["command"]]


class Call:
    """Two people; see call.mjs."""

    def __init__(self, region, room):
        secret = region.secret_of("auth")
        token = lambda peer: run(
            TARGET / "release/sluice", "token", "--peer", peer, "--room", room, env={**os.environ, "SLUICE_AUTH__HS256_SECRET": secret}
        ).stdout.strip()
        url = region.outputs["url"]["value"]
        # Ben's browser took the name's other address.
        settings = {"urls": {"ann": url, "ben": url.replace("calls.", "b.calls.")}, "room": room, "tokens": {peer: token(peer) for peer in ("ann", "ben")}}
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", region.network.name, "node", HERE / "call.mjs", json.dumps(settings)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        region.network.stack.callback(region.network._end, self.process)
        assert self.hears() == {"up": True}

    def hears(self, within=120):
        timer = threading.Timer(within, self.process.kill)
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        said = json.loads(line or '{"failed": "it has ended"}')
        assert "failed" not in said, said["failed"]
        return said

    def ask(self, what, within=120):
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self.hears(within)

    def end(self):
        self.process.stdin.close()
        self.process.wait(20)


def metrics(region, address, port):
    text = region.network.inside("curl", "-fsS", f"http://{address}:{port}/metrics").stdout
    return {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if line and not line.startswith("#")}


def test_two_people_call_each_other_across_the_region(region):
    call = Call(region, "weekly")
    transports = {name: metrics(region, address, 9091)["sluice_sfu_transports"] for name, (address, _) in NODES.items()}
    assert sorted(transports.values()) == [0, 4], transports
    connections = [metrics(region, address, 9080)["sluice_edge_connections"] for address in EDGES]
    assert connections == [1, 1], "one on either edge"

    # The machine with the call is taken away: it drains, and nobody notices.
    leaving = max(transports, key=transports.get)
    address = NODES[leaving][0]
    call.ask("watch")
    region.tell(address, **{"autoscaling/target-lifecycle-state": "Terminated"})
    until(lambda: region.machines[leaving].inside("systemctl", "is-active", "sluice-node.service", check=False).stdout.strip() == "inactive", "the drain", within=90)
    call.ask("moving")
    (staying,) = set(NODES) - {leaving}
    assert metrics(region, NODES[staying][0], 9091)["sluice_sfu_transports"] == 4
    assert max(call.ask("standstill")["standstill"]) < 2_000
    call.end()
    # Its group was told of each when it was ready, and of this one when it had drained.
    assert region.told("CompleteLifecycleAction", "launching") == {f"i-{name}": "CONTINUE" for name in NODES}
    until(lambda: region.told("CompleteLifecycleAction", "terminating") == {f"i-{leaving}": "CONTINUE"}, "the word that it may go", within=60)
    assert region.told("RecordLifecycleActionHeartbeat", "terminating") == {f"i-{leaving}": None}
    # What it is scaled by has arrived.
    load = region.machines[staying].inside("systemctl", "start", "sluice-node-load.service")
    assert load.returncode == 0
    (group,) = [metric for metric in region.aws("cloudwatch", "list_metrics", json.dumps({"Namespace": "Sluice"}))["Metrics"] if metric["MetricName"] == "NodeLoad"]
    assert group["Dimensions"] == [{"Name": "AutoScalingGroupName", "Value": "sluice-node"}]


def etcdctl(region, index, *command):
    files = ["--cacert", "/etc/sluice/tls/etcd_ca.pem", "--cert", "/etc/sluice/tls/cert.pem", "--key", "/etc/sluice/tls/key.pem"]
    endpoints = ",".join(f"https://etcd-{number}.sluice.internal:2379" for number in range(3))
    return region.machines[f"etcd-{index}"].inside("etcdctl", "--endpoints", endpoints, *files, *command).stdout


def test_edges_read_in_etcd_what_is_to_be_known_of_regions(region):
    known = etcdctl(region, 0, "get", "--prefix", "/sluice/regions/").split("\n")
    assert known[0] == f"/sluice/regions/{REGION}" and json.loads(known[1]) == {"v": 1, "weight": 1, "distances": {}}


def test_certificates_are_made_anew_by_a_variable_and_no_node_is_restarted(region):
    name = next(name for name, machine in region.machines.items() if name in NODES and machine.inside("systemctl", "is-active", "sluice-node.service", check=False).stdout.strip() == "active")
    address, machine = NODES[name][0], region.machines[name]

    def shown():
        """The certificate that the node shows edges."""
        hello = region.network.inside("openssl", "s_client", "-connect", f"{address}:7000", "-servername", "nodes.sluice.internal", input="", check=False).stdout
        return hello[hello.index("-----BEGIN") : hello.index("-----END")]

    started = machine.inside("systemctl", "show", "--property=ActiveEnterTimestamp", "sluice-node.service").stdout
    before, edges = shown(), json.loads(region.secret_of("edge"))
    main = region.configuration.directory / "main.tf"
    main.write_text(main.read_text().replace('nat                = "single"', 'nat                = "single"\n  generations        = { certificates = 2 }'))
    region.apply()
    # Not to wait for its turn, which comes every five minutes.
    region.machines["etcd-0"].inside("systemctl", "start", "sluice-upkeep.service", timeout=120)
    assert json.loads(region.secret_of("edge"))["cert"] != edges["cert"] and json.loads(region.secret_of("edge"))["nodes_ca"] == edges["nodes_ca"]
    machine.inside("systemctl", "start", "sluice-secrets.service")
    until(lambda: shown() != before, "the new certificate", within=30)
    assert machine.inside("systemctl", "show", "--property=ActiveEnterTimestamp", "sluice-node.service").stdout == started
    # Edges that have the old one go on with it until they are started anew.
    call = Call(region, "after")
    call.end()


def test_a_member_of_etcd_that_was_lost_with_its_volume_is_replaced(region):
    bucket = region.of("aws_s3_bucket.etcd")["bucket"]
    keys = lambda: {each["Key"] for each in region.aws("s3", "list_objects_v2", json.dumps({"Bucket": bucket})).get("Contents", [])}
    until(lambda: "began" in keys() and any(key.startswith("snapshots/etcd-") for key in keys()), "a snapshot", within=150)
    known = etcdctl(region, 0, "get", "--prefix", "/sluice/nodes/", "--keys-only").split()
    assert known
    members = lambda: {line.split(", ")[2]: line.split(", ")[0] for line in etcdctl(region, 0, "member", "list").splitlines()}
    before = members()
    region.machines.pop("etcd-2").stop()
    run("ip", "netns", "delete", f"{region.network.name}-etcd-2")
    machine = boot_etcd(region, 2, "another-volume", name="etcd-2b")
    until(lambda: etcdctl(region, 0, "endpoint", "health") is not None, "all three members", within=120, every=2)
    after = members()
    assert set(after) == {"etcd-0", "etcd-1", "etcd-2"} and after["etcd-2"] != before["etcd-2"]
    assert {name: after[name] for name in ("etcd-0", "etcd-1")} == {name: before[name] for name in ("etcd-0", "etcd-1")}
    # It has what the others have.
    files = ["--cacert", "/etc/sluice/tls/etcd_ca.pem", "--cert", "/etc/sluice/tls/cert.pem", "--key", "/etc/sluice/tls/key.pem"]
    own = machine.inside("etcdctl", "--endpoints", "https://etcd-2.sluice.internal:2379", *files, "get", "--prefix", "/sluice/nodes/", "--keys-only").stdout.split()
    assert own == known
