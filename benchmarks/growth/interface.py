"""The asset page of the Dagster UI, by partitions that a real instance has recorded: what its queries take.

The page asks the webserver over HTTP for the state of every partition, for the latest materialisations, and for the
asset's place in the graph. The asset is a stand-in with monthly partitions from long before there were markets, as the
pipeline's own have one for each month since 2000 at most.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from benchmarks.growth.measure import Cost

DEFINITIONS = """
import dagster as dg
MONTHS = dg.MonthlyPartitionsDefinition("{first}-01-01", end_date="{end}-01-01")
@dg.asset(key=["raw", "bars"], partitions_def=MONTHS)
def bars(): ...
defs = dg.Definitions(assets=[bars])
"""
QUERIES = {
    "partitions": """{ assetNodeOrError(assetKey: {path: ["raw", "bars"]}) { ... on AssetNode {
        partitionKeysByDimension { name partitionKeys }
        assetPartitionStatuses { ... on TimePartitionStatuses { ranges { status startKey endKey } } } } } }""",
    "events": """{ assetOrError(assetKey: {path: ["raw", "bars"]}) { ... on Asset {
        assetMaterializations(limit: 100) { partition timestamp metadataEntries { label } } } } }""",
    "graph": """{ assetNodes { assetKey { path } partitionStats { numMaterialized numPartitions numFailed }
        latestMaterializationByPartition: assetMaterializations(limit: 1) { timestamp } } }""",
}
WAIT_S, REPEATS = 120, 3


def asset_page(folder: Path, months: int, events: int = 3) -> Cost:
    """Seconds until all answers are there, memory of the webserver with its code server, and disk of the instance."""
    import dagster as dg

    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    years = months // 12
    (folder / "stand_in.py").write_text(DEFINITIONS.format(first=2000 - years // 2, end=2000 - years // 2 + years))
    names = dg.MonthlyPartitionsDefinition(
        f"{2000 - years // 2}-01-01", end_date=f"{2000 - years // 2 + years}-01-01"
    ).get_partition_keys()
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        for name in names * events:
            instance.report_runless_asset_event(
                dg.AssetMaterialization(["raw", "bars"], partition=name, metadata={"bars": 744})
            )
    disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "dagster_webserver", "-f", str(folder / "stand_in.py"), "-p", str(port)]
    environment = {**os.environ, "DAGSTER_HOME": str(folder)}
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)  # noqa: S603 - our own command
        try:
            _until_it_answers(port)
            times = [sum(_asked(port, query) for query in QUERIES.values()) for _ in range(REPEATS + 1)]
            return Cost(min(times[1:]), _resident_mb(server.pid), disk)
        finally:
            server.terminate()
            server.wait()


def _asked(port: int, query: str) -> float:
    start = time.perf_counter()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:  # noqa: S310 - this computer
        said = json.load(answer)
    assert "errors" not in said, said
    return time.perf_counter() - start


def _until_it_answers(port: int) -> None:
    since = time.monotonic()
    while True:
        try:
            _asked(port, "{ version }")
            return
        except OSError:
            if time.monotonic() - since > WAIT_S:
                raise
            time.sleep(0.2)


def _resident_mb(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024 / 1e6
