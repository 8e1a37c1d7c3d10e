#!/bin/sh
# Start or stop a Docker engine of our own for the tests: its socket, data and state in a folder of its own.
#
#   eval "$(tests/docker_engine.sh start)"    # sets DOCKER_HOST, where the tests look for an engine
#   tests/docker_engine.sh stop
#
# Needs root and dockerd (Debian: apt-get install docker.io). No network is set up: sandboxes have none, and the
# tests make their image from this machine's own python3.
set -eu

home="${QUINTAIN_DOCKER_HOME:-${TMPDIR:-/tmp}/quintain-docker}"
socket="unix://$home/docker.sock"

running() {
    [ -s "$home/pid" ] && kill -0 "$(cat "$home/pid")" 2>/dev/null
}

case "${1:-}" in
start)
    if ! command -v dockerd >/dev/null; then
        echo "dockerd is not installed (Debian: apt-get install docker.io)" >&2
        exit 1
    fi
    if ! running; then
        mkdir -p "$home"
        chmod 700 "$home"
        setsid dockerd --iptables=false --bridge=none --host "$socket" --data-root "$home/data" \
            --exec-root "$home/exec" --pidfile "$home/dockerd.pid" >"$home/log" 2>&1 </dev/null &
        echo $! >"$home/pid"
        waited=0
        until [ -S "$home/docker.sock" ] && docker --host "$socket" version >/dev/null 2>&1; do
            if ! running || [ "$waited" -ge 300 ]; then
                echo "the engine did not start; the end of its log:" >&2
                tail -n 20 "$home/log" >&2
                exit 1
            fi
            sleep 0.2
            waited=$((waited + 1))
        done
    fi
    echo "export DOCKER_HOST=$socket"
    ;;
stop)
    if running; then
        pid="$(cat "$home/pid")"
        kill "$pid"
        waited=0
        while kill -0 "$pid" 2>/dev/null && [ "$waited" -lt 150 ]; do
            sleep 0.2
            waited=$((waited + 1))
        done
        kill -9 "$pid" 2>/dev/null || true
    fi
    rm -rf "$home"
    ;;
*)
    echo "usage: $0 start|stop" >&2
    exit 2
    ;;
esac
