"""Launch files: what they start, with stand-ins for what is not to be had here."""

import base64
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from probe.commands.run import command
from probe.results.shards import Shard, parse_shard

LAUNCH = Path(__file__).parents[1] / "launch"
CONSTRAINTS = (LAUNCH.parent / "constraints.txt").read_text(encoding="utf-8")


def stand_in(folder: Path, name: str) -> Path:
    """A program that writes down its arguments, and the folder that it is in."""
    (folder / "bin").mkdir(exist_ok=True)
    path = folder / "bin" / name
    path.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > {folder}/{name}.txt\n', encoding="utf-8")
    path.chmod(0o755)
    return path.parent


def started(
    folder: Path, script: str, *options: str, **environ: str
) -> "subprocess.CompletedProcess[str]":
    path = (
        f"{folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    return subprocess.run(
        ["bash", str(LAUNCH / script), *options],
        cwd=folder,
        env={**os.environ, "PATH": path, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def read(arguments: list[str]) -> dict[str, object]:
    """The options of `probe run`, as click reads them; a mistake raises."""
    context = command.make_context("run", arguments)
    return dict(context.params)


def test_slurm(tmp_path: Path) -> None:
    """Each task runs `probe run` with its options; its shard is read from the array."""
    stand_in(tmp_path, "probe")
    text = (LAUNCH / "slurm.sh").read_text(encoding="utf-8")
    options = re.findall(r"^#SBATCH --([a-z-]+)(?:=\S+)?$", text, re.M)
    assert {"nodes", "ntasks", "requeue", "output", "gpus", "mem", "time"} <= set(options)
    array = {"ID": "5", "MIN": "0", "STEP": "1", "COUNT": "64"}
    environ = {f"SLURM_ARRAY_TASK_{name}": value for name, value in array.items()}
    done = started(tmp_path, "slurm.sh", "my.yaml", "--dtype", "bfloat16", **environ)
    assert (done.returncode, done.stderr) == (0, "")
    given = (tmp_path / "probe.txt").read_text(encoding="utf-8").splitlines()
    assert given[:1] == ["run"]
    assert read(given[1:])["shard"] == "auto"
    assert parse_shard("auto", environ) == Shard(5, 64)
    assert started(tmp_path, "slurm.sh").returncode == 2


@pytest.mark.slow
def test_jobs_of_the_hub(tmp_path: Path) -> None:
    """The hub's own program takes what the script says, and the job runs a shard."""
    pytest.importorskip("huggingface_hub")
    (tmp_path / "my.yaml").write_text("name: mine\n", encoding="utf-8")
    job = ("jobs.sh", "some/image", "hf://buckets/me/runs", "2", "my.yaml", "--dtype", "bfloat16")
    done = started(tmp_path, *job, DRY="--dry-run", HF_TOKEN="hf_none", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Job not submitted") == 2
    (line,) = re.findall(r"command +(.*--shard 1/2.*)", done.stdout)
    stand_in(tmp_path, "probe")
    config = base64.b64encode(b"name: mine\n").decode()
    script = shlex.split(line.replace(" -c 'echo", " -c 'echo", 1))
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(script, cwd=tmp_path, env={"PATH": path, "CONFIG": config}, check=True)
    assert (tmp_path / "run.yaml").read_text(encoding="utf-8") == "name: mine\n"
    given = (tmp_path / "probe.txt").read_text(encoding="utf-8").splitlines()
    found = read(given[1:])
    assert (found["results"], found["shard"]) == ("hf://buckets/me/runs", "1/2")
    assert started(tmp_path, "jobs.sh", "image").returncode == 2


def test_kuberay() -> None:
    """The job has what KubeRay asks of one, the tested Ray, and a command that `probe` takes."""
    job = yaml.safe_load((LAUNCH / "ray.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    known = {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit"}
    assert set(spec) == known | {"rayClusterSpec"}
    given = shlex.split(spec["entrypoint"])
    assert given[:2] == ["probe", "run"]
    found = read(given[2:])
    assert (found["ray"], found["results"]) == ("auto", "/results")
    cluster = spec["rayClusterSpec"]
    assert set(cluster) == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    assert f"ray=={cluster['rayVersion']}\n" in CONSTRAINTS
    assert f"rayproject/ray:{cluster['rayVersion']}-" in (LAUNCH / "Dockerfile").read_text("utf-8")
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert {"name", "image", "resources", "volumeMounts"} == set(container)
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
