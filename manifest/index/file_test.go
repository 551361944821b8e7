package index_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"davit/manifest"
	"davit/manifest/index"
	"davit/store"
	"davit/store/pack"
)

// raw opens the file behind the index's back, once that was opened.
func raw(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(path)+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// dump writes out every table but those named.
func dump(t testing.TB, x *index.Index, except ...string) string {
	t.Helper()
	db := raw(t, x.Path())
	defer db.Close()
	var out strings.Builder
	for _, name := range column(t, db, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'goose%' AND name NOT LIKE 'sqlite%' ORDER BY name") {
		if slices.Contains(except, name) {
			continue
		}
		fmt.Fprintln(&out, "#", name)
		var columns []string
		for _, c := range column(t, db, "SELECT name FROM pragma_table_info('"+name+"')") {
			columns = append(columns, "quote("+c+")")
		}
		for _, row := range column(t, db, "SELECT "+strings.Join(columns, "||' '||")+" FROM "+name+" ORDER BY 1") {
			fmt.Fprintln(&out, row)
		}
	}
	return out.String()
}

func column(t testing.TB, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return all
}

func TestRebuildIsTheSame(t *testing.T) {
	x := fresh(t)
	add(t, x, 1, numbered(0, 50)...)
	j := newJournal(t, x)
	story(t, j)
	j.apply(exported("never")) // a contradiction too
	add(t, x, 2, numbered(25, 50)...)

	y := fresh(t)
	add(t, y, 1, numbered(0, 50)...)
	add(t, y, 2, numbered(25, 50)...)
	for i, e := range j.entries {
		if err := y.Apply(t.Context(), e, j.digests[i]); err != nil {
			t.Fatal(err)
		}
	}
	live := dump(t, x)
	if strings.Count(live, "\n") < 150 {
		t.Fatalf("the dump is nearly empty:\n%s", live)
	}
	if rebuilt := dump(t, y); rebuilt != live {
		t.Errorf("rebuilt:\n%s\nlive:\n%s", rebuilt, live)
	}
}

func TestSequence(t *testing.T) {
	x := fresh(t)
	j := newJournal(t, x)
	j.apply(created("p", "1"))
	good := j.head
	for _, bad := range []index.Head{{}, {Sequence: 1, Digest: digest("fork")}, {Sequence: 5, Digest: good.Digest}} {
		j.head = bad
		e, d := j.entry(created("p", "2"))
		if err := x.Apply(t.Context(), e, d); !errors.Is(err, index.ErrSequence) {
			t.Errorf("after %+v: %v", bad, err)
		}
	}
	j.head = good
	e, _ := j.entry(created("p", "2"))
	if err := x.Apply(t.Context(), e, digest("another")); err == nil {
		t.Error("a wrong digest was taken")
	}
	if h := must(x.Head(t.Context()))(t); h != good {
		t.Errorf("head is %+v, want %+v", h, good)
	}
}

func TestVerify(t *testing.T) {
	for _, c := range []struct {
		name, damage string
		at           int64
	}{
		{"sound", "", 0},
		{"changed", "UPDATE entries SET payload = CAST(replace(CAST(payload AS TEXT), 'tester', 'nobody') AS BLOB) WHERE sequence = 3", 3},
		{"digest too", "UPDATE entries SET digest = replace(digest, substr(digest, 1, 1), 'x') WHERE sequence = 3", 0},
		{"taken out", "DELETE FROM entries WHERE sequence = 2", 2},
		{"first taken out", "DELETE FROM entries WHERE sequence = 1", 1},
		{"another column", "UPDATE entries SET actor = 'nobody' WHERE sequence = 4", 4},
		{"previous", "UPDATE entries SET previous = '' WHERE sequence = 4", 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := fresh(t)
			j := newJournal(t, x)
			for i := range 5 {
				j.apply(created("p", fmt.Sprint(i)))
			}
			if c.damage != "" {
				if _, err := raw(t, x.Path()).Exec(c.damage); err != nil {
					t.Fatal(err)
				}
			}
			var heads []index.Head
			err := x.Verify(t.Context(), func(h index.Head) error { heads = append(heads, h); return nil })
			var broken *index.ChainError
			switch {
			case c.damage == "":
				if err != nil || len(heads) != 5 || heads[4] != j.head {
					t.Errorf("%v, heads %+v", err, heads)
				}
			case c.at == 0: // not even a digest
				if !errors.Is(err, index.ErrDamaged) {
					t.Errorf("got %v", err)
				}
			case !errors.As(err, &broken) || broken.Sequence != c.at || len(heads) != int(c.at-1):
				t.Errorf("got %v after %d entries, want a break at %d", err, len(heads), c.at)
			}
		})
	}
	x := fresh(t)
	newJournal(t, x).apply(created("p", "1"))
	stop := errors.New("stop")
	if err := x.Verify(t.Context(), func(index.Head) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("each's error became %v", err)
	}
}

