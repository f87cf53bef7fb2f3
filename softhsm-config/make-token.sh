#!/bin/sh
# Makes a fresh SoftHSM token for a trial of `strongroom init` and `strongroom serve`.
#
#   softhsm-config/make-token.sh DIR [LABEL]
#
# DIR must not exist. It gets, for its owner only: the token's files, softhsm2.conf, and the two PINs,
# random, in the files `pin` and `so-pin`. LABEL is `strongroom` if not said. `strongroom dev` needs none
# of this: it makes its own token.
set -eu
umask 077

die() {
    echo "make-token: $1" >&2
    exit 1
}

# softhsm2-util takes PINs as arguments, which every user of the machine can read, or asks for them at a
# terminal: `script` is that terminal. What it shows has the PINs in it and is thrown away.
init_token() {
    command="softhsm2-util --init-token --free --label $label"
    cat "$dir/so-pin" "$dir/so-pin" "$dir/pin" "$dir/pin" | SHELL=/bin/sh script -qec "$command" /dev/null >/dev/null
}

module() {
    for path in /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so \
        /usr/lib64/pkcs11/libsofthsm2.so /usr/lib64/softhsm/libsofthsm.so /usr/local/lib/softhsm/libsofthsm2.so; do
        if [ -e "$path" ]; then
            echo "$path"
            return
        fi
    done
    die "SoftHSM's module libsofthsm2.so is not where packages put it; is softhsm2 installed?"
}

case $# in
1 | 2) ;;
*) die "usage: $0 DIR [LABEL]" ;;
esac
label=${2:-strongroom}
case $label in
*[!0-9A-Za-z._-]* | '') die "a label here is made of letters, digits, '.', '_' and '-'" ;;
esac
[ "${#label}" -le 32 ] || die "a label has at most 32 characters (CK_TOKEN_INFO)"
command -v softhsm2-util >/dev/null || die "softhsm2-util is missing; on Debian: apt-get install softhsm2"
command -v script >/dev/null || die "script is missing; on Debian: apt-get install bsdutils"
module=$(module)
[ ! -e "$1" ] || die "$1 exists; name a folder that does not"

mkdir -p -- "$1"
dir=$(cd -- "$1" && pwd)
case $dir in
*[!0-9A-Za-z/._-]*) rmdir "$dir" && die "the path $dir has characters that softhsm2.conf cannot hold" ;;
esac
mkdir "$dir/tokens"
template=$(dirname -- "$0")/softhsm2.conf
sed "s|@TOKEN_DIR@|$dir/tokens|" "$template" >"$dir/softhsm2.conf"
for pin in pin so-pin; do
    od -An -tx1 -N16 /dev/urandom | tr -d ' \n' >"$dir/$pin"
    echo >>"$dir/$pin"
done
export SOFTHSM2_CONF="$dir/softhsm2.conf"
init_token || die "softhsm2-util could not make the token in $dir"
slots=$(softhsm2-util --show-slots)
serial=$(echo "$slots" | sed -n 's/^ *Serial number: *\([0-9a-f]\{1,\}\).*/\1/p' | head -n 1)
[ -n "$serial" ] || die "the token in $dir was not made"
# SoftHSM does not sync its files.
sync

cat <<END
# A token is in $dir. For the configuration:
[hsm]
module = "$module"
token = { label = "$label" }
pin_file = "$dir/pin"
sync_dirs = ["$dir/tokens"]
[hsm.environment]
SOFTHSM2_CONF = "$dir/softhsm2.conf"
# The service does not need $dir/so-pin, the security officer's PIN: put it away.
END
