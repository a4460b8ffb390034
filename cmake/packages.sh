#!/bin/sh
# packages.sh NAME...: installs the named Debian packages that are missing; says what to do where it cannot.
set -eu
command -v dpkg-query >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1 || {
    echo "prefpga: this system has no apt-get, so nothing is installed. Needed are the equivalents of these Debian" >&2
    echo "         packages; if they are there, build with: cmake --preset release && cmake --build build/release" >&2
    echo "         $*" >&2
    command -v cmake >/dev/null 2>&1 && exit 0
    exit 1
}
missing=
for name in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing="$missing $name"
done
[ -n "$missing" ] || exit 0
root=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || {
        echo "prefpga: as root, install what is missing: apt-get install --no-install-recommends$missing" >&2
        exit 1
    }
    root=sudo
fi
echo "prefpga: installing$missing"
DEBIAN_FRONTEND=noninteractive
export DEBIAN_FRONTEND
install="$root apt-get install -y -q --no-install-recommends"
# shellcheck disable=SC2086
$install $missing >/dev/null 2>&1 || { $root apt-get update -q >/dev/null; $install $missing >/dev/null; }
