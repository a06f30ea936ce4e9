"""What is told of the machine and of what wraps it, from made-up files of the system."""

from __future__ import annotations

from pathlib import Path

import pytest

from runyard.machine import container_facts, describe_machine, kubernetes_facts, slurm_facts

ID = "0123456789abcdef" * 4


def make(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_hardware(tmp_path: Path) -> None:
    """Processor and memory come from the system's files, the disk is that of the folder."""
    root = make(
        tmp_path,
        {
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD EPYC 9654\n\nprocessor\t: 1\nmodel name\t: x\n",
            "proc/meminfo": "MemTotal:       1056768 kB\nMemFree: 5 kB\n",
        },
    )
    machine = describe_machine(str(tmp_path), {}, root)["machine"]
    assert (machine["cpu_model"], machine["memory_bytes"]) == ("AMD EPYC 9654", 1056768 * 1024)
    assert 0 < machine["disk_free_bytes"] <= machine["disk_bytes"]


def test_where_the_system_tells_nothing(tmp_path: Path) -> None:
    """Files that are missing, and a folder that is gone, leave out what they would have told."""
    facts = describe_machine(str(tmp_path / "gone"), {}, tmp_path)
    assert set(facts) == {"machine"}
    assert set(facts["machine"]) <= {"architecture", "cpu_total"}


@pytest.mark.parametrize(
    ("files", "environ", "expected"),
    [
        ({}, {}, {}),
        ({".dockerenv": ""}, {}, {"runtime": "docker"}),
        (
            {".dockerenv": "", "proc/self/cgroup": f"12:cpu:/docker/{ID}\n0::/\n"},
            {"CONTAINER_IMAGE": "train:7"},
            {"runtime": "docker", "id": ID, "image": "train:7"},
        ),
        (
            {
                "proc/self/cgroup": f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope\n"
            },
            {},
            {"id": ID},
        ),
        (
            {
                ".dockerenv": "",
                "proc/self/cgroup": "0::/\n",
                "proc/self/mountinfo": f"700 600 254:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/v rw\n",
            },
            {},
            {"runtime": "docker", "id": ID},
        ),
        # The machine itself, which sees the mounts of its containers.
        (
            {
                "proc/self/cgroup": "0::/user.slice/session-1.scope\n",
                "proc/self/mountinfo": f"70 60 0:9 / /var/lib/docker/containers/{ID}/mounts/shm rw - tmpfs shm rw\n",
            },
            {},
            {},
        ),
        (
            {"run/.containerenv": f'engine="podman-5"\nid="{ID}"\nimage="quay.io/t:1"\n'},
            {},
            {"runtime": "podman", "id": ID, "image": "quay.io/t:1"},
        ),
        ({}, {"APPTAINER_CONTAINER": "/i.sif"}, {"runtime": "apptainer", "image": "/i.sif"}),
    ],
)
def test_containers(
    tmp_path: Path, files: dict[str, str], environ: dict[str, str], expected: dict[str, str]
) -> None:
    """Runtime, id and image are told as far as they can be; a process outside of a container is in none."""
    assert expected == container_facts(environ, make(tmp_path, files))


def test_a_pod(tmp_path: Path) -> None:
    """A pod is told by its own variables, else by host name and the file of its namespace."""
    root = make(tmp_path, {"var/run/secrets/kubernetes.io/serviceaccount/namespace": "ml\n"})
    inside = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "train-0"}
    assert kubernetes_facts(inside, root) == {"pod": "train-0", "namespace": "ml"}
    named = {**inside, "POD_NAME": "p", "POD_NAMESPACE": "n", "NODE_NAME": "gpu-3"}
    assert kubernetes_facts(named, root) == {"pod": "p", "namespace": "n", "node": "gpu-3"}
    assert kubernetes_facts({"HOSTNAME": "laptop"}, root) == {}


def test_a_job_of_slurm() -> None:
    """Number, name, partition and nodes of the job are told; outside of one nothing is."""
    environ = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "train",
        "SLURM_JOB_PARTITION": "gpu",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_NODELIST": "n[1-2]",
    }
    assert slurm_facts(environ) == {
        "job_id": "7", "job_name": "train", "partition": "gpu", "node_count": "2", "node_list": "n[1-2]",
    }  # fmt: skip
    assert slurm_facts({"SLURM_JOB_NAME": "x"}) == {}
