#!/usr/bin/env bash
# Builds the image, brings deploy/compose.sim.yaml up on a real engine, makes calls, restarts a service, and takes it
# all down. Installs and starts an engine where there is none (Debian), makes the base image with debootstrap where it
# is absent, and stops what it started. Takes the release binaries from target/release.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
project=switchboard-test-$$
export SWITCHBOARD_PORT=${SWITCHBOARD_PORT:-17411}
engine_pid=

say() { printf '[compose] %s\n' "$*"; }
compose() { "${compose_command[@]}" -p "$project" -f deploy/compose.sim.yaml "$@"; }
finish() {
    status=$?
    if [ $status -ne 0 ] && [ -n "${compose_command:-}" ]; then compose logs --tail 40 || true; fi
    if [ -n "${compose_command:-}" ]; then compose down -v --timeout 10 >/dev/null 2>&1 || true; fi
    rm -rf deploy/prebuilt "$work"
    if [ -n "$engine_pid" ]; then kill "$engine_pid" 2>/dev/null || true; fi
    exit $status
}
trap finish EXIT

if ! command -v dockerd >/dev/null || ! command -v debootstrap >/dev/null; then
    say 'installing a container engine'
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq docker.io docker-compose debootstrap iptables >"$work/apt.log" 2>&1
fi
if ! docker info >/dev/null 2>&1; then
    say 'starting the engine'
    dockerd >"$work/dockerd.log" 2>&1 &
    engine_pid=$!
    for _ in $(seq 60); do docker info >/dev/null 2>&1 && break; sleep 1; done
    docker info >/dev/null || { tail -20 "$work/dockerd.log"; exit 1; }
fi
if docker compose version >/dev/null 2>&1; then compose_command=(docker compose); else compose_command=(docker-compose); fi

if ! docker image inspect debian:bookworm-slim >/dev/null 2>&1; then
    say 'making the base image'
    debootstrap --variant=minbase --include=ca-certificates bookworm "$work/base" >"$work/debootstrap.log" 2>&1 \
        || { tail -20 "$work/debootstrap.log"; exit 1; }
    tar -C "$work/base" -c . | docker import - debian:bookworm-slim >/dev/null
fi

say 'building the image'
[ -x target/release/gateway ] || cargo build --release --locked --workspace --bins
mkdir -p deploy/prebuilt
for b in switchboard auth-svc router-svc transport-svc gateway codex-sim; do cp "target/release/$b" deploy/prebuilt/; done
BUILD_IMAGE=debian:bookworm-slim DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0 compose build codex-sim >"$work/build.log" 2>&1 \
    || { tail -30 "$work/build.log"; exit 1; }

say 'up'
compose up -d --no-build >"$work/up.log" 2>&1 || { tail -30 "$work/up.log"; exit 1; }
key=$(compose exec -T auth-svc cat /data/agent.key)
call() {
    curl -sS --max-time 20 "http://127.0.0.1:$SWITCHBOARD_PORT/v1/responses" -H "Authorization: Bearer $key" \
        -H 'Content-Type: application/json' -d '{"model":"codex/gpt-5.5","input":"Reply exactly: CONTAINED"}'
}
answered() { # answered WHAT: within a minute a call is answered
    for _ in $(seq 60); do
        answer=$(call 2>&1 || true)
        case $answer in *'"text":"CONTAINED"'* | *'"text": "CONTAINED"'*) say "$1: a call was answered"; return 0 ;; esac
        sleep 1
    done
    say "$1: no answer: $answer"
    return 1
}
answered 'four containers'

say 'a service restarts'
compose restart -t 5 router-svc >/dev/null 2>&1
answered 'after a restart of router-svc'
compose kill -s SIGKILL auth-svc >/dev/null 2>&1
compose up -d --no-build auth-svc >/dev/null 2>&1
answered 'after auth-svc was killed'

say 'who may do what'
compose exec -T -u root gateway sh -c 'test ! -e /data/database.key && ! ls /seal/seal.key 2>/dev/null'
compose exec -T gateway switchboard --server unix:///run/switchboard/gateway.sock call --model codex/gpt-5.5 --message 'Reply exactly: OK'
say 'passed'
