"""`az`, unmodified, logged in as `twinhub env --format az` tells it, in a configuration of its own."""

import json
import os
import subprocess
import sys

import pytest

AZ = os.path.join(os.path.dirname(sys.executable), "az")
SECONDS_MAX = 120


class Az:
    def __init__(self, folder):
        self.environment = dict(os.environ, AZURE_CONFIG_DIR=folder, AZURE_CORE_COLLECT_TELEMETRY="false")
        self.environment["PATH"] = os.path.dirname(AZ) + os.pathsep + self.environment["PATH"]

    def run(self, *arguments):
        return subprocess.run(
            [AZ, *arguments, "--output", "json"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )

    def __call__(self, *arguments):
        """What `az` prints, which must be no error."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"az {' '.join(arguments)}\n{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def refused(self, *arguments):
        """What `az` says when it is refused."""
        done = self.run(*arguments)
        assert done.returncode != 0, f"az {' '.join(arguments)}\n{done.stdout}"
        return done.stderr


@pytest.fixture(scope="session")
def az():
    binary, data = os.environ["CONFORM_BINARY"], os.environ["TWINHUB_DATA_DIR"]
    az = Az(os.path.join(os.path.abspath(data), "az"))
    script = f'set -e; eval "$("{binary}" env --data-dir "{data}" --format az)"'
    subprocess.run(["bash", "-c", script], env=az.environment, check=True, timeout=SECONDS_MAX, capture_output=True)
    return az
