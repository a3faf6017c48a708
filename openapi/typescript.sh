#!/usr/bin/env bash
# Makes a TypeScript client of the contract, checks its types, and tries it on a node. Nothing of it is committed.
# Usage: openapi/typescript.sh [URL [FOLDER]]
#   URL      the node to try it on, as http://127.0.0.1:8080; left out: it is made and checked only
#   FOLDER   where to put it: the client in `client`, the example beside it; left out: clients/typescript in cargo's target folder
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
url="${1:-}"
folder="${2:-${CARGO_TARGET_DIR:-$root/target}/clients/typescript}"
tools="${TIDEGATE_NODEJS:-$root/.node}"
node="$tools/bin/node"
if [ "$tools" = none ]; then
    echo "typescript.sh: TIDEGATE_NODEJS=none: there is no Node to make it with" >&2
    exit 1
fi
if ! [ -x "$node" ] || ! [ -d "$tools/node_modules" ]; then
    echo "typescript.sh: $node is missing: \`.ci/setup node\` makes it (\`make test\` does so by itself)" >&2
    exit 1
fi
tools=$(cd "$tools" && pwd)
node="$tools/bin/node"

mkdir -p "$folder"
cd "$folder"
rm -rf client build
cp "$here/typescript/example.ts" "$here/typescript/tsconfig.json" .
echo '{"type": "commonjs", "private": true}' > package.json
"$node" "$tools/node_modules/@hey-api/openapi-ts/bin/run.js" -i "$here/openapi.json" -o client \
    -p @hey-api/client-fetch @hey-api/typescript @hey-api/sdk --silent --no-log-file
"$node" "$tools/node_modules/typescript/bin/tsc" --project . --typeRoots "$tools/node_modules/@types"
[ -z "$url" ] || "$node" build/example.js "$url"
