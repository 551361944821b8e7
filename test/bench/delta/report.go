package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"davit/test/bench/usage"
)

// report writes the rows as they come, since a run takes long, and sums in the
// end.
type report struct {
	w        io.Writer
	versions string
	desync   bool
}

func newReport(w io.Writer, c *comparer) *report {
	r := &report{w: w}
	if c != nil {
		r.versions, r.desync = c.versions, c.desync != ""
	}
	fmt.Fprintf(w, "Sizes in KB of 1,000 bytes.\n"+
		"davit     what travels of the package: the sealed delta, or its new chunks where they take no more\n"+
		"streams   deflate streams that the base has or an encoder gives back, of all\n"+
		"chunks    what travels with --no-delta: new chunks (fastcdc 16/64/256 KiB), zstd, sealed\n"+
		"restic    what restic copy adds to a repository that has the old version\n")
	if r.desync {
		fmt.Fprint(w, "desync    what desync make adds to a store that has the old version\n")
	}
	fmt.Fprintf(w, "patch     zstd -19 --long=31 --patch-from between the files; opened: between their contents, which it could not close again:\n"+
		"          a gzip decompressed, of a zip each member's name and content, a tar as it is, archives within opened where they lie\n"+
		"÷patch    davit to that of the contents\n"+
		"MB/s      of opened content and CPU second, all threads; each half in a process of its own\n"+
		"RSS       peak of making and of applying, MiB\n\n%s\n\n", r.versions)
	fmt.Fprintln(w, r.line("ecosystem", "package", "size", "davit", "form", "streams", "chunks", "restic", "desync", "patch", "opened", "÷patch", "make s", "MB/s", "apply s", "MB/s", "RSS", "why not smaller"))
	return r
}

func (r *report) line(c ...string) string {
	desync := ""
	if r.desync {
		desync = fmt.Sprintf(" %9s", c[8])
	}
	return strings.TrimRight(fmt.Sprintf("%-9s %-38s %9s %9s %-6s %13s %9s %9s%s %9s %9s %7s %7s %5s %7s %5s %9s  %s",
		c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], desync, c[9], c[10], c[11], c[12], c[13], c[14], c[15], c[16], c[17]), " ")
}

// kb is a size, with a dash for one that was not measured.
func kb(n int64) string {
	switch {
	case n == 0:
		return "-"
	case n < 100_000:
		return fmt.Sprintf("%.1f", float64(n)/1e3)
	default:
		return fmt.Sprintf("%.0f", float64(n)/1e3)
	}
}

func ratio(a, b int64) string {
	if b == 0 || a == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", float64(a)/float64(b))
}

func (r *report) row(o *outcome) {
	d, s := o.davit, o.others
	makes, applies := o.speeds()
	streams := "-"
	if d.Result.Streams > 0 {
		streams = fmt.Sprintf("%d/%d", d.Result.Kept+d.Result.Proven, d.Result.Streams)
	}
	fmt.Fprintln(r.w, r.line(o.ecosystem, clip(o.label(), 38), kb(o.newSize), kb(d.Bytes), d.Form, streams, kb(d.Plain), kb(s.Restic), kb(s.Desync),
		kb(s.PatchRaw), kb(s.PatchOpened), ratio(d.Bytes, s.PatchOpened), seconds(d.Make.CPU), speed(makes), seconds(d.Apply.CPU), speed(applies),
		fmt.Sprintf("%d/%d", d.Make.Peak>>20, d.Apply.Peak>>20), clip(d.Reason, 60)))
}

func seconds(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", d.Seconds())
}

func speed(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", v)
}

// speeds are MB/s of opened content a CPU second, 0 where there was nothing.
func (o *outcome) speeds() (makes, applies float64) {
	n := usage.MB(max(o.davit.Result.Opened, o.newSize))
	if s := o.davit.Make.CPU.Seconds(); s > 0 {
		makes = n / s
	}
	if s := o.davit.Apply.CPU.Seconds(); s > 0 {
		applies = n / s
	}
	return makes, applies
}

// total adds up some of the pairs.
type total struct {
	pairs                                   int
	size, davit, chunks, restic, raw, patch int64
	opened                                  int64
	streams, kept, proven                   int
	deflated, unproven                      int64
	makeCPU, applyCPU                       time.Duration
}

func add(all []*outcome, of func(*outcome) bool) total {
	var t total
	for _, o := range all {
		if !of(o) {
			continue
		}
		t.pairs++
		t.size, t.davit, t.chunks = t.size+o.newSize, t.davit+o.davit.Bytes, t.chunks+o.davit.Plain
		t.restic, t.raw, t.patch = t.restic+o.others.Restic, t.raw+o.others.PatchRaw, t.patch+o.others.PatchOpened
		if d := o.davit; d.Make.CPU > 0 {
			t.opened += max(d.Result.Opened, o.newSize)
			t.makeCPU, t.applyCPU = t.makeCPU+d.Make.CPU, t.applyCPU+d.Apply.CPU
			t.streams, t.kept, t.proven = t.streams+d.Result.Streams, t.kept+d.Result.Kept, t.proven+d.Result.Proven
			if d.Result.Streams > 0 {
				t.deflated, t.unproven = t.deflated+o.others.Deflated, t.unproven+d.Result.Unproven
			}
		}
	}
	return t
}

