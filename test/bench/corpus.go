package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// corpus lists what each version of the benchmark's release is made of.
var corpus = [...][]source{
	{{"kubernetes", "k8s.io/kubernetes", "v1.31.0"}, {"go", "golang.org/toolchain", "v0.0.1-go1.26.0.linux-amd64"}, {"api", "google.golang.org/api", "v0.230.0"}},
	{{"kubernetes", "k8s.io/kubernetes", "v1.31.1"}, {"go", "golang.org/toolchain", "v0.0.1-go1.26.1.linux-amd64"}, {"api", "google.golang.org/api", "v0.231.0"}},
	{{"kubernetes", "k8s.io/kubernetes", "v1.31.2"}, {"go", "golang.org/toolchain", "v0.0.1-go1.26.2.linux-amd64"}, {"api", "google.golang.org/api", "v0.232.0"}},
}

type source struct{ name, module, version string }

// tree is one version of the corpus on disk: one folder for each package.
type tree struct {
	dir      string
	packages []string
	files    int
	bytes    int64
}

// fetchCorpus makes the trees in dir, unless they are there.
func fetchCorpus(ctx context.Context, dir string) ([]tree, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	modules := filepath.Join(dir, "modules")
	var trees []tree
	for i, sources := range corpus {
		t := tree{dir: filepath.Join(dir, fmt.Sprintf("v%d", i+1))}
		for _, s := range sources {
			t.packages = append(t.packages, filepath.Join(t.dir, s.name))
			if err := s.fetch(ctx, modules, filepath.Join(t.dir, s.name)); err != nil {
				return nil, err
			}
		}
		err := filepath.WalkDir(t.dir, func(_ string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			t.files++
			t.bytes += info.Size()
			return nil
		})
		if err != nil {
			return nil, err
		}
		trees = append(trees, t)
	}
	// The trees are copies, since the module cache is not to be written to.
	return trees, os.RemoveAll(modules)
}

func (s source) fetch(ctx context.Context, modules, to string) error {
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	module := s.module + "@" + s.version
	fmt.Fprintln(os.Stderr, "fetching", module)
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-modcacherw", "-json", module)
	cmd.Dir = filepath.Dir(modules)
	cmd.Env = append(os.Environ(), "GOMODCACHE="+modules, "GOFLAGS=", "GOWORK=off")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	failed := cmd.Run()
	var got struct{ Dir, Error string }
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || failed != nil || got.Error != "" {
		return fmt.Errorf("go mod download %s: %v %v %s%s", module, failed, err, got.Error, errs.Bytes())
	}
	// A copy that was broken off must not pass for a tree.
	if err := os.RemoveAll(to + ".part"); err != nil {
		return err
	}
	if err := os.CopyFS(to+".part", os.DirFS(got.Dir)); err != nil {
		return err
	}
	return os.Rename(to+".part", to)
}
