package manifest_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"

	"davit/manifest"
)

// A document is signed at one site and opened at another that knows the key.
func Example() {
	dev, err := manifest.GenerateSiteKeys()
	if err != nil {
		log.Fatal(err)
	}
	envelope, err := manifest.Sign(dev.Signing, sampleRelease())
	if err != nil {
		log.Fatal(err)
	}
	carried, err := envelope.Marshal() // one line of JSON
	if err != nil {
		log.Fatal(err)
	}

	// At the other site, where dev's card was added as a peer:
	arrived, err := manifest.ParseEnvelope(carried)
	if err != nil {
		log.Fatal(err)
	}
	release, err := manifest.Open[manifest.Release](arrived, dev.Signing.Public())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(release.Project, release.Version, "with", len(release.Packages), "packages")

	// Another's signature is worth nothing.
	stranger, err := manifest.GenerateSiteKeys()
	if err != nil {
		log.Fatal(err)
	}
	_, err = manifest.Open[manifest.Release](arrived, stranger.Signing.Public())
	fmt.Println(errors.Is(err, manifest.ErrSignature))
	// Output:
	// shop 1.2.0 with 2 packages
	// true
}

func ExampleFingerprint_Words() {
	f, err := manifest.ParseFingerprint("00112233445566778899aabbccddeeff")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(f.Words())

	_, err = manifest.ParseFingerprint("abandon mathh better century chalk spy sudden egg genuine thumb expand pencil")
	fmt.Println(err)
	// Output:
	// abandon math mimic master filter design carbon crystal rookie group knife young
	// parse fingerprint: not a fingerprint: word 2, "mathh", is not in the word list; "math" is
}

func ExampleCompareVersions() {
	versions := []string{"1.10.0", "1.9.0", "2.0.0-rc.1", "2.0.0", "2024.10", "2024.9"}
	slices.SortFunc(versions, manifest.CompareVersions)
	fmt.Println(strings.Join(versions, " "))
	// Output: 1.9.0 1.10.0 2.0.0-rc.1 2.0.0 2024.9 2024.10
}

func ExampleTreeWriter() {
	var text strings.Builder
	w := manifest.NewTreeWriter(io.MultiWriter(&text, os.Stdout))
	for _, e := range []manifest.TreeEntry{
		{Path: "bin", Type: manifest.TreeDir, Mode: 0o755},
		{Path: "bin/run", Type: manifest.TreeFile, Mode: 0o755, Size: 5, SHA256: manifest.DigestOf([]byte("hello"))},
		{Path: "run", Type: manifest.TreeLink, Target: "bin/run"},
	} {
		if err := w.Add(e); err != nil {
			log.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}

	r := manifest.NewTreeReader(strings.NewReader(text.String()))
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Type, e.Path)
	}
	// Output:
	// {"davit":"tree","version":1}
	// {"path":"bin","type":"dir","mode":493}
	// {"path":"bin/run","type":"file","mode":493,"size":5,"sha256":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}
	// {"path":"run","type":"link","target":"bin/run"}
	// dir bin
	// file bin/run
	// link run
}

func ExampleParameter_CheckValue() {
	p := manifest.Parameter{Name: "REPLICAS", Type: manifest.ParameterInt}
	fmt.Println(p.CheckValue("3"))
	fmt.Println(p.CheckValue("many"))
	// Output:
	// <nil>
	// parameter REPLICAS: the value is not a whole number
}
