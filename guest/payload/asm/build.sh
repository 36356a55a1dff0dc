#!/bin/sh
# Assembles every payload next to its source, or into the directory $1.
# Needs binutils for x86-64.
set -eu
cd "$(dirname "$0")"
out=${1:-.}
for s in *.S; do
	name=${s%.S}
	as --64 -o "$out/$name.o" "$s"
	ld -m elf_x86_64 -T flat.ld --no-warn-rwx-segments --oformat binary -o "$out/$name.bin" "$out/$name.o"
	chmod 644 "$out/$name.bin"
	rm "$out/$name.o"
done
