"""A real S3 server on the loopback address (moto's), with one bucket; machines of a test are folders of their own beside it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3

SECRET = "aXvery/secret/keyQ7"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "parrot", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}
BUCKET = "parrots"


class Server:
    """The server as a process of its own, so that it can be away for a while: SIGSTOP, or shut."""

    def __init__(self, folder: Path, address: str = "127.0.0.1"):
        with socket.socket() as probe:
            probe.bind((address, 0))
            self.address, self.port = address, probe.getsockname()[1]
        self.endpoint = f"http://{address}:{self.port}"
        with (folder / "s3.log").open("ab") as log:
            command = [sys.executable, "-m", "moto.server", "--host", address, "--port", str(self.port)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((address, self.port)) == 0:
                    break
            assert time.monotonic() < end, (folder / "s3.log").read_text()
            time.sleep(0.05)
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="parrot",
            aws_secret_access_key=SECRET,
        )
        self.client.create_bucket(Bucket=BUCKET)

    def uri(self, folder: str, bucket: str = BUCKET) -> str:
        """A store's address."""
        return f"s3://{bucket}/{folder}?scheme=http&endpoint_override={self.address}:{self.port}"

    def keys(self, folder: str) -> list[str]:
        """The objects below a folder of the bucket, by their path in it."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{folder}/")
        found = [one["Key"].removeprefix(f"{folder}/") for page in pages for one in page.get("Contents", ())]
        return [key for key in found if key and not key.endswith("/")]

    def read(self, key: str) -> bytes:
        return self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def write(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def pause(self) -> None:
        """It takes connections and does not answer."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def end(self) -> None:
        self.process.kill()
        self.process.wait(30)
