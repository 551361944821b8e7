package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scripts is where the stories are: whole runs of the program, as its users
// see it.
const scripts = "../../test/scripts"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"davit": func() {
		// Only this binary lets the clock be turned.
		if v := os.Getenv("DAVIT_TEST_NOW"); v != "" {
			t, err := time.Parse(time.RFC3339, v)
			if err != nil {
				panic(err)
			}
			now = func() time.Time { return t }
		}
		main()
	}})
}

func TestStories(t *testing.T) {
	stories, err := filepath.Glob(filepath.Join(scripts, "*.txtar"))
	if err != nil || len(stories) == 0 {
		t.Fatalf("no stories in %s: %v", scripts, err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 scripts,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			home := filepath.Join(e.WorkDir, "home")
			e.Setenv("HOME", home)
			e.Setenv("USERPROFILE", home)
			e.Setenv("TZ", "UTC")
			return os.MkdirAll(home, 0o755)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":     cmdCode,
			"sites":    cmdSites,
			"flip":     cmdFlip,
			"cut":      cmdCut,
			"random":   cmdRandom,
			"absent":   cmdAbsent,
			"json":     cmdJSON,
			"size":     cmdSize,
			"smaller":  cmdSmaller,
			"packfile": cmdPackfile,
			"logfile":  cmdLogfile,
		},
	})
}

// cmdCode runs davit and wants one exit code: code 5 import stick. Its output
// is what stdout and stderr then look at.
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec("davit", args[1:]...)
	got := 0
	if err != nil {
		exit, ok := err.(interface{ ExitCode() int })
		if !ok {
			ts.Fatalf("davit did not run: %v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("davit %s: exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// cmdSites makes two sites that know each other, dev and prod, and a stick.
func cmdSites(ts *testscript.TestScript, neg bool, args []string) {
	for _, dir := range []string{"stick", "back"} {
		ts.Check(os.MkdirAll(ts.MkAbs(dir), 0o755))
	}
	for _, name := range []string{"dev", "prod"} {
		ts.Check(ts.Exec("davit", "-q", "init", name, "--dir", name))
	}
	ts.Check(ts.Exec("davit", "-q", "-c", "dev", "peer", "add", "prod/prod.card.json", "--send", "releases", "--accept", "results", "--yes"))
	ts.Check(ts.Exec("davit", "-q", "-c", "prod", "peer", "add", "dev/dev.card.json", "--accept", "releases", "--send", "results", "--yes"))
}

// one finds the one file that a pattern means.
func one(ts *testscript.TestScript, pattern string) string {
	found, err := filepath.Glob(ts.MkAbs(pattern))
	ts.Check(err)
	if len(found) != 1 {
		ts.Fatalf("%s means %d files", pattern, len(found))
	}
	return found[0]
}

// cmdFlip changes one byte: flip FILE OFFSET; a negative offset counts from
// the end, "half" is the middle.
func cmdFlip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip FILE OFFSET")
	}
	path := one(ts, args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	at := len(data) / 2
	if args[1] != "half" {
		at, err = strconv.Atoi(args[1])
		ts.Check(err)
	}
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 0x20
	ts.Check(os.WriteFile(path, data, 0o644))
}

// cmdCut shortens a file: cut FILE BYTES.
func cmdCut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: cut FILE BYTES")
	}
	path := one(ts, args[0])
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	info, err := os.Stat(path)
	ts.Check(err)
	ts.Check(os.Truncate(path, info.Size()-n))
}

// cmdRandom writes bytes that do not compress and are the same every time:
// random FILE SIZE SEED.
func cmdRandom(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: random FILE SIZE SEED")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	seed, err := strconv.ParseUint(args[2], 10, 64)
	ts.Check(err)
	data := make([]byte, n)
	for x, i := seed*2654435769+1, 0; i < n; i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		data[i] = byte(x >> 32)
	}
	path := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	ts.Check(os.WriteFile(path, data, 0o644))
}

// cmdAbsent fails when a text stands in any file below the folders named:
// absent TEXT FOLDER…. It fails too when there is nothing to look at.
func cmdAbsent(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: absent TEXT FOLDER…")
	}
	looked, found := 0, ""
	for _, dir := range args[1:] {
		ts.Check(filepath.WalkDir(ts.MkAbs(dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			looked++
			if strings.Contains(string(data), args[0]) {
				found = path
			}
			return nil
		}))
	}
	switch {
	case looked == 0:
		ts.Fatalf("there is nothing in %v", args[1:])
	case found != "" && !neg:
		ts.Fatalf("%q stands in %s", args[0], found)
	case found == "" && neg:
		ts.Fatalf("%q stands nowhere", args[0])
	}
}

// cmdJSON reads the last stdout as JSON and compares one value in it:
// json bundles.0.state 'taken in'. With one argument the value must be there;
// "! json PATH" wants it absent. "len" at the end of a path counts.
func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: json PATH [VALUE]")
	}
	var v any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &v); err != nil {
		ts.Fatalf("stdout is not one JSON document: %v", err)
	}
	for _, key := range strings.Split(args[0], ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[key]
		case []any:
			if key == "len" {
				v = float64(len(x))
				break
			}
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(x) {
				v = nil
				break
			}
			v = x[i]
		default:
			v = nil
		}
	}
	text := fmt.Sprint(v)
	if f, ok := v.(float64); ok {
		text = strconv.FormatFloat(f, 'f', -1, 64)
	}
	switch {
	case neg && len(args) == 1 && v != nil:
		ts.Fatalf("%s is %s", args[0], text)
	case neg && len(args) == 2 && text == args[1]:
		ts.Fatalf("%s is %s", args[0], text)
	case !neg && v == nil:
		ts.Fatalf("there is no %s", args[0])
	case !neg && len(args) == 2 && text != args[1]:
		ts.Fatalf("%s is %s, want %s", args[0], text, args[1])
	}
}