// sums writes what the rows come to, and returns how many pairs take more than
// 1 % over their chunks.
func (r *report) sums(all []*outcome, missing []error) int {
	w := r.w
	fmt.Fprintf(w, "\n%d pairs", len(all))
	for i, err := range missing {
		if i == 0 {
			fmt.Fprintf(w, "; %d could not be fetched:", len(missing))
		}
		fmt.Fprintf(w, "\n  %v", err)
	}
	fmt.Fprint(w, "\n\n")
	if len(all) == 0 {
		return 0
	}
	r.ecosystems(all)
	for _, group := range []struct {
		name string
		of   func(*outcome) bool
	}{
		{"patch releases", func(o *outcome) bool { return !o.minor }},
		{"patch releases, not native", func(o *outcome) bool { return !o.minor && !o.native }},
		{"patch releases, native", func(o *outcome) bool { return !o.minor && o.native }},
		{"minor or skipped releases", func(o *outcome) bool { return o.minor }},
	} {
		var shares []float64
		for _, o := range all {
			if group.of(o) {
				shares = append(shares, float64(o.davit.Bytes)/float64(o.newSize))
			}
		}
		if len(shares) > 0 {
			slices.Sort(shares)
			fmt.Fprintf(w, "davit ÷ size of the package, %s (%d): median %.4f (%.0f times less), quartiles %.4f and %.4f\n",
				group.name, len(shares), middle(shares, 2), 1/middle(shares, 2), middle(shares, 1), middle(shares, 3))
		}
	}
	fmt.Fprintln(w)
	if every := add(all, func(*outcome) bool { return true }); every.patch > 0 {
		native, rest := add(all, func(o *outcome) bool { return o.native }), add(all, func(o *outcome) bool { return !o.native })
		fmt.Fprintf(w, "sum of davit ÷ sum of patches between contents: all %s, native %s, the rest %s\n\n", ratio(every.davit, every.patch), ratio(native.davit, native.patch), ratio(rest.davit, rest.patch))
		r.worst(all)
	}
	r.extremes(all)
	r.overtime(all)
	return r.overChunks(all)
}

// middle is a quartile: the q-th.
func middle(sorted []float64, q int) float64 {
	at := float64(len(sorted)-1) * float64(q) / 4
	low, high := int(math.Floor(at)), int(math.Ceil(at))
	return sorted[low] + (sorted[high]-sorted[low])*(at-float64(low))
}

func (r *report) ecosystems(all []*outcome) {
	tw := tabwriter.NewWriter(r.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "sums\tpairs\tsize\tdavit\tchunks\trestic\tpatch\topened\t÷patch\t÷size\tstreams\tin base\tproven\tof bytes\tmake MB/s\tapply MB/s\t")
	var names []string
	for _, o := range all {
		if !slices.Contains(names, o.ecosystem) {
			names = append(names, o.ecosystem)
		}
	}
	line := func(name string, t total) {
		share := func(a, b float64) string {
			if b == 0 {
				return "-"
			}
			return fmt.Sprintf("%.1f %%", 100*a/b)
		}
		rate := func(d time.Duration) string {
			if d == 0 {
				return "-"
			}
			return fmt.Sprintf("%.0f", usage.MB(t.opened)/d.Seconds())
		}
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.4f\t%d\t%s\t%s\t%s\t%s\t%s\t\n", name, t.pairs, kb(t.size), kb(t.davit), kb(t.chunks), kb(t.restic), kb(t.raw), kb(t.patch),
			ratio(t.davit, t.patch), float64(t.davit)/float64(t.size), t.streams, share(float64(t.kept), float64(t.streams)), share(float64(t.kept+t.proven), float64(t.streams)),
			share(float64(max(0, t.deflated-t.unproven)), float64(t.deflated)), rate(t.makeCPU), rate(t.applyCPU))
	}
	for _, n := range names {
		line(n, add(all, func(o *outcome) bool { return o.ecosystem == n }))
	}
	line("native", add(all, func(o *outcome) bool { return o.native }))
	line("the rest", add(all, func(o *outcome) bool { return !o.native }))
	line("all", add(all, func(*outcome) bool { return true }))
	tw.Flush()
	fmt.Fprint(r.w, "proven: in the base with the same bytes, or given back by an encoder; of bytes: the same by compressed size\n\n")
}

