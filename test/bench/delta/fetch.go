package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// pair is a row whose two files are there.
type pair struct {
	row
	oldFile, newFile string
	oldSize, newSize int64
	oldSum, newSum   string // SHA-256
}

// key names a pair by what is in it.
func (p *pair) key() string { return p.oldSum[:24] + "-" + p.newSum[:24] + ".json" }

// fetcher brings files into the cache, by the ordinary client of each registry,
// or makes them of files that it brought.
type fetcher struct {
	cache string
	tools *tools
}

// mostTime is how long one client may take; building a program takes longest.
const mostTime = 8 * time.Minute

// fetch brings both files of a row.
func (f *fetcher) fetch(ctx context.Context, r row) (*pair, error) {
	p := &pair{row: r}
	for _, side := range []struct {
		version, other string
		file, sum      *string
		size           *int64
	}{{r.old, r.new, &p.oldFile, &p.oldSum, &p.oldSize}, {r.new, r.old, &p.newFile, &p.newSum, &p.newSize}} {
		ctx, cancel := context.WithTimeout(ctx, mostTime)
		var err error
		*side.file, err = f.file(ctx, r.ecosystem, r.name, side.version)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("fetch %s %s %s: %w", r.ecosystem, r.name, side.version, err)
		}
		if *side.sum, *side.size, err = hashFile(*side.file); err != nil {
			return nil, err
		}
	}
	if p.oldSum == p.newSum {
		return nil, fmt.Errorf("fetch %s: both versions are the same file", r)
	}
	return p, nil
}

var unsafeInName = regexp.MustCompile(`[^A-Za-z0-9.+-]+`)

// file returns where one version of a package lies, and brings it if it is not
// there.
func (f *fetcher) file(ctx context.Context, ecosystem, name, version string) (string, error) {
	dir := filepath.Join(f.cache, "files", ecosystem, unsafeInName.ReplaceAllString(strings.Trim(name, "@"), "_")+"@"+unsafeInName.ReplaceAllString(version, "_"))
	if got, err := onlyFile(dir); err == nil {
		return got, nil
	}
	get, ok := map[string]func(ctx context.Context, dir, name, version string) error{
		"npm": f.npm, "pypi": f.pypi, "maven": f.maven, "cargo": f.cargo, "go": f.module, "deb": f.deb,
		"npm-bin": f.npmProgram, "go-bin": f.goProgram, "helm": f.chart, "umoci": f.layer(umoci), "crane": f.layer(crane), "buildah": f.layer(buildah),
	}[ecosystem]
	if !ok {
		return "", fmt.Errorf("there is no ecosystem %s", ecosystem)
	}
	fmt.Fprintln(os.Stderr, "fetching", ecosystem, name, version)
	// A folder that a client was broken off in must not pass for a package.
	part, err := os.MkdirTemp(f.cache, "part-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(part)
	if err := get(ctx, part, name, version); err != nil {
		return "", err
	}
	if _, err := onlyFile(part); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := os.Chmod(part, 0o755); err != nil {
		return "", err
	}
	if err := os.Rename(part, dir); err != nil {
		return "", err
	}
	return onlyFile(dir)
}

// onlyFile is the one file in a folder.
func onlyFile(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if len(entries) != 1 || !entries[0].Type().IsRegular() {
		return "", fmt.Errorf("%d files came, not one", len(entries))
	}
	return filepath.Join(dir, entries[0].Name()), nil
}

// command runs a client in dir and returns what it wrote to stdout.
func command(ctx context.Context, dir string, env []string, name string, args ...string) ([]byte, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.WaitDelay = 5 * time.Second // children may hold the pipes
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("run %s: %w: %s", filepath.Base(name), errors.Join(err, ctx.Err()), lastLines(errs.String()+out.String()))
	}
	return out.Bytes(), nil
}

// lastLines is the end of what a client said: the reason mostly stands there.
func lastLines(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return clip(strings.Join(lines[max(0, len(lines)-3):], "; "), 400)
}

func (f *fetcher) npm(ctx context.Context, dir, name, version string) error {
	_, err := command(ctx, dir, nil, "npm", "pack", "--silent", name+"@"+version, "--pack-destination", dir)
	return err
}

// npmProgram is the largest file of an npm package: the program that it is
// there to bring.
func (f *fetcher) npmProgram(ctx context.Context, dir, name, version string) error {
	archive, err := f.file(ctx, "npm", name, version)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(f.cache, "npm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if _, err := command(ctx, work, nil, "tar", "-xzf", archive); err != nil {
		return err
	}
	program, err := largestFile(work)
	if err != nil {
		return err
	}
	return os.Rename(program, filepath.Join(dir, filepath.Base(program)))
}

func (f *fetcher) pypi(ctx context.Context, dir, name, version string) error {
	args := []string{"download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", "3.12"}
	// The same files wherever this runs.
	for _, p := range []string{"manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"} {
		args = append(args, "--platform", p)
	}
	_, err := command(ctx, dir, nil, "pip", append(args, "--dest", dir, name+"=="+version)...)
	return err
}

func (f *fetcher) maven(ctx context.Context, dir, name, version string) error {
	_, err := command(ctx, dir, nil, "mvn", "--batch-mode", "--quiet", "dependency:copy", "-Dartifact="+name+":"+version, "-DoutputDirectory="+dir)
	return err
}

// cargo fetches a crate as the dependency of a package that has no other.
func (f *fetcher) cargo(ctx context.Context, dir, name, version string) error {
	work, err := os.MkdirTemp(f.cache, "cargo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	toml := fmt.Sprintf("[package]\nname = \"bench\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[lib]\npath = \"lib.rs\"\n[dependencies]\n%s = { version = \"=%s\", default-features = false }\n", name, version)
	if err := errors.Join(os.WriteFile(filepath.Join(work, "Cargo.toml"), []byte(toml), 0o644), os.WriteFile(filepath.Join(work, "lib.rs"), nil, 0o644)); err != nil {
		return err
	}
	if _, err := command(ctx, work, nil, "cargo", "fetch", "--quiet"); err != nil {
		return err
	}
	home := os.Getenv("CARGO_HOME")
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return err
		}
		home = filepath.Join(user, ".cargo")
	}
	found, err := filepath.Glob(filepath.Join(home, "registry", "cache", "*", name+"-"+version+".crate"))
	if err != nil || len(found) == 0 {
		return fmt.Errorf("find crate: %w", errors.Join(err, fs.ErrNotExist))
	}
	return copyFile(found[0], filepath.Join(dir, filepath.Base(found[0])))
}

// module fetches the zip of a Go module.
func (f *fetcher) module(ctx context.Context, dir, name, version string) error {
	work, err := os.MkdirTemp(f.cache, "gomod-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	out, err := command(ctx, work, []string{"GOMODCACHE=" + work, "GOFLAGS=", "GOWORK=off"}, "go", "mod", "download", "-modcacherw", "-json", name+"@"+version)
	if err != nil {
		return err
	}
	var got struct{ Zip, Error string }
	if err := json.Unmarshal(out, &got); err != nil || got.Error != "" {
		return fmt.Errorf("download module: %v %s", err, got.Error)
	}
	return os.Rename(got.Zip, filepath.Join(dir, filepath.Base(name)+"-"+filepath.Base(got.Zip)))
}

func (f *fetcher) deb(ctx context.Context, dir, name, version string) error {
	_, err := command(ctx, dir, nil, "apt-get", "download", name+"="+version)
	return err
}