// cmdSize wants a folder to hold as many bytes as a value of the last JSON:
// size FOLDER PATH.
func cmdSize(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: size FOLDER PATH")
	}
	cmdJSON(ts, neg, []string{args[1], strconv.FormatInt(folderSize(ts, args[0]), 10)})
}

// cmdSmaller wants a folder to hold less than the share 1/N of another:
// smaller FOLDER N OTHER.
func cmdSmaller(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: smaller FOLDER N OTHER")
	}
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	if a, b := folderSize(ts, args[0]), folderSize(ts, args[2]); a == 0 || a*n > b {
		ts.Fatalf("%s has %d bytes, %s has %d", args[0], a, args[2], b)
	}
}

// cmdPackfile puts the largest file below a folder into $PACK.
func cmdPackfile(ts *testscript.TestScript, neg bool, args []string) {
	var best string
	var most int64
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > most {
			best, most = path, info.Size()
		}
		return err
	}))
	if best == "" {
		ts.Fatalf("there is no file below %s", args[0])
	}
	ts.Setenv("PACK", best)
}

func folderSize(ts *testscript.TestScript, dir string) int64 {
	var n int64
	entries, err := os.ReadDir(ts.MkAbs(dir))
	ts.Check(err)
	for _, e := range entries {
		info, err := e.Info()
		ts.Check(err)
		n += info.Size()
	}
	return n
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "3.9GiB": 39 << 30 / 10, "700MB": 700e6, "64 MiB": 64 << 20, "64M": 64 << 20, "5k": 5 << 10, "1TB": 1e12, "9b": 9} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "x", "1XB", "GiB", "1e300", "NaN", "inf"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q: taken for %d", text, got)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1<<20 - 1: "1.0 MiB", 3 << 30: "3.0 GiB", 1536: "1.5 KiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestArrange(t *testing.T) {
	app := (&program{}).app()
	for line, want := range map[string]string{
		"davit promote shop 1.0 --to prod --json -c here":        "davit --json -c here promote --to prod shop 1.0",
		"davit -q release create --notes x shop 1.0 a -v":        "davit -q -v release create --notes x shop 1.0 a",
		"davit set shop A=-1 --env=e":                            "davit set --env=e shop A=-1",
		"davit release show -- -x 1.0":                           "davit release show -- -x 1.0",
		"davit status release":                                   "davit status release",
		"davit peer list --what":                                 "davit peer list --what",
		"davit release create release 1.0 import --notes --json": "davit release create --notes --json release 1.0 import",
	} {
		if got := strings.Join(arrange(app, strings.Fields(line)), " "); got != want {
			t.Errorf("%s\n got %s\nwant %s", line, got, want)
		}
	}
}

func TestProcessFile(t *testing.T) {
	process, parameters, err := parseProcess([]byte("steps:\n- name: a\n  run: echo hi\n- name: b\n  run: [x, 1.10, 007, true]\n  timeout: 1h30m\n  environment: {V: 1.10}\n" +
		"parameters:\n- name: P\n  default: 1.10\n  environments: {prod: 0755}\n- name: E\n  default: \"\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(process.Steps); got != "[{a [/bin/sh -c echo hi] 900  map[]} {b [x 1.10 007 true] 5400  map[V:1.10]}]" {
		t.Error(got)
	}
	if p := parameters[0]; *p.Default != "1.10" || p.Environments["prod"] != "0755" || p.Type != "string" || *parameters[1].Default != "" {
		t.Errorf("%+v", parameters)
	}
	for text, want := range map[string]string{
		"stepz: []":                                             "line 1: ",
		"steps:\n- name: a\n  rum: x":                           "line 3: ",
		"steps:\n- name: a":                                     "nothing to run",
		"steps:\n- run: a":                                      "no name",
		"steps:\n- {name: a, run: b, timeout: 15}":              "write for instance",
		"steps:\n- {name: a, run: b, timeout: 1ms}":             "whole seconds",
		"steps:\n- {name: a, run: {x: y}}":                      "single value",
		"parameters:\n- {name: A, sensitive: true, default: x}": "sensitive",
		"steps: {": "line",
	} {
		if _, _, err := parseProcess([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// Every code is explained once, and nothing gets a code that is not.
func TestExitCodes(t *testing.T) {
	seen := map[int]bool{}
	for _, c := range exitCodes {
		if seen[c.code] || c.kind == "" || c.meaning == "" {
			t.Errorf("%+v", c)
		}
		seen[c.code] = true
	}
	if code, kind := classify(fmt.Errorf("read: %w", context.Canceled)); code != exitInterrupted || kind != "interrupted" {
		t.Error(code, kind)
	}
	for want, codes := range map[int][]int{
		exitOK: {exitOK}, exitDamage: {exitIncomplete, exitRefused, exitDamage}, exitRefused: {exitConflict, exitRefused},
		exitConflict: {exitOK, exitIncomplete, exitConflict}, exitIncomplete: {exitOK, exitIncomplete}, exitNoSpace: {exitNoSpace, exitOK},
	} {
		if got := worst(codes); got != want {
			t.Errorf("worst of %v is %d, want %d", codes, got, want)
		}
	}
}

// cmdLogfile writes a long text, one line of which depends on the version, and
// compresses it: logfile VERSION FILE.gz
func cmdLogfile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: logfile VERSION FILE.gz")
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for i := range 30_000 {
		if i == 77 {
			fmt.Fprintln(w, "version", args[0])
		}
		fmt.Fprintf(w, "line %d says %x\n", i, i*i*7919)
	}
	ts.Check(w.Close())
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b.Bytes(), 0o644))
}
