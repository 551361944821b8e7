package main

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// tools are programs that are built of Go modules when they are first needed.
type tools struct{ dir string }

// toolModules says where a tool comes from. The versions are part of what is
// measured.
var toolModules = map[string][2]string{
	"restic": {"github.com/restic/restic/cmd/restic", "v0.18.1"},
	"helm":   {"helm.sh/helm/v3/cmd/helm", "v3.21.4"},
	"crane":  {"github.com/google/go-containerregistry/cmd/crane", "v0.21.9"},
	"umoci":  {"github.com/opencontainers/umoci/cmd/umoci", "v0.4.7"},
}

// path returns a tool: built of its module, else the one that is installed.
func (t *tools) path(ctx context.Context, name string) (string, error) {
	m, ok := toolModules[name]
	if !ok {
		return exec.LookPath(name)
	}
	dir := filepath.Join(t.dir, name+"@"+m[1])
	file := filepath.Join(dir, name)
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	fmt.Fprintln(os.Stderr, "building", name, m[1])
	if err := goInstall(ctx, dir, m[0], m[1]); err != nil {
		return "", err
	}
	return file, nil
}

// goInstall builds a program as its makers do for a release.
func goInstall(ctx context.Context, dir, module, version string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	_, err := command(ctx, dir, []string{"GOBIN=" + dir, "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0"}, "go", "install", "-trimpath", "-ldflags=-s -w", module+"@"+version)
	return err
}

func (f *fetcher) goProgram(ctx context.Context, dir, name, version string) error {
	return goInstall(ctx, dir, name, version)
}

// chart packs a chart that lies in a Go module.
func (f *fetcher) chart(ctx context.Context, dir, name, version string) error {
	module, folder, ok := strings.Cut(name, ":")
	if !ok {
		return errors.New("want MODULE:FOLDER")
	}
	helm, err := f.tools.path(ctx, "helm")
	if err != nil {
		return err
	}
	archive, err := f.file(ctx, "go", module, version)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(f.cache, "chart-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	tree := filepath.Join(work, path.Base(folder))
	if err := unzip(archive, module+"@"+version+"/"+folder+"/", tree); err != nil {
		return err
	}
	_, err = command(ctx, work, []string{"HELM_CACHE_HOME=" + work, "HELM_CONFIG_HOME=" + work, "HELM_DATA_HOME=" + work}, helm, "package", tree, "--destination", dir)
	return err
}

// unzip writes the members below prefix into a folder.
func unzip(archive, prefix, to string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	found := false
	for _, m := range z.File {
		name, ok := strings.CutPrefix(m.Name, prefix)
		if !ok || name == "" || strings.HasSuffix(name, "/") || !filepath.IsLocal(name) {
			continue
		}
		found = true
		r, err := m.Open()
		if err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("read member %s: %w", m.Name, err)
		}
		file := filepath.Join(to, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("there is no %s in the module", prefix)
	}
	return nil
}

// layer makes an OCI layer of the files of Debian packages.
func (f *fetcher) layer(with func(ctx context.Context, t *tools, work, root string) (string, error)) func(ctx context.Context, dir, name, version string) error {
	return func(ctx context.Context, dir, name, version string) error {
		work, err := os.MkdirTemp(f.cache, "layer-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(work)
		root := filepath.Join(work, "root")
		for _, n := range strings.Split(name, "+") {
			deb, err := f.file(ctx, "deb", n, version)
			if err != nil {
				return err
			}
			if _, err := command(ctx, work, nil, "dpkg-deb", "--extract", deb, root); err != nil {
				return err
			}
		}
		blob, err := with(ctx, f.tools, work, root)
		if err != nil {
			return err
		}
		return os.Rename(blob, filepath.Join(dir, "layer.tar.gz"))
	}
}

// umoci and buildah compress with pgzip, in blocks and on all cores.
func umoci(ctx context.Context, t *tools, work, root string) (string, error) {
	tool, err := t.path(ctx, "umoci")
	if err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"init", "--layout", "image"}, {"new", "--image", "image:x"}, {"insert", "--rootless", "--image", "image:x", root, "/"},
	} {
		if _, err := command(ctx, work, nil, tool, args...); err != nil {
			return "", err
		}
	}
	return largestFile(filepath.Join(work, "image", "blobs"))
}

func buildah(ctx context.Context, t *tools, work, root string) (string, error) {
	tool, err := t.path(ctx, "buildah")
	if err != nil {
		return "", err
	}
	storage := []string{"--storage-driver", "vfs", "--root", filepath.Join(work, "storage"), "--runroot", filepath.Join(work, "run")}
	name, err := command(ctx, work, nil, tool, append(storage, "from", "scratch")...)
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(name))
	for _, args := range [][]string{{"copy", "--quiet", id, root, "/"}, {"commit", "--quiet", "--disable-compression=false", id, "oci:" + filepath.Join(work, "image")}, {"rm", id}} {
		if _, err := command(ctx, work, nil, tool, append(storage, args...)...); err != nil {
			return "", err
		}
	}
	return largestFile(filepath.Join(work, "image", "blobs"))
}

// crane compresses with Go's own gzip, at its fastest.
func crane(ctx context.Context, t *tools, work, root string) (string, error) {
	tool, err := t.path(ctx, "crane")
	if err != nil {
		return "", err
	}
	layer, image, blobs := filepath.Join(work, "layer.tar"), filepath.Join(work, "image.tar"), filepath.Join(work, "blobs")
	if _, err := command(ctx, work, nil, "tar", "-C", root, "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-cf", layer, "."); err != nil {
		return "", err
	}
	if _, err := command(ctx, work, nil, tool, "append", "--new_layer", layer, "--new_tag", "bench:x", "--output", image); err != nil {
		return "", err
	}
	if err := os.Mkdir(blobs, 0o755); err != nil {
		return "", err
	}
	if _, err := command(ctx, work, nil, "tar", "-C", blobs, "-xf", image); err != nil {
		return "", err
	}
	return largestFile(blobs)
}

// largestFile in a folder and those below it.
func largestFile(dir string) (string, error) {
	var (
		most int64
		name string
	)
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > most {
			most, name = info.Size(), p
		}
		return err
	})
	if err == nil && name == "" {
		err = errors.New("there is no file")
	}
	return name, err
}
