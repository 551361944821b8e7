package bundle_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"davit/transfer/bundle"
)

// The code restores what it must with every number of data and parity shards
// that Plan may choose, one code used again and again: once with the same
// payload shards lost and other parity, which a cache may take for the same.
func TestCode(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	codes := 0
	step := 3
	if testing.Short() {
		step = 17
	}
	for shards := 2; shards <= 256; shards += step {
		for parity := 1; parity <= (shards+1)/2; parity += 1 + parity/4*step {
			data := shards - parity
			if (bundle.Geometry{Data: data, Parity: parity, Shard: 64, Stripes: 1, Depth: 1}).Validate(int64(data*64), 1) != nil {
				continue
			}
			codes++
			testCode(t, rng, data, parity)
		}
	}
	if codes < 20 {
		t.Errorf("only %d codes", codes)
	}
}

func testCode(t *testing.T, rng *rand.Rand, data, parity int) {
	shards := data + parity
	size := 64 * (1 + rng.IntN(3))
	raw := noise(shards*size, uint64(shards))
	stripe := make([][]byte, shards)
	for i := range stripe {
		stripe[i] = raw[i*size:][:size]
	}
	restore, err := bundle.Code(t.Context(), data, parity, stripe)
	if err != nil {
		t.Fatalf("%d+%d: %v", data, parity, err)
	}
	order := rng.Perm(data)
	for try := range 4 {
		// Half of what may be lost, and always the same, of the payload.
		lost := make([]bool, shards)
		for _, i := range order[:min(data, (parity+1)/2)] {
			lost[i] = true
		}
		for _, i := range rng.Perm(parity)[:parity-min(data, (parity+1)/2)] {
			lost[data+i] = true
		}
		broken := make([][]byte, shards)
		for i := range stripe {
			broken[i] = bytes.Clone(stripe[i])
			if lost[i] {
				clear(broken[i])
			}
		}
		all := try%2 == 1
		if err := restore(broken, lost, all); err != nil {
			t.Fatalf("%d+%d: %v", data, parity, err)
		}
		for i := range stripe {
			if (all || i < data) && !bytes.Equal(broken[i], stripe[i]) {
				t.Fatalf("%d+%d: shard %d came back changed", data, parity, i)
			}
		}
	}
}
