package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// section returns the part of the README below a heading.
func section(t *testing.T, heading string) string {
	t.Helper()
	data, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(data), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("README.md has no section %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestReadmeFiveMinutes types what the README says, in order, and looks
// whether it came true.
func TestReadmeFiveMinutes(t *testing.T) {
	blocks := shellBlock.FindAllStringSubmatch(section(t, "Five minutes"), -1)
	if len(blocks) < 6 {
		t.Fatalf("only %d blocks of commands were found", len(blocks))
	}
	text := "set -euo pipefail\n"
	for _, b := range blocks {
		text += b[1]
	}
	text += `
davit -c dev status --json | grep '"acknowledged"' >/dev/null
davit -c prod status --json | grep '"succeeded"' >/dev/null
davit -c prod deploy shop 1.1 --env production | grep -qF 'serving better on port 8080, signed in with ***'
test "$(wc -c <stick/davit-dev-to-prod-000001.v01of01)" -gt 2000000
test "$(wc -c <stick/davit-dev-to-prod-000002.v01of01)" -lt 200000
`
	dir := t.TempDir()
	file := filepath.Join(dir, "readme.sh")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	script(t, dir, file)
}

// TestReadmeExitCodes: the table is what the program says.
func TestReadmeExitCodes(t *testing.T) {
	out, err := exec.Command(filepath.Join(bin(t), "davit"), "--json", "help", "exit-codes").Output()
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		ExitCodes []struct {
			Code          int
			Kind, Meaning string
		}
	}
	if err := json.Unmarshal(out, &said); err != nil {
		t.Fatal(err)
	}
	if len(said.ExitCodes) < 10 {
		t.Fatalf("the program tells of %d exit codes: %s", len(said.ExitCodes), out)
	}
	text := section(t, "Exit codes")
	for _, c := range said.ExitCodes {
		row := fmt.Sprintf("| %d | %s | %s |\n", c.Code, c.Kind, c.Meaning)
		if !strings.Contains(text, row) {
			t.Errorf("the README lacks this row:\n%s", row)
		}
	}
	if rows := strings.Count(text, "\n| ") - 2; rows != len(said.ExitCodes) {
		t.Errorf("the README has %d exit codes, the program %d", rows, len(said.ExitCodes))
	}
}

var code = regexp.MustCompile("`([a-z][a-z -]*)`")

// TestReadmeCommands: each command in the table is one, and none is left out.
func TestReadmeCommands(t *testing.T) {
	davit := filepath.Join(bin(t), "davit")
	named := map[string]bool{}
	for _, line := range strings.Split(section(t, "Commands"), "\n") {
		cell, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		if !ok || !strings.HasPrefix(line, "| `") {
			continue
		}
		for _, m := range code.FindAllStringSubmatch(cell, -1) {
			words := strings.Fields(m[1])
			named[words[0]] = true
			args := words
			if words[0] != "help" {
				args = append([]string{"help"}, words...)
			}
			if out, err := exec.Command(davit, args...).CombinedOutput(); err != nil {
				t.Errorf("davit %s is no command: %v\n%s", m[1], err, out)
			}
		}
	}
	if len(named) < 20 {
		t.Fatalf("only %d commands were found in the README", len(named))
	}
	out, err := exec.Command(davit, "help").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(out), "COMMANDS:\n")
	if !ok {
		t.Fatalf("davit help lists no commands:\n%s", out)
	}
	list, _, _ = strings.Cut(list, "\n\n")
	for _, line := range strings.Split(list, "\n") {
		if f := strings.Fields(line); len(f) > 0 && !named[strings.TrimSuffix(f[0], ",")] {
			t.Errorf("the README leaves out: %s", strings.TrimSpace(line))
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

// TestLinks: what the pages link to is there.
func TestLinks(t *testing.T) {
	pages := []string{"README.md", "ARCHITECTURE.md", "CHANGELOG.md"}
	links := 0
	for _, page := range pages {
		data, err := os.ReadFile(filepath.Join("..", page))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, m := range link.FindAllStringSubmatch(string(data), -1) {
			links++
			if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
		}
	}
	if links < 10 {
		t.Fatalf("only %d links were found", links)
	}
}
