"""An AWS account that makes what it is asked for and remembers nothing but secrets: identifiers and addresses look like AWS's own."""

import json
import os
import re
import secrets

from botocore.exceptions import ClientError

from values import UNKNOWN
from standing import KEPT, LEFT, MADE_UP, Standing

ID = "123456789012"
# What identifiers of EC2 begin with.
PREFIXES = {
    "vpc": "vpc", "subnet": "subnet", "internet_gateway": "igw", "egress_only_internet_gateway": "eigw", "nat_gateway": "nat", "eip": "eipalloc",
    "route_table": "rtb", "security_group": "sg", "vpc_security_group_ingress_rule": "sgr", "vpc_security_group_egress_rule": "sgr",
    "vpc_endpoint": "vpce", "instance": "i", "ebs_volume": "vol", "network_interface": "eni", "launch_template": "lt", "vpc_peering_connection": "pcx",
    "vpc_dhcp_options": "dopt", "flow_log": "fl",
}


class Invalid(Exception):
    """What the real provider would refuse before it asks AWS anything."""


def check(kind, config):
    """What the schema does not say, of what is easily got wrong here."""
    for key in ("policy", "assume_role_policy", "container_definitions"):
        text = (config or {}).get(key)
        if isinstance(text, str):
            try:
                json.loads(text)
            except ValueError as error:
                raise Invalid(f"{kind}.{key} is not JSON: {error}") from None


class Account:
    """What is asked of it is asked of a stand-in for AWS where there is one (`AWS_ENDPOINT_URL`), and made up else."""

    def __init__(self, region):
        self.region = region
        self.standing = Standing(region) if "AWS_ENDPOINT_URL" in os.environ else None
        self.secrets = {}

    def create(self, kind, planned, config):
        if self.asks(kind):
            method = getattr(self.standing, "create_" + kind.removeprefix("aws_"))
            known = method(Plain({**planned, **{key: value for key, value in config.items() if key.endswith("_wo")}}))
            made = Made(kind.removeprefix("aws_"), known["id"], self.region, planned)
            made.known = known
            return made
        name = kind.removeprefix("aws_")
        identifier = f"{PREFIXES[name]}-{secrets.token_hex(8)}0" if name in PREFIXES else planned.get("name")
        if not isinstance(identifier, str):
            identifier = f"{name.replace('_', '-')}-{secrets.token_hex(4)}"
        if kind == "aws_secretsmanager_secret_version":
            self.secrets[planned["secret_id"]] = config.get("secret_string_wo") or config.get("secret_string")
        return Made(name, identifier, self.region, planned)

    def update(self, kind, prior, planned, config):
        return self.create(kind, planned, config)

    def delete(self, kind, state):
        name = kind.removeprefix("aws_")
        if self.asks(kind) and name not in KEPT | LEFT:
            getattr(self.standing, "delete_" + name)(state)

    def is_there(self, kind, state):
        if not self.asks(kind):
            return True
        try:
            return bool(getattr(self.standing, "there_" + kind.removeprefix("aws_"))(state))
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if "NotFound" in code or code.startswith("NoSuch") or code == "404":
                return False
            raise

    def asks(self, kind):
        """Whether AWS' stand-in is asked: for all that it has calls for."""
        return self.standing is not None and kind not in MADE_UP

    def look_up(self, kind, config):
        match kind:
            case "aws_caller_identity":
                return {"id": ID, "account_id": ID, "arn": f"arn:aws:iam::{ID}:user/test", "user_id": "AIDATEST"}
            case "aws_partition":
                return {"id": "aws", "partition": "aws", "dns_suffix": "amazonaws.com", "reverse_dns_prefix": "com.amazonaws"}
            case "aws_region":
                return {"id": self.region, "name": self.region}
            case "aws_availability_zones":
                names = [f"{self.region}{letter}" for letter in "abc"]
                return {"id": self.region, "names": names, "zone_ids": names, "group_names": [self.region]}
            case "aws_ssm_parameter":
                return {"id": config["name"], "arn": f"arn:aws:ssm:{self.region}::parameter{config['name']}", "type": "String", "value": "ami-0123456789abcdef0", "version": 1}
        raise Invalid(f"{kind} is not here")

    def open(self, kind, config):
        if self.standing is not None and kind == "aws_secretsmanager_secret_version":
            found = self.standing.secretsmanager.get_secret_value(SecretId=config["secret_id"])
            return {"secret_string": found["SecretString"], "arn": found["ARN"], "version_id": found["VersionId"]}
        match kind:
            case "aws_secretsmanager_random_password":
                length = int(config.get("password_length") or 32)
                return {"random_password": secrets.token_hex(length)[:length]}
            case "aws_secretsmanager_secret_version":
                value = self.secrets.get(config["secret_id"]) or "0" * 32
                return {"secret_string": value, "arn": config["secret_id"], "version_id": "1"}
        raise Invalid(f"{kind} is not here")


