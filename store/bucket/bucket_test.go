package bucket_test

import (
	"testing"

	"davit/store/bucket"
	"davit/store/bucket/buckettest"
)

func openDir(t *testing.T) *bucket.Dir {
	t.Helper()
	d, err := bucket.CreateDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestDir(t *testing.T) {
	buckettest.Suite(t, func(t *testing.T) bucket.Bucket { return openDir(t) })
}

func TestMem(t *testing.T) {
	buckettest.Suite(t, func(t *testing.T) bucket.Bucket { return bucket.NewMem() })
}

// plain hides everything but the Bucket, so that Move is a copy and a delete.
type plain struct{ bucket.Bucket }

func TestPlain(t *testing.T) {
	buckettest.Suite(t, func(t *testing.T) bucket.Bucket { return plain{bucket.NewMem()} })
}
