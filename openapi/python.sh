#!/usr/bin/env bash
# Makes a Python client of the contract, checks its types, and tries it on a node. Nothing of it is committed.
# Usage: openapi/python.sh [URL [FOLDER]]
#   URL      the node to try it on, as http://127.0.0.1:8080; left out: it is made and checked only
#   FOLDER   where to put it: the package `tidegate_client`, the example beside it; left out: clients/python in cargo's target folder
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
url="${1:-}"
folder="${2:-${CARGO_TARGET_DIR:-$root/target}/clients/python}"
tools="${TIDEGATE_VENV:-$root/.venv}/bin"
if ! [ -x "$tools/openapi-python-client" ]; then
    echo "python.sh: $tools/openapi-python-client is missing: \`.ci/setup python\` makes it (\`make test\` does so by itself)" >&2
    exit 1
fi
tools=$(cd "$tools" && pwd)

mkdir -p "$folder"
cd "$folder"
rm -rf tidegate_client
cp "$here/python/example.py" .
export PYTHONDONTWRITEBYTECODE=1
# A warning is something left out of the client.
made=$("$tools/openapi-python-client" generate --path "$here/openapi.json" --config "$here/python/config.yaml" --meta none \
    --output-path tidegate_client --fail-on-warning 2>&1) || { echo "$made" >&2; exit 1; }
"$tools/python" -m mypy --no-error-summary --follow-imports=silent --python-executable "$tools/python" --cache-dir .mypy_cache example.py
[ -z "$url" ] || "$tools/python" example.py "$url"
