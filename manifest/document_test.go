package manifest_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"davit/manifest"
	"davit/store/chunk"
)

func TestDocumentsComeBack(t *testing.T) {
	k := keys(t)
	for name, d := range samples(t) {
		data := marshal(t, sign(t, k, d))
		e, err := manifest.ParseEnvelope(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if again := marshal(t, e); !bytes.Equal(again, data) {
			t.Errorf("%s: envelope is written otherwise than it was read", name)
		}
		got, err := open(name, e, k.Signing.Public())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(got, d) {
			t.Errorf("%s: came back as\n%+v\nwant\n%+v", name, got, d)
		}
		payload, err := manifest.EncodeDocument(d)
		if err != nil || e.Digest() != manifest.DigestOf(payload) {
			t.Errorf("%s: digest is not that of the payload (%v)", name, err)
		}
	}
}

// TestSamplesAreFull keeps the other tests honest: a field that is set in no
// sample would be tested by none of them.
func TestSamplesAreFull(t *testing.T) {
	set := map[string]bool{}
	for _, d := range samples(t) {
		noteFields(reflect.ValueOf(d).Elem(), set)
	}
	for field, ok := range set {
		if !ok {
			t.Errorf("%s is set in no sample", field)
		}
	}
	if len(set) < 150 {
		t.Errorf("only %d fields seen", len(set))
	}
}

func noteFields(v reflect.Value, set map[string]bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			noteFields(v.Elem(), set)
		}
	case reflect.Slice:
		for i := range v.Len() {
			noteFields(v.Index(i), set)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[manifest.Time]() {
			return
		}
		for i := range v.NumField() {
			name := v.Type().String() + "." + v.Type().Field(i).Name
			set[name] = set[name] || !v.Field(i).IsZero()
			noteFields(v.Field(i), set)
		}
	}
}

// TestFormatNamesEveryField keeps FORMAT.md true to the structs.
func TestFormatNamesEveryField(t *testing.T) {
	format, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, d := range samples(t) {
		noteJSON(reflect.TypeOf(d).Elem(), names)
	}
	for name := range names {
		if !strings.Contains(string(format), "`"+name+"`") {
			t.Errorf("FORMAT.md does not say what `%s` is", name)
		}
	}
	for _, f := range sampleFacts(nil, "") {
		if !strings.Contains(string(format), "`"+f.Name()+"`") {
			t.Errorf("FORMAT.md does not list the fact `%s`", f.Name())
		}
	}
	if len(names) < 60 {
		t.Errorf("only %d names seen", len(names))
	}
}

func noteJSON(t reflect.Type, names map[string]bool) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		noteJSON(t.Elem(), names)
	case reflect.Struct:
		if t == reflect.TypeFor[manifest.Time]() {
			return
		}
		for i := range t.NumField() {
			if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "" {
				names[name] = true
			} else {
				panic("no json name for " + t.String() + "." + t.Field(i).Name)
			}
			noteJSON(t.Field(i).Type, names)
		}
	}
}

