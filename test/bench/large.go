package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"davit/test/bench/usage"
)

// measureLarge takes in and writes out what would show memory that grows with
// the input: a file of 20 GiB that is one hole, and 200,000 small files in one
// folder.
func measureLarge(ctx context.Context, davit, work string) error {
	const (
		sparse = 20 << 30
		small  = 200_000
	)
	file := filepath.Join(work, "sparse")
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := f.Truncate(sparse); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	folder := filepath.Join(work, "small")
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	for i := range small {
		name := filepath.Join(folder, fmt.Sprintf("file-%06d.txt", i))
		if err := os.WriteFile(name, fmt.Appendf(nil, "file %d\n", i), 0o644); err != nil {
			return err
		}
	}
	for _, in := range []struct {
		name, path string
		bytes      int64
	}{{"20 GiB sparse file", file, sparse}, {"200,000 small files", folder, 0}} {
		site := filepath.Join(work, "site")
		medium := filepath.Join(work, "medium")
		if err := os.MkdirAll(medium, 0o755); err != nil {
			return err
		}
		target := filepath.Join(work, "target")
		fmt.Println(in.name)
		for _, s := range []struct {
			name string
			args []string
		}{
			{"", []string{"init", "here", "--dir", site}},
			{"", []string{"init", "there", "--dir", site + "2"}},
			{"", []string{"--config", site, "peer", "add", site + "2/there.card.json", "--send", "releases", "--yes"}},
			{"", []string{"--config", site + "2", "peer", "add", site + "/here.card.json", "--accept", "releases", "--yes"}},
			{"ingest", []string{"--config", site, "release", "create", "large", "1.0.0", in.path}},
			{"ingest again", []string{"--config", site, "release", "create", "large", "1.0.1", in.path}},
			{"export", []string{"--config", site, "export", "--to", "there", "--release", "large@1.0.0", medium}},
			{"import", []string{"--config", site + "2", "import", "--accept", medium}},
			{"materialize", []string{"--config", site, "materialize", "large", "1.0.0", target}},
			{"materialize again", []string{"--config", site, "materialize", "large", "1.0.1", target}},
			{"check --read-data", []string{"--config", site, "check", "--read-data"}},
		} {
			u, err := usage.Measure(ctx, exec.CommandContext(ctx, davit, append([]string{"--quiet"}, s.args...)...))
			if err != nil {
				return err
			}
			if s.name != "" {
				fmt.Printf("  %-18s %6.2f s  %6.2f CPU s  %4d MiB\n", s.name, u.Wall.Seconds(), u.CPU.Seconds(), u.Peak>>20)
			}
		}
		for _, dir := range []string{site, site + "2", medium, target} {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	return nil
}
