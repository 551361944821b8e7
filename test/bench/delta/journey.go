package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"davit/test/bench/usage"
)

// journey is the way of all pairs as one release, once as deltas and once as
// chunks alone, with the real program.
type journey struct {
	packages      int
	left          []string // pairs that bring a file that is in the release already
	oldSize, size int64
	ways          [2]way // with deltas, without
	drift         []string
}

// way is one bundle.
type way struct {
	name, site  string
	flags       []string
	bytes       int64
	deltas      int
	make, carry usage.Usage // export, import
	packages    map[string]sentPackage
}

// sentPackage is what export says of a package.
type sentPackage struct {
	Package, Form, Reason string
	Bytes, Plain          int64
}

// travel takes the old versions of all pairs to two sites, and then the new
// ones: to one as deltas, to the other without.
//
// proving is how long davit may prove streams, a GiB: 0 for what davit takes.
func travel(ctx context.Context, davit, work string, proving time.Duration, measured []*outcome) (*journey, error) {
	j := &journey{ways: [2]way{{name: "with deltas", site: "prod"}, {name: "without", site: "plain", flags: []string{"--no-delta"}}}}
	names, err := j.lay(work, measured)
	if err != nil {
		return nil, err
	}
	run := func(out *bytes.Buffer, args ...string) (usage.Usage, error) {
		cmd := exec.Command(davit, append([]string{"--quiet"}, args...)...)
		cmd.Dir = work
		if out != nil {
			cmd.Stdout = out
		}
		return usage.Measure(ctx, cmd)
	}
	all := func(steps ...[]string) error {
		for _, s := range steps {
			if _, err := run(nil, s...); err != nil {
				return err
			}
		}
		return nil
	}
	create := func(version, folder string) []string {
		args := []string{"-c", "dev", "release", "create", "bench", version}
		for _, n := range names {
			args = append(args, filepath.Join(folder, n))
		}
		return args
	}
	if err := all([]string{"init", "dev", "--dir", "dev"}, create("1.0.0", "old")); err != nil {
		return nil, err
	}
	for _, w := range j.ways {
		medium, back := w.site+"-1", w.site+"-back"
		if err := errors.Join(os.Mkdir(filepath.Join(work, medium), 0o755), os.Mkdir(filepath.Join(work, back), 0o755), os.Mkdir(filepath.Join(work, w.site+"-2"), 0o755)); err != nil {
			return nil, err
		}
		err := all(
			[]string{"init", w.site, "--dir", w.site},
			[]string{"-c", "dev", "peer", "add", filepath.Join(w.site, w.site+".card.json"), "--send", "releases", "--accept", "results", "--yes"},
			[]string{"-c", w.site, "peer", "add", filepath.Join("dev", "dev.card.json"), "--accept", "releases", "--send", "results", "--yes"},
			[]string{"-c", "dev", "export", "--to", w.site, "--release", "bench@1.0.0", medium},
			[]string{"-c", w.site, "import", "--accept", medium},
			[]string{"-c", w.site, "export", "--results", "--to", "dev", back},
			[]string{"-c", "dev", "settle", back})
		if err != nil {
			return nil, err
		}
	}
	if err := allow(filepath.Join(work, "dev", "davit.yaml"), j.ways[0].site, proving); err != nil {
		return nil, err
	}
	if err := all(create("2.0.0", "new")); err != nil {
		return nil, err
	}
	for i := range j.ways {
		w := &j.ways[i]
		var out bytes.Buffer
		args := append([]string{"-c", "dev", "--json", "export", "--to", w.site, "--release", "bench@2.0.0"}, w.flags...)
		if w.make, err = run(&out, append(args, w.site+"-2")...); err != nil {
			return nil, err
		}
		var said struct {
			Bytes    int64
			Deltas   int
			Packages []sentPackage
		}
		if err := json.Unmarshal(out.Bytes(), &said); err != nil {
			return nil, fmt.Errorf("read export: %w", err)
		}
		w.bytes, w.deltas, w.packages = said.Bytes, said.Deltas, map[string]sentPackage{}
		for _, p := range said.Packages {
			w.packages[p.Package] = p
		}
		size, err := usage.FolderSize(filepath.Join(work, w.site+"-2"))
		if err != nil {
			return nil, err
		}
		if size != w.bytes {
			return nil, fmt.Errorf("export bundle: it has %d bytes and not %d", size, w.bytes)
		}
		if w.carry, err = run(nil, "-c", w.site, "import", "--accept", w.site+"-2"); err != nil {
			return nil, err
		}
		if err := all([]string{"-c", w.site, "materialize", "bench", "2.0.0", w.site + "-out"}); err != nil {
			return nil, err
		}
		for _, n := range names {
			want, _, err1 := hashFile(filepath.Join(work, "new", n))
			got, _, err2 := hashFile(filepath.Join(work, w.site+"-out", n))
			if err := errors.Join(err1, err2); err != nil {
				return nil, fmt.Errorf("compare %s %s: %w", n, w.name, err)
			}
			if want != got {
				return nil, fmt.Errorf("compare %s %s: it is not what was sent", n, w.name)
			}
		}
	}
	return j, nil
}

// allow gives a route more time for deltas.
func allow(config, site string, proving time.Duration) error {
	if proving == 0 {
		return nil
	}
	f, err := os.OpenFile(config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "routes:\n  %s:\n    folder: %s-2\n    delta:\n      budget: %s\n", site, site, proving)
	return errors.Join(err, f.Close())
}

// lay puts the files where releases are made of them. Both versions have one
// name, which is how davit finds what belongs together.
func (j *journey) lay(work string, measured []*outcome) ([]string, error) {
	if err := errors.Join(os.Mkdir(filepath.Join(work, "old"), 0o755), os.Mkdir(filepath.Join(work, "new"), 0o755)); err != nil {
		return nil, err
	}
	var names []string
	seen := map[string]bool{}
	for _, m := range measured {
		if seen[m.newSum] || seen[m.oldSum] {
			j.left = append(j.left, m.row.String())
			continue
		}
		seen[m.newSum], seen[m.oldSum] = true, true
		n := m.travelName()
		if slices.Contains(names, n) {
			return nil, fmt.Errorf("lay out release: two pairs are named %s", n)
		}
		names = append(names, n)
		if err := errors.Join(copyFile(m.oldFile, filepath.Join(work, "old", n)), copyFile(m.newFile, filepath.Join(work, "new", n))); err != nil {
			return nil, err
		}
		j.oldSize += m.oldSize
		j.size += m.newSize
	}
	j.packages = len(names)
	return names, nil
}

// travelName is a pair's package in the release. Files keep their endings.
func (p *pair) travelName() string {
	return unsafeInName.ReplaceAllString(p.ecosystem+"-"+p.name+"-"+p.new, "_") + filepath.Ext(p.newFile)
}

// compare lists the pairs that travelled otherwise than was measured of them
// alone: export has other rules then, or its time was up.
func (j *journey) compare(measured []*outcome) {
	for _, m := range measured {
		sent, ok := j.ways[0].packages[m.travelName()]
		if !ok || m.davit == nil {
			continue
		}
		if sent.Form != m.davit.Form || (sent.Form != formChunks && (sent.Bytes > m.davit.Sealed*101/100 || m.davit.Sealed > sent.Bytes*101/100)) {
			j.drift = append(j.drift, fmt.Sprintf("%s: %d bytes as %s, not %d as %s (%s)", m.row, sent.Bytes, sent.Form, m.davit.Bytes, m.davit.Form, sent.Reason))
		}
	}
}
