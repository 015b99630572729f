#!/usr/bin/env python3
"""A stand-in for Terraform's AWS provider: the schema of the current one (`schema.py`), and in place of AWS whatever `account.py` makes of it.

Terraform starts it as it starts any provider, and speaks with it by its plugin protocol, version 6. What real ones do besides is not here: no check
which arguments exclude one another, no change in place of a resource that real ones replace, no import."""

import concurrent.futures
import base64
import datetime
import ipaddress
import json
import os
import pathlib
import sys
import tempfile
import threading

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

sys.path[:0] = [str(pathlib.Path(__file__).parent), os.environ["TFPLUGIN_BINDINGS"]]
import tfplugin6_pb2 as pb  # noqa: E402

import account  # noqa: E402
from values import UNKNOWN, decode, encode, fill  # noqa: E402

NESTING = {"single": "SINGLE", "list": "LIST", "set": "SET", "map": "MAP"}


def schema_message(block):
    return pb.Schema(version=0, block=block_message(block))


def block_message(block):
    message = pb.Schema.Block(version=0)
    for name, attribute in sorted(block["attributes"].items()):
        flags = {flag: attribute.get(flag, False) for flag in ("required", "optional", "computed", "write_only")}
        sensitive = any(word in name for word in ("password", "secret_string", "auth_token"))
        message.attributes.add(name=name, type=json.dumps(attribute["type"]).encode(), sensitive=sensitive, **flags)
    for name, nested in sorted(block["block_types"].items()):
        message.block_types.add(
            type_name=name,
            block=block_message(nested["block"]),
            nesting=pb.Schema.NestedBlock.NestingMode.Value(NESTING[nested["nesting_mode"]]),
            min_items=nested.get("min_items", 0),
            max_items=nested.get("max_items", 0),
        )
    return message


def dynamic(value):
    return pb.DynamicValue(msgpack=encode(value))


def read(value):
    return decode(value.msgpack) if value.msgpack else json.loads(value.json or b"null")


def problem(summary, error):
    return pb.Diagnostic(severity=pb.Diagnostic.ERROR, summary=summary, detail=f"{type(error).__name__}: {error}")


