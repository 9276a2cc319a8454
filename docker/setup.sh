#!/bin/sh
# Prepares the compose file's demo: one site, the agent's secrets, and recordings of yesterday and today as FreePBX
# would have left them. A second run keeps existing files.
set -eu

readonly SITE=demo USER_ID=10001
readonly SECRETS=/secrets RECORDINGS=/recordings

relay() {
  # As the relay's own user, so that the database does not belong to root.
  setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups audiovault-relay "$@"
}

# One text of the JSON that `site add` prints. These texts contain no quotes.
field() {
  value=$(sed -n "s/^ *\"$1\": \"\([^\"]*\)\",*\$/\\1/p" "$SECRETS/added.json")
  [ -n "$value" ]
  echo "$value"
}

add_site() {
  if relay site show "$SITE" >/dev/null 2>&1; then
    # The key was shown only once and its file is lost: make a new one.
    relay site remove "$SITE" >/dev/null
  fi
  umask 077
  relay site add "$SITE" --name-rest 0s --note "Sample recordings" --json >"$SECRETS/added.json"
  field site_key >"$SECRETS/site-key"
  field search_token >"$SECRETS/search-token"
  field search_url >"$SECRETS/search-url"
  rm "$SECRETS/added.json"
  chown -R "$USER_ID:$USER_ID" "$SECRETS"
}

# A number as bytes, lowest first, in the notation of printf.
little_endian() {
  value=$1 count=$2
  while [ "$count" -gt 0 ]; do
    printf '\\%03o' $((value % 256))
    value=$((value / 256)) count=$((count - 1))
  done
}

# Writes a quiet tone; the argument is its length in seconds. 8-bit mono at 8 kHz, a triangle wave of 250 Hz.
wave() {
  bytes=$(($1 * 8000))
  # The formats are escapes of our own making.
  # shellcheck disable=SC2059
  {
    printf "RIFF$(little_endian $((bytes + 36)) 4)WAVEfmt "
    printf "$(little_endian 16 4)$(little_endian 1 2)$(little_endian 1 2)"
    printf "$(little_endian 8000 4)$(little_endian 8000 4)$(little_endian 1 2)$(little_endian 8 2)"
    printf "data$(little_endian "$bytes" 4)"
  }
  yes 'pqrstuvwwvutsrqponmlkjihhijklmno' | tr -d '\n' | head -c "$bytes"
}

# A call that began at an epoch second, with its number and its length in seconds.
recording() {
  id="$1.$2"
  folder="$RECORDINGS/$(date -u -d "@$1" +%Y/%m/%d)"
  mkdir -p "$folder"
  wave "$3" >"$folder/q-400-5550100-$(date -u -d "@$1" +%Y%m%d-%H%M%S)-$id.wav"
  echo "$id" >>"$RECORDINGS/calls.txt"
}

make_recordings() {
  umask 022
  now=$(date +%s)
  : >"$RECORDINGS/calls.txt"
  recording $((now - 86400)) 17 45
  recording $((now - 3600)) 21 180
  recording $((now - 600)) 34 20
}

[ -s "$SECRETS/search-token" ] || add_site
[ -s "$RECORDINGS/calls.txt" ] || make_recordings

echo "search URL    $(cat "$SECRETS/search-url")"
echo "search token  $(cat "$SECRETS/search-token")"
echo "call ids      $(tr '\n' ' ' <"$RECORDINGS/calls.txt")"
echo
echo "curl '$(cat "$SECRETS/search-url")?token=$(cat "$SECRETS/search-token")&callid=$(tail -n 1 "$RECORDINGS/calls.txt")'"
