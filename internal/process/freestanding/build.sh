#!/bin/sh
# Assembles the program SOURCE.S into SOURCE.bin beside it, or in the directory
# OUT: build.sh SOURCE.S [OUT]. Needs binutils for x86-64.
set -eu
out=${2:-$(dirname "$1")}
name=$(basename "$1" .S)
as --64 -I "$(dirname "$0")" -mx86-used-note=no -o "$out/$name.o" "$1"
ld -m elf_x86_64 -Ttext=0x400000 --oformat binary -o "$out/$name.bin" "$out/$name.o"
chmod 644 "$out/$name.bin"
rm "$out/$name.o"
