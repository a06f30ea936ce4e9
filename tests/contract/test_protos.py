"""The stubs: they load without a warning on old and new protobuf runtimes, and their columns are one copy, not a loop."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import runyard_protos
from runyard_protos.points.v1 import points_pb2

CHECKOUT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).parent / "uv"
INSTALL_TIMEOUT_S = 120
LOAD_TIMEOUT_S = 60
# (protobuf, a grpcio that lived with it, so that the service stubs load too)
RUNTIMES = [
    ("4.25.8", "1.62.3"),
    ("5.29.5", "1.70.0"),
    ("6.33.0", "1.75.0"),
    ("7.36.2", "1.85.3"),
]

# Runs in the other environment: everything loads, and a batch with NaN and -0.0 survives the wire bit by bit.
LOAD = """
import importlib, pkgutil, struct, sys
import google.protobuf, runyard_protos
names = [m.name for m in pkgutil.walk_packages(runyard_protos.__path__, "runyard_protos.")]
stubs = [n for n in names if n.endswith(("_pb2", "_pb2_grpc"))]
assert len(stubs) >= 14, stubs
for name in stubs:
    importlib.import_module(name)
from runyard_protos.ingest.v1 import ingest_pb2
request = ingest_pb2.WriteBatchRequest(run_key=2**63 + 1, writer=3, first_sequence=1, last_sequence=2)
table = request.tables.add(metric_indexes=[0], steps=[-1, 2**62], sequences=[1, 2])
table.values.extend([float("nan"), -0.0])
back = ingest_pb2.WriteBatchRequest.FromString(request.SerializeToString())
assert back == request or back.SerializeToString() == request.SerializeToString()
assert struct.pack("<2d", *back.tables[0].values) == struct.pack("<2d", float("nan"), -0.0)
assert back.run_key == 2**63 + 1 and list(back.tables[0].steps) == [-1, 2**62]
print("loaded", len(stubs), google.protobuf.__version__)
"""


@pytest.mark.parametrize(("protobuf", "grpcio"), RUNTIMES)
def test_stubs_load_on_old_and_new_runtimes(
    protobuf: str, grpcio: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The committed stubs load with warnings as errors, and keep every bit, on each protobuf major since 4.25."""
    folder = tmp_path_factory.mktemp("runtime") / "packages"
    installed = subprocess.run(
        [UV, "pip", "install", "--quiet", "--python", sys.executable, "--only-binary", ":all:",
         "--target", folder, f"protobuf=={protobuf}", f"grpcio=={grpcio}"],
        capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S,
    )  # fmt: skip
    if installed.returncode != 0:
        reason = (installed.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"protobuf {protobuf} with grpcio {grpcio} cannot be installed here: {reason}")
    loaded = subprocess.run(
        [sys.executable, "-S", "-W", "error", "-c", LOAD],
        capture_output=True, text=True, timeout=LOAD_TIMEOUT_S,
        env={"PYTHONPATH": f"{folder}:{CHECKOUT / 'protos/python'}"},
    )  # fmt: skip
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split()[-1] == protobuf


def test_columns_merge_from_their_wire_form() -> None:
    """A packed column written as bytes equals the same column filled value by value: agents may skip the loop."""
    values = np.array([1.5, -0.0, np.nan, np.inf, -np.inf, 5e-324, 1.7976931348623157e308])
    looped = points_pb2.PointTable(values=values.tolist())
    payload = values.astype("<f8").tobytes()
    assert len(payload) < 128, "the length below is one varint byte"
    tag = points_pb2.PointTable.VALUES_FIELD_NUMBER << 3 | 2
    merged = points_pb2.PointTable()
    merged.MergeFromString(bytes([tag, len(payload)]) + payload)
    assert looped.SerializeToString() == merged.SerializeToString()
    assert values.tobytes() == np.array(merged.values, dtype=np.float64).tobytes()


def test_hot_columns_are_packed_and_of_fixed_width() -> None:
    """Every repeated number of a point table but its few indexes is packed with eight bytes a value."""
    fixed = {"TYPE_DOUBLE", "TYPE_FIXED64", "TYPE_SFIXED64"}
    kinds = {
        field.name: next(
            k for k in dir(field) if k.startswith("TYPE_") and getattr(field, k) == field.type
        )
        for field in points_pb2.PointTable.DESCRIPTOR.fields
    }
    assert set(kinds) == {"metric_indexes", "steps", "times_unix_ns", "sequences", "values"}
    assert {name for name, kind in kinds.items() if kind not in fixed} == {"metric_indexes"}


def test_every_rpc_has_messages_of_its_own() -> None:
    """Each RPC takes <Name>Request and gives <Name>Response, so that either can grow alone."""
    wrong, methods = [], 0
    for module in pkgutil.walk_packages(runyard_protos.__path__, "runyard_protos."):
        if not module.name.endswith("_pb2"):
            continue
        descriptor = importlib.import_module(module.name).DESCRIPTOR
        for service in descriptor.services_by_name.values():
            for method in service.methods:
                methods += 1
                names = (method.input_type.name, method.output_type.name)
                if names != (f"{method.name}Request", f"{method.name}Response"):
                    wrong.append(f"{method.full_name}: {names}")
    assert methods > 20
    assert not wrong
