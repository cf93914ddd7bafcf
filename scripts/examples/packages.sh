#!/bin/sh
# SPDX-License-Identifier: MIT
#
# packages.sh - runs the demonstration: a Redis of its own on a private socket, a database out of
# this machine's packages, and two processes that serve it. Nothing is left behind.
#
# usage: packages.sh [--with-outage] [FILE]     FILE: requests, one key a line; own ones without
set -eu

perilune=build/lua/perilune
examples=scripts/examples

start_redis() {
    redis-server --port 0 --unixsocket "$folder/redis.sock" --unixsocketperm 700 --save '' \
        --appendonly no --dir "$folder" --logfile "$folder/redis.log" &
    redis=$!
    left=100
    until redis-cli -s "$folder/redis.sock" ping >/dev/null 2>&1; do
        left=$((left - 1))
        if [ "$left" = 0 ]; then
            cat "$folder/redis.log" >&2
            echo "packages.sh: redis-server does not answer on $folder/redis.sock" >&2
            exit 1
        fi
        sleep 0.05
    done
}

# The hard way: it gets no chance to say good-bye.
kill_redis() {
    [ -z "$redis" ] || kill -9 "$redis" 2>/dev/null || true
    wait "$redis" 2>/dev/null || true
    redis=""
}

outage=
if [ "${1:-}" = --with-outage ]; then
    outage=5
    shift
fi

folder=$(mktemp -d "${TMPDIR:-/tmp}/perilune-run.XXXXXX")
redis=""
first=""
second=""

tidy_up() {
    trap '' INT TERM HUP
    for pid in $first $second; do
        kill "$pid" 2>/dev/null || true
    done
    kill_redis
    rm -rf "$folder"
}
trap tidy_up EXIT
trap 'exit 130' INT TERM HUP

start_redis
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
    if [ -e "$folder/kill-redis" ]; then # report.lua asks for it
        rm "$folder/kill-redis"
        sleep 1
        kill_redis
        echo "redis      killed with signal 9, while both go on asking"
        sleep 2
        start_redis
        echo "redis      started again, empty"
    fi
    sleep 0.1
done
if kill -0 "$first" 2>/dev/null; then
    wait "$second" || exit 1
    wait "$first" || exit 1
else
    wait "$first" || exit 1
    wait "$second" || exit 1
fi