// worst lists where there is most to win: by what davit sends more than the
// patch between the contents.
func (r *report) worst(all []*outcome) {
	byExcess := slices.Clone(all)
	excess := func(o *outcome) int64 { return o.davit.Bytes - o.others.PatchOpened }
	slices.SortStableFunc(byExcess, func(a, b *outcome) int { return cmp.Compare(excess(b), excess(a)) })
	byRatio := slices.Clone(all)
	times := func(o *outcome) float64 { return float64(o.davit.Bytes) / float64(o.others.PatchOpened) }
	slices.SortStableFunc(byRatio, func(a, b *outcome) int { return cmp.Compare(times(b), times(a)) })
	for _, list := range []struct {
		name string
		all  []*outcome
	}{{"most bytes over the patch between the contents", byExcess}, {"most times the patch between the contents", byRatio}} {
		fmt.Fprintf(r.w, "%s, and what the delta is made of (KB):\n", list.name)
		for _, o := range list.all[:min(15, len(list.all))] {
			if excess(o) <= 0 {
				continue
			}
			var parts []string
			for i, n := range o.davit.Parts {
				if n > 0 {
					parts = append(parts, partNames[i]+" "+kb(n))
				}
			}
			fmt.Fprintf(r.w, "  %-48s %9s more, %7.2f times  %-6s %s %s\n", clip(o.ecosystem+" "+o.label(), 48), kb(excess(o)), times(o), o.davit.Form, strings.Join(parts, ", "), o.davit.Reason)
		}
		fmt.Fprintln(r.w)
	}
}

// bigEnough is the opened size from which the start of a process does not
// decide the speed.
const bigEnough = 4_000_000

func (r *report) extremes(all []*outcome) {
	for _, half := range []struct {
		name  string
		speed func(*outcome) float64
		peak  func(*outcome) int64
	}{
		{"make", func(o *outcome) float64 { v, _ := o.speeds(); return v }, func(o *outcome) int64 { return o.davit.Make.Peak }},
		{"apply", func(o *outcome) float64 { _, v := o.speeds(); return v }, func(o *outcome) int64 { return o.davit.Apply.Peak }},
	} {
		var slow, large *outcome
		for _, o := range all {
			if v := half.speed(o); v > 0 && max(o.davit.Result.Opened, o.newSize) >= bigEnough && (slow == nil || v < half.speed(slow)) {
				slow = o
			}
			if large == nil || half.peak(o) > half.peak(large) {
				large = o
			}
		}
		fmt.Fprintf(r.w, "%s: ", half.name)
		if slow != nil {
			fmt.Fprintf(r.w, "slowest %.1f MB/s (%s; of those of 4 MB and more), ", half.speed(slow), slow.row)
		}
		fmt.Fprintf(r.w, "largest %d MiB (%s)\n", half.peak(large)>>20, large.row)
	}
}

// overtime names the pairs for which export might have run out of time here.
// Making is more than the proving that is bounded, so some of them are still
// within it.
func (r *report) overtime(all []*outcome) {
	n := 0
	for _, o := range all {
		if o.davit.Make.Wall > budget(o.newSize) {
			n++
			fmt.Fprintf(r.w, "made in %.1f s (%.1f CPU s), while export gives proving %.1f: %s\n", o.davit.Make.Wall.Seconds(), o.davit.Make.CPU.Seconds(), budget(o.newSize).Seconds(), o.row)
		}
	}
	fmt.Fprintf(r.w, "made in more than the time of an export: %d pairs\n", n)
}

func (r *report) overChunks(all []*outcome) int {
	over := 0
	for _, o := range all {
		if o.davit.Bytes > o.davit.Plain*101/100 {
			fmt.Fprintf(r.w, "%s takes %d bytes, its chunks %d\n", o.row, o.davit.Bytes, o.davit.Plain)
			over++
		}
	}
	fmt.Fprintf(r.w, "more than 1 %% over chunks: %d pairs\n", over)
	return over
}

func (r *report) journey(j *journey) {
	fmt.Fprintf(r.w, "\none release of %d packages, %.0f MB, to a site that holds the old one of %.0f MB:\n", j.packages, usage.MB(j.size), usage.MB(j.oldSize))
	tw := tabwriter.NewWriter(r.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\tbundle KB\tdeltas\texport s\tCPU s\tMiB\timport s\tCPU s\tMiB\t")
	for _, w := range j.ways {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%.1f\t%.1f\t%d\t%.1f\t%.1f\t%d\t\n", w.name, kb(w.bytes), w.deltas,
			w.make.Wall.Seconds(), w.make.CPU.Seconds(), w.make.Peak>>20, w.carry.Wall.Seconds(), w.carry.CPU.Seconds(), w.carry.Peak>>20)
	}
	tw.Flush()
	fmt.Fprintf(r.w, "with deltas ÷ without: %s; every file came out with the SHA-256 it went in with\n", ratio(j.ways[0].bytes, j.ways[1].bytes))
	for _, l := range j.left {
		fmt.Fprintf(r.w, "left out, since one of its files is in the release already: %s\n", l)
	}
	for _, d := range j.drift {
		fmt.Fprintf(r.w, "travelled otherwise than measured: %s\n", d)
	}
}
