#!/bin/sh
# Puts an empty source file where each manifest expects one, so that the dependencies can be compiled, and kept as a
# layer of their own, before the sources that change every day are copied in.
set -eu

for manifest in */Cargo.toml; do
  member=${manifest%/Cargo.toml}
  {
    # Targets with a path of their own, then the places where cargo looks by itself.
    sed -n 's/^path *= *"\(.*\.rs\)"$/\1/p' "$manifest"
    grep -q '^\[lib\]' "$manifest" || echo src/lib.rs
  } | while read -r source; do
    mkdir -p "$member/$(dirname "$source")"
    echo 'fn main() {}' >"$member/$source"
  done
done
