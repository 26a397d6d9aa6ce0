# `just` alone lists the recipes. What CI runs lies in .ci/steps, so that a machine without `just` runs the same.

_default:
    @just --list

# Judge the formatting
fmt:
    .ci/steps fmt

# Judge the code; a warning is a mistake
lint:
    .ci/steps lint

# Judge the crate's documentation: a link that leads nowhere is a mistake
doc:
    .ci/steps doc

# Everything that needs neither Java nor a browser, with 2,000 seeds of the simulation
quick:
    .ci/steps quick

# Everything that is tested, the delivery tests on a real Kafka included (needs Java 17 and Maven)
test:
    .ci/steps tests

# OAUTHBEARER on a real Kafka (needs Java 17, Maven and CMake)
oauth:
    .ci/steps oauth

# Units, alerts and the page, judged by systemd-analyze, promtool and a browser (needs Debian's systemd, prometheus, chromium)
system:
    .ci/steps system

# Run the example consumers on a real Kafka, and judge schemas and AsyncAPI (needs Java 17, Maven, Python, Node.js and Go)
consumers:
    .ci/steps consumers

# Instructions of one order event, against the number in the repository (needs Debian's valgrind)
instructions:
    .ci/steps instructions

# Run N seeds of the simulation (the tests run 20,000); a seed that fails prints the line that replays it
simulate N="1000000":
    SIMULATION_SEEDS={{N}} cargo test --locked --test simulation every_promise -- --nocapture

# Fuzz one TARGET of fuzz/targets for so many MINUTES, guided by coverage; the fixtures are where it begins (needs a C++ compiler)
fuzz TARGET MINUTES="10":
    cd fuzz && mkdir -p corpus/{{TARGET}} artifacts/{{TARGET}} && cargo run --locked --release --bin {{TARGET}} -- \
        -max_total_time=$(({{MINUTES}} * 60)) -rss_limit_mb=1024 -timeout=10 -max_len=16384 -print_final_stats=1 \
        -artifact_prefix=artifacts/{{TARGET}}/ corpus/{{TARGET}} ../tests/fixtures ../config

# Judge the fuzz targets as the rest is judged
fuzz-lint:
    .ci/steps fuzz-lint

# Change the code of FILE in every way that cargo-mutants knows, and see that a unit test fails each time (needs cargo-mutants)
mutants FILE="src/provider/signature.rs":
    cargo mutants --in-place --output target --file {{FILE}} --cargo-arg=--lib

# Run N rounds of chaos on the real parts (the tests run 24); the report goes to target/chaos/report.json
chaos N="1000":
    mkdir -p target/chaos
    CHAOS_ROUNDS={{N}} CHAOS_REPORT=target/chaos/report.json cargo test --locked --test chaos whatever_fails -- --nocapture

# Pour 200,000 events out at once by the log and by the socket, and print the memory that it took (needs Java 17 and Maven)
pressure:
    PRESSURE_EVENTS=200000 cargo test --release --locked --test delivery flood -- --nocapture

# Judge what is linked: licences, duplicates, sources (installs cargo-deny into target/ where it is missing)
deny:
    .ci/steps deny

# Judge the workflows: their grammar, and what an attacker could do with them (needs Go and Python)
workflows:
    .ci/steps workflows

# Judge the Helm chart by helm, by the schemas of three versions of Kubernetes and by the relay (needs Go and Python, builds helm)
charts:
    .ci/steps charts

# The real binary beside a bare transactional producer on a real Kafka (needs Java 17 and Maven); `--help` says more
bench *ARGUMENTS:
    cargo bench --locked --bench end_to_end -- {{ARGUMENTS}}

# The cost of one order event without Kafka, at three sizes of the window
bench-pure:
    cargo bench --locked --bench pure

# Starting with N events in the window, on a real Kafka (needs Java 17 and Maven)
bench-warm N="1000000":
    cargo bench --locked --bench warm_start -- {{N}}

# Packages and SBOM of the release binary in target/package/ (needs cargo-deb, cargo-generate-rpm, cargo-cyclonedx)
release:
    packaging/build

# Install the package into a clean Debian root and remove it again (needs root and debootstrap)
release-try:
    packaging/try

# Watch the whole at work
demo:
    .ci/steps demo

# What must pass before a change is taken
ci:
    .ci/steps ci
