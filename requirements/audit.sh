#!/usr/bin/env bash
# Look for known vulnerabilities in the locked dependencies, if the package index has this data.
#   requirements/audit.sh PYTHON
# The exit code is 1 if one is found. It is 0, with a sentence, if the index does not answer.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"$1" -m venv "$tools"
"$tools/bin/python" -m pip install --quiet pip-audit
found=$tools/found.json
status=0
"$tools/bin/pip-audit" --disable-pip --no-deps --progress-spinner off --requirement requirements/all.txt \
  --format json --output "$found" 2>"$tools/log" || status=$?
"$tools/bin/python" - "$found" "$status" "$tools/log" <<'PYTHON'
import json
import pathlib
import sys

found, status, log = pathlib.Path(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
if not found.exists():
    last = (log.read_text().strip().splitlines() or ["nothing"])[-1]
    sys.exit(print(f"expected an answer about vulnerabilities from the package index, received: {last}"))
packages = json.loads(found.read_text())["dependencies"]
known = [package for package in packages if "skip_reason" not in package]
print(f"{len(known)} of {len(packages)} locked packages are known to the vulnerability data of the package index")
for package in known:
    for flaw in package["vulns"]:
        fixed = ", ".join(flaw["fix_versions"]) or "no release"
        print(f"{package['name']} {package['version']}: {flaw['id']}, fixed in {fixed}: make lock")
sys.exit(status if any(package["vulns"] for package in known) else 0)
PYTHON
