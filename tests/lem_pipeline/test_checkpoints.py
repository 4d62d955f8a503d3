"""What killed trainings leave behind goes away by itself, and no training under way loses anything."""

import os
import time

from lem_pipeline.checkpoints import KEPT_DAYS, clear_abandoned


def test_checkpoints_that_nobody_took_up_for_a_week_are_deleted_and_no_others(tmp_path):
    now = time.time()
    for name, days in {"lem-crypto-0a": KEPT_DAYS + 1, "lem-crypto-1b": 1, "lem-dow-2c": KEPT_DAYS + 1}.items():
        (tmp_path / name).mkdir()
        file = tmp_path / name / "last.ckpt"
        file.write_text("weights")
        for path in (file, tmp_path / name):
            os.utime(path, (now - 86_400 * days,) * 2)
    (tmp_path / "lem-dow-2c" / "best.ckpt").write_text("written just now, into a folder that is old")
    os.utime(tmp_path / "lem-dow-2c", (now - 86_400 * (KEPT_DAYS + 1),) * 2)
    assert clear_abandoned(tmp_path) == ["lem-crypto-0a"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lem-crypto-1b", "lem-dow-2c"]
    assert clear_abandoned(tmp_path / "nowhere") == []
