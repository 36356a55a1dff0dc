# What scripts/demo and scripts/test share: installing what is missing (Debian
# packages, as root or with sudo, saying so first) and building. Sourced.
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n==> %s\n' "$*" >&2; }
die() { printf 'offmap: %s\n' "$*" >&2; exit 1; }

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "this needs root to run: $* (become root, or install sudo)"
	fi
}

# version COMMAND...: the first number of the version that COMMAND prints.
version() { "$@" 2>/dev/null | grep -oE '[0-9]+\.[0-9]+' | head -n 1 || true; }
at_least() { [ -n "$1" ] && [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# Go 1.21 is enough: from then on it fetches the toolchain that go.mod names.
have_go() { at_least "$(version env -C / GOTOOLCHAIN=local go version)" 1.21; }
# QEMU 10 is the oldest that the lab was proved on (docs/architecture.md).
have_qemu() { at_least "$(version qemu-system-x86_64 --version)" 10.0; }
have_cc() { command -v cc >/dev/null && command -v as >/dev/null && [ -e /usr/include/linux/kvm.h ] && [ -e /usr/include/stdio.h ]; }

# shellcheck disable=SC1091
codename() { (. /etc/os-release && echo "${VERSION_CODENAME:-}"); }

# debian_mirror prints where this machine gets its Debian from.
debian_mirror() {
	local mirror
	# shellcheck disable=SC2016
	mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE)' 2>/dev/null | awk -v suite="$(codename)" '$2 == suite { print $1; exit }')
	echo "${mirror:-http://deb.debian.org/debian}"
}

# install_packages PACKAGE...: from the machine's own sources, and on Debian 12, where
# Go and QEMU are too old, from its backports, whose list is read for this
# call only: the machine's sources stay as they are.
install_packages() {
	command -v apt-get >/dev/null || die "missing: $*; this script can install them on Debian only"
	say "installing with apt-get, as root: $*"
	export DEBIAN_FRONTEND=noninteractive
	local options=()
	if [ "$(codename)" = bookworm ]; then
		options=(-t bookworm-backports
			-o Dir::Etc::sourcelist="$PWD/bin/apt/sources.list" -o Dir::Etc::sourceparts=-
			-o Dir::State::lists="$PWD/bin/apt/lists")
		mkdir -p bin/apt/lists/partial
		local mirror
		mirror=$(debian_mirror)
		local suite
		for suite in bookworm bookworm-updates bookworm-backports; do
			echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
		done >bin/apt/sources.list
	fi
	as_root apt-get "${options[@]}" -qq update
	as_root apt-get "${options[@]}" -qq -y --no-install-recommends install "$@"
}

# need WHAT...: install the packages behind what isn't there.
need() {
	local missing=() what
	for what in "$@"; do
		"have_$what" && continue
		case $what in
		go) missing+=(golang-go) ;;
		qemu) missing+=(qemu-system-x86 seabios) ;;
		cc) missing+=(gcc libc6-dev linux-libc-dev binutils) ;;
		make) missing+=(make) ;;
		debootstrap) missing+=(debootstrap) ;;
		e2fsprogs) missing+=(e2fsprogs) ;;
		chromium) missing+=(chromium) ;;
		esac
	done
	if [ ${#missing[@]} -gt 0 ]; then
		install_packages ca-certificates "${missing[@]}"
	fi
	for what in "$@"; do
		"have_$what" || die "$what is still missing or too old after installing: ${missing[*]}"
	done
}
have_debootstrap() { command -v debootstrap >/dev/null; }
have_e2fsprogs() { [ -x /sbin/mkfs.ext4 ] && [ -x /sbin/e2fsck ]; }
have_make() { command -v make >/dev/null; }
# A page of offmap report is tested in a browser.
have_chromium() { command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; }

# Debian's Go is older than go.mod's and may have been told to stay so.
if ! at_least "$(version env -C / GOTOOLCHAIN=local go version)" "$(awk '$1 == "go" { print $2 }' go.mod)"; then
	export GOTOOLCHAIN=auto
fi

build() {
	say "building bin/offmap"
	make -s bin/offmap
}
