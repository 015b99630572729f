"""What `terraform/` says, judged by a real Terraform and the current AWS provider's own schema; what it plans; and what becomes of it on a stand-in for AWS."""

import base64
import gzip
import itertools
import json
import os
import re
import socket
import subprocess

import boto3
import pytest
import yaml

import standing
import terraform_rig
from rig import CLOUD, PYTHON, HERE, ROOT, TARGET, run, until

EXAMPLES = ["minimal", "two-regions"]
TERRAFORM = [PYTHON, HERE / "terraform.py"]


@pytest.fixture(scope="session", autouse=True)
def provider():
    return terraform_rig.prepare()


class Account:
    """A stand-in for AWS, and how it is reached."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.environment = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-central-1"}
        self.aws = subprocess.Popen([CLOUD / "bin/moto_server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: socket.create_connection(("127.0.0.1", port)).close() is None, "the stand-in for AWS", within=60, every=0.2)

    def ask(self, service, region="eu-central-1"):
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, endpoint_url=self.environment["AWS_ENDPOINT_URL"], region_name=region, **keys)

    def end(self):
        self.aws.terminate()
        self.aws.wait(20)


@pytest.fixture(scope="session")
def planned(tmp_path_factory):
    """The plan of each example."""
    directory, account = tmp_path_factory.mktemp("planned"), Account()
    try:
        yield {example: terraform_rig.Configuration(directory, example, environment=account.environment).init().plan() for example in EXAMPLES}
    finally:
        account.end()


class Applied(Account):
    """An example on a stand-in for AWS of its own."""

    def __init__(self, directory, example, **more):
        super().__init__()
        zone = self.ask("route53").create_hosted_zone(Name="calls.example.com", CallerReference="test")["HostedZone"]["Id"].split("/")[-1]
        self.more = {"zone_id": zone, **more}
        self.configuration = terraform_rig.Configuration(directory, example, environment=self.environment).init()
        self.state = self.configuration.apply(**self.more)


@pytest.fixture(scope="session")
def applied(tmp_path_factory):
    made = {}
    try:
        for example in EXAMPLES:
            made[example] = Applied(tmp_path_factory.mktemp("applied"), example)
        yield made
    finally:
        for each in made.values():
            each.end()


def resources(plan):
    """`address: (type, values)` of what a plan makes."""
    return {each["address"]: (each["type"], each["change"]["after"]) for each in plan["resource_changes"] if each["change"]["actions"] == ["create"]}


def of(plan, kind):
    return {address: values for address, (each, values) in resources(plan).items() if each == kind}


def machines(state):
    """What each machine is told at its first boot."""
    found = {}
    for address, values in state.items():
        text = values.get("user_data_base64") or (values.get("user_data") if ".aws_launch_template." in address else None)
        if text:
            found[address] = gzip.decompress(base64.b64decode(text)).decode()
    return found


def written(user_data):
    return {each["path"]: each["content"] for each in yaml.safe_load(user_data)["write_files"]}


# --- What it says -------------------------------------------------------------------------------------------------------------------


def test_everything_is_formatted():
    assert run(*TERRAFORM, "fmt", "-check", "-recursive", "-diff", ROOT / "terraform").returncode == 0


# A module that wants providers under other names (peering) is judged with the example that gives it them.
MODULES = sorted(
    str(path.parent.relative_to(ROOT / "terraform")) for path in (ROOT / "terraform").rglob("main.tf") if "configuration_aliases" not in "".join(each.read_text() for each in path.parent.glob("versions.tf"))
)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_valid_with_the_current_provider(module, tmp_path):
    example = terraform_rig.Configuration(tmp_path, "minimal")
    example.directory = example.root / "terraform" / module
    example.init()
    answer = json.loads(example.terraform("validate", "-json").stdout)
    assert answer["valid"] and answer["diagnostics"] == []


def test_a_scanner_finds_nothing_that_is_not_explained():
    checkov = TARGET / "checkov/bin/checkov"
    done = run(checkov, "-d", ROOT / "terraform", "--framework", "terraform", "--compact", "--quiet", "--skip-download", "-o", "json", check=False)
    found = json.loads(done.stdout)
    assert found["summary"]["passed"] > 500 and found["summary"]["parsing_errors"] == 0
    assert [(each["check_id"], each["resource"]) for each in found["results"]["failed_checks"]] == []
    # Explained in place, each of them.
    text = "".join(path.read_text() for path in (ROOT / "terraform").rglob("*.tf"))
    assert not re.search(r"#checkov:skip=\w+\s*$", text, re.M)


def test_nothing_that_terraform_leaves_behind_is_handed_out():
    # A lock of the stand-in would have the real provider refused.
    kept = run("git", "-c", "safe.directory=*", "-C", ROOT, "ls-files", "terraform").stdout.split()
    assert kept and not [path for path in kept if ".terraform" in path or ".tfstate" in path]


def test_versions_are_pinned_and_every_variable_and_output_is_described():
    for path in (ROOT / "terraform").rglob("*.tf"):
        text = path.read_text()
        for block in re.findall(r'^(?:variable|output) "\w+" \{.*?^\}', text, re.S | re.M):
            assert re.search(r"^  description = \"\S", block, re.M), f"{path}: {block.splitlines()[0]} has no description"
            if block.startswith("variable"):
                assert re.search(r"^  type +=", block, re.M), f"{path}: {block.splitlines()[0]} has no type"
        if "required_providers" in text:
            assert re.search(r'version += "~> 6\.\d+"', text) and "required_version" in text, path


BAD = [
    ({"name": "Sluice!"}, "lower-case letters"),
    ({"images": {"edge": "sluice/edge-signal:latest", "node": "sluice/sfu-node:1"}}, "not latest"),
    ({"images": {"edge": "sluice/edge-signal", "node": "sluice/sfu-node:1"}}, "tag"),
    ({"architecture": "x86"}, "amd64 or arm64"),
    ({"ami": "debian"}, "id of an AMI"),
    ({"cidr": "10.0.0.0/24"}, "/16 to /20"),
    ({"cidr": "everything"}, "/16 to /20"),
    ({"zones": ["eu-central-1a", "eu-central-1a", "eu-central-1b"]}, "three different zones"),
    ({"nat": "none"}, "per_zone or single"),
    ({"clients": []}, "at least one"),
    ({"clients": ["the internet"]}, "Must be networks"),
    ({"domain": "-calls"}, "name like calls.example.com"),
    ({"domain": None}, "which name is it to be"),
    ({"certificate_arn": None, "zone_id": None}, "Browsers want TLS"),
    ({"edges": {"min": 1}}, "two edges"),
    ({"edges": {"cpu": 1000}}, "Fargate has"),
    ({"edges": {"connections": 30000}}, "100 to 20000"),
    ({"edges": {"cpu_percent": 100}}, "10 to 90"),
    ({"edge_drain": {"spread": 100, "timeout": 30}}, "at most 110"),
    ({"nodes": {"min": 3, "max": 2}}, "no fewer at most"),
    ({"nodes": {"shards": 0}}, "1 to 63"),
    ({"nodes": {"first_port": 65530}}, "room for a port"),
    ({"nodes": {"load": 1.5}}, "between 0 and 1"),
    ({"nodes": {"spot": 101}}, "0 to 100"),
    ({"nodes": {"drain": 4000}}, "0 to 3600"),
    ({"nodes": {"instance_types": []}}, "At least one type"),
    ({"kafka": {"mode": "yes"}}, "none, brokers or msk"),
    ({"kafka": {"mode": "brokers", "brokers": ["b:9096"]}}, "kafka.secret_arn are needed"),
    ({"monitoring": {"grafana_clients": ["0.0.0.0/0"]}}, "the whole Internet"),
    ({"log_days": 31}, "CloudWatch keeps logs"),
    ({"generations": {"auth": 0}}, "whole numbers, from 1"),
    ({"regions": {"eu-central-1": {"cidr": "10.0.0.0/16", "distances": {"mars": 1}}}}, "listed, too"),
]


@pytest.fixture(scope="session")
def region(tmp_path_factory):
    """The module of a region alone, with no more than it needs."""
    account = Account()
    configuration = terraform_rig.Configuration(tmp_path_factory.mktemp("region"), "minimal", environment=account.environment)
    configuration.directory = configuration.root / "terraform/alone"
    configuration.directory.mkdir()
    variables = (ROOT / "terraform/region/variables.tf").read_text()
    names = re.findall(r'^variable "(\w+)"', variables, re.M)
    text = 'provider "aws" {\n  region = "eu-central-1"\n}\n\nmodule "region" {\n  source = "../region"\n' + "".join(f"  {name} = var.{name}\n" for name in names) + "}\n"
    (configuration.directory / "main.tf").write_text(text)
    # The same variables without their conditions, so that it is the module that refuses.
    free = re.sub(r"\n  validation \{.*?\n  \}\n", "", variables, flags=re.S)
    (configuration.directory / "variables.tf").write_text(free)
    (configuration.directory / "versions.tf").write_text((ROOT / "terraform/region/versions.tf").read_text())
    try:
        yield configuration.init()
    finally:
        account.end()


GOOD = {"images": terraform_rig.COMMON["images"], "domain": "calls.example.com", "zone_id": "Z0123456789"}


@pytest.mark.parametrize("given,complaint", BAD, ids=[json.dumps(given)[:60] for given, _ in BAD])
def test_a_variable_that_will_not_do_is_refused_with_a_reason(region, given, complaint):
    done = region.terraform("plan", "-no-color", "-input=false", check=False, **{key: value for key, value in {**GOOD, **given}.items() if value is not None})
    said = " ".join(re.sub(r"[│╷╵]", " ", done.stderr + done.stdout).split())
    assert done.returncode == 1, "it is taken"
    assert complaint in said, said[-1500:]


def test_a_region_needs_nothing_but_images_and_a_name(region):
    region.terraform("plan", "-no-color", "-input=false", **GOOD)


# --- What it plans ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES)
def test_nothing_is_open_to_the_internet_but_what_clients_reach(planned, example):
    for address, rule in of(planned[example], "aws_vpc_security_group_ingress_rule").items():
        network = rule["cidr_ipv4"] or rule["cidr_ipv6"]
        opened = (rule["ip_protocol"], rule["from_port"], rule["to_port"])
        if network in ("0.0.0.0/0", "::/0"):
            shards = 1 if example == "minimal" else 7
            assert opened in [("tcp", 443, 443), ("udp", 40000, 40000 + shards - 1)], address
        assert rule["ip_protocol"] != "-1" and rule["to_port"] - rule["from_port"] < 64, address
    for address, rule in of(planned[example], "aws_vpc_security_group_egress_rule").items():
        assert rule["ip_protocol"] != "-1", address
        # Clients' ports alone are many.
        assert rule["to_port"] - rule["from_port"] < 64 or (rule["ip_protocol"], rule["description"].startswith("media from node")) == ("udp", True), address


@pytest.mark.parametrize("example", EXAMPLES)
def test_media_is_open_on_both_families_and_on_the_ports_of_the_shards(planned, example):
    rules = of(planned[example], "aws_vpc_security_group_ingress_rule").values()
    assert {rule["cidr_ipv4"] or rule["cidr_ipv6"] for rule in rules if rule["ip_protocol"] == "udp"} == {"0.0.0.0/0", "::/0"}


@pytest.mark.parametrize("example", EXAMPLES)
def test_everything_that_is_kept_is_encrypted(planned, example):
    plan = planned[example]
    for address, (kind, values) in resources(plan).items():
        match kind:
            case "aws_ebs_volume":
                assert values["encrypted"] is True, address
            case "aws_instance":
                assert values["root_block_device"][0]["encrypted"] is True, address
            case "aws_launch_template":
                assert values["block_device_mappings"][0]["ebs"][0]["encrypted"] == "true", address
            case "aws_elasticache_replication_group":
                assert (values["at_rest_encryption_enabled"], values["transit_encryption_enabled"], values["transit_encryption_mode"]) in [("true", True, "required"), (True, True, "required")]
            case "aws_msk_cluster":
                transit = values["encryption_info"][0]["encryption_in_transit"][0]
                assert transit == {"client_broker": "TLS", "in_cluster": True}, address
                assert values["client_authentication"][0]["unauthenticated"] is False, address
            case "aws_lb_listener":
                assert values["protocol"] in ("TLS", "HTTPS") and values["ssl_policy"].startswith("ELBSecurityPolicy-TLS13"), address
    # Of each bucket by a resource of its own.
    for kind in ("aws_s3_bucket_public_access_block",):
        assert len(of(plan, kind)) == len(of(plan, "aws_s3_bucket"))
        for address, block in of(plan, kind).items():
            assert all(block[flag] for flag in ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")), address


@pytest.mark.parametrize("example", EXAMPLES)
def test_only_nodes_and_load_balancers_have_public_addresses(planned, example):
    plan = planned[example]
    for address, balancer in of(plan, "aws_lb").items():
        assert (balancer["internal"], balancer["ip_address_type"]) == (False, "dualstack"), address
    for address, template in of(plan, "aws_launch_template").items():
        (interface,) = template["network_interfaces"]
        assert (interface["associate_public_ip_address"], interface["ipv6_address_count"]) == ("true", 1), address
    for address, service in of(plan, "aws_ecs_service").items():
        assert service["network_configuration"][0]["assign_public_ip"] is False, address
    for address, subnet in of(plan, "aws_subnet").items():
        assert bool(subnet["map_public_ip_on_launch"]) == ("public" in address), address


@pytest.mark.parametrize("example", EXAMPLES)
def test_machines_tell_of_themselves_to_nobody_but_themselves(planned, example):
    for kind in ("aws_instance", "aws_launch_template"):
        for address, machine in of(planned[example], kind).items():
            (options,) = machine["metadata_options"]
            assert (options["http_tokens"], options["http_put_response_hop_limit"]) == ("required", 1), address


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_zone_has_its_own(planned, example):
    plan, regions = planned[example], len(of(planned[example], "aws_vpc"))
    assert regions == EXAMPLES.index(example) + 1
    for subnets in ("public", "private"):
        zones = [subnet["availability_zone"] for address, subnet in of(plan, "aws_subnet").items() if f".{subnets}[" in address]
        assert len(zones) == 3 * regions == len(set(zones)), subnets
    # One etcd and one Redis for all regions, each in several zones.
    volumes = [volume["availability_zone"] for address, volume in of(plan, "aws_ebs_volume").items() if ".etcd[" in address]
    assert len(volumes) == 3 == len(set(volumes))
    (redis,) = of(plan, "aws_elasticache_replication_group").values()
    assert (redis["num_cache_clusters"], redis["multi_az_enabled"], redis["automatic_failover_enabled"]) == (2, True, True)
    assert len(of(plan, "aws_nat_gateway")) == (1 if example == "minimal" else 6)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_edge_that_ends_is_given_time_and_nobody_is_cut(planned, example):
    plan = planned[example]
    for address, group in of(plan, "aws_lb_target_group").items():
        if group["protocol"] == "TCP":
            assert group["proxy_protocol_v2"] is True, address
            assert str(group["connection_termination"]).lower() == "false", address
            assert str(group["target_health_state"][0]["enable_unhealthy_connection_termination"]).lower() == "false", address
    for address, service in of(plan, "aws_ecs_service").items():
        assert (service["deployment_minimum_healthy_percent"], service["deployment_maximum_percent"]) == (100, 200), address
        assert service["deployment_circuit_breaker"] == [{"enable": True, "rollback": True}], address
    for address, group in of(plan, "aws_autoscaling_group").items():
        (launching,) = group["initial_lifecycle_hook"]
        assert (launching["lifecycle_transition"], launching["default_result"]) == ("autoscaling:EC2_INSTANCE_LAUNCHING", "ABANDON"), address
        assert group["instance_refresh"][0]["preferences"][0]["min_healthy_percentage"] == 100, address
    for address, hook in of(plan, "aws_autoscaling_lifecycle_hook").items():
        assert (hook["lifecycle_transition"], hook["default_result"]) == ("autoscaling:EC2_INSTANCE_TERMINATING", "CONTINUE"), address
        # Longer than the drain, so that it is not over before.
        assert hook["heartbeat_timeout"] == 600 + 60, address


# --- What is made of it, on the stand-in --------------------------------------------------------------------------------------------


def statements(state):
    kinds = (".aws_iam_role.", ".aws_iam_role_policy.", ".aws_s3_bucket_policy.", ".aws_kms_key.")
    for address, values in state.items():
        for key in ("policy", "assume_role_policy"):
            if values.get(key) and any(kind in address for kind in kinds):
                for statement in json.loads(values[key])["Statement"]:
                    yield address, statement


@pytest.mark.parametrize("example", EXAMPLES)
def test_roles_may_do_what_they_need_and_no_more(applied, example):
    # What AWS has no narrower way to allow.
    anywhere = {"ecr:GetAuthorizationToken", "ec2:DescribeInstances", "ec2:DescribeAvailabilityZones", "cloudwatch:PutMetricData", "ecs:ListTasks", "ecs:DescribeTasks"}
    for address, statement in statements(applied[example].state):
        if statement["Effect"] == "Deny" or ".aws_kms_key." in address or "Resource" not in statement:
            continue
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        for action in actions:
            assert "*" not in action, f"{address} allows {action}"
        if statement["Resource"] == "*":
            assert set(actions) <= anywhere, f"{address} allows {actions} everywhere"
            assert "Condition" in statement or set(actions) & {"ecr:GetAuthorizationToken", "ec2:DescribeInstances"}, address
    # Nobody but etcd's machines writes secrets; edges may ask for nothing.
    writers = {address for address, statement in statements(applied[example].state) if "secretsmanager:PutSecretValue" in statement["Action"]}
    assert len(writers) == 1 and ".aws_iam_role_policy.etcd" in writers.pop()
    tasks = {values["name"] for address, values in applied[example].state.items() if ".aws_iam_role.task" in address}
    assert not [address for address, values in applied[example].state.items() if values.get("role") in tasks]


@pytest.mark.parametrize("example", EXAMPLES)
def test_no_secret_is_in_the_state_or_in_what_machines_are_told(applied, example):
    it = applied[example]
    values = []
    for address, secret in it.state.items():
        if ".aws_secretsmanager_secret." in address and "[\"ca\"]" not in address:
            region = secret["arn"].split(":")[3]
            try:
                values.append(it.ask("secretsmanager", region).get_secret_value(SecretId=secret["arn"])["SecretString"])
            except it.ask("secretsmanager").exceptions.ResourceNotFoundException:
                continue  # A certificate, which a machine makes.
    assert len(values) >= 5 and all(len(value) >= 32 for value in values)
    state = (it.configuration.directory / "terraform.tfstate").read_text()
    told = "".join(machines(it.state).values())
    for value in values:
        # Redis' address is one with the password in it.
        secret = value.removeprefix("rediss://:").split("@")[0]
        assert secret not in state and secret not in told
    assert "BEGIN" not in told and "PRIVATE KEY" not in state


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_machines_are_told_fits_into_an_instances_user_data(applied, example):
    told = [values.get("user_data_base64") or values["user_data"] for values in applied[example].state.values() if values.get("user_data_base64") or str(values.get("user_data", "")).startswith("H4sI")]
    assert len(told) >= 5 and all(len(base64.b64decode(text)) < 16_384 for text in told)


def pem_files(directory):
    """A certificate and its key by the names that machines have them by."""
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test", "-keyout", directory / "key.pem", "-out", directory / "cert.pem")
    for name in ("etcd_ca", "edges_ca", "nodes_ca"):
        (directory / f"{name}.pem").write_text((directory / "cert.pem").read_text())
    (directory / "password.pem").write_text("a password")


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_setting_that_is_written_is_taken_by_the_programs(applied, example, tmp_path):
    it = applied[example]
    pem_files(tmp_path)
    checked = 0
    for address, user_data in machines(it.state).items():
        if ".aws_launch_template.node" not in address:
            continue
        settings = written(user_data)["/etc/sluice/node.yaml"]
        settings = settings.replace("/etc/sluice/tls", str(tmp_path)).replace("/etc/sluice/kafka", str(tmp_path)).replace("/var/lib/sluice-recordings", str(tmp_path / "spool"))
        (tmp_path / "node.yaml").write_text(settings)
        facts = {"SLUICE_ID": "i-0123456789abcdef0", "SLUICE_GRPC__ADVERTISE": "https://10.0.0.21:7000", "SLUICE_MEDIA__PUBLIC_IP": "198.51.100.21"}
        credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        run(TARGET / "release/sfu-node", "--check-config", "--config", tmp_path / "node.yaml", env={**facts, **credentials})
        assert ("kafka:" in settings.replace('"', ""), "recording" in settings) == (example == "two-regions", example == "two-regions")
        checked += 1
    for address, values in it.state.items():
        if ".aws_ecs_task_definition." not in address:
            continue
        (container,) = json.loads(values["container_definitions"])
        variables = {each["name"]: each["value"] for each in container["environment"]}
        files = {"SLUICE_ETCD__TLS__CA": "etcd_ca", "SLUICE_GRPC__TLS__CA": "nodes_ca"}
        for each in container["secrets"]:
            name = each["name"]
            if "TLS" in name:
                # As it comes: what would stand in the file.
                variables[name] = (tmp_path / f"{files.get(name, 'key' if name.endswith('KEY') else 'cert')}.pem").read_text()
            else:
                variables[name] = "rediss://:password@redis.example:6379" if "REDIS" in name else "x" * 64
        run(TARGET / "release/edge-signal", "--check-config", *container["command"], env=variables)
        assert ("SLUICE_KAFKA" in variables) == (example == "two-regions")
        checked += 1
    assert checked == 2 * (EXAMPLES.index(example) + 1)


def test_units_are_well_formed(applied, tmp_path):
    for number, user_data in enumerate(machines(applied["two-regions"].state).values()):
        directory = tmp_path / str(number)
        directory.mkdir()
        for path, content in written(user_data).items():
            if path.startswith("/etc/systemd/system/"):
                # Judged here, where what they start is not.
                content = re.sub(r"^(Exec\w+=[-+]?)/\S+", r"\1/bin/true", content, flags=re.M)
                content = re.sub(r"^(EnvironmentFile|User)=.*\n", "", content, flags=re.M)
                (directory / path.rsplit("/", 1)[1]).write_text(content)
        judged = run("systemd-analyze", "verify", *sorted(directory.iterdir()), check=False)
        assert judged.returncode == 0 and not judged.stderr.strip(), judged.stderr


def test_prometheus_takes_its_settings_and_rules_and_looks_for_all_there_is(applied, tmp_path):
    files = next(written(text) for address, text in machines(applied["two-regions"].state).items() if ".monitoring.aws_instance." in address)
    settings = files["/etc/sluice/prometheus.yml"].replace("/var/lib/sluice-monitor/files", str(ROOT / "deploy/prometheus"))
    (tmp_path / "prometheus.yml").write_text(settings)
    run("promtool", "check", "config", tmp_path / "prometheus.yml")
    # Rules and dashboards know services by these.
    assert [job["job_name"] for job in yaml.safe_load(settings)["scrape_configs"]] == ["edge", "sfu", "etcd", "prometheus"]
    sent = {values["key"] for address, values in applied["two-regions"].state.items() if ".frankfurt.module.monitoring.aws_s3_object." in address}
    assert {"alerts.yml", "recording.yml", "dashboards/fleet.json"} <= sent and len(sent) == 2 + len(list((ROOT / "deploy/grafana/dashboards").iterdir()))


def test_regions_know_each_others_weight_and_distance_and_are_peered(applied):
    state = applied["two-regions"].state
    (facts,) = [json.loads(values["value"]) for address, values in state.items() if ".aws_ssm_parameter.facts" in address]
    assert facts["regions"] == {
        "eu-central-1": {"weight": 2, "distances": {"us-east-1": 90}},
        "us-east-1": {"weight": 1, "distances": {"eu-central-1": 90}},
    }
    # The joining region has no state of its own, and reads copies of its secrets.
    assert not [address for address in state if address.startswith("module.virginia.module.state")]
    (container,) = json.loads(state["module.virginia.module.edge.aws_ecs_task_definition.edge"]["container_definitions"])
    for each in container["secrets"]:
        assert ":us-east-1:" in each["valueFrom"], each
    routes = [values for address, values in state.items() if address.startswith("module.peering.aws_route.")]
    assert len(routes) == 8 and {route["destination_cidr_block"] for route in routes} == {"10.0.0.0/16", "10.1.0.0/16"}


def test_a_new_generation_of_the_token_secret_leaves_the_one_before_in_force(tmp_path):
    it = Applied(tmp_path, "minimal")
    try:
        main = it.configuration.directory / "main.tf"
        secret = next(values["arn"] for address, values in it.state.items() if '.aws_secretsmanager_secret.this["auth"]' in address)
        read = lambda stage: it.ask("secretsmanager").get_secret_value(SecretId=secret, VersionStage=stage)["SecretString"]
        first = read("AWSCURRENT")
        main.write_text(main.read_text().replace('nat                = "single"', 'nat                = "single"\n  generations        = { auth = 2 }'))
        state = it.configuration.apply(**it.more)
        assert read("AWSPREVIOUS") == first != read("AWSCURRENT")
        (container,) = json.loads(next(values["container_definitions"] for address, values in state.items() if ".aws_ecs_task_definition." in address))
        given = {each["name"]: each["valueFrom"] for each in container["secrets"]}
        assert given["SLUICE_AUTH__HS256_PREVIOUS_SECRET"] == f"{secret}::AWSPREVIOUS:"
        # Another task, so that edges are started anew.
        assert {"name": "REVISION", "value": "2.1.1.1"} in container["environment"]
    finally:
        it.end()


# Of what is not removed: what moto has no call to remove, and what is AWS' own to begin with.
def left_over(it, region):
    ec2 = it.ask("ec2", region)
    tagged = [{"Name": "tag:Project", "Values": ["sluice"]}]
    left = {
        "VPCs": [each["VpcId"] for each in ec2.describe_vpcs()["Vpcs"] if not each["IsDefault"]],
        "volumes": [each["VolumeId"] for each in ec2.describe_volumes()["Volumes"] if each["State"] == "available"],
        "addresses": [each["AllocationId"] for each in ec2.describe_addresses()["Addresses"]],
        "gateways": [each["NatGatewayId"] for each in ec2.describe_nat_gateways()["NatGateways"] if each["State"] != "deleted"],
        "machines": [each["InstanceId"] for group in ec2.describe_instances(Filters=tagged)["Reservations"] for each in group["Instances"] if each["State"]["Name"] != "terminated"],
        "templates": ec2.describe_launch_templates()["LaunchTemplates"],
        "groups": it.ask("autoscaling", region).describe_auto_scaling_groups()["AutoScalingGroups"],
        "balancers": it.ask("elbv2", region).describe_load_balancers()["LoadBalancers"],
        "target groups": it.ask("elbv2", region).describe_target_groups()["TargetGroups"],
        "services": [cluster for cluster in it.ask("ecs", region).describe_clusters(clusters=it.ask("ecs", region).list_clusters()["clusterArns"])["clusters"] if cluster["status"] == "ACTIVE"],
        "Redis": [each["ReplicationGroupId"] for each in it.ask("elasticache", region).describe_replication_groups()["ReplicationGroups"] if each["Status"] != "deleting"],
        "secrets": it.ask("secretsmanager", region).list_secrets()["SecretList"],
        "parameters": it.ask("ssm", region).describe_parameters()["Parameters"],
        "log groups": it.ask("logs", region).describe_log_groups()["logGroups"],
        "certificates": it.ask("acm", region).list_certificates()["CertificateSummaryList"],
        "buckets": it.ask("s3").list_buckets()["Buckets"],
        "roles": it.ask("iam").list_roles()["Roles"],
        "profiles": it.ask("iam").list_instance_profiles()["InstanceProfiles"],
        "zones": [each["Name"] for each in it.ask("route53").list_hosted_zones()["HostedZones"] if each["Name"] != "calls.example.com."],
    }
    return {what: found for what, found in left.items() if found}


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_second_apply_would_change_nothing_and_destroy_leaves_nothing(applied, example):
    """Last of those that look at what was applied: then it is gone."""
    it = applied[example]
    again = it.configuration.terraform("plan", "-no-color", "-input=false", "-detailed-exitcode", check=False, **it.configuration.variables(**it.more))
    assert again.returncode == 0, again.stdout[-3000:]
    it.configuration.terraform("destroy", "-no-color", "-input=false", "-auto-approve", **it.configuration.variables(**it.more))
    regions = ["eu-central-1", "us-east-1"][: EXAMPLES.index(example) + 1]
    assert {region: left_over(it, region) for region in regions} == {region: {} for region in regions}


def test_what_the_stand_in_cannot_do_is_listed_with_its_reason():
    text = (ROOT / "terraform/README.md").read_text()
    for kind, reason in standing.MADE_UP.items():
        assert f"| `{kind}` | {reason} |" in text, f"{kind} is not in terraform/README.md with its reason"