// TestCanonicalIsTheOnlyForm changes the spelling and not the meaning.
func TestCanonicalIsTheOnlyForm(t *testing.T) {
	for name, d := range samples(t) {
		data, err := manifest.EncodeDocument(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := manifest.DecodeDocument(data, fresh(d)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		first := strings.SplitN(string(data[1:]), ",", 2) // the first member
		for what, other := range map[string]string{
			"a space":             strings.Replace(string(data), ":", ": ", 1),
			"a space at the end":  string(data) + " ",
			"a second document":   string(data) + string(data),
			"an unknown member":   strings.TrimSuffix(string(data), "}") + `,"more":1}`,
			"a repeated member":   "{" + first[0] + "," + first[0] + "," + first[1],
			"members in order":    "{" + strings.TrimSuffix(first[1], "}") + "," + first[0] + "}",
			"an escape":           strings.Replace(string(data), "e", `\u0065`, 1),
			"a null member":       strings.TrimSuffix(string(data), "}") + `,"notes":null}`,
			"an empty list":       strings.TrimSuffix(string(data), "}") + `,"documents":[]}`,
			"broken UTF-8":        strings.Replace(string(data), "a", "\xff", 1),
			"a member in capital": strings.Replace(string(data), `"version"`, `"Version"`, 1),
			"a float":             strings.Replace(string(data), `:1,`, `:1.0,`, 1),
			"nothing":             "",
			"null":                "null",
			"cut short":           string(data[:len(data)-1]),
		} {
			if other == string(data) {
				continue // this document has nothing to change in that way
			}
			if err := manifest.DecodeDocument([]byte(other), fresh(d)); !errors.Is(err, manifest.ErrMalformed) {
				t.Errorf("%s with %s: error is %v", name, what, err)
			}
		}
	}
}

// TestEveryByteCounts changes single bytes of signed envelopes.
func TestEveryByteCounts(t *testing.T) {
	k := keys(t)
	all := samples(t)
	for _, name := range []string{"card", "release", "result", "bundle"} {
		data := marshal(t, sign(t, k, all[name]))
		data = data[:len(data)-1]
		for i := 0; i < len(data); i += 23 {
			changed := bytes.Clone(data)
			changed[i] ^= 1
			e, err := manifest.ParseEnvelope(changed)
			if err == nil {
				_, err = open(name, e, k.Signing.Public())
			}
			if err == nil {
				t.Errorf("%s: nobody noticed that byte %d was changed", name, i)
			}
		}
		for i := 0; i < len(data); i += 101 {
			if _, err := manifest.ParseEnvelope(data[:i]); !errors.Is(err, manifest.ErrMalformed) {
				t.Errorf("%s: cut at %d: %v", name, i, err)
			}
		}
	}
}

func TestValidateRefuses(t *testing.T) {
	type (
		release = manifest.Release
		bundleT = manifest.Bundle
		receipt = manifest.Receipt
		result  = manifest.Result
		entry   = manifest.Entry
		card    = manifest.Card
	)
	cases := []struct {
		what   string
		change any    // func(*T)
		want   string // in the error
	}{
		{"no project", func(r *release) { r.Project = "" }, "project name is empty"},
		{"project with slash", func(r *release) { r.Project = "a/b" }, "project name"},
		{"no packages", func(r *release) { r.Packages = nil }, "0 packages"},
		{"no time", func(r *release) { r.Created = manifest.Time{} }, "created"},
		{"notes too long", func(r *release) { r.Notes = strings.Repeat("x", manifest.MaxNotes+1) }, "notes"},
		{"notes with escape", func(r *release) { r.Notes = "\x1b[2J" }, "control character"},
		{"traversal", func(r *release) { r.Packages[0].Path = "../x" }, `element ".."`},
		{"absolute", func(r *release) { r.Packages[0].Path = "/etc/passwd" }, "absolute"},
		{"same name", func(r *release) { r.Packages[1].Name = "web" }, "twice"},
		{"same path but for case", func(r *release) { r.Packages[1].Path = "BIN/Web.tar.gz" }, "two packages have the path"},
		{"path within a path", func(r *release) { r.Packages[1].Path = "Bin" }, "lies within"},
		{"unknown kind", func(r *release) { r.Packages[0].Kind = "device" }, "none of file, tree"},
		{"setuid", func(r *release) { r.Packages[0].Mode = 0o4755 }, "mode"},
		{"file with tree", func(r *release) { r.Packages[0].Tree = ptr(small("x")) }, "tree"},
		{"tree without listing", func(r *release) { r.Packages[1].Tree = nil }, "without its listing"},
		{"tree with an empty listing", func(r *release) { r.Packages[1].Tree = &chunk.Ref{} }, "tree"},
		{"tree with a mode", func(r *release) { r.Packages[1].Mode = 0o755 }, "mode"},
		{"size without files", func(r *release) { r.Packages[1].Files = 0 }, "without files"},
		{"size differs from content", func(r *release) { r.Packages[0].Size++ }, "but its content has"},
		{"sha256 differs from its chunk", func(r *release) { r.Packages[0].SHA256 = digest("other") }, "only chunk"},
		{"sha256 missing", func(r *release) { r.Packages[0].SHA256 = manifest.Digest{} }, "sha256"},
		{"negative size", func(r *release) { r.Packages[0].Size, r.Packages[0].Content.Size = -1, -1 }, "size"},
		{"sizes overflow", func(r *release) {
			r.Packages[1].Size, r.Packages[1].Content.Size = manifest.MaxSize, manifest.MaxSize
		}, "size"},
		{"empty file with a digest", func(r *release) { r.Packages[0].Size, r.Packages[0].Content = 0, chunk.Ref{} }, "empty file"},
		{"bad media type", func(r *release) { r.Packages[0].MediaType = "text/html; charset=x" }, "media type"},
		{"attachment twice", func(r *release) { r.Attachments = append(r.Attachments, r.Attachments[0]) }, "twice"},
		{"attachment leaves", func(r *release) { r.Attachments[0].Name = "a/../../b" }, "attachment 1"},
		{"sensitive with a default", func(r *release) { r.Parameters[1].Default = ptr("hunter2") }, "sensitive"},
		{"sensitive with environments", func(r *release) { r.Parameters[1].Environments = map[string]string{"qa": "hunter2"} }, "sensitive"},
		{"default of another type", func(r *release) { r.Parameters[0].Default = ptr("two") }, "not a whole number"},
		{"environment value of another type", func(r *release) { r.Parameters[0].Environments["qa"] = "1.5" }, "not a whole number"},
		{"parameter twice", func(r *release) { r.Parameters[1].Name = "REPLICAS" }, "twice"},
		{"unknown type", func(r *release) { r.Parameters[0].Type = "float" }, "none of"},
		{"step without timeout", func(r *release) { r.Process.Steps[0].Timeout = 0 }, "timeout"},
		{"step of eight days", func(r *release) { r.Process.Steps[0].Timeout = 8 * 24 * 3600 }, "timeout"},
		{"step without a program", func(r *release) { r.Process.Steps[0].Run = []string{""} }, "program"},
		{"step elsewhere", func(r *release) { r.Process.Steps[0].Directory = "../.." }, "directory"},
		{"NUL in an argument", func(r *release) { r.Process.Steps[0].Run[1] = "a\x00b" }, "NUL"},
		{"bad variable", func(r *release) { r.Process.Steps[0].Environment["A=B"] = "" }, "parameter name"},
		{"too many steps", func(r *release) { r.Process.Steps = make([]manifest.Step, 201) }, "at most 200"},
		{"too many packages", func(r *release) { r.Packages = make([]manifest.Package, 10_001) }, "at most 10000"},

		{"version 2", func(b *bundleT) { b.Version = 2 }, "2 is not between"},
		{"no id", func(b *bundleT) { b.ID = manifest.BundleID{} }, "id: is missing"},
		{"to itself", func(b *bundleT) { b.To = b.From }, "sender itself"},
		{"own key", func(b *bundleT) { b.ToKey = b.FromKey }, "own key"},
		{"serial 0", func(b *bundleT) { b.Serial = 0 }, "serial"},
		{"serial 1 with a predecessor", func(b *bundleT) { b.Serial = 1 }, "names one before"},
		{"serial 2 without", func(b *bundleT) { b.Previous = manifest.Digest{} }, "does not name"},
		{"mode clear", func(b *bundleT) { b.Mode = "clear" }, "mode"},
		{"kind", func(b *bundleT) { b.Kind = "gifts" }, "kind"},
		{"document twice", func(b *bundleT) { b.Documents = append(b.Documents, b.Documents[0]) }, "twice"},
		{"document of another kind", func(b *bundleT) { b.Documents[0].Kind = "card" }, "none of"},
		{"releases among results", func(b *bundleT) { b.Kind, b.Base, b.Deltas, b.Values = manifest.KindResults, nil, nil, nil }, "a release must not"},
		{"base among results", func(b *bundleT) {
			b.Kind, b.Documents, b.Values = manifest.KindResults, b.Documents[1:], nil
		}, "base must not"},
		{"nothing", func(b *bundleT) { b.Documents, b.Packs = nil, nil }, "carries nothing"},
		{"pack twice", func(b *bundleT) { b.Packs = append(b.Packs, b.Packs[0]) }, "twice"},
		{"pack of nothing", func(b *bundleT) { b.Packs[0].Size = 0 }, "size"},
		{"delta twice", func(b *bundleT) { b.Deltas = append(b.Deltas, b.Deltas[0]) }, "twice"},
		{"delta of nothing", func(b *bundleT) { b.Deltas[0].Size = 0 }, "size"},
		{"delta without a target", func(b *bundleT) { b.Deltas[0].Target = manifest.BundleFile{} }, "target"},
		{"delta on a stranger", func(b *bundleT) { b.Deltas[0].Release = digest("stranger") }, "no base of the bundle"},
		{"delta of no kind", func(b *bundleT) { b.Deltas[0].Kind = "" }, "kind"},
		{"delta of a package and an attachment", func(b *bundleT) { b.Deltas[0].Attachment = "sbom" }, "both"},
		{"delta of a folder as an attachment", func(b *bundleT) { b.Deltas[1].Kind = manifest.PackageTree }, "tree"},
		{"delta of no form", func(b *bundleT) { b.Deltas[0].Form = "" }, "form"},
		{"base of a bundle before the first", func(b *bundleT) { b.Base[0].Serial = -1 }, "serial"},
		{"delta of no package", func(b *bundleT) { b.Deltas[0].Package = "../web" }, "package name"},
		{"value in the clear", func(b *bundleT) { b.Values[0].Sealed = "hunter2" }, "not base64"},
		{"value twice", func(b *bundleT) { b.Values = append(b.Values, b.Values[0]) }, "twice"},

		{"whole but missing", func(r *receipt) { r.State = manifest.ReceiptWhole }, "yet parts are missing"},
		{"refused without reason", func(r *receipt) { r.State, r.Reason = manifest.ReceiptRefused, "" }, "without a reason"},
		{"revision 0", func(r *receipt) { r.Revision = 0 }, "revision"},
		{"release held", func(r *receipt) { r.Releases[0].State = manifest.StateHeld }, "none of"},
		{"to itself", func(r *receipt) { r.Peer = r.Site }, "itself"},
		{"line in missing", func(r *receipt) { r.Missing[0] = "a\nb" }, "control"},

		{"id", func(r *result) { r.ID = "1" }, "id"},
		{"status", func(r *result) { r.Status = "fine" }, "status"},
		{"step status", func(r *result) { r.Steps[0].Status = "skipped" }, "status"},
		{"actor", func(r *result) { r.Actor = "" }, "actor"},
		{"log without content", func(r *result) { r.Log.Content = chunk.Ref{} }, "log"},
		{"no packages", func(r *result) { r.Packages = nil }, "packages"},
		{"environment with a slash", func(r *result) { r.Environment = "prod/production" }, "environment"},

		{"no facts", func(e *entry) { e.Facts = nil }, "0 facts"},
		{"empty fact", func(e *entry) { e.Facts[0] = manifest.Fact{} }, "exactly one"},
		{"two in one fact", func(e *entry) { e.Facts[0].PeerRemoved = &manifest.PeerRemoved{Name: "x"} }, "exactly one"},
		{"first with a predecessor", func(e *entry) { e.Sequence = 1 }, "names one before"},
		{"another's card", func(e *entry) { e.Facts[1].PeerAdded.Name = "prod" }, "peer.added"},
		{"no card", func(e *entry) { e.Facts[1].PeerAdded.Card = []byte("{}") }, "peer.added"},
		{"grant", func(e *entry) { e.Facts[1].PeerAdded.Accept[0] = "everything" }, "none of"},
		{"secret in the clear", func(e *entry) { e.Facts[15].ValueSet.Value = "hunter2" }, "in the clear"},
		{"secret not sealed", func(e *entry) { e.Facts[15].ValueSet.Sealed = "hunter2" }, "not base64"},
		{"verb", func(e *entry) { e.Facts[19].StoreChanged.Verb = "burn" }, "verb"},

		{"classic recipient", func(c *card) {
			c.Recipients = append(c.Recipients, "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p")
		}, "not a post-quantum"},
		{"recipient twice", func(c *card) { c.Recipients = append(c.Recipients, c.Recipients[0]) }, "twice"},
		{"no recipient", func(c *card) { c.Recipients = nil }, "recipients"},
		{"five recipients", func(c *card) { c.Recipients = make([]string, 5) }, "at most 4"},
		{"name with a dot", func(c *card) { c.Name = "a.b" }, "site name"},
		{"half a key", func(c *card) { c.Signing.MLDSA65 = nil }, "ml-dsa-65"},
		{"short key", func(c *card) { c.Signing.Ed25519 = make([]byte, 31) }, "ed25519"},
	}
	for _, c := range cases {
		change := reflect.ValueOf(c.change)
		done := false
		for name, d := range samples(t) { // fresh ones, since change changes them
			if reflect.TypeOf(d) != change.Type().In(0) {
				continue
			}
			done = true
			change.Call([]reflect.Value{reflect.ValueOf(d)})
			err := d.Validate()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %s: error is %v, want one with %q", name, c.what, err, c.want)
			} else if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s, %s: the secret stands in the error: %v", name, c.what, err)
			} else if strings.Contains(err.Error(), "\n") {
				t.Errorf("%s, %s: the error has several lines: %v", name, c.what, err)
			}
			if _, err := manifest.EncodeDocument(d); err == nil {
				t.Errorf("%s, %s: is encoded all the same", name, c.what)
			}
		}
		if !done {
			t.Errorf("%s: no sample for %s", c.what, change.Type())
		}
	}
}

