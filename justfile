# What CI runs, by the names it runs them by. `just` alone lists the recipes.

_default:
    @just --list

# Judge the formatting
fmt:
    cargo fmt --all --check

# Judge the code; a warning is a mistake
lint:
    cargo clippy --locked --all-targets -- --deny warnings

# Everything that is tested, the delivery tests on a real Kafka included (needs Java 17 and Maven)
test:
    cargo test --locked

# Run N seeds of the simulation (the tests run 20,000); a seed that fails prints the line that replays it
simulate N="1000000":
    SIMULATION_SEEDS={{N}} cargo test --locked --test simulation every_promise -- --nocapture

# Judge what is linked: licences, duplicates, sources (needs cargo-deny, no network)
deny:
    cargo deny --locked check bans licenses sources

# The real binary beside a bare transactional producer on a real Kafka (needs Java 17 and Maven); `--help` says more
bench *ARGUMENTS:
    cargo bench --locked --bench end_to_end -- {{ARGUMENTS}}

# The cost of one order event without Kafka, at three sizes of the window
bench-pure:
    cargo bench --locked --bench pure

# Watch the whole at work
demo:
    cargo run --locked --release -- demo

# What must pass before a change is taken
ci: fmt lint test deny
