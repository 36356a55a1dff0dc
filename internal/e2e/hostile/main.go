// Hostile is for tests. It runs in a guest as root, takes the virtio devices from the
// guest's drivers, and drives them itself, with everything in it that a driver may not
// do: loops, holes, huge lengths, indexes that jump, rings and requests that change while
// the device reads them, registers in any size, resets under load. Then each device has
// to answer a good request, and goes back to its driver.
//
//	hostile SECONDS SEED
//
// It does no harm to its own kernel: devices write only to RAM that is the program's.
// The console of the guest must be the serial port, and no file system on a device may
// be mounted.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("hostile:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: hostile SECONDS SEED")
	}
	seconds, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	seed, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	all, err := devices()
	if err != nil {
		return err
	}
	untouched, err := giveRAM(all)
	if err != nil {
		return err
	}
	fmt.Println("hostile: seed", seed, "and", len(all), "devices")
	if err := attack(all, seed, time.Duration(seconds)*time.Second); err != nil {
		return err
	}
	if !bytes.Equal(untouched, bytes.Repeat([]byte{0xa5}, len(untouched))) {
		return errors.New("a device has written to RAM that it wasn't given")
	}
	for _, d := range all {
		if err := d.alive(); err != nil {
			return err
		}
	}
	for _, d := range all {
		if err := d.handBack(); err != nil {
			return err
		}
	}
	fmt.Println("\nhostile: all devices work")
	return nil
}

// giveRAM gives each device an arena, and returns RAM between them that no device has.
func giveRAM(all []*device) (untouched []byte, err error) {
	end, err := endOfRAM()
	if err != nil {
		return nil, err
	}
	pages, gpas, err := hugePages(len(all) + 1)
	if err != nil {
		return nil, err
	}
	for i, d := range all {
		d.mem = &arena{mem: pages[i], gpa: gpas[i], beyond: byte(end >> 24)}
	}
	untouched = pages[len(all)]
	for i := range untouched {
		untouched[i] = 0xa5
	}
	return untouched, nil
}

// endOfRAM returns the first address after RAM, which is rounded up.
func endOfRAM() (end uint64, err error) {
	text, err := os.ReadFile("/proc/iomem")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var first, last uint64
		if n, _ := fmt.Sscanf(line, "%x-%x : System RAM", &first, &last); n == 2 && strings.Contains(line, ": System RAM") {
			end = last + 1
		}
	}
	end = (end + 1<<24 - 1) &^ (1<<24 - 1)
	if end == 0 || end > 0xc000_0000 {
		return 0, fmt.Errorf("RAM ends at %#x: want an end below 3 GiB", end)
	}
	return end, nil
}

// attack attacks all devices at once, and says what was done.
func attack(all []*device, seed uint64, long time.Duration) error {
	var work sync.WaitGroup
	errs := make([]error, len(all))
	end := time.Now().Add(long)
	attackers := make([]*attacker, len(all))
	for i, d := range all {
		a := newAttacker(d, seed+uint64(i))
		attackers[i] = a
		work.Go(func() { errs[i] = a.run(seed+uint64(i), end) })
	}
	work.Wait()
	err := errors.Join(errs...)
	for _, a := range attackers {
		fmt.Printf("\nhostile: %s: %v\n", a.d, a.counts)
		if err == nil && !a.effective() {
			err = fmt.Errorf("%s: the attack had no effect", a.d)
		}
	}
	return err
}
