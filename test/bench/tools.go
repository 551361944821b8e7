package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Rows of the table, in order. Both tools have the first ones; restic has
// nothing like a bundle.
const (
	ingest1     = "ingest v1"
	ingestAgain = "ingest v1 again, all read"
	unchanged   = "ingest v1 again, by mtime"
	ingest2     = "ingest v2"
	ingest3     = "ingest v3"
	exportFull  = "export v1, full"
	exportDelta = "export v2, delta"
	import1     = "import v1, accept"
	import2     = "import v2, accept"
	write1      = "materialize v1, empty folder"
	write2      = "materialize v2 over v1"
	write2new   = "materialize v2, empty folder"
	check       = "check --read-data"
	stored1     = "stored after v1"
	stored2     = "stored after v2"
	stored3     = "stored after v3"
	bundle1     = "bundle of v1"
	bundle2     = "bundle of v2"
)

var (
	rows  = []string{ingest1, ingestAgain, unchanged, ingest2, ingest3, exportFull, exportDelta, import1, import2, write1, write2, write2new, check}
	sizes = []string{stored1, stored2, stored3, bundle1, bundle2}
)

const davitSettings = "davit: chunks 16/64/256 KiB (fastcdc), zstd fastest (klauspost) on frames of 512 KiB, age, packs of 64 MiB, SHA-256 of every file besides that of every chunk"

func resticSettings(ctx context.Context, path string) string {
	out, err := exec.CommandContext(ctx, path, "version").Output()
	if err != nil {
		return "restic: version unknown"
	}
	return strings.TrimSpace(string(out)) + ": its defaults: chunks 512/1024/8192 KiB (rabin), zstd default (klauspost, compression auto) on chunks, AES-CTR and Poly1305, packs of 16 MiB"
}

// davitSteps is the way of three releases from one site to another.
func davitSteps(path string) []step {
	davit := func(b *bench, args ...string) *exec.Cmd {
		cmd := exec.Command(path, args...)
		cmd.Dir = b.dir
		return cmd
	}
	at := func(name, site string, version int, args ...string) step {
		return step{name: name, version: version, command: func(b *bench) *exec.Cmd {
			return davit(b, append([]string{"--config", site, "--quiet"}, args...)...)
		}}
	}
	// Release numbers and versions of the corpus are not the same: one version
	// is taken in twice.
	create := func(name, release string, version int, stored string) step {
		s := step{name: name, version: version, command: func(b *bench) *exec.Cmd {
			args := []string{"--config", "dev", "--quiet", "release", "create", "bench", release}
			return davit(b, append(args, b.trees[version-1].packages...)...)
		}}
		if stored != "" {
			s.after = func(b *bench) (string, string) { return stored, b.path("dev", "store") }
		}
		return s
	}
	measured := func(s step, name string, elem ...string) step {
		s.after = func(b *bench) (string, string) { return name, b.path(elem...) }
		return s
	}
	folder := func(name string) step {
		return step{name: "make " + name, command: func(b *bench) *exec.Cmd { os.MkdirAll(b.path(name), 0o755); return nil }}
	}
	return []step{
		at("init", "dev", 0, "init", "dev", "--dir", "dev"),
		at("init", "prod", 0, "init", "prod", "--dir", "prod"),
		at("peer add", "dev", 0, "peer", "add", "prod/prod.card.json", "--send", "releases", "--accept", "results", "--yes"),
		at("peer add", "prod", 0, "peer", "add", "dev/dev.card.json", "--accept", "releases", "--send", "results", "--yes"),
		folder("medium1"), folder("medium2"),
		create(ingest1, "1.0.0", 1, stored1),
		create(ingestAgain, "1.0.1", 1, ""),
		create(ingest2, "2.0.0", 2, stored2),
		create(ingest3, "3.0.0", 3, stored3),
		measured(at(exportFull, "dev", 1, "export", "--to", "prod", "--release", "bench@1.0.0", "--full", "medium1"), bundle1, "medium1"),
		at(import1, "prod", 1, "import", "--accept", "medium1"),
		measured(at(exportDelta, "dev", 2, "export", "--to", "prod", "--release", "bench@2.0.0", "--assume-delivered", "medium2"), bundle2, "medium2"),
		at(import2, "prod", 2, "import", "--accept", "medium2"),
		at(write1, "prod", 1, "materialize", "bench", "1.0.0", "target"),
		at(write2, "prod", 2, "materialize", "bench", "2.0.0", "target"),
		at(write2new, "prod", 2, "materialize", "bench", "2.0.0", "target-new"),
		at(check, "dev", 3, "check", "--read-data"),
	}
}

// resticSteps backs the same trees up, all from one path (a link that is
// turned), so that restoring the second over the first meets the same names.
func resticSteps(path string) []step {
	restic := func(b *bench, dir string, args ...string) *exec.Cmd {
		cmd := exec.Command(path, append([]string{"--repo", b.path("repository"), "--cache-dir", b.path("cache"), "--quiet"}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "RESTIC_PASSWORD=bench", "PWD="+dir)
		return cmd
	}
	plain := func(name string, version int, args ...string) step {
		return step{name: name, version: version, command: func(b *bench) *exec.Cmd { return restic(b, b.dir, args...) }}
	}
	backup := func(name string, version int, stored string, args ...string) step {
		s := step{name: name, version: version, command: func(b *bench) *exec.Cmd {
			source := b.path("source")
			os.Remove(source)
			if err := os.Symlink(b.trees[version-1].dir, source); err != nil {
				source = b.trees[version-1].dir
			}
			return restic(b, source, append([]string{"backup", "."}, args...)...)
		}}
		if stored != "" {
			s.after = func(b *bench) (string, string) { return stored, b.path("repository") }
		}
		return s
	}
	restore := func(name string, version int, tag, target string) step {
		return step{name: name, version: version, command: func(b *bench) *exec.Cmd {
			return restic(b, b.dir, "restore", "latest", "--tag", tag, "--target", filepath.FromSlash(target))
		}}
	}
	return []step{
		plain("init", 0, "init"),
		backup(ingest1, 1, stored1, "--tag", "v1"),
		backup(ingestAgain, 1, "", "--tag", "v1", "--force"),
		backup(unchanged, 1, "", "--tag", "v1"),
		backup(ingest2, 2, stored2, "--tag", "v2"),
		backup(ingest3, 3, stored3, "--tag", "v3"),
		restore(write1, 1, "v1", "target"),
		restore(write2, 2, "v2", "target"),
		restore(write2new, 2, "v2", "target-new"),
		plain(check, 3, "check", "--read-data"),
	}
}
