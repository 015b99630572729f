"""What the AWS provider would ask AWS for each resource, asked of a stand-in for AWS: by AWS' own client, whose model of each call knows names, types,
lengths and, checked here, allowed words and patterns. Made, looked for, removed; changed in place is nothing.

What the stand-in (moto) has no such call for is in `MADE_UP`, each with the reason, and is made up by `account.py`."""

import base64
import json
import re
import secrets

import boto3
from botocore.exceptions import ClientError

MADE_UP = {
    "aws_volume_attachment": "moto attaches volumes only to instances that it started itself with its own images, and forgets the device",
    "aws_acm_certificate_validation": "nothing in AWS: the provider waits until a certificate is issued",
    "aws_default_security_group": "nothing is made: the provider takes the rules off the group that the VPC came with",
    "aws_lb_target_group_attachment": "moto wants the instance to be running in its own sense",
    "aws_elasticache_parameter_group": "moto has no groups of parameters of ElastiCache",
    "aws_msk_configuration": "moto has no configurations of MSK",
    "aws_msk_scram_secret_association": "moto has no secrets of MSK",
    "aws_route53_zone_association": "moto keeps one network for each zone",
    "aws_appautoscaling_policy": "moto knows no sum of metrics in policies of ECS",
    "aws_autoscaling_policy": "moto keeps it, and does not remove it with its group",
    "aws_ecs_cluster_capacity_providers": "moto counts FARGATE as none that is there",
}


def check_words(params, model, **_):
    """Refuses what AWS would: words that are not among those allowed, texts that do not match their pattern."""

    def walk(value, shape, path):
        if value is None:
            return
        if shape.type_name == "structure":
            for key, each in value.items():
                walk(each, shape.members[key], f"{path}.{key}")
        elif shape.type_name == "list":
            for index, each in enumerate(value):
                walk(each, shape.member, f"{path}[{index}]")
        elif shape.type_name == "map":
            for key, each in value.items():
                walk(each, shape.value, f"{path}.{key}")
        elif shape.type_name == "string" and isinstance(value, str):
            if shape.enum and value not in shape.enum:
                raise ValueError(f"{path}: {value!r} is none of {', '.join(shape.enum)}")
            pattern = shape.metadata.get("pattern")
            if pattern and not path.endswith("Policy"):
                try:
                    fits = re.search(pattern.replace("\\p{L}", "a-zA-Z").replace("\\p{Z}", " ").replace("\\p{N}", "0-9"), value)
                except re.error:
                    return
                if not fits:
                    raise ValueError(f"{path}: {value!r} does not match {pattern}")

    walk(params, model.input_shape, model.name)


def tags(planned):
    """As most services want them."""
    return [{"Key": key, "Value": value} for key, value in sorted((planned.get("tags_all") or {}).items())]


def given(**arguments):
    """Without what is not set."""
    return {key: value for key, value in arguments.items() if value not in (None, "", [], {})}


def ports(planned):
    rule = {"IpProtocol": planned["ip_protocol"], "FromPort": int(planned["from_port"]), "ToPort": int(planned["to_port"])}
    described = {"Description": planned["description"]} if planned.get("description") else {}
    if planned.get("cidr_ipv4"):
        rule["IpRanges"] = [{"CidrIp": planned["cidr_ipv4"], **described}]
    if planned.get("cidr_ipv6"):
        rule["Ipv6Ranges"] = [{"CidrIpv6": planned["cidr_ipv6"], **described}]
    if planned.get("referenced_security_group_id"):
        rule["UserIdGroupPairs"] = [{"GroupId": planned["referenced_security_group_id"], **described}]
    return rule