// TestLargestRelease is the largest that davit promises to carry.
func TestLargestRelease(t *testing.T) {
	r := sampleRelease()
	p := r.Packages[1]
	r.Packages = nil
	for i := range manifest.MaxPackages {
		p.Name, p.Path = fmt.Sprintf("@scope/package-%05d", i), fmt.Sprintf("node_modules/@scope/package-%05d", i)
		p.Size = 1 << 20
		p.Content.Size = p.Size
		r.Packages = append(r.Packages, p)
	}
	data, err := manifest.EncodeDocument(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > manifest.MaxPayload/2 {
		t.Errorf("takes %d of %d bytes", len(data), manifest.MaxPayload)
	}
}

func TestHugeDocumentsAreRefusedUnread(t *testing.T) {
	// Small on the wire, gigabytes when decoded.
	bomb := []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[` + strings.Repeat("{},", 5_000_000) + `{}]}`)
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if err := manifest.DecodeDocument(bomb, new(manifest.Release)); !errors.Is(err, manifest.ErrMalformed) {
				b.Fatal(err)
			}
		}
	}).AllocedBytesPerOp()
	if allocated > 1<<20 {
		t.Errorf("%d bytes allocated to refuse it", allocated)
	}
}

func TestReleaseSizeCountsEverything(t *testing.T) {
	if got, want := sampleRelease().Size(), int64(3+(1<<40)+2); got != want {
		t.Errorf("size %d, want %d", got, want)
	}
}

func TestSubjectsCannotDisagree(t *testing.T) {
	data, err := manifest.EncodeDocument(sampleRelease())
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Replace(data, []byte(digest("web").String()), []byte(digest("bew").String()), 1)
	if bytes.Equal(other, data) {
		t.Fatal("nothing was changed")
	}
	if err := manifest.DecodeDocument(other, new(manifest.Release)); !errors.Is(err, manifest.ErrMalformed) {
		t.Errorf("subject differs from package: error is %v", err)
	}
}

func TestCheckValue(t *testing.T) {
	for _, c := range []struct {
		typ, value string
		ok         bool
	}{
		{"string", "", true}, {"string", "any\nthing", true}, {"string", "a\x00", false}, {"string", "\xff", false},
		{"string", strings.Repeat("x", manifest.MaxValue+1), false},
		{"int", "0", true}, {"int", "-12", true}, {"int", "9223372036854775807", true},
		{"int", "", false}, {"int", "012", false}, {"int", "+1", false}, {"int", "1 ", false}, {"int", "9223372036854775808", false},
		{"bool", "true", true}, {"bool", "false", true}, {"bool", "True", false}, {"bool", "1", false}, {"bool", "", false},
		{"float", "1", false},
	} {
		p := manifest.Parameter{Name: "P", Type: c.typ}
		if err := p.CheckValue(c.value); (err == nil) != c.ok {
			t.Errorf("%s %.20q: %v", c.typ, c.value, err)
		}
	}
}
