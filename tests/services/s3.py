"""S3 servers for tests: moto's mock, and OpenStack Swift with its S3 interface as a real one."""

from __future__ import annotations

import contextlib
import getpass
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.services.processes import free_port, started, wait_for_http


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    key: str
    secret: str
    bucket: str
    region: str = "us-east-1"

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which any S3 client finds the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }

    def client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name=self.region,
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[S3Server]:
    """Run moto's server in a process of its own."""
    port, log = free_port(), folder / "moto.log"
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with started(argv, log) as process:
        server = S3Server(f"http://127.0.0.1:{port}", "moto", "moto-secret", "simyard-tests")
        wait_for_http(f"{server.endpoint}/moto-api/", [process], log)
        server.client().create_bucket(Bucket=server.bucket)
        yield server


@contextlib.contextmanager
def swift(folder: Path) -> Iterator[S3Server]:
    """Run the four servers of OpenStack Swift over a folder, whose file system must have extended attributes."""
    etc, device, log = folder / "etc", folder / "node" / "d1", folder / "swift.log"
    etc.mkdir(parents=True)
    device.mkdir(parents=True)
    binaries = Path(sys.executable).parent
    ports = {kind: free_port() for kind in ("account", "container", "object", "proxy")}
    (etc / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = suffix\nswift_hash_path_prefix = prefix\n"
        "[storage-policy:0]\nname = one\ndefault = yes\n"
    )
    common = (
        f"[DEFAULT]\nbind_ip = 127.0.0.1\nuser = {getpass.getuser()}\nswift_dir = {etc}\ndevices = {folder / 'node'}\n"
        "mount_check = false\ndisable_fallocate = true\nworkers = 0\nlog_level = WARNING\n"
    )
    for kind in ("account", "container", "object"):
        builder = [str(binaries / "swift-ring-builder"), str(etc / f"{kind}.builder")]
        for step in (["create", "6", "1", "1"], ["add", f"r1z1-127.0.0.1:{ports[kind]}/d1", "1"], ["rebalance"]):
            subprocess.run([*builder, *step], check=True, capture_output=True)
        (etc / f"{kind}-server.conf").write_text(
            f"{common}bind_port = {ports[kind]}\n[pipeline:main]\npipeline = {kind}-server\n"
            f"[app:{kind}-server]\nuse = egg:swift#{kind}\n"
        )
    filters = (
        "catch_errors gatekeeper healthcheck cache listing_formats s3api tempauth copy slo dlo versioned_writes symlink"
    )
    sections = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in filters.split() if name != "tempauth")
    sections = sections.replace("egg:swift#cache", "egg:swift#memcache")
    sections = sections.replace(
        "egg:swift#versioned_writes\n", "egg:swift#versioned_writes\nallow_object_versioning = true\n"
    )
    (etc / "proxy-server.conf").write_text(
        f"{common}bind_port = {ports['proxy']}\n[pipeline:main]\npipeline = {filters} proxy-server\n"
        "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
        f"{sections}[filter:tempauth]\nuse = egg:swift#tempauth\nuser_test_tester = swift-secret .admin\n"
    )
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                started([str(binaries / f"swift-{kind}-server"), str(etc / f"{kind}-server.conf")], log)
            )
            for kind in ports
        ]
        server = S3Server(f"http://127.0.0.1:{ports['proxy']}", "test:tester", "swift-secret", "simyard-tests")
        for port in ports.values():
            wait_for_http(f"http://127.0.0.1:{port}/healthcheck", processes, log)
        server.client().create_bucket(Bucket=server.bucket)
        yield server
