#!/bin/sh
# venv.sh DIR: make a virtual environment with Quintain and every library there is a bridge to.
# They pin older versions of what other extras need (OpenEnv: MCP 1), so they get an environment of their own. Quick when it is
# there already and pyproject.toml has not changed. Fails, saying why, where it cannot be had.
set -eu
dir=${1:-.venv-bridges}
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
[ ! -x .venv/bin/python ] || python=${PYTHON:-.venv/bin/python}
want=$(cksum <pyproject.toml)
[ "$(cat "$dir/.ready" 2>/dev/null || true)" != "$want" ] || exit 0
"$dir/bin/python" -m pip --version >/dev/null 2>&1 || { rm -rf "$dir" && "$python" -m venv "$dir"; }
timeout 900 "$dir/bin/python" -m pip --disable-pip-version-check install -q -e ".[bridges]" \
    "pytest>=8.0" "pytest-asyncio>=0.24" "pytest-timeout>=2.3" "openai>=2.0"
"$dir/bin/python" -m pip check >/dev/null || echo "some packages in $dir do not fit together" >&2
printf '%s' "$want" >"$dir/.ready" # written last: an installation that was interrupted is done again
