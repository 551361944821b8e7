package test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// bin builds davit and age into a folder for the tests that run scripts, and
// returns the folder. It opens every file of the repository first: go test
// remembers a passing test together with the files that it opened, so a test
// whose program has changed since is run again and never called "(cached)".
func bin(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the scripts are for bash")
	}
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var programs = sync.OnceValues(func() (string, error) {
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != ".." && (strings.HasPrefix(name, ".") || name == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return f.Close()
	})
	if err != nil {
		return "", err
	}
	for name, pkg := range map[string]string{"davit": "davit/cmd/davit", "age": "filippo.io/age/cmd/age"} {
		cmd := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(binDir, name), pkg)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", &buildError{pkg, string(out)}
		}
	}
	return binDir, nil
})

type buildError struct{ pkg, output string }

func (e *buildError) Error() string { return "build " + e.pkg + ":\n" + e.output }

// binDir is where programs builds to.
var binDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "davit-test-*")
	if err != nil {
		panic(err)
	}
	binDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// script runs a bash script with the programs in its path, and without the
// DAVIT_… variables of whoever runs the tests.
func script(t *testing.T, dir string, arg ...string) {
	t.Helper()
	path := bin(t)
	cmd := exec.CommandContext(t.Context(), "bash", arg...)
	cmd.Dir = dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DAVIT_") && !strings.HasPrefix(v, "PATH=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "PATH="+path+string(os.PathListSeparator)+os.Getenv("PATH"), "DAVIT_BIN="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
