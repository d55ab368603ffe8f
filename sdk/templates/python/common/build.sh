#!/bin/sh
# Makes {{name}}.wasm: {{source}} and CPython in one component. The first time it installs componentize-py from PyPI
# into .tools, or where TOOLS says.
set -eu
cd "$(dirname "$0")"
tools="${TOOLS:-.tools}"
if [ ! -x "$tools/bin/componentize-py" ]; then
    python3 -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt
fi
PYTHONDONTWRITEBYTECODE=1 "$tools/bin/componentize-py" -d wit -w {{world}} componentize -p src app -o {{name}}.wasm
