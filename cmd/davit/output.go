package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"davit/manifest/index"
	"davit/store/bucket"
	"davit/transfer"
	"davit/transfer/bundle"
)

// say tells people something on stderr.
func (p *program) say(format string, args ...any) {
	if p.quiet || p.json {
		return
	}
	fmt.Fprintf(p.stderr, format+"\n", args...)
}

// warn tells something that must not be missed, also when quiet.
func (p *program) warn(format string, args ...any) {
	if !p.json {
		fmt.Fprintf(p.stderr, "davit: "+format+"\n", args...)
	}
}

// put prints data on stdout.
func (p *program) put(format string, args ...any) {
	fmt.Fprintf(p.stdout, format+"\n", args...)
}

// result prints what a command found: v with --json, else what people does.
func (p *program) result(v any, people func()) error {
	if !p.json {
		people()
		return nil
	}
	return p.printJSON(v)
}

func (p *program) printJSON(v any) error {
	e := json.NewEncoder(p.stdout)
	e.SetEscapeHTML(false)
	if !p.lines {
		e.SetIndent("", "  ")
	}
	return e.Encode(v)
}

// fail reports the error that ends the program.
func (p *program) fail(err error) {
	code, kind := classify(err)
	if !p.json {
		fmt.Fprintf(p.stderr, "davit: %s\n", message(err))
		return
	}
	type body struct {
		Code    int    `json:"code"`
		Kind    string `json:"kind"`
		Message string `json:"message"`
	}
	if jerr := p.printJSON(struct {
		Error body `json:"error"`
	}{body{code, kind, message(err)}}); jerr != nil {
		fmt.Fprintf(p.stderr, "davit: %s\n", message(err))
	}
}

// message is an error's text for people: one sentence on what happened to
// what, then what to do.
func message(err error) string {
	var (
		full    *bucket.NoSpaceError
		missing *transfer.MissingValuesError
	)
	switch {
	case errors.As(err, &missing):
		return fmt.Sprintf("%s %s cannot be deployed to %s: it needs a value for %s. Nothing was run. Give it with: %s", missing.Project, missing.Version,
			missing.Environment, list(missing.Names), setAdvice(missing.Project, missing.Names, missing.Environment))
	case errors.As(err, &full) && full.Need > 0:
		return fmt.Sprintf("there is too little room on %s: %s are needed and %s are free. Make room and run the same command again; nothing is lost",
			printable(full.Where), exact(full.Need), exact(full.Have))
	case errors.As(err, &full):
		return fmt.Sprintf("%s is full. Make room and run the same command again; nothing is lost", printable(full.Where))
	}
	if errors.Is(err, index.ErrDamaged) {
		return "the index of this site is gone or damaged. Nothing is lost, it is made anew from the store with: davit repair index"
	}
	text := printableText(standalone(err).Error())
	if codeOf(err) == exitUnexpected {
		text += ". This was not foreseen: run it again with -v, and report what it prints"
	}
	return text
}

// standalone returns the part of an error that is a whole sentence, without
// what the callers on its way put before it.
func standalone(err error) error {
	for e := err; e != nil; e = errors.Unwrap(e) {
		switch e.(type) {
		case *transfer.ConflictError, *transfer.KeyChangeError, *transfer.GrantError, *transfer.OlderError, *transfer.WaitingError,
			*transfer.SourceError, *bundle.ExistError, *codeError, *usageError:
			return e
		}
	}
	return err
}

// table prints rows in columns. The first row is the head.
func (p *program) table(rows [][]string) { writeTable(p.stdout, rows) }

func writeTable(out io.Writer, rows [][]string) {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		for i := range row {
			row[i] = printable(row[i])
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	w.Flush()
}

// size prints bytes for people: binary units, one decimal.
func size(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/1024, "KiB"
	for _, next := range []string{"MiB", "GiB", "TiB", "PiB"} {
		if f < 1023.95 {
			break
		}
		f, unit = f/1024, next
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

// exact prints bytes both ways, where people compare and count.
func exact(n int64) string {
	if n < 1024 {
		return size(n)
	}
	return fmt.Sprintf("%s (%d bytes)", size(n), n)
}

// count prints a number with its noun.
func count[N int | int64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// when prints a moment in local time; "never" for none.
func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04")
}

// ago says how long ago a moment is. A clock that was set back does not make
// it nonsense.
func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := now().Sub(t)
	switch {
	case d < -time.Minute:
		return "in the future by this clock"
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return count(int(d/time.Minute), "minute", "minutes") + " ago"
	case d < 48*time.Hour:
		return count(int(d/time.Hour), "hour", "hours") + " ago"
	}
	return count(int(d/(24*time.Hour)), "day", "days") + " ago"
}

// stamp is a moment in JSON: RFC 3339 in UTC, absent when there is none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// whenStamp is when for a moment that is a stamp already.
func whenStamp(s string) string {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return s
	}
	return when(t)
}

// printable makes text from outside safe on a terminal, on one line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == ' ' {
			return r
		}
		return '�'
	}, strings.ReplaceAll(s, "\n", " "))
}

// printableText is printable for text of several lines.
func printableText(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\n' || r == '\t' || r == ' ' {
			return r
		}
		return '�'
	}, s)
}

// list says names as people do, not more than a few.
func list(names []string) string {
	const most = 6
	switch {
	case len(names) == 0:
		return "none"
	case len(names) == 1:
		return names[0]
	case len(names) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// onTerminal reports whether people watch a stream.
func onTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// progress shows a bar while something long runs, on a terminal only. The
// returned function must be called when it has ended, however it ended.
func (p *program) progress(label string) (func(done, total int64), func()) {
	if p.quiet || p.json || !onTerminal(p.stderr) {
		return nil, func() {}
	}
	bars := mpb.New(mpb.WithOutput(p.stderr), mpb.WithWidth(48), mpb.WithRefreshRate(200*time.Millisecond))
	bar := bars.New(0, mpb.BarStyle(), mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(label+" ")),
		mpb.AppendDecorators(decor.CountersKibiByte("% .1f of % .1f"), decor.Name("  "), decor.EwmaETA(decor.ET_STYLE_GO, 30)))
	start := time.Now()
	return func(done, total int64) {
			bar.SetTotal(max(total, 1), false)
			bar.EwmaSetCurrent(done, time.Since(start))
			start = time.Now()
		}, func() {
			bar.Abort(true)
			bars.Wait()
		}
}

// ask reads one line from the person at the terminal.
func (p *program) ask(question string) (string, error) {
	fmt.Fprint(p.stderr, question)
	var line []byte
	buf := make([]byte, 1)
	for {
		n, err := p.stdin.Read(buf)
		if n == 1 {
			if buf[0] == '\n' {
				break
			}
			line = append(line, buf[0])
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", fmt.Errorf("read answer: %w", err)
		}
	}
	return strings.TrimSpace(string(line)), nil
}

// askSecret reads one line that is not shown.
func (p *program) askSecret(question string) (string, error) {
	f, ok := p.stdin.(*os.File)
	if !ok || !onTerminal(f) {
		return "", usagef("there is no terminal to ask on")
	}
	fmt.Fprint(p.stderr, question)
	data, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(p.stderr)
	if err != nil {
		return "", fmt.Errorf("read answer: %w", err)
	}
	return string(data), nil
}
