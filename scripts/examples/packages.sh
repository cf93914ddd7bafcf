#!/bin/sh
# SPDX-License-Identifier: MIT
#
# packages.sh - runs the demonstration: a Redis of its own on a private socket, a database out of
# this machine's packages, and two processes that serve it. Nothing is left behind.
#
#   packages.sh [--with-outage] [FILE]     FILE: requests, one key a line; own ones without
#   packages.sh --outage FOLDER            kills the Redis of FOLDER after a second, and starts
#                                          another two seconds later (called by report.lua)
set -eu

perilune=build/lua/perilune
examples=scripts/examples

start_redis() {
    redis-server --port 0 --unixsocket "$1/redis.sock" --unixsocketperm 700 --save '' \
        --appendonly no --daemonize yes --pidfile "$1/redis.pid" --dir "$1" \
        --logfile "$1/redis.log" >/dev/null
    left=100
    until redis-cli -s "$1/redis.sock" ping >/dev/null 2>&1; do
        left=$((left - 1))
        if [ "$left" = 0 ]; then
            cat "$1/redis.log" >&2
            echo "packages.sh: redis-server does not answer on $1/redis.sock" >&2
            exit 1
        fi
        sleep 0.05
    done
}

kill_redis() {
    if [ -s "$1/redis.pid" ]; then
        kill -9 "$(cat "$1/redis.pid")" 2>/dev/null || true
        rm -f "$1/redis.pid"
    fi
}

if [ "${1:-}" = --outage ]; then
    sleep 1
    kill_redis "$2"
    sleep 2
    start_redis "$2"
    exit 0
fi

outage=
if [ "${1:-}" = --with-outage ]; then
    outage=5
    shift
fi

folder=$(mktemp -d "${TMPDIR:-/tmp}/perilune-run.XXXXXX")
first=""
second=""

tidy_up() {
    trap '' INT TERM HUP
    for pid in $first $second; do
        kill "$pid" 2>/dev/null || true
    done
    kill_redis "$folder"
    rm -rf "$folder"
}
trap tidy_up EXIT
trap 'exit 130' INT TERM HUP

start_redis "$folder"
echo "redis      of its own, on $folder/redis.sock"
lua5.4 "$examples/make_packages_db.lua" "$folder"
mkfifo "$folder/to-first" "$folder/to-second"

requests=${1:-}
export PACKAGES="$folder"
# shellcheck disable=SC2086 # no outage is no argument
"$perilune" run "$examples/packages.lua" first "$folder" "${requests:-$folder/first.txt}" $outage &
first=$!
# shellcheck disable=SC2086
"$perilune" run "$examples/packages.lua" second "$folder" "${requests:-$folder/second.txt}" $outage &
second=$!

# one that fails takes the other along, which would wait for a line that never comes
while kill -0 "$first" 2>/dev/null && kill -0 "$second" 2>/dev/null; do
    sleep 0.1
done
if kill -0 "$first" 2>/dev/null; then
    wait "$second" || exit 1
    wait "$first" || exit 1
else
    wait "$first" || exit 1
    wait "$second" || exit 1
fi
