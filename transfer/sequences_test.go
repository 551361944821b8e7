package transfer_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"davit/store/bucket"
	"davit/transfer"
)

type pkg struct {
	name  string
	file  []byte
	files map[string]string
}

func blob(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func textOf(r *rand.Rand, n int) []byte {
	var b bytes.Buffer
	for range n {
		fmt.Fprintf(&b, "key %d is %x\n", r.IntN(100), r.Uint32())
	}
	return b.Bytes()
}

func gz(b []byte) []byte {
	var o bytes.Buffer
	w := gzip.NewWriter(&o)
	w.Write(b)
	w.Close()
	return o.Bytes()
}

func anyFile(r *rand.Rand) string {
	switch r.IntN(6) {
	case 0:
		return ""
	case 1:
		return string(blob(r, []int{1, 16383, 16384, 16385, 70000, 300000}[r.IntN(6)]))
	case 2:
		return string(gz(textOf(r, 3000)))
	case 3:
		return string(make([]byte, r.IntN(300000)))
	}
	return string(textOf(r, r.IntN(3000)))
}

func mutate(r *rand.Rand, s string) string {
	if len(s) == 0 {
		return "x"
	}
	i := r.IntN(len(s))
	switch r.IntN(3) {
	case 0:
		return s[:i] + "inserted" + s[i:]
	case 1:
		return s[:i]
	}
	return s + "more"
}

func next(r *rand.Rand, old []pkg, v int) []pkg {
	var out []pkg
	names := map[string]bool{}
	put := func(p pkg) {
		if !names[p.name] {
			names[p.name] = true
			out = append(out, p)
		}
	}
	for _, p := range old {
		if r.IntN(8) == 0 {
			continue
		}
		q := pkg{name: p.name, file: p.file}
		if r.IntN(5) == 0 {
			q.name = fmt.Sprintf("p-%d", r.IntN(20))
		}
		if p.files != nil {
			q.files = map[string]string{}
			for n, c := range p.files {
				switch r.IntN(25) {
				case 0:
					continue
				case 1:
					c = mutate(r, c)
				case 2:
					n = fmt.Sprintf("m%d/%s", r.IntN(3), filepath.Base(n))
				}
				q.files[n] = c
			}
			if r.IntN(2) == 0 {
				q.files[fmt.Sprintf("new/f%d-%d", v, r.IntN(9))] = anyFile(r)
			}
			if len(q.files) == 0 {
				q.files["a"] = "a"
			}
		} else if r.IntN(3) > 0 {
			q.file = []byte(mutate(r, string(p.file)))
		}
		put(q)
	}
	for len(out) == 0 || r.IntN(4) == 0 {
		n := fmt.Sprintf("p-%d", r.IntN(20))
		if len(out) > 0 && r.IntN(3) == 0 { // the same under another name
			c := out[r.IntN(len(out))]
			c.name = n
			put(c)
			continue
		}
		if r.IntN(2) == 0 {
			put(pkg{name: n, file: append([]byte(anyFile(r)), 'x')})
			continue
		}
		f := map[string]string{"a": "a"}
		for i := range r.IntN(40) {
			f[fmt.Sprintf("d%d/f%02d", i%3, i)] = anyFile(r)
		}
		put(pkg{name: n, files: f})
	}
	return out
}

type parcel struct {
	stick *bucket.Dir
	what  []transfer.ReleaseName
}

// Whatever releases are made, sent, lost and taken in, in whatever order, what is
// accepted is what was signed.
func TestSequences(t *testing.T) {
	rounds, seed := 3, uint64(9)
	if long {
		rounds = 60
	}
	deltas, bundles, stale := 0, 0, 0
	for i := range rounds {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			w := newWorld(t)
			other := w.place("other")
			w.meet(w.dev, other)
			peers := []*place{w.prod, other}
			state := map[string][]pkg{}
			versions := map[string]int{}
			sent := map[*place][]parcel{}
			taken := map[*place]int{}
			var all []transfer.ReleaseName
			create := func() {
				project := []string{"shop", "game"}[r.IntN(2)]
				from := project
				if r.IntN(5) == 0 {
					from = "shop"
				}
				state[project] = next(r, state[from], versions[project])
				versions[project]++
				v := fmt.Sprintf("1.%d", versions[project])
				dir := t.TempDir()
				w.create(w.dev, project, v, map[string]string{"x": "x"}, func(q *transfer.ReleaseRequest) {
					q.Packages = nil
					for k, p := range state[project] {
						at := filepath.Join(dir, fmt.Sprint(k))
						if p.files != nil {
							for n, c := range p.files {
								os.MkdirAll(filepath.Dir(filepath.Join(at, n)), 0o755)
								if err := os.WriteFile(filepath.Join(at, n), []byte(c), 0o644); err != nil {
									t.Fatal(err)
								}
							}
						} else if err := os.WriteFile(at, p.file, 0o644); err != nil {
							t.Fatal(err)
						}
						q.Packages = append(q.Packages, transfer.PackageSource{Source: at, Name: p.name, Version: v, Path: p.name})
						if p.files == nil && r.IntN(2) == 0 {
							q.Attachments = append(q.Attachments, transfer.AttachmentSource{Source: at, Name: p.name, Type: "sbom"})
						}
					}
				})
				all = append(all, transfer.ReleaseName{Project: project, Version: v})
			}
			export := func() {
				p := peers[r.IntN(2)]
				var names []transfer.ReleaseName
				for _, k := range r.Perm(len(all))[:min(len(all), 1+r.IntN(2))] {
					names = append(names, all[k])
				}
				// the newest mostly
				if r.IntN(3) > 0 {
					names = all[len(all)-1:]
				}
				stick := w.folder()
				rep, err := w.dev.Export(ctx(), transfer.ExportRequest{Peer: p.name, Releases: names, Medium: stick, MediumName: "stick",
					AssumeDelivered: r.IntN(2) == 0, Full: r.IntN(12) == 0, FullEvery: r.IntN(6), NoDelta: r.IntN(12) == 0})
				if err != nil {
					t.Fatal(err)
				}
				if rep.Nothing != "" {
					return
				}
				bundles++
				deltas += rep.Deltas
				sent[p] = append(sent[p], parcel{stick, names})
			}
			imp := func(p *place, k int) {
				w.stick = sent[p][k].stick
				rep := w.take(p, func(q *transfer.ImportRequest) { q.AllowRollback = true; q.Accept = r.IntN(6) > 0 })
				for _, b := range rep.Bundles {
					if b.State != transfer.OutcomeTaken && b.State != transfer.OutcomeRepeat {
						t.Fatalf("%+v", b)
					}
				}
			}
			for range 14 {
				switch r.IntN(5) {
				case 0, 1:
					create()
				case 2, 3:
					if len(all) > 0 {
						export()
					}
				case 4:
					p := peers[r.IntN(2)]
					if n := len(sent[p]); n > 0 {
						k := r.IntN(n)
						if r.IntN(2) == 0 {
							k = min(taken[p], n-1)
							taken[p]++
						}
						imp(p, k)
						if r.IntN(4) == 0 {
							if _, err := p.Collect(ctx(), false); err != nil {
								t.Fatal(err)
							}
						}
						if r.IntN(3) > 0 {
							back := w.folder()
							if _, err := p.Export(ctx(), transfer.ExportRequest{Peer: "dev", Results: true, Medium: back, MediumName: "b"}); err != nil {
								t.Fatal(err)
							}
							w.stick = back
							w.take(w.dev)
						}
					}
				}
			}
			for _, p := range peers {
				for _, k := range r.Perm(len(sent[p])) {
					w.stick = sent[p][k].stick
					rep := w.take(p, func(q *transfer.ImportRequest) { q.AllowRollback = true })
					for _, b := range rep.Bundles {
						if b.State != transfer.OutcomeTaken && b.State != transfer.OutcomeRepeat {
							t.Fatalf("%+v", b)
						}
					}
				}
				for again := true; again; { // "older" ones whose base came later are left alone: accept them by hand
					again = false
					items, _ := p.Index.InboxOpen(ctx())
					for _, it := range items {
						if d, err := p.Accept(ctx(), it.Project, it.Version, "", true); err == nil && d.State == "accepted" {
							again = true
							stale++
						}
					}
				}
				for _, s := range sent[p] {
					for _, n := range s.what {
						if _, err := p.VerifyRelease(ctx(), n.Project, n.Version); err != nil {
							items, _ := p.Index.Inbox(ctx())
							t.Fatalf("%s %s: %v\n%+v", p.name, n, err, items)
						}
					}
				}
				wantSound(t, p)
			}
		})
	}
	t.Logf("%d bundles, %d deltas, %d accepted by hand", bundles, deltas, stale)
}
