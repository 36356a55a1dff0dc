package matrix

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"offmap/internal/process/terminal"
)

// The elements of a JUnit file, in the form that CI systems read.
type (
	suites struct {
		XMLName xml.Name `xml:"testsuites"`
		Suite   suite    `xml:"testsuite"`
	}
	suite struct {
		Name string `xml:"name,attr"`

		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Errors   int        `xml:"errors,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Time     string     `xml:"time,attr"` // seconds
		Cases    []testcase `xml:"testcase"`
	}
	testcase struct {
		Name    string   `xml:"name,attr"`
		Class   string   `xml:"classname,attr"`
		Time    string   `xml:"time,attr"`
		Failure *outcome `xml:"failure"`
		Error   *outcome `xml:"error"`
		Skipped *outcome `xml:"skipped"`
		Out     *output  `xml:"system-out"`
		Err     *output  `xml:"system-err"`
	}
	output struct {
		Text string `xml:",cdata"`
	}
	outcome struct {
		Message string `xml:"message,attr"`
		Type    Result `xml:"type,attr"`
	}
)

// WriteJUnit writes the document as JUnit XML: a test suite with a test case for each
// cell. A cell that failed by what its guest did has a failure, one that offmap or the
// host couldn't run has an error. A character that isn't printable text is written as in
// Go, such as \x1b, since XML can't hold all of them.
func (d *Document) WriteJUnit(w io.Writer) error {
	s := suite{Name: text("offmap exec " + strings.Join(d.Command, " ")), Tests: len(d.Cells), Time: seconds(d.Duration)}
	for _, c := range d.Cells {
		t := testcase{Name: text(c.Name), Class: "offmap.exec", Time: seconds(c.Duration), Out: printed(c.Stdout), Err: printed(c.Stderr)}
		o := &outcome{text(c.Text()), c.Result}
		switch c.Result {
		case OK:
		case Cannot, Failed, Stopped:
			t.Error = o
			s.Errors++
		case NotRun:
			t.Skipped = o
			s.Skipped++
		default:
			t.Failure = o
			s.Failures++
		}
		s.Cases = append(s.Cases, t)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(suites{Suite: s}); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// printed is an element for output, or nil if there is none.
func printed(s string) *output {
	if s == "" {
		return nil
	}
	return &output{text(s)}
}

// text is a text of any bytes as one that XML can hold.
func text(s string) string { return terminal.Printable(strings.ReplaceAll(s, "\r\n", "\n")) }

func seconds(ms float64) string { return fmt.Sprintf("%.3f", ms/1000) }
