#!/bin/sh
# Runs the benchmark; see main.go for what it does and its flags.
cd "$(dirname "$0")/../.." && exec go run ./test/bench "$@"
