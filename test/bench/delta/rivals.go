package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"davit/test/bench/usage"
)

// rivals is what other tools make of one pair, and what lies in it. It depends
// on nothing of davit's, so it is kept beside the downloads, and what is run
// again after davit has changed is davit alone.
type rivals struct {
	Versions    string // of the tools, and of the way they are used
	Opened      int64  // bytes of the new file, opened
	Streams     int
	Deflated    int64 // bytes of its deflate streams
	PatchRaw    int64 // zstd --patch-from between the files; 0 where a tool is missing
	PatchOpened int64 // zstd --patch-from between the files, opened
	Restic      int64 // that restic copy adds to a repository
	Desync      int64 // that desync adds to a chunk store, and the index
}

// comparer runs the other tools.
type comparer struct {
	self                 *measurer
	dir, work            string // where results are kept; where the tools work
	zstd, restic, desync string // "": not there
	versions             string
	backedUp             map[string]bool // sums of the files in the repositories
}

// comparison is part of what results are kept under: it changes with the way
// the tools are run.
const comparison = "1"

func newComparer(ctx context.Context, f *fetcher, m *measurer, work string) *comparer {
	c := &comparer{self: m, dir: filepath.Join(f.cache, "rivals"), work: work}
	said := []string{comparison}
	for _, tool := range []struct {
		name, ask string
		path      *string
	}{{"zstd", "--version", &c.zstd}, {"restic", "version", &c.restic}, {"desync", "--version", &c.desync}} {
		path, err := f.tools.path(ctx, tool.name)
		if err != nil {
			fmt.Fprintf(os.Stderr, "without %s: %v\n", tool.name, err)
			continue
		}
		*tool.path = path
		out, err := command(ctx, work, nil, path, tool.ask)
		if err != nil {
			out = []byte(tool.name + " of a version it does not tell")
		}
		said = append(said, strings.Trim(strings.TrimSpace(string(out)), "* "))
	}
	c.versions = strings.Join(said, "; ")
	return c
}

// pair returns what the tools make of a pair, or did before.
func (c *comparer) pair(ctx context.Context, p *pair) (*rivals, error) {
	if data, err := os.ReadFile(filepath.Join(c.dir, p.key())); err == nil {
		var r rivals
		if json.Unmarshal(data, &r) == nil && r.Versions == c.versions {
			return &r, nil
		}
	}
	r := &rivals{Versions: c.versions}
	files := filepath.Join(c.work, "opened")
	if err := os.MkdirAll(files, 0o755); err != nil {
		return nil, err
	}
	defer os.RemoveAll(files)
	before, after := filepath.Join(files, "old"), filepath.Join(files, "new")
	for _, side := range []struct{ from, to string }{{p.oldFile, before}, {p.newFile, after}} {
		var o opening
		if _, err := c.self.run(ctx, &o, "open", side.from, side.to); err != nil {
			return nil, fmt.Errorf("open %s: %w", side.from, err)
		}
		r.Opened, r.Streams, r.Deflated = o.Size, o.Streams, o.Deflated // the new one's remain
	}
	var err error
	if c.zstd != "" {
		if r.PatchRaw, err = c.patch(ctx, p.oldFile, p.newFile); err != nil {
			return nil, err
		}
		if r.PatchOpened = r.PatchRaw; r.Streams > 0 {
			if r.PatchOpened, err = c.patch(ctx, before, after); err != nil {
				return nil, err
			}
		}
	}
	if c.restic != "" {
		if r.Restic, err = c.copied(ctx, p); err != nil {
			return nil, err
		}
	}
	if c.desync != "" {
		if r.Desync, err = c.made(ctx, p); err != nil {
			return nil, err
		}
	}
	return r, keep(filepath.Join(c.dir, p.key()), r)
}

func (c *comparer) patch(ctx context.Context, from, to string) (int64, error) {
	out := filepath.Join(c.work, "patch")
	defer os.Remove(out)
	if _, err := command(ctx, c.work, nil, c.zstd, "-19", "--long=31", "--patch-from="+from, to, "-o", out, "-f", "-q"); err != nil {
		return 0, err
	}
	info, err := os.Stat(out)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// copied is what the new file adds to a repository that restic copies to, which
// has the old one. It takes restic longer to make repositories than to back a
// package up, so they serve all pairs that have no file in common.
func (c *comparer) copied(ctx context.Context, p *pair) (int64, error) {
	here, there := filepath.Join(c.work, "here"), filepath.Join(c.work, "there")
	env := []string{"RESTIC_PASSWORD=bench", "RESTIC_FROM_PASSWORD=bench"}
	run := func(args ...string) error {
		_, err := command(ctx, c.work, env, c.restic, append([]string{"--quiet", "--no-cache"}, args...)...)
		return err
	}
	if c.backedUp == nil || c.backedUp[p.oldSum] || c.backedUp[p.newSum] {
		if err := errors.Join(os.RemoveAll(here), os.RemoveAll(there)); err != nil {
			return 0, err
		}
		if err := errors.Join(run("init", "--repo", here), run("init", "--repo", there, "--from-repo", here, "--copy-chunker-params")); err != nil {
			return 0, err
		}
		c.backedUp = map[string]bool{}
	}
	c.backedUp[p.oldSum], c.backedUp[p.newSum] = true, true
	var sizes [2]int64
	for i, file := range []string{p.oldFile, p.newFile} {
		tag := p.newSum[:16] + fmt.Sprint(i)
		if err := run("backup", "--repo", here, "--tag", tag, file); err != nil {
			return 0, err
		}
		if err := run("copy", "--repo", there, "--from-repo", here, "--tag", tag); err != nil {
			return 0, err
		}
		var err error
		if sizes[i], err = usage.FolderSize(there); err != nil {
			return 0, err
		}
	}
	return sizes[1] - sizes[0], nil
}

// made is what the new file adds to a chunk store of desync that has the old one.
func (c *comparer) made(ctx context.Context, p *pair) (int64, error) {
	store := filepath.Join(c.work, "chunks")
	defer os.RemoveAll(store)
	if err := os.MkdirAll(store, 0o755); err != nil {
		return 0, err
	}
	var sizes [2]int64
	for i, file := range []string{p.oldFile, p.newFile} {
		if _, err := command(ctx, c.work, nil, c.desync, "make", "--store", store, filepath.Join(store, fmt.Sprint(i)+".caibx"), file); err != nil {
			return 0, err
		}
		var err error
		if sizes[i], err = usage.FolderSize(store); err != nil {
			return 0, err
		}
	}
	return sizes[1] - sizes[0], nil
}
