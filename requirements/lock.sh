#!/usr/bin/env bash
# Resolve the dependencies of pyproject.toml and write the locks: with hashes, without index addresses.
#   requirements/lock.sh PYTHON            keep the locked versions; add or remove what pyproject.toml changed
#   requirements/lock.sh PYTHON --upgrade  raise every version to the newest that fits
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
shift
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"$python" -m venv "$tools"
"$tools/bin/python" -m pip install --quiet pip-tools
# The build backend is locked as well: the package itself is installed without build isolation.
compile() {
  "$tools/bin/pip-compile" --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
    --build-deps-for editable --no-emit-index-url --no-emit-find-links --no-emit-trusted-host "$@" pyproject.toml
}
compile "$@" --output-file requirements/core.txt
compile "$@" --extra train --extra report --extra dicom --extra pacs --extra parquet --extra remote --extra ray --extra serve \
  --extra notebook --extra docs --extra test --output-file requirements/all.txt
