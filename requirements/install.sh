#!/usr/bin/env bash
# Install the package with what a lock names.
#   requirements/install.sh PYTHON core|all yes|no
# yes: exactly the files of the lock. no: the versions of the lock where this system has them, and what it needs besides.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 lock=requirements/$2.txt locked=$3
if [ "$locked" = yes ]; then
  binary=()
  if [ "$2" = core ]; then binary=(--only-binary :all:); fi
  "$python" -m pip install --quiet --no-deps --require-hashes ${binary[@]+"${binary[@]}"} -r "$lock"
  "$python" -m pip install --quiet --no-deps --no-build-isolation -e .
  exit
fi
versions=$(mktemp)
trap 'rm -f "$versions"' EXIT
sed -n 's/^\([A-Za-z0-9_.-]*==[^ ;\\]*\).*/\1/p' "$lock" >"$versions"
extras=
if [ "$2" = all ]; then extras='[train,report,dicom,parquet,remote,ray,serve,notebook,docs,test]'; fi
"$python" -m pip install --quiet --constraint "$versions" -e ".$extras"
