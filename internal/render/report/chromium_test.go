package report

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser starts a headless Chromium, or skips the test where there is none.
func browser(t *testing.T) context.Context {
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			program = p
			break
		}
	}
	if program == "" {
		t.Skip("NOT TESTED: the page in a browser: no chromium here (apt-get install chromium)")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.WSURLReadTimeout(2*time.Minute),
	)
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	return ctx
}

// seen is what a browser makes of a page.
type seen struct {
	sync.Mutex
	complaints []string // of the console, and of what was refused
	requests   []string
	overflow   int // pixels by which the page is wider than its window
	scripts    int
	unreadable []string
}

// event collects what the page complains of and asks for.
func (s *seen) event(e any) {
	s.Lock()
	defer s.Unlock()
	switch e := e.(type) {
	case *runtime.EventConsoleAPICalled:
		text := string(e.Type)
		for _, a := range e.Args {
			text += " " + string(a.Value)
		}
		s.complaints = append(s.complaints, text)
	case *runtime.EventExceptionThrown:
		s.complaints = append(s.complaints, e.ExceptionDetails.Text)
	case *cdplog.EventEntryAdded:
		s.complaints = append(s.complaints, string(e.Entry.Level)+" "+e.Entry.Text)
	case *network.EventRequestWillBeSent:
		s.requests = append(s.requests, e.Request.URL)
	}
}

// open opens a page in a tab of its own, and returns the tab.
func open(t *testing.T, ctx context.Context, address string, width int64, theme string) (context.Context, *seen) {
	t.Helper()
	tab, cancel := chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	limited, cancel := context.WithTimeout(tab, 2*time.Minute)
	t.Cleanup(cancel)
	s := &seen{}
	if err := chromedp.Listen(tab, s.event); err != nil {
		t.Fatal(err)
	}
	steps := chromedp.Steps(
		call(network.Enable, network.EnableParams{}),
		call(cdplog.Enable, cdp.Empty{}),
		call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}},
		}),
		chromedp.EmulateViewport(width, 900),
		chromedp.Navigate(address),
		into(&s.overflow, "document.documentElement.scrollWidth - innerWidth"),
		into(&s.scripts, "document.scripts.length"),
		into(&s.unreadable, contrastScript),
	)
	if err := chromedp.Do(limited, steps); err != nil {
		t.Fatal(err)
	}
	return tab, s
}

func call[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// into evaluates a script for its value.
func into[T any](value *T, script string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) (err error) {
		*value, err = chromedp.Evaluate[T](script)(ctx, t)
		return err
	})
}

// everything is a report of each kind of document.
func everything(t testing.TB) *Report {
	var sources []*Source
	for _, name := range []string{"bench.json", "audit.json", "limits-6.1.json", "limits-7.json", "run.json", "doctor.json"} {
		f, err := os.Open(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		s, err := Read(name, f)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, s)
	}
	sources = append(sources, read(t, "native.json", benchDocument(t, native)))
	for _, m := range lab {
		sources = append(sources, read(t, m.kernel+".json", benchDocument(t, m)))
	}
	sources = append(sources,
		read(t, "window.trace", traceDocument(native, "secret", "window")),
		read(t, "bridge.trace", traceDocument(lab[0], "secret", "bridge")),
		read(t, "memfd.trace", traceDocument(lab[0], "memfd", "direct")))
	return New("", sources)
}

