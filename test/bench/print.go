package main

import (
	"cmp"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"davit/test/bench/usage"
)

// printTable writes a row for each step, with ratios to the first tool where
// there are two.
func printTable(w io.Writer, trees []tree, columns []*column) {
	fmt.Fprintln(w)
	for i, t := range trees {
		fmt.Fprintf(w, "v%d: %d files, %.0f MB\n", i+1, t.files, usage.MB(t.bytes))
	}
	fmt.Fprintln(w)
	bytesOf := map[string]int64{}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := "\t"
	for _, c := range columns {
		head += c.name + "\tMB/s\tCPU s\tMiB\t"
		for _, s := range c.steps {
			if s.version > 0 {
				bytesOf[s.name] = trees[s.version-1].bytes
			}
		}
	}
	if len(columns) == 2 {
		head += "CPU ratio\t"
	}
	fmt.Fprintln(tw, head)
	for _, row := range rows {
		fmt.Fprintf(tw, "%s\t", row)
		var cpus []time.Duration
		for _, c := range columns {
			all := c.measured[row]
			if len(all) == 0 {
				fmt.Fprint(tw, "\t-\t-\t-\t")
				continue
			}
			wall := median(all, func(u usage.Usage) time.Duration { return u.Wall }, cmp.Compare)
			cpu := median(all, func(u usage.Usage) time.Duration { return u.CPU }, cmp.Compare)
			peak := median(all, func(u usage.Usage) int64 { return u.Peak }, cmp.Compare)
			cpus = append(cpus, cpu)
			fmt.Fprintf(tw, "\t%.0f\t%.2f\t%.0f\t", usage.MB(bytesOf[row])/wall.Seconds(), cpu.Seconds(), float64(peak)/(1<<20))
		}
		if len(columns) == 2 && len(cpus) == 2 {
			fmt.Fprintf(tw, "%.2f\t", cpus[0].Seconds()/cpus[1].Seconds())
		} else if len(columns) == 2 {
			fmt.Fprint(tw, "-\t")
		}
		fmt.Fprintln(tw)
	}
	tw.Flush()

	fmt.Fprintln(w)
	tw = tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	head = "\t"
	for _, c := range columns {
		head += c.name + " MB\t"
	}
	if len(columns) == 2 {
		head += "ratio\t"
	}
	fmt.Fprintln(tw, head)
	for _, row := range sizes {
		fmt.Fprintf(tw, "%s\t", row)
		var got []int64
		for _, c := range columns {
			if all := c.stored[row]; len(all) > 0 {
				got = append(got, median(all, func(n int64) int64 { return n }, cmp.Compare))
				fmt.Fprintf(tw, "%.1f\t", usage.MB(got[len(got)-1]))
				continue
			}
			fmt.Fprint(tw, "-\t")
		}
		if len(columns) == 2 && len(got) == 2 {
			fmt.Fprintf(tw, "%.2f\t", float64(got[0])/float64(got[1]))
		} else if len(columns) == 2 {
			fmt.Fprint(tw, "-\t")
		}
		fmt.Fprintln(tw)
	}
	tw.Flush()

	fmt.Fprintln(w)
	for _, c := range columns {
		fmt.Fprintln(w, c.settings)
	}
	fmt.Fprintln(w, "MB/s: bytes of the tree by the wall clock. CPU s: user and system. MiB: peak resident memory. MB are 10⁶ bytes.")
	if len(columns) == 2 {
		fmt.Fprintf(w, "Ratios are %s to %s; below 1 is better for %s. restic restores owners and times as well and davit modes alone;\ndavit reads and hashes all files at every ingest, restic only with --force (\"all read\").\n", columns[0].name, columns[1].name, columns[0].name)
	}
}
