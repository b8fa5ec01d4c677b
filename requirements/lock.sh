#!/usr/bin/env bash
# Resolve the dependencies of pyproject.toml anew, with hashes and without index addresses.
#   requirements/lock.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"$1" -m venv "$tools"
"$tools/bin/python" -m pip install --quiet pip-tools
# The build backend is locked as well: the package itself is installed without build isolation.
compile() {
  "$tools/bin/pip-compile" --quiet --generate-hashes --allow-unsafe --strip-extras --no-header --upgrade \
    --build-deps-for editable --no-emit-index-url --no-emit-find-links --no-emit-trusted-host "$@" pyproject.toml
}
compile --output-file requirements/core.txt
compile --extra train --extra report --extra dicom --extra parquet --extra remote --extra ray --extra serve \
  --extra test --output-file requirements/all.txt
