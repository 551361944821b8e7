package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"davit/manifest"
	"davit/manifest/index"
	"davit/store/bucket"
	"davit/transfer"
)

func (w *world) deploy(p *place, version string) (*transfer.DeployReport, string, error) {
	w.t.Helper()
	var out bytes.Buffer
	report, err := p.Deploy(ctx(), transfer.DeployRequest{Project: "shop", Version: version, Environment: "production", Output: &out})
	return report, out.String(), err
}

func TestDeployFails(t *testing.T) {
	for name, c := range map[string]struct {
		step   manifest.Step
		status string
		says   string
		exit   int
	}{
		"exit code":      {shell("one", "echo before; exit 3; echo after"), manifest.StatusFailed, "exit code 3", 3},
		"no program":     {manifest.Step{Name: "one", Run: []string{"no-such-program-anywhere"}, Timeout: 5}, manifest.StatusFailed, "could not be run", -1},
		"of the release": {manifest.Step{Name: "one", Run: []string{"./no-such-file"}, Timeout: 5}, manifest.StatusFailed, "could not be run", -1},
		"no folder":      {manifest.Step{Name: "one", Run: []string{"true"}, Timeout: 5, Directory: "app/nowhere"}, manifest.StatusFailed, "could not be run", -1},
		"out of time":    {manifest.Step{Name: "one", Run: []string{"/bin/sh", "-c", "echo before; sleep 60 & wait"}, Timeout: 1}, manifest.StatusTimedOut, "ran out of its time of 1s", -1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.create(w.dev, "shop", "1.0", small, process(c.step, shell("two", "echo never")))
			report, out, err := w.deploy(w.dev, "1.0")
			var failed *transfer.DeployFailedError
			if !errors.As(err, &failed) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v\n%s", err, out)
			}
			r := report.Result
			if r.Status != c.status || len(r.Steps) != 1 || r.Steps[0].Exit != c.exit || r.Steps[0].Status != c.status {
				t.Fatalf("%+v", r)
			}
			if strings.Contains(out, "never") || strings.Contains(out, "after\n") {
				t.Fatalf("it went on:\n%s", out)
			}
			if _, err := os.Stat(filepath.Join(report.Folder, "release", "app", "a.txt")); err != nil {
				t.Fatalf("the work folder of a failed deployment is not kept: %v", err)
			}
			st, err := w.dev.Status(ctx())
			if err != nil || st.Projects[0].Deployed["production"].Status != c.status {
				t.Fatalf("%+v, %v", st, err)
			}
			wantSound(t, w.dev)
		})
	}
}

