"""The process of MLflow's server is set up for long answers."""

import json
import subprocess
import sys

ANSWER = """
import gc
from mlflow.protos.service_pb2 import SearchRuns
from mlflow.server import handlers
from sweeps import collecting

found = SearchRuns.Response()
found.runs.add().data.metrics.add(key="loss", value=0.5, step=7)
before = handlers.message_to_json(found)
collecting.loop().close()
assert gc.get_threshold() == collecting.SELDOM
print(before.replace("\\n", " "))
print(handlers.message_to_json(found))
"""


def test_an_answer_says_the_same_without_blanks():
    done = subprocess.run([sys.executable, "-c", ANSWER], capture_output=True, text=True, check=True, timeout=300)
    before, after = done.stdout.splitlines()
    assert json.loads(after) == json.loads(before)
    assert " " not in after