// TestChromium opens the page as its readers do. Run with -artifacts, it leaves
// pictures of it.
func TestChromium(t *testing.T) {
	ctx := browser(t)
	var html bytes.Buffer
	if err := everything(t).WriteHTML(&html); err != nil {
		t.Fatal(err)
	}
	t.Logf("the page has %d KiB", html.Len()>>10)
	dir := t.ArtifactDir()
	file := filepath.Join(dir, "report.html")
	if err := os.WriteFile(file, html.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	address := (&url.URL{Scheme: "file", Path: file}).String()
	for _, width := range []int64{400, 1400} {
		for _, theme := range []string{"light", "dark"} {
			name := fmt.Sprintf("%d-%s", width, theme)
			t.Run(name, func(t *testing.T) {
				tab, s := open(t, ctx, address, width, theme)
				pictures(t, tab, width, filepath.Join(dir, name))
				s.Lock()
				defer s.Unlock()
				if s.overflow > 0 {
					t.Errorf("the page is %d pixels wider than its window", s.overflow)
				}
				if s.scripts != 0 {
					t.Errorf("the page has %d scripts", s.scripts)
				}
				for _, u := range s.unreadable {
					t.Errorf("hard to read: %s", u)
				}
				for _, c := range s.complaints {
					t.Errorf("the browser complains: %s", c)
				}
				if len(s.requests) != 1 || s.requests[0] != address {
					t.Errorf("requests %q, want the page alone", s.requests)
				}
			})
		}
	}
}

// pictures saves the page, some screens at a time.
func pictures(t *testing.T, tab context.Context, width int64, prefix string) {
	height, err := chromedp.Run(tab, chromedp.Evaluate[float64]("document.documentElement.scrollHeight"))
	if err != nil {
		t.Fatal(err)
	}
	const part = 1800
	beyond := true
	for i := 0; float64(i*part) < height; i++ {
		shot, err := chromedp.Call(tab, cdppage.CaptureScreenshot, cdppage.CaptureScreenshotParams{
			CaptureBeyondViewport: &beyond,
			Clip:                  &cdppage.Viewport{Y: float64(i * part), Width: float64(width), Height: min(part, height-float64(i*part)), Scale: 1},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprintf("%s-%02d.png", prefix, i), shot.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// contrastScript lists texts whose contrast with what is behind them is less
// than WCAG 2.2 asks for (1.4.3: 4.5), and those smaller than 9 pixels.
const contrastScript = `(() => {
	const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
	const rgba = colour => {
		context.clearRect(0, 0, 1, 1);
		context.fillStyle = colour;
		context.fillRect(0, 0, 1, 1);
		return [...context.getImageData(0, 0, 1, 1).data];
	};
	const over = (a, b) => [0, 1, 2].map(i => (a[i] * a[3] + b[i] * (255 - a[3])) / 255);
	const behind = e => {
		if (!e) return [255, 255, 255];
		const c = rgba(getComputedStyle(e).backgroundColor);
		return c[3] == 255 ? c.slice(0, 3) : over(c, behind(e.parentElement));
	};
	const luminance = c => {
		const [r, g, b] = c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const bad = new Set(), seen = new Map();
	for (const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walk.nextNode();) {
		const e = walk.currentNode.parentElement, text = walk.currentNode.data.trim();
		if (!text || !e.checkVisibility()) continue;
		const style = getComputedStyle(e), svg = e.ownerSVGElement;
		const key = [style.color, style.fill, e.className.baseVal ?? e.className, e.tagName, e.parentElement.className].join();
		const size = parseFloat(style.fontSize) * (svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1);
		if (size < 9) bad.add(size.toFixed(1) + ' px: ' + text.slice(0, 40));
		if (seen.has(key)) continue;
		seen.set(key, true);
		const paper = behind(svg ? svg.parentElement : e);
		const a = luminance(over(rgba(svg ? style.fill : style.color), paper)), b = luminance(paper);
		const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (contrast < 4.5) bad.add(contrast.toFixed(2) + ': ' + text.slice(0, 40));
	}
	return [...bad];
})()`

// TestChromiumSeesTrouble shows that TestChromium's eyes are open.
func TestChromiumSeesTrouble(t *testing.T) {
	const bad = `<!DOCTYPE html><html lang="en"><title>bad</title><style>body{background:#fff}</style>
<p style="color:#bbb">faint</p><p style="font-size:7px">tiny</p><div style="width:3000px">wide</div>
<img src="missing.png" alt=""><script>console.warn("warned")</script>`
	file := filepath.Join(t.TempDir(), "bad.html")
	if err := os.WriteFile(file, []byte(bad), 0o644); err != nil {
		t.Fatal(err)
	}
	_, s := open(t, browser(t), "file://"+file, 400, "light")
	s.Lock()
	defer s.Unlock()
	if s.overflow <= 0 || s.scripts != 1 || len(s.unreadable) != 2 || len(s.requests) != 2 || !strings.Contains(strings.Join(s.complaints, "\n"), "warned") {
		t.Errorf("overflow %d, %d scripts, unreadable %q, requests %q, complaints %q", s.overflow, s.scripts, s.unreadable, s.requests, s.complaints)
	}
}