def Plain(value):
    """Without what is not known yet."""
    if isinstance(value, dict):
        return {key: Plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [Plain(each) for each in value]
    return None if value is UNKNOWN else value


class Made:
    """What AWS says of what was made: by the names of attributes."""

    def __init__(self, name, identifier, region, planned):
        self.name, self.id, self.region, self.planned = name, identifier, region, planned
        self.known = {}

    def __call__(self, key, of):
        name = re.sub(r"[^a-z0-9-]", "-", str(self.id).lower())
        special = {
            "id": self.arn() if self.name in ARN_IS_ID else self.id,
            "arn": self.arn(),
            "dns_name": f"{name}.elb.{self.region}.amazonaws.com",
            "zone_id": "Z0123456789ABC",
            "hosted_zone_id": "Z0123456789ABC",
            "name": self.id,
            "primary_endpoint_address": f"master.{name}.abc123.{self.region}.cache.amazonaws.com",
            "reader_endpoint_address": f"replica.{name}.abc123.{self.region}.cache.amazonaws.com",
            "private_ip": "10.0.0.10",
            "public_ip": "198.51.100.10",
            "ipv6_cidr_block": "2001:db8:1200::/56",
            "bucket_domain_name": f"{name}.s3.amazonaws.com",
            "bucket_regional_domain_name": f"{name}.s3.{self.region}.amazonaws.com",
            "arn_suffix": f"net/{name}/0123456789abcdef",
            "bootstrap_brokers_tls": f"b-1.{name}.kafka.{self.region}.amazonaws.com:9094",
            "bootstrap_brokers_sasl_scram": f"b-1.{name}.kafka.{self.region}.amazonaws.com:9096",
            "latest_version": 1,
            "default_version": 1,
            "unique_id": "AROATEST",
            "owner_id": ID,
            "revision": 1,
            "version_id": "1",
        }
        if key in self.known:
            return self.known[key]
        if self.name == "acm_certificate" and key == "domain_validation_options":
            names = [self.planned["domain_name"], *(self.planned.get("subject_alternative_names") or [])]
            record = {"resource_record_type": "CNAME", "resource_record_value": "_0123.acm-validations.aws."}
            return [{"domain_name": name, "resource_record_name": f"_0123.{name}.", **record} for name in names]
        if key in special:
            return special[key]
        if of == "string":
            return f"{name}-{key.replace('_', '-')}"
        if of == "number":
            return 1
        if of == "bool":
            return False
        return {} if of[0] == "map" else [] if of[0] in ("list", "set") else None

    def arn(self):
        service, path = ARNS.get(self.name, ("ec2", self.name.replace("_", "-")))
        separator = "" if path.endswith(":") else "/"
        region, account = ("", "") if service == "s3" else ("", ID) if service in ("iam", "route53") else (self.region, ID)
        return f"arn:aws:{service}:{region}:{account}:{path}{separator}{self.id}" if service != "s3" else f"arn:aws:s3:::{self.id}"


ARN_IS_ID = {"lb", "lb_target_group", "lb_listener", "secretsmanager_secret", "msk_cluster", "ecs_task_definition", "ecs_service", "acm_certificate"}
ARNS = {
    "lb": ("elasticloadbalancing", "loadbalancer/net"),
    "lb_target_group": ("elasticloadbalancing", "targetgroup"),
    "lb_listener": ("elasticloadbalancing", "listener/net"),
    "secretsmanager_secret": ("secretsmanager", "secret:"),
    "iam_role": ("iam", "role"),
    "iam_instance_profile": ("iam", "instance-profile"),
    "s3_bucket": ("s3", ""),
    "kms_key": ("kms", "key"),
    "ecs_cluster": ("ecs", "cluster"),
    "ecs_service": ("ecs", "service"),
    "ecs_task_definition": ("ecs", "task-definition"),
    "cloudwatch_log_group": ("logs", "log-group:"),
    "autoscaling_group": ("autoscaling", "autoScalingGroup"),
    "msk_cluster": ("kafka", "cluster"),
    "ssm_parameter": ("ssm", "parameter"),
    "elasticache_replication_group": ("elasticache", "replicationgroup:"),
    "acm_certificate": ("acm", "certificate"),
    "sns_topic": ("sns", ""),
}
