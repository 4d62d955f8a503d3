"""Where steps run, and how wide they fan out."""

from typing import Literal

from pydantic import Field

from lem_pipeline.settings.strict import Strict


class ClusterSettings(Strict):
    """Where steps run, and how wide they fan out.

    Attributes:
        engine: ``in_process`` runs one step after the other in the process of the run; ``multiprocess`` runs each in a
            process of its own on the same machine; ``ray`` runs each as a job of a Ray cluster.
        ray_address: Where the Ray cluster takes jobs: the address of its dashboard.
        shards: Steps that the raw bars of a market, and the fits on earlier years, are divided into.
        attempts: How often a step is tried that fails without saying why, or whose process dies; one in process.
        step_cores: Cores that each step takes of a Ray cluster.
        training_gpus: GPUs that each training, and each share of the fits on earlier years, takes of a Ray cluster.
    """

    engine: Literal["in_process", "multiprocess", "ray"] = "in_process"
    ray_address: str = "http://127.0.0.1:8265"
    shards: int = Field(default=1, ge=1)
    attempts: int = Field(default=3, ge=1)
    step_cores: float = Field(default=1, gt=0)
    training_gpus: float = Field(default=0, ge=0)
