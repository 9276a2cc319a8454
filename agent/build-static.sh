#!/bin/sh
# Builds the agent as one static program, target/static/audiovault-agent, which runs on any Linux with this machine's
# kind of processor, with any C library or without one. Runs from any directory. The argument is a profile of cargo, and
# `dist` by default. The tests use `unoptimized`, which compiles in a fraction of the time.
#
# Needs Rust, a C compiler and the C library's static half (Debian: libc6-dev, Fedora: glibc-static).
set -eu
cd "$(dirname "$0")/.."

target="${CARGO_TARGET_DIR:-target}"
triple="$(rustc -vV | sed -n 's/^host: //p')"
profile="${1:-dist}"
built="$target/$triple/$profile/audiovault-agent"

die() {
  echo "agent/build-static.sh: $*" >&2
  exit 1
}

case "$triple" in
  *-linux-gnu) ;;
  *) die "$triple is not a Linux with the GNU C library" ;;
esac

# Without the second flag the crate getrandom looks for the C library's function among its dynamic symbols, of which a
# static program has none, and falls back to /dev/urandom, which an empty directory has not.
#
# With --target the flags hold for the program alone, not for the macros and build scripts, which cannot be static; and
# the result has a directory of its own, so that the usual build stays as it is.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\"" \
  cargo build --profile "$profile" --locked --package audiovault-agent --bin audiovault-agent --target "$triple"

if readelf --program-headers "$built" | grep -q INTERP; then
  die "$built is not static"
fi
# A static program that resolves names by the C library loads the system's modules, and fails where there are others.
# getaddrinfo is there, because the library that asks MySQL could call it; but it is given addresses alone, as the story of
# the empty directory shows.
if nm "$built" | grep -qE ' (gethostbyname|getpwnam)$'; then
  die "$built calls the C library for names; use the module reach instead"
fi

mkdir -p "$target/static"
install -m 755 "$built" "$target/static/audiovault-agent"
ls -l "$target/static/audiovault-agent"
