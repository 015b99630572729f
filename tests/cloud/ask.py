"""Asks AWS' stand-in: ask.py SERVICE OPERATION JSON. Prints the answer as JSON."""

import json
import sys

import boto3

service, operation, *given = sys.argv[1:]
answer = getattr(boto3.client(service), operation)(**json.loads(given[0] if given else "{}"))
json.dump(answer, sys.stdout, default=str)