class Standing:
    """`create_X(planned)` makes one and returns what is known of it then; `there_X(state)` raises or is false when it is not there; `delete_X(state)`."""

    def __init__(self, region):
        self.region = region
        self.session = boto3.Session(region_name=region)
        self.clients = {}

    def __getattr__(self, name):
        if name.startswith(("create_", "there_", "delete_")):
            raise AttributeError(name)
        if name not in self.clients:
            service = {"scaling": "application-autoscaling", "groups": "autoscaling"}.get(name, name)
            client = self.session.client(service)
            client.meta.events.register("provide-client-params.*", lambda params, model, **_: check_words(params, model))
            self.clients[name] = client
        return self.clients[name]

    # --- Secrets and facts ------------------------------------------------------------------------------------------------------------

    def create_secretsmanager_secret(self, planned):
        name = planned["name_prefix"] + secrets.token_hex(8)
        made = self.secretsmanager.create_secret(
            **given(Name=name, Description=planned.get("description"), KmsKeyId=planned.get("kms_key_id"), Tags=tags(planned)),
            **given(AddReplicaRegions=[{"Region": each["region"]} for each in planned.get("replica") or []]),
        )
        return {"id": made["ARN"], "arn": made["ARN"], "name": name}

    def there_secretsmanager_secret(self, state):
        return self.secretsmanager.describe_secret(SecretId=state["id"])

    def delete_secretsmanager_secret(self, state):
        for each in state.get("replica") or []:
            self.secretsmanager.remove_regions_from_replication(SecretId=state["id"], RemoveReplicaRegions=[each["region"]])
        self.secretsmanager.delete_secret(SecretId=state["id"], ForceDeleteWithoutRecovery=True)

    def create_secretsmanager_secret_version(self, planned):
        made = self.secretsmanager.put_secret_value(SecretId=planned["secret_id"], SecretString=planned["secret_string_wo"])
        return {"id": f"{planned['secret_id']}|{made['VersionId']}", "arn": made["ARN"], "version_id": made["VersionId"]}

    def there_secretsmanager_secret_version(self, state):
        return self.secretsmanager.get_secret_value(SecretId=state["secret_id"], VersionId=state["version_id"])

    def create_secretsmanager_secret_policy(self, planned):
        self.secretsmanager.put_resource_policy(SecretId=planned["secret_arn"], ResourcePolicy=planned["policy"])
        return {"id": planned["secret_arn"]}

    def there_secretsmanager_secret_policy(self, state):
        return self.secretsmanager.get_resource_policy(SecretId=state["id"]).get("ResourcePolicy")

    def delete_secretsmanager_secret_policy(self, state):
        self.secretsmanager.delete_resource_policy(SecretId=state["id"])

    def create_ssm_parameter(self, planned):
        self.ssm.put_parameter(Name=planned["name"], Type=planned["type"], Value=planned["value"], Overwrite=True)
        return {"id": planned["name"], "arn": f"arn:aws:ssm:{self.region}:123456789012:parameter{planned['name']}"}

    def there_ssm_parameter(self, state):
        return self.ssm.get_parameter(Name=state["id"])

    def delete_ssm_parameter(self, state):
        self.ssm.delete_parameter(Name=state["id"])

    def create_kms_key(self, planned):
        made = self.kms.create_key(Description=planned["description"], Policy=planned["policy"])["KeyMetadata"]
        self.kms.enable_key_rotation(KeyId=made["KeyId"])
        return {"id": made["KeyId"], "key_id": made["KeyId"], "arn": made["Arn"]}

    def there_kms_key(self, state):
        return self.kms.describe_key(KeyId=state["id"])["KeyMetadata"]["KeyState"] == "Enabled"

    def delete_kms_key(self, state):
        self.kms.schedule_key_deletion(KeyId=state["id"], PendingWindowInDays=int(state["deletion_window_in_days"]))

    # --- Storage ----------------------------------------------------------------------------------------------------------------------

    def create_s3_bucket(self, planned):
        name = planned["bucket_prefix"] + secrets.token_hex(8)
        place = {} if self.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        self.s3.create_bucket(Bucket=name, **place)
        return {"id": name, "bucket": name, "arn": f"arn:aws:s3:::{name}"}

    def there_s3_bucket(self, state):
        return self.s3.head_bucket(Bucket=state["id"])

    def delete_s3_bucket(self, state):
        if state["force_destroy"]:
            found = self.s3.list_object_versions(Bucket=state["id"])
            for each in found.get("Versions", []) + found.get("DeleteMarkers", []):
                self.s3.delete_object(Bucket=state["id"], Key=each["Key"], VersionId=each["VersionId"])
        self.s3.delete_bucket(Bucket=state["id"])

    def create_s3_object(self, planned):
        with open(planned["source"], "rb") as file:
            self.s3.put_object(Bucket=planned["bucket"], Key=planned["key"], Body=file, ServerSideEncryption=planned["server_side_encryption"])
        return {"id": planned["key"]}

    def there_s3_object(self, state):
        return self.s3.head_object(Bucket=state["bucket"], Key=state["key"])

    def delete_s3_object(self, state):
        self.s3.delete_object(Bucket=state["bucket"], Key=state["key"])

    def create_s3_bucket_public_access_block(self, planned):
        flags = {"BlockPublicAcls": "block_public_acls", "BlockPublicPolicy": "block_public_policy", "IgnorePublicAcls": "ignore_public_acls", "RestrictPublicBuckets": "restrict_public_buckets"}
        self.s3.put_public_access_block(Bucket=planned["bucket"], PublicAccessBlockConfiguration={name: planned[key] for name, key in flags.items()})
        return {"id": planned["bucket"]}

    def there_s3_bucket_public_access_block(self, state):
        return self.s3.get_public_access_block(Bucket=state["bucket"])

    def delete_s3_bucket_public_access_block(self, state):
        self.s3.delete_public_access_block(Bucket=state["bucket"])

    def create_s3_bucket_server_side_encryption_configuration(self, planned):
        rules = [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": each["apply_server_side_encryption_by_default"][0]["sse_algorithm"]}} for each in planned["rule"]]
        self.s3.put_bucket_encryption(Bucket=planned["bucket"], ServerSideEncryptionConfiguration={"Rules": rules})
        return {"id": planned["bucket"]}

    def there_s3_bucket_server_side_encryption_configuration(self, state):
        return self.s3.get_bucket_encryption(Bucket=state["bucket"])

    def create_s3_bucket_versioning(self, planned):
        self.s3.put_bucket_versioning(Bucket=planned["bucket"], VersioningConfiguration={"Status": planned["versioning_configuration"][0]["status"]})
        return {"id": planned["bucket"]}

    def there_s3_bucket_versioning(self, state):
        return self.s3.get_bucket_versioning(Bucket=state["bucket"]).get("Status")

    def create_s3_bucket_policy(self, planned):
        self.s3.put_bucket_policy(Bucket=planned["bucket"], Policy=planned["policy"])
        return {"id": planned["bucket"]}

    def there_s3_bucket_policy(self, state):
        return self.s3.get_bucket_policy(Bucket=state["bucket"])

    def delete_s3_bucket_policy(self, state):
        self.s3.delete_bucket_policy(Bucket=state["bucket"])

    def create_s3_bucket_lifecycle_configuration(self, planned):
        def rule(each):
            made = {"ID": each["id"], "Status": each["status"], "Filter": {"Prefix": (each["filter"] or [{}])[0].get("prefix") or ""}}
            for part in each["expiration"] or []:
                made["Expiration"] = {"Days": int(part["days"])}
            for part in each["noncurrent_version_expiration"] or []:
                made["NoncurrentVersionExpiration"] = {"NoncurrentDays": int(part["noncurrent_days"])}
            for part in each["abort_incomplete_multipart_upload"] or []:
                made["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": int(part["days_after_initiation"])}
            if each["transition"]:
                made["Transitions"] = [{"Days": int(part["days"]), "StorageClass": part["storage_class"]} for part in each["transition"]]
            return made

        self.s3.put_bucket_lifecycle_configuration(Bucket=planned["bucket"], LifecycleConfiguration={"Rules": [rule(each) for each in planned["rule"]]})
        return {"id": planned["bucket"]}

    def there_s3_bucket_lifecycle_configuration(self, state):
        return self.s3.get_bucket_lifecycle_configuration(Bucket=state["bucket"])

    def delete_s3_bucket_lifecycle_configuration(self, state):
        self.s3.delete_bucket_lifecycle(Bucket=state["bucket"])

    # --- Networks ---------------------------------------------------------------------------------------------------------------------

    def create_vpc(self, planned):
        made = self.ec2.create_vpc(CidrBlock=planned["cidr_block"], AmazonProvidedIpv6CidrBlock=planned["assign_generated_ipv6_cidr_block"])["Vpc"]
        self.ec2.modify_vpc_attribute(VpcId=made["VpcId"], EnableDnsHostnames={"Value": planned["enable_dns_hostnames"]})
        made = self.ec2.describe_vpcs(VpcIds=[made["VpcId"]])["Vpcs"][0]
        return {"id": made["VpcId"], "ipv6_cidr_block": made["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"]}

    def there_vpc(self, state):
        return self.ec2.describe_vpcs(VpcIds=[state["id"]])["Vpcs"]

    def delete_vpc(self, state):
        self.ec2.delete_vpc(VpcId=state["id"])

    def create_internet_gateway(self, planned):
        made = self.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        self.ec2.attach_internet_gateway(InternetGatewayId=made, VpcId=planned["vpc_id"])
        return {"id": made}

    def there_internet_gateway(self, state):
        return self.ec2.describe_internet_gateways(InternetGatewayIds=[state["id"]])["InternetGateways"]

    def delete_internet_gateway(self, state):
        self.ec2.detach_internet_gateway(InternetGatewayId=state["id"], VpcId=state["vpc_id"])
        self.ec2.delete_internet_gateway(InternetGatewayId=state["id"])

    def create_egress_only_internet_gateway(self, planned):
        return {"id": self.ec2.create_egress_only_internet_gateway(VpcId=planned["vpc_id"])["EgressOnlyInternetGateway"]["EgressOnlyInternetGatewayId"]}

    def there_egress_only_internet_gateway(self, state):
        return self.ec2.describe_egress_only_internet_gateways(EgressOnlyInternetGatewayIds=[state["id"]])["EgressOnlyInternetGateways"]

    def delete_egress_only_internet_gateway(self, state):
        self.ec2.delete_egress_only_internet_gateway(EgressOnlyInternetGatewayId=state["id"])

    def create_subnet(self, planned):
        made = self.ec2.create_subnet(
            VpcId=planned["vpc_id"], CidrBlock=planned["cidr_block"], Ipv6CidrBlock=planned["ipv6_cidr_block"], AvailabilityZone=planned["availability_zone"]
        )["Subnet"]["SubnetId"]
        if planned.get("map_public_ip_on_launch"):
            self.ec2.modify_subnet_attribute(SubnetId=made, MapPublicIpOnLaunch={"Value": True})
        return {"id": made}

    def there_subnet(self, state):
        return self.ec2.describe_subnets(SubnetIds=[state["id"]])["Subnets"]

    def delete_subnet(self, state):
        self.ec2.delete_subnet(SubnetId=state["id"])

    def create_eip(self, planned):
        made = self.ec2.allocate_address(Domain=planned["domain"])
        return {"id": made["AllocationId"], "allocation_id": made["AllocationId"], "public_ip": made["PublicIp"]}

    def there_eip(self, state):
        return self.ec2.describe_addresses(AllocationIds=[state["id"]])["Addresses"]

    def delete_eip(self, state):
        self.ec2.release_address(AllocationId=state["id"])

    def create_nat_gateway(self, planned):
        return {"id": self.ec2.create_nat_gateway(SubnetId=planned["subnet_id"], AllocationId=planned["allocation_id"])["NatGateway"]["NatGatewayId"]}

    def there_nat_gateway(self, state):
        return [each for each in self.ec2.describe_nat_gateways(NatGatewayIds=[state["id"]])["NatGateways"] if each["State"] == "available"]

    def delete_nat_gateway(self, state):
        self.ec2.delete_nat_gateway(NatGatewayId=state["id"])

    def create_route_table(self, planned):
        return {"id": self.ec2.create_route_table(VpcId=planned["vpc_id"])["RouteTable"]["RouteTableId"]}

    def there_route_table(self, state):
        return self.ec2.describe_route_tables(RouteTableIds=[state["id"]])["RouteTables"]

    def delete_route_table(self, state):
        self.ec2.delete_route_table(RouteTableId=state["id"])

    def create_route(self, planned):
        ways = {
            "GatewayId": "gateway_id", "NatGatewayId": "nat_gateway_id", "EgressOnlyInternetGatewayId": "egress_only_gateway_id",
            "VpcPeeringConnectionId": "vpc_peering_connection_id", "DestinationCidrBlock": "destination_cidr_block", "DestinationIpv6CidrBlock": "destination_ipv6_cidr_block",
        }
        self.ec2.create_route(RouteTableId=planned["route_table_id"], **given(**{name: planned.get(key) for name, key in ways.items()}))
        return {"id": f"r-{planned['route_table_id']}{secrets.token_hex(4)}"}

    def there_route(self, state):
        routes = self.ec2.describe_route_tables(RouteTableIds=[state["route_table_id"]])["RouteTables"][0]["Routes"]
        wanted = state["destination_cidr_block"] or state["destination_ipv6_cidr_block"]
        return [each for each in routes if wanted in (each.get("DestinationCidrBlock"), each.get("DestinationIpv6CidrBlock"))]

    def delete_route(self, state):
        self.ec2.delete_route(
            RouteTableId=state["route_table_id"], **given(DestinationCidrBlock=state["destination_cidr_block"], DestinationIpv6CidrBlock=state["destination_ipv6_cidr_block"])
        )

    def create_route_table_association(self, planned):
        return {"id": self.ec2.associate_route_table(RouteTableId=planned["route_table_id"], SubnetId=planned["subnet_id"])["AssociationId"]}

    def there_route_table_association(self, state):
        tables = self.ec2.describe_route_tables(RouteTableIds=[state["route_table_id"]])["RouteTables"]
        return [each for each in tables[0]["Associations"] if each["RouteTableAssociationId"] == state["id"]]

    def delete_route_table_association(self, state):
        self.ec2.disassociate_route_table(AssociationId=state["id"])

    def create_vpc_endpoint(self, planned):
        made = self.ec2.create_vpc_endpoint(
            VpcId=planned["vpc_id"], ServiceName=planned["service_name"], VpcEndpointType=planned["vpc_endpoint_type"], RouteTableIds=planned["route_table_ids"]
        )
        return {"id": made["VpcEndpoint"]["VpcEndpointId"]}

    def there_vpc_endpoint(self, state):
        return [each for each in self.ec2.describe_vpc_endpoints(VpcEndpointIds=[state["id"]])["VpcEndpoints"] if each["State"] != "deleted"]

    def delete_vpc_endpoint(self, state):
        self.ec2.delete_vpc_endpoints(VpcEndpointIds=[state["id"]])

    def create_security_group(self, planned):
        made = self.ec2.create_security_group(GroupName=planned["name"], Description=planned["description"], VpcId=planned["vpc_id"])["GroupId"]
        # As the provider does: a group comes with leave to go anywhere.
        anywhere = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        self.ec2.revoke_security_group_egress(GroupId=made, IpPermissions=[anywhere])
        return {"id": made}

    def there_security_group(self, state):
        return self.ec2.describe_security_groups(GroupIds=[state["id"]])["SecurityGroups"]

    def delete_security_group(self, state):
        self.ec2.delete_security_group(GroupId=state["id"])

    def create_vpc_security_group_ingress_rule(self, planned):
        made = self.ec2.authorize_security_group_ingress(GroupId=planned["security_group_id"], IpPermissions=[ports(planned)])
        return {"id": made["SecurityGroupRules"][0]["SecurityGroupRuleId"]}

    def create_vpc_security_group_egress_rule(self, planned):
        made = self.ec2.authorize_security_group_egress(GroupId=planned["security_group_id"], IpPermissions=[ports(planned)])
        return {"id": made["SecurityGroupRules"][0]["SecurityGroupRuleId"]}

    def there_vpc_security_group_ingress_rule(self, state):
        return self.ec2.describe_security_group_rules(SecurityGroupRuleIds=[state["id"]])["SecurityGroupRules"]

    there_vpc_security_group_egress_rule = there_vpc_security_group_ingress_rule

    def delete_vpc_security_group_ingress_rule(self, state):
        self.ec2.revoke_security_group_ingress(GroupId=state["security_group_id"], IpPermissions=[ports(state)])

    def delete_vpc_security_group_egress_rule(self, state):
        self.ec2.revoke_security_group_egress(GroupId=state["security_group_id"], IpPermissions=[ports(state)])

    def create_network_interface(self, planned):
        made = self.ec2.create_network_interface(SubnetId=planned["subnet_id"], PrivateIpAddress=planned["private_ips"][0], Groups=planned["security_groups"])["NetworkInterface"]
        return {"id": made["NetworkInterfaceId"], "private_ip": made["PrivateIpAddress"]}

    def there_network_interface(self, state):
        return self.ec2.describe_network_interfaces(NetworkInterfaceIds=[state["id"]])["NetworkInterfaces"]

    def delete_network_interface(self, state):
        self.ec2.delete_network_interface(NetworkInterfaceId=state["id"])

    def create_vpc_peering_connection(self, planned):
        made = self.ec2.create_vpc_peering_connection(VpcId=planned["vpc_id"], PeerVpcId=planned["peer_vpc_id"], PeerRegion=planned["peer_region"])["VpcPeeringConnection"]
        return {"id": made["VpcPeeringConnectionId"]}

    def there_vpc_peering_connection(self, state):
        return [each for each in self.ec2.describe_vpc_peering_connections(VpcPeeringConnectionIds=[state["id"]])["VpcPeeringConnections"] if each["Status"]["Code"] == "active"]

    def create_vpc_peering_connection_accepter(self, planned):
        self.ec2.accept_vpc_peering_connection(VpcPeeringConnectionId=planned["vpc_peering_connection_id"])
        return {"id": planned["vpc_peering_connection_id"]}

    there_vpc_peering_connection_accepter = there_vpc_peering_connection

    def delete_vpc_peering_connection(self, state):
        self.ec2.delete_vpc_peering_connection(VpcPeeringConnectionId=state["id"])

    def create_route53_zone(self, planned):
        made = self.route53.create_hosted_zone(
            Name=planned["name"], CallerReference=secrets.token_hex(8), VPC={"VPCRegion": self.region, "VPCId": planned["vpc"][0]["vpc_id"]}, HostedZoneConfig={"PrivateZone": True}
        )["HostedZone"]["Id"]
        zone = made.removeprefix("/hostedzone/")
        return {"id": zone, "zone_id": zone}

    def there_route53_zone(self, state):
        return self.route53.get_hosted_zone(Id=state["id"])

    def delete_route53_zone(self, state):
        self.route53.delete_hosted_zone(Id=state["id"])

    def _record(self, action, planned):
        record = {"Name": planned["name"], "Type": planned["type"]}
        if planned.get("alias"):
            (alias,) = planned["alias"]
            record["AliasTarget"] = {"HostedZoneId": alias["zone_id"], "DNSName": alias["name"], "EvaluateTargetHealth": alias["evaluate_target_health"]}
        else:
            record |= {"TTL": int(planned["ttl"]), "ResourceRecords": [{"Value": each} for each in planned["records"]]}
        self.route53.change_resource_record_sets(HostedZoneId=planned["zone_id"], ChangeBatch={"Changes": [{"Action": action, "ResourceRecordSet": record}]})

    def create_route53_record(self, planned):
        self._record("UPSERT", planned)
        return {"id": f"{planned['zone_id']}_{planned['name']}_{planned['type']}", "fqdn": planned["name"]}

    def there_route53_record(self, state):
        found = self.route53.list_resource_record_sets(HostedZoneId=state["zone_id"])["ResourceRecordSets"]
        return [each for each in found if each["Type"] == state["type"] and each["Name"].rstrip(".") == state["name"].rstrip(".")]

    def delete_route53_record(self, state):
        self._record("DELETE", state)

    def create_acm_certificate(self, planned):
        made = self.acm.request_certificate(**given(DomainName=planned["domain_name"], SubjectAlternativeNames=planned["subject_alternative_names"]), ValidationMethod=planned["validation_method"])
        return {"id": made["CertificateArn"], "arn": made["CertificateArn"]}

    def there_acm_certificate(self, state):
        return self.acm.describe_certificate(CertificateArn=state["id"])

    def delete_acm_certificate(self, state):
        self.acm.delete_certificate(CertificateArn=state["id"])

    # --- Who may do what --------------------------------------------------------------------------------------------------------------

    def create_iam_role(self, planned):
        name = planned["name_prefix"] + secrets.token_hex(6)
        made = self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=planned["assume_role_policy"])["Role"]
        return {"id": name, "name": name, "arn": made["Arn"], "unique_id": made["RoleId"]}

    def there_iam_role(self, state):
        return self.iam.get_role(RoleName=state["id"])

    def delete_iam_role(self, state):
        self.iam.delete_role(RoleName=state["id"])

    def create_iam_role_policy(self, planned):
        self.iam.put_role_policy(RoleName=planned["role"], PolicyName=planned["name"], PolicyDocument=planned["policy"])
        return {"id": f"{planned['role']}:{planned['name']}"}

    def there_iam_role_policy(self, state):
        return self.iam.get_role_policy(RoleName=state["role"], PolicyName=state["name"])

    def delete_iam_role_policy(self, state):
        self.iam.delete_role_policy(RoleName=state["role"], PolicyName=state["name"])

    def create_iam_instance_profile(self, planned):
        name = planned["name_prefix"] + secrets.token_hex(6)
        made = self.iam.create_instance_profile(InstanceProfileName=name)["InstanceProfile"]
        self.iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=planned["role"])
        return {"id": name, "name": name, "arn": made["Arn"]}

    def there_iam_instance_profile(self, state):
        return self.iam.get_instance_profile(InstanceProfileName=state["id"])

    def delete_iam_instance_profile(self, state):
        self.iam.remove_role_from_instance_profile(InstanceProfileName=state["id"], RoleName=state["role"])
        self.iam.delete_instance_profile(InstanceProfileName=state["id"])

    # --- Machines ---------------------------------------------------------------------------------------------------------------------

    def create_ebs_volume(self, planned):
        made = self.ec2.create_volume(AvailabilityZone=planned["availability_zone"], Size=int(planned["size"]), VolumeType=planned["type"], Encrypted=planned["encrypted"])
        return {"id": made["VolumeId"], "arn": f"arn:aws:ec2:{self.region}:123456789012:volume/{made['VolumeId']}"}

    def there_ebs_volume(self, state):
        return self.ec2.describe_volumes(VolumeIds=[state["id"]])["Volumes"]

    def delete_ebs_volume(self, state):
        self.ec2.delete_volume(VolumeId=state["id"])

    def create_instance(self, planned):
        (metadata,), (root,) = planned["metadata_options"], planned["root_block_device"]
        place = (
            {"NetworkInterfaces": [{"DeviceIndex": 0, "NetworkInterfaceId": planned["primary_network_interface"][0]["network_interface_id"]}]}
            if planned.get("primary_network_interface")
            else {"SubnetId": planned["subnet_id"], "SecurityGroupIds": planned["vpc_security_group_ids"]}
        )
        made = self.ec2.run_instances(
            ImageId=planned["ami"], InstanceType=planned["instance_type"], MinCount=1, MaxCount=1, UserData=base64.b64decode(planned["user_data_base64"]),
            IamInstanceProfile={"Name": planned["iam_instance_profile"]}, Monitoring={"Enabled": planned["monitoring"]}, EbsOptimized=planned["ebs_optimized"],
            MetadataOptions={"HttpTokens": metadata["http_tokens"], "HttpPutResponseHopLimit": int(metadata["http_put_response_hop_limit"])},
            BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"VolumeType": root["volume_type"], "VolumeSize": int(root["volume_size"]), "Encrypted": root["encrypted"], "DeleteOnTermination": True}}],
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags(planned)}], **place,
        )["Instances"][0]
        return {"id": made["InstanceId"], "private_ip": made["PrivateIpAddress"]}

    def there_instance(self, state):
        (found,) = self.ec2.describe_instances(InstanceIds=[state["id"]])["Reservations"][0]["Instances"]
        return found["State"]["Name"] in ("running", "pending")

    def delete_instance(self, state):
        self.ec2.terminate_instances(InstanceIds=[state["id"]])

    def create_launch_template(self, planned):
        (metadata,), (interface,), (mapping,) = planned["metadata_options"], planned["network_interfaces"], planned["block_device_mappings"]
        (ebs,) = mapping["ebs"]
        name = planned["name_prefix"] + secrets.token_hex(8)
        made = self.ec2.create_launch_template(
            LaunchTemplateName=name,
            LaunchTemplateData={
                "ImageId": planned["image_id"], "InstanceType": planned["instance_type"], "UserData": planned["user_data"],
                "IamInstanceProfile": {"Arn": planned["iam_instance_profile"][0]["arn"]},
                "MetadataOptions": {"HttpTokens": metadata["http_tokens"], "HttpPutResponseHopLimit": int(metadata["http_put_response_hop_limit"])},
                "NetworkInterfaces": [{"DeviceIndex": 0, "AssociatePublicIpAddress": interface["associate_public_ip_address"] == "true", "Ipv6AddressCount": 1, "Groups": interface["security_groups"]}],
                "BlockDeviceMappings": [{"DeviceName": mapping["device_name"], "Ebs": {"VolumeType": ebs["volume_type"], "VolumeSize": int(ebs["volume_size"]), "Encrypted": ebs["encrypted"] == "true", "DeleteOnTermination": ebs["delete_on_termination"] == "true"}}],
                "TagSpecifications": [{"ResourceType": each["resource_type"], "Tags": [{"Key": k, "Value": v} for k, v in each["tags"].items()]} for each in planned["tag_specifications"]],
            },
        )["LaunchTemplate"]
        return {"id": made["LaunchTemplateId"], "name": name, "latest_version": made["LatestVersionNumber"], "default_version": made["DefaultVersionNumber"]}

    def there_launch_template(self, state):
        return self.ec2.describe_launch_templates(LaunchTemplateIds=[state["id"]])["LaunchTemplates"]

    def delete_launch_template(self, state):
        self.ec2.delete_launch_template(LaunchTemplateId=state["id"])

    def create_autoscaling_group(self, planned):
        (policy,) = planned["mixed_instances_policy"]
        (template,), (spread,) = policy["launch_template"], policy["instances_distribution"]
        (specification,) = template["launch_template_specification"]
        self.groups.create_auto_scaling_group(
            AutoScalingGroupName=planned["name"], MinSize=int(planned["min_size"]), MaxSize=int(planned["max_size"]), VPCZoneIdentifier=",".join(planned["vpc_zone_identifier"]),
            HealthCheckType=planned["health_check_type"], HealthCheckGracePeriod=int(planned["health_check_grace_period"]), DefaultInstanceWarmup=int(planned["default_instance_warmup"]),
            CapacityRebalance=planned["capacity_rebalance"],
            MixedInstancesPolicy={
                "LaunchTemplate": {
                    "LaunchTemplateSpecification": {"LaunchTemplateId": specification["launch_template_id"], "Version": str(specification["version"])},
                    "Overrides": [{"InstanceType": each["instance_type"]} for each in template["override"]],
                },
                "InstancesDistribution": {
                    "OnDemandBaseCapacity": int(spread["on_demand_base_capacity"]),
                    "OnDemandPercentageAboveBaseCapacity": int(spread["on_demand_percentage_above_base_capacity"]),
                    "SpotAllocationStrategy": spread["spot_allocation_strategy"],
                },
            },
            LifecycleHookSpecificationList=[
                {"LifecycleHookName": each["name"], "LifecycleTransition": each["lifecycle_transition"], "HeartbeatTimeout": int(each["heartbeat_timeout"]), "DefaultResult": each["default_result"]}
                for each in planned["initial_lifecycle_hook"]
            ],
            Tags=[{"Key": each["key"], "Value": each["value"], "PropagateAtLaunch": each["propagate_at_launch"]} for each in planned["tag"]],
        )
        return {"id": planned["name"], "name": planned["name"]}

    def there_autoscaling_group(self, state):
        return self.groups.describe_auto_scaling_groups(AutoScalingGroupNames=[state["id"]])["AutoScalingGroups"]

    def delete_autoscaling_group(self, state):
        self.groups.delete_auto_scaling_group(AutoScalingGroupName=state["id"], ForceDelete=True)

    def create_autoscaling_lifecycle_hook(self, planned):
        self.groups.put_lifecycle_hook(
            LifecycleHookName=planned["name"], AutoScalingGroupName=planned["autoscaling_group_name"], LifecycleTransition=planned["lifecycle_transition"],
            HeartbeatTimeout=int(planned["heartbeat_timeout"]), DefaultResult=planned["default_result"],
        )
        return {"id": planned["name"]}

    def there_autoscaling_lifecycle_hook(self, state):
        return self.groups.describe_lifecycle_hooks(AutoScalingGroupName=state["autoscaling_group_name"], LifecycleHookNames=[state["name"]])["LifecycleHooks"]

    def delete_autoscaling_lifecycle_hook(self, state):
        self.groups.delete_lifecycle_hook(AutoScalingGroupName=state["autoscaling_group_name"], LifecycleHookName=state["name"])

    # --- Edges ------------------------------------------------------------------------------------------------------------------------

    def create_cloudwatch_log_group(self, planned):
        self.logs.create_log_group(logGroupName=planned["name"])
        self.logs.put_retention_policy(logGroupName=planned["name"], retentionInDays=int(planned["retention_in_days"]))
        return {"id": planned["name"], "arn": f"arn:aws:logs:{self.region}:123456789012:log-group:{planned['name']}"}

    def there_cloudwatch_log_group(self, state):
        return self.logs.describe_log_groups(logGroupNamePrefix=state["id"])["logGroups"]

    def delete_cloudwatch_log_group(self, state):
        self.logs.delete_log_group(logGroupName=state["id"])

    def create_ecs_cluster(self, planned):
        made = self.ecs.create_cluster(clusterName=planned["name"], settings=[{"name": each["name"], "value": each["value"]} for each in planned["setting"]])["cluster"]
        return {"id": made["clusterArn"], "arn": made["clusterArn"]}

    def there_ecs_cluster(self, state):
        return [each for each in self.ecs.describe_clusters(clusters=[state["id"]])["clusters"] if each["status"] == "ACTIVE"]

    def delete_ecs_cluster(self, state):
        self.ecs.delete_cluster(cluster=state["id"])

    def create_ecs_task_definition(self, planned):
        made = self.ecs.register_task_definition(
            family=planned["family"], requiresCompatibilities=planned["requires_compatibilities"], networkMode=planned["network_mode"], cpu=str(planned["cpu"]), memory=str(planned["memory"]),
            executionRoleArn=planned["execution_role_arn"], taskRoleArn=planned["task_role_arn"], containerDefinitions=json.loads(planned["container_definitions"]),
            runtimePlatform={"cpuArchitecture": planned["runtime_platform"][0]["cpu_architecture"], "operatingSystemFamily": planned["runtime_platform"][0]["operating_system_family"]},
        )["taskDefinition"]
        return {"id": planned["family"], "arn": made["taskDefinitionArn"], "revision": made["revision"]}

    def there_ecs_task_definition(self, state):
        return self.ecs.describe_task_definition(taskDefinition=state["arn"])["taskDefinition"]["status"] == "ACTIVE"

    def delete_ecs_task_definition(self, state):
        self.ecs.deregister_task_definition(taskDefinition=state["arn"])

    def create_ecs_service(self, planned):
        (network,), (breaker,) = planned["network_configuration"], planned["deployment_circuit_breaker"]
        made = self.ecs.create_service(
            cluster=planned["cluster"], serviceName=planned["name"], taskDefinition=planned["task_definition"], desiredCount=int(planned["desired_count"]), launchType=planned["launch_type"],
            propagateTags=planned["propagate_tags"], healthCheckGracePeriodSeconds=int(planned["health_check_grace_period_seconds"]), availabilityZoneRebalancing=planned["availability_zone_rebalancing"],
            loadBalancers=[{"targetGroupArn": each["target_group_arn"], "containerName": each["container_name"], "containerPort": int(each["container_port"])} for each in planned["load_balancer"]],
            networkConfiguration={"awsvpcConfiguration": {"subnets": network["subnets"], "securityGroups": network["security_groups"], "assignPublicIp": "ENABLED" if network["assign_public_ip"] else "DISABLED"}},
            deploymentConfiguration={
                "minimumHealthyPercent": int(planned["deployment_minimum_healthy_percent"]), "maximumPercent": int(planned["deployment_maximum_percent"]),
                "deploymentCircuitBreaker": {"enable": breaker["enable"], "rollback": breaker["rollback"]},
            },
        )["service"]
        return {"id": made["serviceArn"], "arn": made["serviceArn"]}

    def there_ecs_service(self, state):
        return [each for each in self.ecs.describe_services(cluster=state["cluster"], services=[state["id"]])["services"] if each["status"] == "ACTIVE"]

    def delete_ecs_service(self, state):
        self.ecs.delete_service(cluster=state["cluster"], service=state["id"], force=True)

    def create_appautoscaling_target(self, planned):
        self.scaling.register_scalable_target(
            ServiceNamespace=planned["service_namespace"], ResourceId=planned["resource_id"], ScalableDimension=planned["scalable_dimension"],
            MinCapacity=int(planned["min_capacity"]), MaxCapacity=int(planned["max_capacity"]),
        )
        return {"id": planned["resource_id"]}

    def there_appautoscaling_target(self, state):
        return self.scaling.describe_scalable_targets(ServiceNamespace=state["service_namespace"], ResourceIds=[state["resource_id"]])["ScalableTargets"]

    def delete_appautoscaling_target(self, state):
        self.scaling.deregister_scalable_target(ServiceNamespace=state["service_namespace"], ResourceId=state["resource_id"], ScalableDimension=state["scalable_dimension"])

    def create_lb(self, planned):
        made = self.elbv2.create_load_balancer(
            Name=planned["name"], Subnets=planned["subnets"], SecurityGroups=planned["security_groups"], Scheme="internal" if planned["internal"] else "internet-facing",
            Type=planned["load_balancer_type"], IpAddressType=planned["ip_address_type"],
        )["LoadBalancers"][0]
        return {"id": made["LoadBalancerArn"], "arn": made["LoadBalancerArn"], "dns_name": made["DNSName"], "arn_suffix": made["LoadBalancerArn"].split(":loadbalancer/")[1]}

    def there_lb(self, state):
        return self.elbv2.describe_load_balancers(LoadBalancerArns=[state["id"]])["LoadBalancers"]

    def delete_lb(self, state):
        self.elbv2.delete_load_balancer(LoadBalancerArn=state["id"])

    def create_lb_target_group(self, planned):
        (health,) = planned["health_check"]
        options = {
            "HealthCheckProtocol": health.get("protocol"), "HealthCheckPort": health.get("port"), "HealthCheckPath": health.get("path"),
            "HealthCheckIntervalSeconds": health.get("interval") and int(health["interval"]), "HealthCheckTimeoutSeconds": health.get("timeout") and int(health["timeout"]),
            "HealthyThresholdCount": health.get("healthy_threshold") and int(health["healthy_threshold"]), "UnhealthyThresholdCount": health.get("unhealthy_threshold") and int(health["unhealthy_threshold"]),
        }
        # Of what is not said yet, nothing is asked.
        options = {key: value for key, value in options.items() if isinstance(value, (str, int))}
        made = self.elbv2.create_target_group(
            Name=planned["name_prefix"] + secrets.token_hex(6), Protocol=planned["protocol"], Port=int(planned["port"]), VpcId=planned["vpc_id"], TargetType=planned["target_type"], **options
        )["TargetGroups"][0]
        if planned["protocol"] == "TCP":
            wanted = {
                "proxy_protocol_v2.enabled": planned["proxy_protocol_v2"], "deregistration_delay.timeout_seconds": planned["deregistration_delay"],
                "deregistration_delay.connection_termination.enabled": planned["connection_termination"],
            }
            self.elbv2.modify_target_group_attributes(TargetGroupArn=made["TargetGroupArn"], Attributes=[{"Key": key, "Value": str(value).lower()} for key, value in wanted.items()])
        return {"id": made["TargetGroupArn"], "arn": made["TargetGroupArn"], "name": made["TargetGroupName"]}

    def there_lb_target_group(self, state):
        return self.elbv2.describe_target_groups(TargetGroupArns=[state["id"]])["TargetGroups"]

    def delete_lb_target_group(self, state):
        self.elbv2.delete_target_group(TargetGroupArn=state["id"])

    def create_lb_listener(self, planned):
        (action,) = planned["default_action"]
        made = self.elbv2.create_listener(
            LoadBalancerArn=planned["load_balancer_arn"], Protocol=planned["protocol"], Port=int(planned["port"]), SslPolicy=planned["ssl_policy"],
            Certificates=[{"CertificateArn": planned["certificate_arn"]}], DefaultActions=[{"Type": action["type"], "TargetGroupArn": action["target_group_arn"]}],
        )["Listeners"][0]
        return {"id": made["ListenerArn"], "arn": made["ListenerArn"]}

    def there_lb_listener(self, state):
        return self.elbv2.describe_listeners(ListenerArns=[state["id"]])["Listeners"]

    def delete_lb_listener(self, state):
        self.elbv2.delete_listener(ListenerArn=state["id"])

    # --- State ------------------------------------------------------------------------------------------------------------------------

    def create_elasticache_subnet_group(self, planned):
        self.elasticache.create_cache_subnet_group(CacheSubnetGroupName=planned["name"], CacheSubnetGroupDescription="of Terraform", SubnetIds=planned["subnet_ids"])
        return {"id": planned["name"]}

    def there_elasticache_subnet_group(self, state):
        return self.elasticache.describe_cache_subnet_groups(CacheSubnetGroupName=state["id"])["CacheSubnetGroups"]

    def create_elasticache_replication_group(self, planned):
        made = self.elasticache.create_replication_group(
            ReplicationGroupId=planned["replication_group_id"], ReplicationGroupDescription=planned["description"], Engine=planned["engine"], EngineVersion=planned["engine_version"],
            CacheNodeType=planned["node_type"], NumCacheClusters=int(planned["num_cache_clusters"]), AutomaticFailoverEnabled=planned["automatic_failover_enabled"],
            MultiAZEnabled=planned["multi_az_enabled"], CacheSubnetGroupName=planned["subnet_group_name"], CacheParameterGroupName=planned["parameter_group_name"],
            SecurityGroupIds=planned["security_group_ids"], TransitEncryptionEnabled=planned["transit_encryption_enabled"],
            AtRestEncryptionEnabled=str(planned["at_rest_encryption_enabled"]).lower() == "true", AuthToken=planned["auth_token_wo"],
            TransitEncryptionMode=planned["transit_encryption_mode"], PreferredMaintenanceWindow=planned["maintenance_window"],
        )["ReplicationGroup"]
        # Of moto's own address an edge would not find its way; AWS' looks so.
        return {"id": made["ReplicationGroupId"], "primary_endpoint_address": f"master.{made['ReplicationGroupId']}.abc123.{self.region}.cache.amazonaws.com"}

    def there_elasticache_replication_group(self, state):
        return self.elasticache.describe_replication_groups(ReplicationGroupId=state["id"])["ReplicationGroups"]

    def delete_elasticache_replication_group(self, state):
        self.elasticache.delete_replication_group(ReplicationGroupId=state["id"], RetainPrimaryCluster=False)

    def create_msk_cluster(self, planned):
        (nodes,), (authentication,), (encryption,) = planned["broker_node_group_info"], planned["client_authentication"], planned["encryption_info"]
        (transit,) = encryption["encryption_in_transit"]
        made = self.kafka.create_cluster(
            ClusterName=planned["cluster_name"], KafkaVersion=planned["kafka_version"], NumberOfBrokerNodes=int(planned["number_of_broker_nodes"]),
            BrokerNodeGroupInfo={"InstanceType": nodes["instance_type"], "ClientSubnets": nodes["client_subnets"], "SecurityGroups": nodes["security_groups"]},
            ClientAuthentication={"Sasl": {"Scram": {"Enabled": authentication["sasl"][0]["scram"]}}, "Unauthenticated": {"Enabled": authentication["unauthenticated"]}},
            EncryptionInfo={"EncryptionAtRest": {"DataVolumeKMSKeyId": encryption["encryption_at_rest_kms_key_arn"]}, "EncryptionInTransit": {"ClientBroker": transit["client_broker"], "InCluster": transit["in_cluster"]}},
        )
        brokers = ",".join(f"b-{number}.{planned['cluster_name']}.kafka.{self.region}.amazonaws.com:9096" for number in (1, 2))
        return {"id": made["ClusterArn"], "arn": made["ClusterArn"], "bootstrap_brokers_sasl_scram": brokers}

    def there_msk_cluster(self, state):
        return self.kafka.describe_cluster(ClusterArn=state["id"])

    def delete_msk_cluster(self, state):
        self.kafka.delete_cluster(ClusterArn=state["id"])


# What the provider only writes: nothing is to be removed of it.
KEPT = {"secretsmanager_secret_version", "vpc_peering_connection_accepter", "s3_bucket_server_side_encryption_configuration", "s3_bucket_versioning"}
# Without a call of moto's to remove them (there is no harm in the first of these; the second is gone with its group).
LEFT = {"elasticache_subnet_group"}

__all__ = ["KEPT", "LEFT", "MADE_UP", "ClientError", "Standing"]
