"""What the audit of dependencies makes of pip-audit's answers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci/audit.py"
SOUND = {"name": "numpy", "version": "2.4.6", "vulns": []}
WEAK = {"name": "weak", "version": "1.0", "vulns": [{"id": "GHSA-x", "fix_versions": ["1.1"]}]}
UNKNOWN = {
    "name": "torch",
    "skip_reason": "Dependency not found on PyPI and could not be audited: torch (2.13.0)",
}
EDITABLE = {"name": "lem-pipeline", "skip_reason": "distribution marked as editable"}


@pytest.mark.parametrize(
    ("packages", "code", "lines"),
    [
        ([SOUND, EDITABLE], 0, ["1 packages audited, 0 known vulnerabilities"]),
        ([SOUND, WEAK], 1, ["weak 1.0 has GHSA-x, which 1.1 mends", "2 packages audited, 1 known vulnerabilities"]),
        ([UNKNOWN, EDITABLE], 0, ["NOT AUDITED: no advisories could be read for 1 of 1 packages"]),
        (
            [UNKNOWN, WEAK],
            1,
            [
                "weak 1.0 has GHSA-x, which 1.1 mends",
                "NOT AUDITED: no advisories could be read for 1 of 2 packages",
                "1 packages audited, 1 known vulnerabilities",
            ],
        ),
        (
            None,
            0,
            ["NOT AUDITED: pip-audit gave no answer, run it to see why; no advisories could be read"],
        ),
    ],
    ids=["sound", "weak", "no advisories", "some advisories", "no network"],
)
def test_a_known_vulnerability_fails_and_what_nobody_could_say_is_said(packages, code, lines):
    text = "" if packages is None else json.dumps({"dependencies": packages, "fixes": []})
    done = subprocess.run([sys.executable, str(SCRIPT)], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()) == (code, lines), done.stderr