class Provider:
    """One method for each call of the protocol that Terraform makes of it."""

    def __init__(self, schema):
        self.schema = schema
        self.account = None
        self.region = None
        self.default_tags = {}

    def GetProviderSchema(self, _):
        schemas = {kind: {name: schema_message(block) for name, block in self.schema[kind].items()} for kind in ("resource", "data", "ephemeral")}
        return pb.GetProviderSchema.Response(
            provider=schema_message(self.schema["provider"]),
            resource_schemas=schemas["resource"],
            data_source_schemas=schemas["data"],
            ephemeral_resource_schemas=schemas["ephemeral"],
            server_capabilities=pb.ServerCapabilities(get_provider_schema_optional=True),
        )

    def GetResourceIdentitySchemas(self, _):
        return pb.GetResourceIdentitySchemas.Response()

    def ValidateProviderConfig(self, _):
        return pb.ValidateProviderConfig.Response()

    def ConfigureProvider(self, request):
        config = read(request.config)
        self.region = config["region"]
        for block in config.get("default_tags") or []:
            self.default_tags = block["tags"] or {}
        self.account = account.Account(self.region)
        return pb.ConfigureProvider.Response()

    def ValidateResourceConfig(self, request):
        try:
            account.check(request.type_name, read(request.config))
        except account.Invalid as error:
            return pb.ValidateResourceConfig.Response(diagnostics=[problem(f"{request.type_name} is not valid", error)])
        return pb.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, _):
        return pb.ValidateDataResourceConfig.Response()

    def ValidateEphemeralResourceConfig(self, _):
        return pb.ValidateEphemeralResourceConfig.Response()

    def UpgradeResourceState(self, request):
        return pb.UpgradeResourceState.Response(upgraded_state=dynamic(json.loads(request.raw_state.json)))

    def PlanResourceChange(self, request):
        block = self.schema["resource"][request.type_name]
        prior, proposed, config = read(request.prior_state), read(request.proposed_new_state), read(request.config)
        if proposed is None:
            return pb.PlanResourceChange.Response(planned_state=request.proposed_new_state)
        tags = {**self.default_tags, **(proposed.get("tags") or {})} if proposed.get("tags") is not UNKNOWN else UNKNOWN

        def choose(path, attribute, current):
            if attribute.get("write_only"):
                return None
            if path == ("tags_all",):
                return tags
            if path == ("region",) and current is None:
                return self.region
            if "computed" in attribute and current is None and prior is None:
                return UNKNOWN
            return current

        return pb.PlanResourceChange.Response(planned_state=dynamic(fill(block, proposed, config, choose)))

    def ApplyResourceChange(self, request):
        block = self.schema["resource"][request.type_name]
        prior, planned, config = read(request.prior_state), read(request.planned_state), read(request.config)
        try:
            if planned is None:
                self.account.delete(request.type_name, prior)
                return pb.ApplyResourceChange.Response(new_state=request.planned_state)
            if prior is None:
                made = self.account.create(request.type_name, planned, config)
            else:
                made = self.account.update(request.type_name, prior, planned, config)
        except Exception as error:  # Whatever it is, Terraform is to say it.
            return pb.ApplyResourceChange.Response(new_state=request.prior_state, diagnostics=[problem(f"{request.type_name}", error)])

        def choose(path, attribute, current):
            if attribute.get("write_only"):
                return None
            if current is UNKNOWN:
                return made(path[0], attribute["type"]) if len(path) == 1 else None
            return current

        return pb.ApplyResourceChange.Response(new_state=dynamic(fill(block, planned, None, choose)))

    def ReadResource(self, request):
        state = read(request.current_state)
        there = self.account.is_there(request.type_name, state)
        return pb.ReadResource.Response(new_state=request.current_state if there else dynamic(None))

    def ReadDataSource(self, request):
        block, config = self.schema["data"][request.type_name], read(request.config)
        try:
            found = self.account.look_up(request.type_name, config)
        except Exception as error:
            return pb.ReadDataSource.Response(diagnostics=[problem(f"{request.type_name}", error)])
        found.setdefault("region", self.region)
        state = fill(block, config, config, lambda path, _, current: found.get(path[0], current) if len(path) == 1 else current)
        return pb.ReadDataSource.Response(state=dynamic(state))

    def OpenEphemeralResource(self, request):
        block, config = self.schema["ephemeral"][request.type_name], read(request.config)
        try:
            found = self.account.open(request.type_name, config)
        except Exception as error:
            return pb.OpenEphemeralResource.Response(diagnostics=[problem(f"{request.type_name}", error)])
        found.setdefault("region", self.region)
        state = fill(block, config, config, lambda path, _, current: found.get(path[0], current) if len(path) == 1 else current)
        return pb.OpenEphemeralResource.Response(result=dynamic(state))

    def CloseEphemeralResource(self, _):
        return pb.CloseEphemeralResource.Response()

    def StopProvider(self, _):
        return pb.StopProvider.Response()


def certificate():
    """A key and a certificate for one connection: Terraform trusts what the first line of output says, and nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    alternative = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - datetime.timedelta(minutes=1), now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(True, None), True).add_extension(alternative, False)
    made = builder.sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem, made.public_bytes(serialization.Encoding.PEM), made.public_bytes(serialization.Encoding.DER)


def handlers(provider):
    """By the protocol's own description, of which only what `provider` has is offered."""
    service = pb.DESCRIPTOR.services_by_name["Provider"]
    methods = {}
    for method in service.methods:
        implementation = getattr(provider, method.name, None)
        if implementation is None:
            continue
        request = getattr(getattr(pb, method.input_type.containing_type.name), method.input_type.name)
        methods[method.name] = grpc.unary_unary_rpc_method_handler(
            lambda message, _, implementation=implementation: implementation(message),
            request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
    return grpc.method_handlers_generic_handler(service.full_name, methods)


def main():
    with open(os.environ["AWS_SCHEMA"]) as file:
        provider = Provider(json.load(file)["schema"])
    ended = threading.Event()

    def end(_, __):
        ended.set()
        return b""

    shutdown = grpc.unary_unary_rpc_method_handler(end, request_deserializer=bytes, response_serializer=bytes)
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)])
    server.add_generic_rpc_handlers((handlers(provider), grpc.method_handlers_generic_handler("plugin.GRPCController", {"Shutdown": shutdown})))
    key, pem, der = certificate()
    with tempfile.TemporaryDirectory(prefix="tf") as directory:
        address = f"{directory}/s"
        server.add_secure_port(f"unix:{address}", grpc.ssl_server_credentials([(key, pem)]))
        server.start()
        print(f"1|6|unix|{address}|grpc|{base64.b64encode(der).decode().rstrip('=')}", flush=True)
        ended.wait()
        server.stop(0.2).wait()


if __name__ == "__main__":
    main()
