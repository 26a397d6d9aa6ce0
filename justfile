# `just` alone lists the recipes. What CI runs lies in .ci/steps, so that a machine without `just` runs the same.

_default:
    @just --list

# Check the formatting
fmt:
    .ci/steps fmt

# Lint the code; a warning is an error
lint:
    .ci/steps lint

# Build the crate's documentation; a broken link is an error
doc:
    .ci/steps doc

# Everything that needs neither Java nor a browser, with 2,000 seeds of the simulation
quick:
    .ci/steps quick

# All tests, including those on a real Kafka (needs Java 17 and Maven)
test:
    .ci/steps tests

# Check units, alerts and the page with systemd-analyze, promtool and a browser (needs Debian's systemd, prometheus, chromium; Java 17 and Maven)
system:
    .ci/steps system

# Run the example consumers on a real Kafka, and check schemas and AsyncAPI (needs Java 17, Maven, Python, Node.js and Go)
consumers:
    .ci/steps consumers

# Test OAUTHBEARER on a real Kafka (needs Java 17, Maven and CMake)
oauth:
    .ci/steps oauth

# Count the instructions of one order event, and compare with the number in the repository (needs Debian's valgrind)
instructions:
    .ci/steps instructions --release

# Run N seeds of the simulation (the tests run 10,000); a seed that fails prints the line that replays it
simulate N="1000000":
    SIMULATION_SEEDS={{N}} cargo test --locked --test simulation every_promise -- --nocapture

# Fuzz one TARGET of fuzz/targets for MINUTES, guided by coverage, starting from the fixtures (needs a C++ compiler)
fuzz TARGET MINUTES="10":
    cd fuzz && mkdir -p corpus/{{TARGET}} artifacts/{{TARGET}} && cargo run --locked --release --bin {{TARGET}} -- \
        -max_total_time=$(({{MINUTES}} * 60)) -rss_limit_mb=1024 -timeout=10 -max_len=16384 -print_final_stats=1 \
        -artifact_prefix=artifacts/{{TARGET}}/ corpus/{{TARGET}} ../tests/fixtures ../config

# Lint the fuzz targets
fuzz-lint:
    .ci/steps fuzz-lint

# Change FILE in every way that cargo-mutants knows; a unit test must fail each time (needs cargo-mutants)
mutants FILE="src/provider/signature.rs":
    cargo mutants --in-place --output target --file {{FILE}} --cargo-arg=--lib

# Run N rounds of chaos on the real parts (the tests run 24); the report goes to target/chaos/relay.json
chaos N="1000":
    CHAOS_ROUNDS={{N}} CHAOS_REPORT=target/chaos cargo test --locked --test chaos whatever_fails -- --nocapture

# Run N rounds of chaos on two nodes, then N on three (the tests run 7 of each); reports go to target/chaos/
chaos-cluster N="150":
    CHAOS_ROUNDS={{N}} CHAOS_REPORT=target/chaos cargo test --locked --test chaos cluster:: -- --nocapture

# Renew the token for Kafka N times under load (the tests do it 3 times; N = 20 takes five minutes; needs CMake)
renewals N="20":
    OAUTH_RENEWALS={{N}} cargo test --locked --features oauth --test delivery tokens_are_renewed -- --nocapture

# Send 200,000 events at once through the log and the WebSocket, and print the memory used (needs Java 17 and Maven)
pressure:
    PRESSURE_EVENTS=200000 cargo test --release --locked --test delivery flood -- --nocapture

# Check dependencies: licences, duplicates, sources (installs cargo-deny into target/ where it is missing)
deny:
    .ci/steps deny

# Check the workflows: their syntax, and what an attacker could do with them (needs Go and Python)
workflows:
    .ci/steps workflows

# Check the Helm chart with helm, schemas of three Kubernetes versions, and the relay (needs Go and Python, builds helm)
charts:
    .ci/steps charts

# Benchmark the real binary and a bare transactional producer on a real Kafka (needs Java 17 and Maven); `--help` says more
bench *ARGUMENTS:
    cargo bench --locked --bench end_to_end -- {{ARGUMENTS}}

# Measure what more accounts, shards and nodes cost, on a real Kafka (needs Java 17 and Maven); `--help` says more
bench-scale *ARGUMENTS:
    cargo bench --locked --bench scale -- {{ARGUMENTS}}

# Benchmark the relay in turn with the peers that are installed (see benches/peers)
bench-peers *ARGUMENTS:
    benches/peers/run {{ARGUMENTS}}

# Measure one order event without Kafka, at three sizes of the window
bench-pure:
    cargo bench --locked --bench pure

# Measure a start after N events in transactions of 1,000, and after SINGLES in transactions of one (1,000,000 take an hour), on a real Kafka (needs Java 17 and Maven)
bench-warm N="1000000" SINGLES="100000":
    cargo bench --locked --bench warm_start -- {{N}} {{SINGLES}}

# Build packages and an SBOM of the release binary in target/package/, for this glibc or an older GLIBC (needs `.ci/steps package-tools`, CMake)
release GLIBC="":
    GLIBC={{GLIBC}} packaging/build

# Install the packages into a clean Debian root, and remove them (needs root and debootstrap)
release-try:
    packaging/try

# Run the tarball that `just release 2.31` built on Debian 11, which has that glibc (needs root and debootstrap)
release-try-glibc:
    packaging/try-glibc

# Run the demo
demo:
    .ci/steps demo

# What must pass before a change is taken
ci:
    .ci/steps ci
