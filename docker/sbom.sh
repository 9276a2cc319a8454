#!/bin/sh
# Writes what the two programs are made of, as CycloneDX 1.5 (https://cyclonedx.org): target/sbom/audiovault-agent.cdx.json
# and target/sbom/audiovault-relay.cdx.json. Runs from any directory.
#
# Needs jq, and cargo-cyclonedx (cargo install --locked cargo-cyclonedx).
set -eu
cd "$(dirname "$0")/.."

die() {
  echo "docker/sbom.sh: $*" >&2
  exit 1
}

cargo cyclonedx --version >/dev/null 2>&1 || die "please install cargo-cyclonedx: cargo install --locked cargo-cyclonedx"
command -v jq >/dev/null || die "please install jq"

sbom="${CARGO_TARGET_DIR:-target}/sbom"
mkdir -p "$sbom"
# The time of the commit, so that one version has one list.
SOURCE_DATE_EPOCH="$(git log -1 --format=%ct 2>/dev/null || echo 0)"
export SOURCE_DATE_EPOCH

# This writes a list for each program of the workspace, beside its package. Each list has the dependencies of all programs.
# `cargo tree` says which of these cargo builds into one program.
cargo cyclonedx --quiet --format json --spec-version 1.5 --describe binaries --no-build-deps
for part in agent relay; do
  built="$(cargo tree --locked --package "audiovault-$part" --edges normal --prefix none --no-dedupe)"
  printf '%s\n' "$built" | cut -d ' ' -f 1,2 | sort -u | jq --raw-input --slurp \
    --slurpfile all "$part/audiovault-${part}_bin.cdx.json" '
      split("\n") as $built
      | $all[0]
      | .components |= map(select("\(.name) v\(.version)" | IN($built[])))
      | [.components[]."bom-ref", .metadata.component."bom-ref"] as $kept
      | .dependencies |= map(select(.ref | IN($kept[])) | (.dependsOn // empty) |= map(select(IN($kept[]))))
    ' >"$sbom/audiovault-$part.cdx.json"
done
rm -f ./*/*_bin.cdx.json
ls -l "$sbom"
