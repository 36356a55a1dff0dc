package userland

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// eachFile calls f with each named file, or with standard input if there are none.
func eachFile(names []string, f func(name string, r io.Reader) error) error {
	if len(names) == 0 {
		return f("", os.Stdin)
	}
	for _, name := range names {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		err = f(name, file)
		file.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// grep prints the lines that match: grep [-ivcq] PATTERN [FILE]...
func grep(args []string) error {
	fs := flag.NewFlagSet("grep", flag.ContinueOnError)
	fold := fs.Bool("i", false, "ignore case")
	invert := fs.Bool("v", false, "print the lines that don't match")
	count := fs.Bool("c", false, "print only how many lines")
	quiet := fs.Bool("q", false, "print nothing")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() == 0 {
		return usage("grep [-i] [-v] [-c] [-q] PATTERN [FILE]...")
	}
	pattern := fs.Arg(0)
	if *fold {
		pattern = "(?i)" + pattern
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	total := 0
	err = eachFile(fs.Args()[1:], func(name string, r io.Reader) error {
		n := 0
		in := bufio.NewReader(r)
		for {
			line, err := in.ReadBytes('\n')
			if len(line) > 0 && re.Match(bytes.TrimSuffix(line, []byte("\n"))) != *invert {
				n++
				if !*count && !*quiet {
					if fs.NArg() > 2 {
						fmt.Fprintf(out, "%s:", name)
					}
					out.Write(line)
				}
			}
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
		}
		if *count && !*quiet {
			fmt.Fprintln(out, n)
		}
		total += n
		return nil
	})
	if err == nil && total == 0 {
		return exitStatus(1)
	}
	return err
}

// head prints the first lines: head [-n LINES] [FILE]...
func head(args []string) error {
	fs := flag.NewFlagSet("head", flag.ContinueOnError)
	lines := fs.Int("n", 10, "how many lines")
	if err := fs.Parse(args); err != nil {
		return err
	}
	return eachFile(fs.Args(), func(_ string, r io.Reader) error {
		in := bufio.NewReader(r)
		for range *lines {
			line, err := in.ReadBytes('\n')
			os.Stdout.Write(line)
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// wc counts lines, words and bytes.
func wc(args []string) error {
	return eachFile(args, func(name string, r io.Reader) error {
		var lines, words, size int
		inWord := false
		in := bufio.NewReader(r)
		for {
			c, err := in.ReadByte()
			if err == io.EOF {
				fmt.Println(strings.TrimRight(fmt.Sprintf("%7d %7d %7d %s", lines, words, size, name), " "))
				return nil
			}
			if err != nil {
				return err
			}
			size++
			if c == '\n' {
				lines++
			}
			space := c == ' ' || '\t' <= c && c <= '\r'
			if !space && !inWord {
				words++
			}
			inWord = !space
		}
	})
}

// dd copies blocks: dd [if=FILE] [of=FILE] [bs=SIZE] [count=BLOCKS], sizes in
// bytes or with K, M or G.
func dd(args []string) error {
	in, out := os.Stdin, os.Stdout
	bs, count := int64(512), int64(-1)
	for _, a := range args {
		key, value, _ := strings.Cut(a, "=")
		var err error
		switch key {
		case "if":
			in, err = os.Open(value)
		case "of":
			out, err = os.Create(value)
		case "bs":
			bs, err = parseSize(value)
		case "count":
			count, err = strconv.ParseInt(value, 10, 64)
		default:
			return usage("dd [if=FILE] [of=FILE] [bs=SIZE] [count=BLOCKS]")
		}
		if err != nil {
			return err
		}
	}
	if bs < 1 || bs > 1<<30 {
		return fmt.Errorf("block size %d", bs)
	}
	buf := make([]byte, bs)
	var total int64
	for ; count != 0; count-- {
		n, err := io.ReadFull(in, buf)
		if _, werr := out.Write(buf[:n]); werr != nil {
			return werr
		}
		total += int64(n)
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "%d bytes copied\n", total)
	return out.Close()
}

// parseSize reads a number of bytes, with K, M or G for powers of 1024.
func parseSize(s string) (int64, error) {
	shift := 0
	if s != "" {
		if i := strings.IndexByte("KMG", s[len(s)-1]); i >= 0 {
			s, shift = s[:len(s)-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(s, 10, 32)
	return n << shift, err
}
