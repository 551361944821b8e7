package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestExamples runs every example but the demo, which fetches modules and
// takes a minute: make demo.
func TestExamples(t *testing.T) {
	scripts, err := filepath.Glob("../examples/*/run.sh")
	if err != nil {
		t.Fatal(err)
	}
	scripts = slices.DeleteFunc(scripts, func(s string) bool { return filepath.Base(filepath.Dir(s)) == "demo" })
	if len(scripts) < 5 {
		t.Fatalf("only these examples were found: %q", scripts)
	}
	for _, s := range scripts {
		dir, err := filepath.Abs(filepath.Dir(s))
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(dir)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := os.Stat(filepath.Join(dir, "README.md")); err != nil {
				t.Error(err)
			}
			if _, err := exec.LookPath("zstd"); err != nil && name == "recovery-by-hand" {
				t.Skip("zstd is not installed: apt-get install zstd")
			}
			script(t, t.TempDir(), filepath.Join(dir, "run.sh"))
		})
	}
}

// TestScripts: every script is one that bash can read, the demo too.
func TestScripts(t *testing.T) {
	var all []string
	for _, pattern := range []string{"../examples/*.sh", "../examples/*/*.sh", "../test/*/*.sh", "../.ci/run"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	if len(all) < 8 {
		t.Fatalf("only these scripts were found: %q", all)
	}
	for _, s := range all {
		if out, err := exec.Command("bash", "-n", s).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", s, err, out)
		}
	}
}
