#!/bin/sh
# Assembles guardian.S into guardian.bin beside it, or in the directory $1.
# Needs binutils for x86-64.
set -eu
cd "$(dirname "$0")"
out=${1:-.}
as --64 -mx86-used-note=no -o "$out/guardian.o" guardian.S
ld -m elf_x86_64 -Ttext=0x400000 --oformat binary -o "$out/guardian.bin" "$out/guardian.o"
chmod 644 "$out/guardian.bin"
rm "$out/guardian.o"
