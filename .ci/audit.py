"""Reads what ``pip-audit --format json`` says: fails on a known vulnerability, tells loudly what nobody could say.

A package index that is a mirror may keep no advisories. pip-audit then skips every package and calls that a success.
"""

import json
import sys


def main() -> int:
    """Judge standard input; 1 where a package has a known vulnerability."""
    text = sys.stdin.read()
    packages = json.loads(text)["dependencies"] if text.strip() else []
    audited = [package for package in packages if "vulns" in package]
    unknown = sum("could not be audited" in package.get("skip_reason", "") for package in packages)
    found = [(package, each) for package in audited for each in package["vulns"]]
    for package, each in found:
        fixed = ", ".join(each["fix_versions"]) or "no version"
        print(f"{package['name']} {package['version']} has {each['id']}, which {fixed} mends")
    if not packages:
        print("NOT AUDITED: pip-audit gave no answer, run it to see why; no advisories could be read")
    elif unknown:
        print(f"NOT AUDITED: no advisories could be read for {unknown} of {unknown + len(audited)} packages")
    if audited:
        print(f"{len(audited)} packages audited, {len(found)} known vulnerabilities")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
