#!/bin/sh
# Installs the gateways that `overhead --peers` measures beside Mimeo: LiteLLM in a virtual environment of its own
# and Portkey in a node_modules folder of its own, both by name and exact version.
#
#   bench/peers.sh [FOLDER]      FOLDER is target/peers by default; delete it to be rid of them
#
# Needs python3 (3.10 or newer) with venv, and node (20 or newer) with npm. What is there already is kept.
set -eu

LITELLM='litellm[proxy]==1.106.2'
PORTKEY='@portkey-ai/gateway@1.15.2'

folder=${1:-"$(dirname "$0")/../target/peers"}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

if [ ! -x "$folder/litellm/bin/litellm" ]; then
    echo "installing $LITELLM into $folder/litellm (about 750 MB)"
    python3 -m venv "$folder/litellm"
    "$folder/litellm/bin/python" -m pip install --quiet --disable-pip-version-check "$LITELLM"
fi

if [ ! -f "$folder/portkey/node_modules/@portkey-ai/gateway/build/start-server.js" ]; then
    echo "installing $PORTKEY into $folder/portkey"
    mkdir -p "$folder/portkey"
    # Its scripts are not needed to run what is already built.
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$folder/portkey" "$PORTKEY"
fi

echo "peers are in $folder"
