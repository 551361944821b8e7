// Command delta measures what davit sends of new versions of real packages, how
// long it takes to find that out and to undo it, and what other tools make of
// the same.
//
//	go run ./test/bench/delta           every pair of versions in pairs.txt
//	go run ./test/bench/delta -quick    a handful of them
//	go run ./test/bench/delta -match '^(maven|pypi) '
//
// The packages come through the ordinary clients of their registries (npm, pip,
// mvn, cargo, go, apt-get), and some are made with real tools of what came. What
// cannot be had is named and left out; with fewer than 40 pairs left the
// benchmark fails. Downloads stay in the folder that -cache or
// DAVIT_BENCH_CACHE names, and so do the figures of the other tools, and those of
// davit for as long as neither davit nor the benchmark changes.
//
// Of each pair there is a row, and then sums: of every half of a delta, run in
// a process of its own, and of one release of all pairs that the real program
// carries from one site to another, with deltas and without.
//
// The benchmark fails, too, when a package would take more than its chunks do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"
)

// fewest pairs make a benchmark.
const fewest = 40

// What to measure, if not both.
const (
	pairsAlone   = "pairs"
	journeyAlone = "journey"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	work := run
	if len(os.Args) > 2 && os.Args[1] == alone {
		work = func(ctx context.Context) error { return runAlone(ctx, os.Args[2:]) }
	}
	if err := work(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// outcome is a pair and what was measured of it.
type outcome struct {
	*pair
	davit  *figures
	others *rivals
}

func run(ctx context.Context) error {
	cache := os.Getenv("DAVIT_BENCH_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			dir = os.TempDir()
		}
		cache = filepath.Join(dir, "davit-bench", "delta")
	}
	var (
		cacheDir  = flag.String("cache", cache, "`FOLDER` that downloads are kept in")
		workDir   = flag.String("work", "", "`FOLDER` for what is thrown away (default: a new one under the system's temporary folder)")
		davitPath = flag.String("davit", "", "the davit `PROGRAM` (default: built from ./cmd/davit)")
		quick     = flag.Bool("quick", false, "a handful of pairs")
		match     = flag.String("match", "", "only pairs of which \"ECOSYSTEM NAME NEW\" matches `REGEXP`")
		what      = flag.String("what", "both", "what to measure: pairs, journey (a release of all pairs) or both")
		proving   = flag.Duration("proving", 10*time.Hour, "how long the release may take to prove streams, a GiB of package; the clock of a shared machine would decide otherwise; 0: as long as davit gives it")
		noRivals  = flag.Bool("no-rivals", false, "without other tools")
	)
	flag.Parse()
	if *what != pairsAlone && *what != journeyAlone && *what != "both" {
		return fmt.Errorf("-what knows pairs, journey and both, not %q", *what)
	}
	only, err := regexp.Compile(*match)
	if err != nil {
		return err
	}
	rows, err := readTable(pairsTable)
	if err != nil {
		return err
	}
	if cache, err = filepath.Abs(*cacheDir); err != nil {
		return err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(*workDir, "davit-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	f := &fetcher{cache: cache, tools: &tools{filepath.Join(cache, "tools")}}
	m, err := newMeasurer(cache, work)
	if err != nil {
		return err
	}
	davit := *davitPath
	if davit == "" {
		davit = filepath.Join(work, "davit.exe")
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", davit, "./cmd/davit").CombinedOutput(); err != nil {
			return fmt.Errorf("build davit: %w\n%s", err, out)
		}
	}
	if davit, err = filepath.Abs(davit); err != nil {
		return err
	}

	all, missing, err := fetchAll(ctx, f, rows, func(r row) bool {
		return (!*quick || r.quick) && only.MatchString(r.ecosystem+" "+r.name+" "+r.new)
	})
	if err != nil {
		return err
	}
	if len(all) < fewest && !*quick && *match == "" {
		return fmt.Errorf("only %d of %d pairs could be fetched, fewer than %d: %w", len(all), len(rows), fewest, errors.Join(missing...))
	}
	over := 0
	if *what != journeyAlone {
		var c *comparer
		if !*noRivals {
			c = newComparer(ctx, f, m, work)
		}
		if over, err = measurePairs(ctx, m, c, all, missing); err != nil {
			return err
		}
	}
	if *what != pairsAlone && len(all) > 0 {
		travels := filepath.Join(work, "journey")
		if err := os.Mkdir(travels, 0o755); err != nil {
			return err
		}
		j, err := travel(ctx, davit, travels, *proving, all)
		if err != nil {
			return fmt.Errorf("carry a release of all pairs: %w", err)
		}
		j.compare(all)
		(&report{w: os.Stdout}).journey(j)
		if j.ways[0].bytes > j.ways[1].bytes*101/100 {
			over++
		}
	}
	if over > 0 {
		return fmt.Errorf("%d sizes are more than 1 %% over those without deltas", over)
	}
	return nil
}

// fetchAll brings the pairs that are wanted, and says of which it could not.
func fetchAll(ctx context.Context, f *fetcher, rows []row, wanted func(row) bool) ([]*outcome, []error, error) {
	var (
		all     []*outcome
		missing []error
	)
	for _, r := range rows {
		if !wanted(r) {
			continue
		}
		p, err := f.fetch(ctx, r)
		switch {
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case err != nil:
			fmt.Fprintln(os.Stderr, err)
			missing = append(missing, err)
		default:
			all = append(all, &outcome{pair: p, others: &rivals{}})
		}
	}
	return all, missing, nil
}

// measurePairs writes a row for each pair and the sums, and returns how many
// pairs take more than their chunks.
func measurePairs(ctx context.Context, m *measurer, c *comparer, all []*outcome, missing []error) (int, error) {
	out := newReport(os.Stdout, c)
	for _, o := range all {
		var err error
		if o.davit, err = m.pair(ctx, o.pair); err != nil {
			return 0, fmt.Errorf("measure %s: %w", o.row, err)
		}
		if c != nil {
			if o.others, err = c.pair(ctx, o.pair); err != nil {
				return 0, fmt.Errorf("compare %s: %w", o.row, err)
			}
		}
		out.row(o)
	}
	return out.sums(all, missing), nil
}