// TestKilled opens a copy of the files as they are after each commit, which is
// what a killed process leaves: the log unmerged, the locks gone.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	x := open(t, path)
	j := newJournal(t, x)
	for i := range 4 {
		id := add(t, x, i, numbered(i*100, 100)...)
		j.apply(created("p", fmt.Sprint(i)))
		copied := filepath.Join(t.TempDir(), "copy.db")
		for _, suffix := range []string{"", "-wal"} {
			data, err := os.ReadFile(path + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if suffix == "-wal" {
				data = append(data, data[:min(len(data), 3000)]...) // the next write was torn
			}
			if err := os.WriteFile(copied+suffix, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		y := open(t, copied)
		if h := must(y.Head(t.Context()))(t); h != j.head {
			t.Errorf("head is %+v, want %+v", h, j.head)
		}
		for _, loc := range locate(t, y, numbered(i*100, 100)...) {
			if loc.Pack != id {
				t.Fatalf("after commit %d a chunk is at %+v", i, loc)
			}
		}
		if dump(t, y) != dump(t, x) {
			t.Errorf("after commit %d the copy differs", i)
		}
	}
}

func TestTwoHandles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	x, y := open(t, path), open(t, path)
	var group sync.WaitGroup
	for h, z := range []*index.Index{x, y} {
		group.Go(func() {
			for i := range 20 {
				p := h*100 + i
				id, err := z.AddPack(t.Context(), packName(p), 1, table(numbered(p*10, 10)...))
				if err != nil {
					t.Error(err)
					return
				}
				out := make([]store.Location, 10)
				if err := z.Locate(t.Context(), numbered(p*10, 10), out); err != nil || out[9].Pack != id {
					t.Errorf("own chunk is at %+v (%v)", out[9], err)
				}
			}
		})
	}
	group.Wait()
	for h, z := range []*index.Index{y, x} { // each other's
		for _, loc := range locate(t, z, numbered(h*1000, 200)...) {
			if !loc.Held() {
				t.Fatal("the other handle's chunk is not there")
			}
		}
	}
	j := newJournal(t, x)
	j.apply(created("p", "1"))
	if h := must(y.Head(t.Context()))(t); h != j.head {
		t.Errorf("the other handle's head is %+v", h)
	}
	if err := y.ReplacePack(t.Context(), packName(0), pack.Name{}, 0, nil); err != nil {
		t.Fatal(err)
	}
	if locate(t, x, chunkName(0))[0].Held() {
		t.Error("a chunk that the other handle removed is there")
	}
}

// TestTwoProcesses has several processes make one index at the same moment,
// and nothing of it may reach their output.
func TestTwoProcesses(t *testing.T) {
	if path := os.Getenv("DAVIT_TEST_INDEX"); path != "" {
		x, err := index.Open(context.Background(), path, nil)
		if err == nil {
			_, err = x.AddPack(context.Background(), packName(os.Getpid()), 1, table(chunkName(os.Getpid())))
		}
		if err == nil {
			err = x.Close()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	for round := range 3 {
		path := filepath.Join(t.TempDir(), fmt.Sprintf("index %d?#%%.db", round)) // nothing in a name is special
		var group sync.WaitGroup
		pids := make([]int, 4)
		for i := range pids {
			group.Go(func() {
				c := exec.Command(os.Args[0], "-test.run=^TestTwoProcesses$")
				c.Env = append(os.Environ(), "DAVIT_TEST_INDEX="+path)
				out, err := c.CombinedOutput()
				if err != nil || len(out) > 0 {
					t.Errorf("process %d: %v %q", i, err, out)
				}
				pids[i] = c.ProcessState.Pid()
			})
		}
		group.Wait()
		x := open(t, path)
		for _, pid := range pids {
			if !locate(t, x, chunkName(pid))[0].Held() {
				t.Errorf("what process %d added is lost", pid)
			}
		}
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

func TestNewer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := raw(t, path).Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)"); err != nil {
		t.Fatal(err)
	}
	if _, err := index.Open(t.Context(), path, nil); !errors.Is(err, index.ErrNewer) {
		t.Errorf("got %v", err)
	}
}

func TestDamaged(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "index.db")
	x, err := index.Open(t.Context(), whole, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		add(t, x, i, numbered(i*1000, 1000)...)
	}
	newJournal(t, x).apply(created("p", "1"))
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func([]byte) []byte{
		"not SQLite": func([]byte) []byte { return []byte(strings.Repeat("no database ", 1000)) },
		"cut off":    func(b []byte) []byte { return b[:len(b)/2] },
		"zeros":      func(b []byte) []byte { clear(b[4096:]); return b },
		"noise": func(b []byte) []byte {
			for i := 4096; i < len(b); i += 7 {
				b[i] ^= 0x5a
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "index.db")
			if err := os.WriteFile(path, damage(slices.Clone(good)), 0o600); err != nil {
				t.Fatal(err)
			}
			x, err := index.Open(t.Context(), path, nil)
			if err == nil {
				defer x.Close()
				err = x.Locate(t.Context(), numbered(0, 5000), make([]store.Location, 5000))
			}
			if !errors.Is(err, index.ErrDamaged) || !strings.Contains(err.Error(), "davit repair index") {
				t.Errorf("got %v", err)
			}
			if err := index.Remove(path); err != nil {
				t.Error(err)
			}
			open(t, path)
		})
	}
	other := filepath.Join(t.TempDir(), "other.db")
	if _, err := raw(t, other).Exec("CREATE TABLE t (a)"); err != nil {
		t.Fatal(err)
	}
	if _, err := index.Open(t.Context(), other, nil); !errors.Is(err, index.ErrDamaged) {
		t.Errorf("another program's file: %v", err)
	}
}

