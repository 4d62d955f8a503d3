"""Points an MLflow store at the files beside it, after its folder was moved or copied: it keeps whole addresses.

``python -m lem_pipeline.relocate var/trading``
"""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from lem_pipeline.errors import ConfigurationError

ADDRESSES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def relocate(home: Path) -> int:
    """Make every address of a run or a model one below the folder that the store lies in.

    Args:
        home: Folder of ``mlflow.db`` and ``artifacts``.

    Returns:
        Addresses that were changed; 0 where the store is where it was made.

    Raises:
        ConfigurationError: There is no store in the folder.
    """
    file, here = home / "mlflow.db", (home / "artifacts").resolve().as_uri()
    if not file.is_file():
        raise ConfigurationError(f"there is no MLflow store at {file}; name the folder that holds mlflow.db")
    with closing(sqlite3.connect(file)) as store, store:
        known = store.execute("select distinct artifact_location from experiments").fetchall()
        elsewhere = [there for (there,) in known if there.endswith("/artifacts") and there != here]
        return sum(
            store.execute(
                f"update {table} set {column} = ? || substr({column}, ?) where {column} = ? or {column} like ?",  # noqa: S608 - our own names, values bound
                (here, len(there) + 1, there, f"{there}/%"),
            ).rowcount
            for there in elsewhere
            for table, column in ADDRESSES.items()
        )


if __name__ == "__main__":
    print(f"{relocate(Path(*sys.argv[1:]))} addresses changed")
