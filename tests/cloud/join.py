#!/usr/bin/env python
"""The user data of a worker: it finds its cluster's head by the tags of the instances, and joins it."""

import os
import urllib.request

import boto3


def metadata(path: str) -> str:
    with urllib.request.urlopen(f"http://169.254.169.254/latest/meta-data/{path}", timeout=5) as answer:
        text: str = answer.read().decode()
    return text


ec2 = boto3.client("ec2", region_name=metadata("placement/region"))
own = metadata("instance-id")
tags = {
    tag["Key"]: tag["Value"] for tag in ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [own]}])["Tags"]
}
wanted = {
    "tag:ray-cluster-name": tags["ray-cluster-name"],
    "tag:ray-node-type": "head",
    "instance-state-name": "running",
}
told = ec2.describe_instances(Filters=[{"Name": name, "Values": [value]} for name, value in wanted.items()])
head = told["Reservations"][0]["Instances"][0]["PrivateIpAddress"]

# By these two the autoscaler knows which machine of the cloud has joined.
os.environ["RAY_CLOUD_INSTANCE_ID"] = own
os.environ["RAY_NODE_TYPE_NAME"] = tags["ray-user-node-type"]
options = [f"--node-ip-address={metadata('local-ipv4')}", "--num-cpus=1", "--object-store-memory=100000000", "--block"]
os.execvp("ray", ["ray", "start", f"--address={head}:6379", *options])
