package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckFiles has disks, shares and outputs that are in each other's way.
func TestCheckFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"data/deep", "database", "out"} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"a.img", "b.img", "data/in.img", "out/r.json"} {
		if err := os.WriteFile(file, nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"to-data": "data", "a-link": "a.img", "to-report": "data/r.json", "loop": "loop"} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link("a.img", "out/a-hard"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		disks, shares  string // separated by spaces
		report, record string
		err            string
	}{
		{},
		{disks: "a.img b.img", shares: "data database,rw out", report: "out/new.json"},
		{disks: "nowhere"},
		{shares: "nowhere", err: "share: lstat"},
		{shares: "loop", err: "too many links"},
		{shares: "a.img", err: "share: a.img: not a directory"},

		{disks: "a.img a.img", err: "--disk a.img and --disk a.img are one file"},
		{disks: "a.img,ro b.img a-link", err: "--disk a.img and --disk a-link are one file"},
		{disks: "a.img out/a-hard,overlay", err: "one file"},
		{disks: "a.img,ro a.img,ro a.img,overlay"},

		{shares: "data,rw data/deep=t", err: "--share data/deep is inside --share data"},
		{shares: "data/deep,rw data"},
		{shares: "data data/deep,rw"},
		{shares: "data data=t"},
		{shares: "data,rw to-data=t", err: "--share to-data is inside --share data"},
		{shares: "data,rw .", report: "out/x"},
		{shares: "/,rw", disks: "a.img", err: "--disk a.img is inside --share /"},
		{shares: "data,rw", disks: "data/in.img,ro", err: "--disk data/in.img is inside --share data"},
		{shares: "data", disks: "data/in.img"},

		{shares: "out,rw", report: "out/r.json", err: "--report out/r.json is inside --share out"},
		{shares: "out,rw", record: "out/new.json", err: "--exposure out/new.json is inside --share out"},
		{shares: "out", report: "out/new.json"},
		{shares: "data,rw", report: "to-data/r.json", err: "--report to-data/r.json is inside"},
		{disks: "a.img,ro", report: "a-link", err: "--report a-link would replace the image of --disk a.img"},
		{disks: "a.img", record: "b.img"},
	} {
		var f deviceFlags
		f.disks.parse, f.shares.parse = parseDisk, parseShare
		for d := range strings.FieldsSeq(c.disks) {
			if err := f.disks.Set(d); err != nil {
				t.Fatal(err)
			}
		}
		for s := range strings.FieldsSeq(c.shares) {
			if err := f.shares.Set(s); err != nil {
				t.Fatal(err)
			}
		}
		report, record := c.report, c.record
		err := f.checkFiles(map[string]*string{"--report": &report, "--exposure": &record})
		checkValue(t, strings.Join([]string{c.disks, c.shares, c.report, c.record}, " | "), err, c.err)
		if c.err == "" && c.report != "" && (!filepath.IsAbs(report) || filepath.Base(report) != filepath.Base(c.report)) {
			t.Errorf("the report goes to %q, want an absolute path", report)
		}
	}
}

// TestOutputStaysOutside has a guest that puts a symbolic link in the way of a report,
// in a directory that the report's path led through when the guest started.
func TestOutputStaysOutside(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("data", 0o777); err != nil {
		t.Fatal(err)
	}
	var f deviceFlags
	f.shares.parse = parseShare
	if err := f.shares.Set("data,rw"); err != nil {
		t.Fatal(err)
	}
	report := "data/../r.json"
	if err := f.checkFiles(map[string]*string{"--report": &report}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(report, "data") {
		t.Errorf("the report's path %q leads through the share", report)
	}
}
