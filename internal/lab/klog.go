package lab

import (
	"regexp"
	"strings"
	"sync"
)

// A Finding is something in a kernel log that a healthy machine doesn't say.
type Finding struct {
	Line int    `json:"line"` // counted from 1
	Text string `json:"text"`
	What string `json:"what"`
}

// A complaint is a way in which the kernel says that something is wrong.
type complaint struct {
	what string
	re   *regexp.Regexp
}

// complaints, matched against a line without its time stamp. Where two match,
// the first one names the finding. The texts are those of the kernel's
// lib/dump_stack.c, kernel/panic.c, kernel/rcu/tree_stall.h,
// kernel/watchdog.c, kernel/hung_task.c, arch/x86/kernel/traps.c,
// arch/x86/mm/fault.c, mm/page_alloc.c and lib/refcount.c.
var complaints = sync.OnceValue(func() []complaint {
	return []complaint{
		{"panic", regexp.MustCompile(`^Kernel panic`)},
		{"stall", regexp.MustCompile(`\brcu(_\w+)?:? .*\bstall`)},
		{"stall", regexp.MustCompile(`\bkthread starved for|\btimer softirq didn't run`)},
		{"lockup", regexp.MustCompile(`\b(soft lockup|hard LOCKUP)\b`)},
		{"hung task", regexp.MustCompile(`^INFO: task .* blocked`)},
		{"atomic", regexp.MustCompile(`scheduling while atomic|sleeping function called from invalid context`)},
		{"memory corruption", regexp.MustCompile(`corrupted stack end|Bad page (state|map)|bad: scheduling|list_(add|del) corruption|(usercopy|slab).*(overwrite|corrupt)|refcount_t:`)},
		{"lost interrupt", regexp.MustCompile(`^irq \d+: nobody cared`)},
		{"sanitizer", regexp.MustCompile(`^(UBSAN|KASAN|KCSAN|KFENCE|BUG: K\w+SAN)`)},
		{"lockdep", regexp.MustCompile(`possible (recursive|circular) locking|suspicious RCU usage|Voluntary context switch within RCU`)},
		{"oops", regexp.MustCompile(`^Oops|^(stack segment|double fault|general protection fault|invalid opcode|divide error|int3|page fault|PANIC: double fault)\b.*(\[#\d+\]|\bSMP\b|error_code|non-canonical)`)},
		{"bug", regexp.MustCompile(`\bBUG:|^kernel BUG at|unable to handle|^(traps: )?PANIC:`)},
		{"warning", regexp.MustCompile(`^(\S+: )?WARNING: |^-+\[ cut here \]`)},
		{"trace", regexp.MustCompile(`^Call Trace:`)},
		{"lost memory", regexp.MustCompile(`^Out of memory: Killed|invoked oom-killer`)},
		{"watchdog", regexp.MustCompile(`^(NMI )?watchdog: .*(stuck|LOCKUP|BUG)`)},
	}
})

var timestamp = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(<\d+>)?\[ *\d+\.\d+\](\[ *[TC]\d+\])? `)
})

// CheckLog returns what is wrong in the log of a kernel that was booted once.
// A trace is only reported for itself where nothing has announced it.
func CheckLog(log string) []Finding {
	var (
		all   []Finding
		boots int
		n     int
	)
	for raw := range strings.Lines(log) {
		n++
		text := strings.TrimRight(raw, "\r\n")
		msg := text[len(timestamp().FindString(text)):]
		if strings.HasPrefix(msg, "Linux version ") {
			if boots++; boots > 1 {
				all = append(all, Finding{n, text, "reboot"})
			}
			continue
		}
		for _, c := range complaints() {
			if !c.re.MatchString(msg) {
				continue
			}
			last := len(all) - 1
			if c.what == "trace" && last >= 0 && n-all[last].Line < 40 {
				break // the trace of what was just reported
			}
			all = append(all, Finding{n, text, c.what})
			break
		}
	}
	return all
}
