// Command bench measures davit on real software, and restic beside it where
// that is installed: MB/s, CPU seconds (user and system) and peak memory of
// every step that a release takes, in one table.
//
//	go run ./test/bench                     both, three runs each
//	go run ./test/bench -tools davit -runs 1
//	go run ./test/bench -large              a 20 GiB sparse file and 200,000 small files instead
//
// The corpus is three successive versions of a few large modules and of the Go
// toolchain, fetched through the Go module proxy: sources, and binaries too.
// The first run downloads some 500 MB; the trees stay in the folder that
// -corpus names.
//
// The tools take turns, each run in new stores, and every figure is the median
// of the runs. CPU seconds are what to compare: the wall clock of a shared
// machine tells little. Each step is a process of its own, so a figure has the
// start of the program, the opening of the store and every fsync in it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"davit/test/bench/usage"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	var (
		corpusDir = flag.String("corpus", filepath.Join(cache, "davit-bench"), "`FOLDER` that the corpus is kept in")
		workDir   = flag.String("work", "", "`FOLDER` for stores and targets, removed in the end (default: a new one under the system's temporary folder)")
		tools     = flag.String("tools", "davit,restic", "which to run; restic is left out where it is not installed")
		davitPath = flag.String("davit", "", "the davit `PROGRAM` (default: built from ./cmd/davit)")
		runs      = flag.Int("runs", 3, "how often, `N`; the table has the median")
		large     = flag.Bool("large", false, "measure the memory of extreme inputs instead")
	)
	flag.Parse()
	work, err := os.MkdirTemp(*workDir, "davit-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)

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
	if *large {
		return measureLarge(ctx, davit, work)
	}
	trees, err := fetchCorpus(ctx, *corpusDir)
	if err != nil {
		return fmt.Errorf("fetch corpus: %w", err)
	}
	var columns []*column
	for _, name := range strings.Split(*tools, ",") {
		switch path, err := exec.LookPath(name); {
		case name == "davit":
			columns = append(columns, &column{name: "davit", settings: davitSettings, steps: davitSteps(davit)})
		case name == "restic" && err == nil:
			columns = append(columns, &column{name: "restic", settings: resticSettings(ctx, path), steps: resticSteps(path)})
		case name == "restic":
			fmt.Println("restic is not installed: no comparison")
		default:
			return fmt.Errorf("-tools knows davit and restic, not %q", name)
		}
	}
	for n := range *runs {
		for _, c := range columns {
			fmt.Fprintf(os.Stderr, "run %d of %d: %s\n", n+1, *runs, c.name)
			dir := filepath.Join(work, c.name)
			if err := c.run(ctx, dir, trees); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	printTable(os.Stdout, trees, columns)
	return nil
}

// column is one tool and what was measured of it.
type column struct {
	name     string
	settings string
	steps    []step
	measured map[string][]usage.Usage // by name of the step
	stored   map[string][]int64       // bytes
}

// step is one command of a tool. Steps of several tools that do the same have
// the same name and stand in one row.
type step struct {
	name    string
	version int                             // of the corpus, from 1: the bytes that it goes through; 0 for preparations
	command func(b *bench) *exec.Cmd        // nil: none
	after   func(b *bench) (string, string) // measure a folder under a name, if not nil
}

// bench is where one run of one tool takes place.
type bench struct {
	dir   string
	trees []tree
}

func (b *bench) path(elem ...string) string {
	return filepath.Join(append([]string{b.dir}, elem...)...)
}

func (c *column) run(ctx context.Context, dir string, trees []tree) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if c.measured == nil {
		c.measured, c.stored = map[string][]usage.Usage{}, map[string][]int64{}
	}
	b := &bench{dir: dir, trees: trees}
	for _, s := range c.steps {
		u, err := usage.Measure(ctx, s.command(b))
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if s.version > 0 {
			c.measured[s.name] = append(c.measured[s.name], u)
		}
		if s.after == nil {
			continue
		}
		name, folder := s.after(b)
		size, err := usage.FolderSize(folder)
		if err != nil {
			return err
		}
		c.stored[name] = append(c.stored[name], size)
	}
	return nil
}

// median of what does not order by itself.
func median[T, K any](all []T, key func(T) K, compare func(a, b K) int) K {
	keys := make([]K, len(all))
	for i, v := range all {
		keys[i] = key(v)
	}
	slices.SortFunc(keys, compare)
	return keys[len(keys)/2]
}