// A cancelled deployment takes its children with it and says what happened.
func TestDeployCancelled(t *testing.T) {
	w := newWorld(t)
	marker := filepath.Join(t.TempDir(), "running")
	w.create(w.dev, "shop", "1.0", small, process(shell("one", "touch "+marker+"; sleep 60")))
	stop, cancel := context.WithCancel(ctx())
	go func() {
		for {
			if _, err := os.Stat(marker); err == nil {
				cancel()
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	_, err := w.dev.Deploy(stop, transfer.DeployRequest{Project: "shop", Version: "1.0", Environment: "production"})
	var failed *transfer.DeployFailedError
	if !errors.As(err, &failed) || failed.Result.Status != manifest.StatusInterrupted {
		t.Fatal(err)
	}
}

// davit was killed while it deployed: the next one says so in its stead.
func TestDeployKilled(t *testing.T) {
	w := newWorld(t)
	r := w.create(w.dev, "shop", "1.0", small, process(shell("one", "true")))
	id := manifest.NewRunID()
	if err := w.dev.Record(ctx(), manifest.Fact{DeployStarted: &manifest.DeployStarted{ID: id, Project: "shop", Version: "1.0",
		Release: r.Digest, Environment: "production", Actor: "x", Started: manifest.NewTime(w.now)}}); err != nil {
		t.Fatal(err)
	}
	if err := w.dev.EndInterrupted(ctx()); err != nil {
		t.Fatal(err)
	}
	runs, err := w.dev.Index.Deployments(ctx(), index.DeploymentFilter{})
	if err != nil || len(runs) != 1 || runs[0].Status != manifest.StatusInterrupted || runs[0].Result.IsZero() {
		t.Fatalf("%+v, %v", runs, err)
	}
	if _, _, err := w.deploy(w.dev, "1.0"); err != nil {
		t.Fatal(err)
	}
}

func TestValues(t *testing.T) {
	w := newWorld(t)
	five, yes := "5", "true"
	w.create(w.dev, "shop", "1.0", small, process(shell("show", `echo "N=$N F=$F E=$E O=${O-unset} S=$S"`)), func(r *transfer.ReleaseRequest) {
		r.Parameters = []manifest.Parameter{
			{Name: "N", Type: "int", Default: &five, Environments: map[string]string{"production": "7"}},
			{Name: "F", Type: "bool", Default: &yes},
			{Name: "E", Type: "string", Required: true},
			{Name: "O", Type: "string"},
			{Name: "S", Type: "string", Sensitive: true, Required: true},
		}
	})
	set := func(env, name, value string) {
		t.Helper()
		if err := w.dev.SetValue(ctx(), "shop", env, name, value, false); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := w.deploy(w.dev, "1.0")
	var missing *transfer.MissingValuesError
	if !errors.As(err, &missing) || strings.Join(missing.Names, " ") != "E S" {
		t.Fatal(err)
	}
	set("", "E", "everywhere")
	set("", "S", "s3cr3t line one\ns3cr3t line two")
	_, out, err := w.deploy(w.dev, "1.0")
	if err != nil || !strings.Contains(out, "N=7 F=true E=everywhere O=unset S=***") || strings.Contains(out, "s3cr3t") {
		t.Fatalf("%v\n%s", err, out)
	}
	set("production", "E", "") // empty on purpose
	set("production", "N", "9")
	_, out, err = w.deploy(w.dev, "1.0")
	if err != nil || !strings.Contains(out, "N=9 F=true E= O=unset") {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := w.dev.SetValue(ctx(), "shop", "", "N", "many", false); err == nil {
		t.Fatal("a word was taken for a number")
	}
	// The secret lies nowhere in the clear.
	if err := filepath.WalkDir(w.dev.dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		if bytes.Contains(data, []byte("s3cr3t")) {
			t.Errorf("%s holds the secret", p)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestMask(t *testing.T) {
	for _, c := range []struct {
		secrets, writes []string
		want            string
	}{
		{[]string{"hunter2"}, []string{"the word is hunter2."}, "the word is ***."},
		{[]string{"hunter2"}, []string{"hun", "ter", "2 and hunt", "ing"}, "*** and hunting"},
		{[]string{"hunter2"}, []string{"hunterhunter2hunter"}, "hunter***hunter"},
		{[]string{"ab", "abc"}, []string{"xabcab", "x"}, "x******x"},
		{[]string{"one\ntwo"}, []string{"one\n", "two\n", "one two"}, "***\n*** ***"},
		{[]string{""}, []string{"nothing"}, "nothing"},
		{[]string{"aab"}, []string{"aaab"}, "a***"},
		{nil, []string{"plain"}, "plain"},
	} {
		var b bytes.Buffer
		m := transfer.NewMask(&b, c.secrets)
		for _, s := range c.writes {
			if n, err := m.Write([]byte(s)); n != len(s) || err != nil {
				t.Fatal(n, err)
			}
		}
		if err := m.Close(); err != nil || b.String() != c.want {
			t.Errorf("%q in %q gives %q, want %q (%v)", c.secrets, c.writes, b.String(), c.want, err)
		}
	}
}

func TestMaterializeOver(t *testing.T) {
	w := newWorld(t)
	src := tree(t, map[string]string{"bin/tool": "v1", "conf/a": "same", "gone": "x", "holes": strings.Repeat("\x00", 600_000) + "end"})
	for _, err := range []error{os.Chmod(filepath.Join(src, "bin/tool"), 0o755), os.Symlink("tool", filepath.Join(src, "bin/link")),
		os.Mkdir(filepath.Join(src, "void"), 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.dev.CreateRelease(ctx(), transfer.ReleaseRequest{Project: "shop", Version: "1.0",
		Packages: []transfer.PackageSource{{Source: src, Name: "app", Version: "1.0", Path: "app"}, {Source: filepath.Join(src, "gone"), Name: "one", Version: "1.0", Path: "files/one.txt"}}}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	do := func() (*transfer.MaterializeReport, error) {
		return w.dev.Materialize(ctx(), transfer.MaterializeRequest{Project: "shop", Version: "1.0", Dir: dir})
	}
	first, err := do()
	if err != nil || first.Written != 5 {
		t.Fatalf("%+v, %v", first, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "app/bin/tool")); err != nil || info.Mode().Perm() != 0o755 {
		t.Fatal(info, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "app/void")); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatal(info, err)
	}
	if target, err := os.Readlink(filepath.Join(dir, "app/bin/link")); err != nil || target != "tool" {
		t.Fatal(target, err)
	}
	again, err := do()
	if err != nil || again.Written != 0 || again.Kept != 5 {
		t.Fatalf("%+v, %v", again, err)
	}
	// What was changed there comes right; what is not of the release stays.
	outside := filepath.Join(t.TempDir(), "outside")
	for _, err := range []error{
		os.WriteFile(filepath.Join(dir, "app/conf/a"), []byte("edited"), 0o644),
		os.WriteFile(filepath.Join(dir, "mine.txt"), []byte("mine"), 0o644),
		os.Chmod(filepath.Join(dir, "app/bin/tool"), 0o600),
		os.WriteFile(outside, []byte("do not touch"), 0o644),
		os.Remove(filepath.Join(dir, "app/gone")),
		os.Symlink(outside, filepath.Join(dir, "app/gone")), // a trap: a link where a file belongs
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	third, err := do()
	if err != nil || third.Written != 2 {
		t.Fatalf("%+v, %v", third, err)
	}
	for name, content := range map[string]string{filepath.Join(dir, "app/conf/a"): "same", filepath.Join(dir, "mine.txt"): "mine",
		outside: "do not touch", filepath.Join(dir, "app/gone"): "x", filepath.Join(dir, "files/one.txt"): "x"} {
		if data, err := os.ReadFile(name); err != nil || string(data) != content {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "app/bin/tool")); err != nil || info.Mode().Perm() != 0o755 {
		t.Fatal(info, err)
	}
	// Links in the place of folders lead nowhere.
	if err := os.RemoveAll(filepath.Join(dir, "app/conf")); err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(dir, "app/conf")); err != nil {
		t.Fatal(err)
	}
	if _, err := do(); err == nil || !strings.Contains(err.Error(), "in the way") {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(elsewhere); len(entries) != 0 {
		t.Fatal("written through a link")
	}
	if _, err := w.dev.Materialize(ctx(), transfer.MaterializeRequest{Project: "shop", Version: "1.0", Dir: t.TempDir(), Packages: []string{"none"}}); !errors.Is(err, transfer.ErrNotFound) {
		t.Fatal(err)
	}
	one, err := w.dev.Materialize(ctx(), transfer.MaterializeRequest{Project: "shop", Version: "1.0", Dir: t.TempDir(), Packages: []string{"one"}})
	if err != nil || one.Files != 1 {
		t.Fatalf("%+v, %v", one, err)
	}
}

func TestDiff(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", map[string]string{"a": "1", "b": "2", "c/d": "3"})
	w.create(w.dev, "shop", "1.1", map[string]string{"a": "1", "b": "two", "c/e": "3"}, process(shell("x", "true")))
	d, err := w.dev.Diff(ctx(), "shop", "1.0", "1.1")
	if err != nil || len(d.Packages) != 1 || len(d.Settings) != 1 || d.NewBytes == 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	var got []string
	for _, f := range d.Packages[0].Files {
		got = append(got, f.Change+" "+f.Path)
	}
	if s := strings.Join(got, ", "); s != "changed b, removed c/d, added c/e" {
		t.Fatal(s)
	}
}

// A shipment that did not arrive is presumed lost; a receipt that comes all
// the same is believed.
func TestLost(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	w.promote(w.dev, "prod", "shop", "1.0")
	if err := w.dev.MarkLost(ctx(), "prod", 1, "the courier was robbed"); err != nil {
		t.Fatal(err)
	}
	if err := w.dev.MarkLost(ctx(), "prod", 9, ""); !errors.Is(err, transfer.ErrNotFound) {
		t.Fatal(err)
	}
	sh, _ := w.dev.Index.Shipments(ctx(), index.ShipmentFilter{})
	if len(sh) != 1 || sh[0].State != "lost" {
		t.Fatalf("%+v", sh)
	}
	w.take(w.prod)
	w.stick = w.folder()
	if _, err := w.prod.Export(ctx(), transfer.ExportRequest{Peer: "dev", Results: true, Medium: w.stick}); err != nil {
		t.Fatal(err)
	}
	w.take(w.dev)
	sh, _ = w.dev.Index.Shipments(ctx(), index.ShipmentFilter{})
	if sh[0].State != "acknowledged" {
		t.Fatalf("%+v", sh)
	}
}

// One who dares to copy a stick onto a full disk gets a clear answer, and can
// go on when there is room.
func TestFullMedium(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", appFiles("1.0"))
	full := &smallBucket{Bucket: w.stick, free: 1000}
	_, err := w.dev.Export(ctx(), transfer.ExportRequest{Peer: "prod", Releases: []transfer.ReleaseName{{Project: "shop", Version: "1.0"}}, Medium: full, MediumName: "the stick"})
	var space *bucket.NoSpaceError
	if !errors.As(err, &space) || space.Have != 1000 || space.Need < 700_000 || space.Where != "the stick" {
		t.Fatal(err)
	}
	if sh, _ := w.dev.Index.Shipments(ctx(), index.ShipmentFilter{}); len(sh) != 0 {
		t.Fatalf("%+v", sh)
	}
	sent := w.promote(w.dev, "prod", "shop", "1.0")
	if sent.Bytes != space.Need || sent.Serial != 1 {
		t.Fatalf("announced %d, wrote %+v", space.Need, sent)
	}
}

// smallBucket says that it has little room.
type smallBucket struct {
	bucket.Bucket
	free int64
}

func (b *smallBucket) Free(context.Context) (int64, error) { return b.free, nil }

// The index is lost: davit says so and how to get it back, and nothing that
// mattered was in it.
func TestIndexLost(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	w.promote(w.dev, "prod", "shop", "1.0")
	w.dev.Close()
	for _, damage := range []func(name string) error{
		os.Remove,
		func(name string) error {
			return os.WriteFile(name, []byte("this is no database at all, and long enough to be looked at"), 0o600)
		},
	} {
		name := filepath.Join(w.dev.dir, "index.sqlite")
		if err := damage(name); err != nil {
			t.Fatal(err)
		}
		if err := w.dev.open(w.dev.bucket); !errors.Is(err, index.ErrDamaged) || !strings.Contains(err.Error(), "davit repair index") {
			t.Fatal(err)
		}
		if _, err := transfer.RepairIndex(ctx(), w.dev.options(), nil); err != nil {
			t.Fatal(err)
		}
		if err := w.dev.open(w.dev.bucket); err != nil {
			t.Fatal(err)
		}
		if _, err := w.dev.VerifyRelease(ctx(), "shop", "1.0"); err != nil {
			t.Fatal(err)
		}
		if _, err := transfer.RepairIndex(ctx(), w.dev.options(), nil); !errors.Is(err, transfer.ErrBusy) {
			t.Fatal(err)
		}
		w.dev.Close()
	}
}

// Whoever watches a deployment may go away; it goes on, and its log is whole.
func TestDeployUnwatched(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small, process(shell("one", "echo first"), shell("two", "echo second")))
	report, err := w.dev.Deploy(ctx(), transfer.DeployRequest{Project: "shop", Version: "1.0", Environment: "production", Output: closedPipe{}})
	if err != nil {
		t.Fatal(err)
	}
	log, _, err := w.dev.Log(ctx(), report.Result.ID)
	if err != nil {
		t.Fatal(err)
	}
	if text := readAll(t, log); !strings.Contains(text, "first\n") || !strings.Contains(text, "second\n") {
		t.Fatal(text)
	}
}

type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, os.ErrClosed }

// What killed runs and refused bundles leave behind goes: content in the clear
// at the next start, the rest when garbage is collected.
func TestLeftovers(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	w.promote(w.dev, "prod", "shop", "1.0")
	w.take(w.prod, func(r *transfer.ImportRequest) { r.Accept = false })
	stale := "quarantine/" + manifest.NewBundleID().String() + "/delta-x"
	if err := bucket.Put(ctx(), w.prod.bucket, stale, []byte("refused")); err != nil {
		t.Fatal(err)
	}
	hidden := filepath.Join(w.prod.dir, "store", ".davit-tmp-123")
	clear := filepath.Join(w.prod.dir, "work", "davit-content-123")
	for _, name := range []string{hidden, clear} {
		if err := os.WriteFile(name, []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.prod.Close()
	if err := w.prod.open(w.prod.bucket); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(clear); !errors.Is(err, os.ErrNotExist) {
		t.Error("content in the clear was left in the work folder")
	}
	plan, err := w.prod.Collect(ctx(), true)
	if err != nil || plan.Quarantined != 1 {
		t.Fatalf("%+v, %v", plan, err)
	}
	done, err := w.prod.Collect(ctx(), false)
	if err != nil || done.Quarantined != 1 || done.Temporary != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	if _, err := w.prod.bucket.Stat(ctx(), stale); !errors.Is(err, bucket.ErrNotExist) {
		t.Fatal(err)
	}
	// What waits for a decision is still there.
	if _, err := w.prod.Accept(ctx(), "shop", "1.0", "", false); err != nil {
		t.Fatal(err)
	}
	wantSound(t, w.prod)
}