func TestCancelled(t *testing.T) {
	x := fresh(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.AddPack(ctx, packName(1), 1, table(numbered(0, 10)...)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if locate(t, x, chunkName(0))[0].Held() {
		t.Error("a cancelled addition left a chunk")
	}
	add(t, x, 1, numbered(0, 10)...) // the connection still works
}

func TestOpenTwiceAfterRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	x := open(t, path)
	newJournal(t, x).apply(created("p", "1"))
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // an absent one is no error
		if err := index.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if h := must(open(t, path).Head(t.Context()))(t); h != (index.Head{}) {
		t.Errorf("head of a new index is %+v", h)
	}
	if _, err := index.Open(t.Context(), filepath.Join(path, "no", "folder"), nil); err == nil {
		t.Error("an index in no folder was opened")
	}
	var none manifest.Digest
	if _, err := open(t, path).ReleaseByDigest(t.Context(), none); !errors.Is(err, index.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// TestFormat holds FORMAT.md against the schema.
func TestFormat(t *testing.T) {
	text, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	tables := column(t, raw(t, fresh(t).Path()), "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'goose%' AND name NOT LIKE 'sqlite%'")
	if len(tables) < 10 {
		t.Fatalf("only tables %v", tables)
	}
	for _, name := range tables {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("FORMAT.md says nothing of table %s", name)
		}
	}
}
